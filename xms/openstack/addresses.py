"""The addresses that are asked for a port, against the subnets of its network. What does not fit is refused at once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from xms.errors import BadInput
from xms.models import Nic
from xms.openstack.networks import listed, short, typed

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.subnet import Subnet

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
FixedIp: TypeAlias = dict[str, str]

MADE_BY_THE_GUEST: Final = ("slaac", "dhcpv6-stateless")
"""Address modes of IPv6 subnets where each port's address follows from its MAC, and Neutron takes no other."""


def fixed_ips(nic: Nic, network: Network, subnets: Sequence[Subnet], named: Subnet | None) -> list[FixedIp]:
    """Neutron's `fixed_ips` for the NIC's port; empty where Neutron shall choose.

    Where a subnet is named, the addresses of its IP version have to lie in it, and one of it is asked for.

    Args:
        nic: with the addresses that are asked for.
        network: where its port will be.
        subnets: all of the network's.
        named: the one of them that was asked for.

    Raises:
        BadInput: the network has no subnet; an address lies in none, or is the subnet's own or its gateway's.
    """
    if not subnets:
        raise BadInput(
            f"network '{network.name}' has no subnet",
            because=f"the port of {short(nic)} would have no address, and Nova boots nothing on such a port",
            do="have a subnet added to it, or map the NIC to another network",
        )
    found = [
        {"subnet_id": str(_home(nic, ipaddress.ip_address(text), network, subnets, named).id), "ip_address": text}
        for text in nic.fixed_ips
    ]
    if named is not None and named.id not in [fixed["subnet_id"] for fixed in found]:
        found.append({"subnet_id": str(named.id)})
    return found


def _home(nic: Nic, address: Address, network: Network, subnets: Sequence[Subnet], named: Subnet | None) -> Subnet:
    """The subnet that the address lies in."""
    allowed = [named] if named is not None and named.ip_version == address.version else subnets
    home = next((subnet for subnet in allowed if address in _range(subnet)), None)
    if home is None:
        known = listed([f"{subnet.name} {subnet.cidr}" for subnet in allowed])
        raise _unusable(nic, address, network, f"it lies in no subnet that is asked for: {known}")
    if address in _reserved(home):
        raise _unusable(nic, address, network, f"it is an address of subnet {home.name} {home.cidr} itself")
    if home.gateway_ip and address == ipaddress.ip_address(home.gateway_ip):
        raise _unusable(nic, address, network, f"it is the gateway's of subnet {home.name} {home.cidr}")
    if home.ipv6_address_mode in MADE_BY_THE_GUEST:
        raise _unusable(
            nic, address, network, f"in subnet {home.name} {home.cidr} addresses follow from the MAC (SLAAC)"
        )
    return home


def _unusable(nic: Nic, address: Address, network: Network, because: str) -> BadInput:
    return BadInput(
        f"{address} cannot be the address of {short(nic)} in network '{network.name}'",
        because=because,
        do=f"name another one (ip=ADDRESS), or let Neutron choose: {typed(nic, fixed_ips=())}",
    )


def _range(subnet: Subnet) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(str(subnet.cidr), strict=False)


def _reserved(subnet: Subnet) -> Iterator[Address]:
    whole = _range(subnet)
    if whole.prefixlen < whole.max_prefixlen - 1:
        yield whole.network_address
        if whole.version == 4:  # noqa: PLR2004 - IPv6 has no broadcast
            yield whole.broadcast_address
