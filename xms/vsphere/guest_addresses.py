"""Which addresses a guest has on its NICs, as its tools report them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

MADE_UP: Final = ("random", "linklayer")
"""Origins of addresses that a guest makes for itself, of a router's announcement: they come anew in every network."""

GONE: Final = ("invalid", "inaccessible", "deprecated", "duplicate")
"""States of addresses that nothing is to be sent to."""


def addresses_by_card(reported: Iterable[Any]) -> Mapping[int, tuple[str, ...]]:
    """The addresses that were given to the guest, by the device key of their NIC.

    What the guest made up is left out, and what is not on a NIC of the VM: bridges and tunnels have the key -1
    (GuestNicInfo.deviceConfigId).

    Args:
        reported: `guest.net`; nothing where the property is unset, as it is while the tools do not run.
    """
    return {nic.deviceConfigId: tuple(_addresses(nic)) for nic in reported if nic.deviceConfigId >= 0}


def _addresses(nic: Any) -> Iterator[str]:  # noqa: ANN401 - pyVmomi's
    told = nic.ipConfig.ipAddress if nic.ipConfig else ()
    for text in [each.ipAddress for each in told if _is_given(each)] if told else nic.ipAddress:
        address = _parsed(text)
        if address and not (address.is_link_local or address.is_loopback or address.is_multicast):
            yield str(address)


def _is_given(address: Any) -> bool:  # noqa: ANN401 - pyVmomi's
    return address.origin not in MADE_UP and address.state not in GONE


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
