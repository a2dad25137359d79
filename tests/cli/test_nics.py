"""What is said of a NIC, before and after its port is made."""

from __future__ import annotations

from typing import Any, Final

import pytest

from cli.nics import nic_line
from xms.models import Nic

MAC: Final = "00:50:56:9a:11:02"
HEAD: Final = "Network adapter 1: LAN -> net"


def line(**changes: Any) -> str:  # noqa: ANN401 - any field of the model
    nic = Nic(key=4000, label="Network adapter 1", mac=MAC, source_network="LAN", network="net")
    return nic_line(nic.model_copy(update=changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, f"{HEAD}, MAC kept 00:50:56:9a:11:02, IP chosen by the cloud"),
        ({"mac_kept": False}, f"{HEAD}, MAC new, IP chosen by the cloud"),
        ({"fixed_ips": ("10.1.0.5", "2001:db8::5")}, f"{HEAD}, MAC kept 00:50:56:9a:11:02, IP 10.1.0.5, 2001:db8::5"),
        (
            {"mac_kept": False, "port_mac": "fa:16:3e:00:00:01", "port_ips": ("10.20.0.10",)},
            f"{HEAD}, MAC new fa:16:3e:00:00:01, IP 10.20.0.10",
        ),
        (
            {"subnet": "sub", "security_groups": ("web", "db"), "port_security": True},
            f"{HEAD}/sub, MAC kept {MAC}, IP chosen by the cloud, security groups web, db, port security on",
        ),
        (
            {"security_groups": (), "port_security": False},
            f"{HEAD}, MAC kept 00:50:56:9a:11:02, IP chosen by the cloud, no security group, port security off",
        ),
    ],
)
def test_a_nic_is_told_with_its_mac_addresses_and_filters(changes: dict[str, Any], told: str) -> None:
    assert line(**changes) == told
