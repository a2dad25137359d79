"""What a NIC gets on the target, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xms.models import Nic


def nic_line(nic: Nic) -> str:
    """'Network adapter 1: LAN -> internal-net/subnet, MAC kept 00:50:56:9a:11:02, IP 10.20.0.15'.

    Where the port is made, its own MAC and addresses; until then what is asked for.
    """
    subnet = f"/{nic.subnet}" if nic.subnet else ""
    parts = [f"{nic.label}: {nic.source_network} -> {nic.network}{subnet}", _mac(nic), _addresses(nic)]
    if nic.security_groups is not None:
        parts.append(
            f"security groups {', '.join(nic.security_groups)}" if nic.security_groups else "no security group"
        )
    if nic.port_security is not None:
        parts.append(f"port security {'on' if nic.port_security else 'off'}")
    return ", ".join(parts)


def _mac(nic: Nic) -> str:
    if nic.mac_kept:
        return f"MAC kept {nic.mac}"
    return f"MAC new {nic.port_mac}".rstrip()


def _addresses(nic: Nic) -> str:
    if nic.port_ips:
        return f"IP {', '.join(nic.port_ips)}"
    return f"IP {', '.join(nic.fixed_ips)}" if nic.fixed_ips else "IP chosen by the cloud"
