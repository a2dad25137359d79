"""The target networks that NICs are mapped to, by name or id, and what is asked for their ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from string import hexdigits
from typing import TYPE_CHECKING

from xms.errors import BadInput, TargetNotFound
from xms.models import NetworkMapping, Nic
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.source import VmNic

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.security_group import SecurityGroup
    from openstack.network.v2.subnet import Subnet


def find_network(cloud: Cloud, name: str) -> Network:
    """The network of that name or id.

    Raises:
        TargetNotFound: there is none; the text lists those that are.
        BadInput: several have the name.
    """
    with translated(f"network '{name}' was not looked up"):
        found = cloud.network.find_network(name, ignore_missing=True)
        if found is not None:
            return found
        known = sorted(str(network.name) for network in cloud.network.networks())
    raise TargetNotFound(
        f"no target network is called '{name}'", because=f"the project's networks are: {listed(known)}"
    )


def find_subnet(cloud: Cloud, network: Network, name: str) -> Subnet:
    """The subnet of that name or id in the network.

    Raises:
        TargetNotFound: there is none; the text lists those that are.
        BadInput: several have the name.
    """
    with translated(f"subnet '{name}' was not looked up"):
        found = cloud.network.find_subnet(name, ignore_missing=True, network_id=network.id)
        if found is not None:
            return found
        known = sorted(str(subnet.name) for subnet in cloud.network.subnets(network_id=network.id))
    raise TargetNotFound(
        f"network '{network.name}' has no subnet '{name}'", because=f"its subnets are: {listed(known)}"
    )


def subnets_of(cloud: Cloud, network: Network) -> list[Subnet]:
    """The network's subnets, as far as the project may see them."""
    with translated(f"the subnets of network '{network.name}' were not listed"):
        return list(cloud.network.subnets(network_id=network.id))


def find_security_groups(cloud: Cloud, names: Sequence[str]) -> list[str]:
    """The ids of the security groups of these names or ids.

    A name means a group of the project before one that another project shares.

    Raises:
        TargetNotFound: one is not there; the text lists those that are.
        BadInput: several have a name.
    """
    with translated(f"the security groups {listed(names)} were not looked up"):
        known = list(cloud.network.security_groups())
    return [str(_security_group(cloud, name, known).id) for name in names]


def _security_group(cloud: Cloud, name: str, known: Sequence[SecurityGroup]) -> SecurityGroup:
    named = [group for group in known if group.name == name]
    own = [group for group in named if group.project_id == cloud.project_id]
    found = [group for group in known if group.id == name] or own or named
    if not found:
        names = sorted({str(group.name) for group in known})
        raise TargetNotFound(
            f"no security group is called '{name}'", because=f"the project's security groups are: {listed(names)}"
        )
    if len(found) > 1:
        ids = ", ".join(str(group.id) for group in found)
        raise BadInput(
            f"{len(found)} security groups are called '{name}'", because=f"their ids: {ids}", do="name it by its id"
        )
    return found[0]


def mapped(
    vm: str, nics: Sequence[VmNic], mappings: Sequence[NetworkMapping], known: Sequence[Nic] = ()
) -> tuple[Nic, ...]:
    """Give each NIC its target network, and what is asked for its port.

    A mapping that names a NIC by its label ('Network adapter 2') goes before one that names its network.

    Args:
        vm: its name, for the errors.
        nics: the VM's.
        mappings: as submitted.
        known: the NICs as they were earlier: a guest that is off reports no addresses, so that the last ones count.

    Raises:
        BadInput: a mapping fits no NIC, fits twice, or a NIC has none; the text lists the VM's networks. Or what it
            asks for cannot be: addresses that nobody knows, one address for two NICs, a MAC that no NIC can have,
            groups without port security.
    """
    there = ", ".join(f"'{nic.network}' ({short(nic)})" for nic in nics)
    because = f"its networks are: {there}; each needs a --network-map" if nics else "it has no NIC"
    sources = [mapping.source for mapping in mappings]
    for source in sources:
        if not any(source in (nic.network, nic.label) for nic in nics):
            raise BadInput(f"no NIC of {vm} is on '{source}'", because=because)
        if sources.count(source) > 1:
            raise BadInput(f"'{source}' is mapped {sources.count(source)} times", because=because)
    unmapped = [nic for nic in nics if nic.network not in sources and nic.label not in sources]
    if unmapped:
        names = ", ".join(f"{short(nic)} on '{nic.network}'" for nic in unmapped)
        raise BadInput(f"{names} of {vm} has no --network-map", because=because)
    by_source = {mapping.source: mapping for mapping in mappings}
    seen = {(nic.key, nic.mac): nic.addresses for nic in known}
    pairs = [(nic, by_source.get(nic.label) or by_source[nic.network]) for nic in nics]
    found = tuple(_mapped(nic, mapping, seen) for nic, mapping in pairs)
    for nic, mapping in zip(found, (mapping for _, mapping in pairs), strict=True):
        _refuse_impossible(vm, nic, mapping, [other for other, its in pairs if its is mapping])
    return found


def _mapped(nic: VmNic, mapping: NetworkMapping, seen: Mapping[tuple[int, str], tuple[str, ...]]) -> Nic:
    mac = plain_mac(nic.mac)
    addresses = nic.addresses or seen.get((nic.key, mac), ())
    return Nic(
        key=nic.key,
        label=nic.label,
        mac=mac,
        source_network=nic.network,
        network=mapping.network,
        subnet=mapping.subnet,
        mapped_by=mapping.source,
        mac_kept=mapping.mac == "keep" and bool(mac),
        fixed_ips=addresses if mapping.fixed_ips == "keep" else tuple(_plain(text) for text in mapping.fixed_ips),
        addresses=addresses,
        security_groups=mapping.security_groups,
        port_security=mapping.port_security,
    )


def _plain(address: str) -> str:
    """As Neutron writes it; what is none stays as it is, and is refused by its own words."""
    return str(ipaddress.ip_address(address)) if is_address(address) else address


def _refuse_impossible(vm: str, nic: Nic, mapping: NetworkMapping, takers: Sequence[VmNic]) -> None:
    if mapping.fixed_ips == "keep" and not nic.fixed_ips:
        raise BadInput(
            f"the addresses of {short(nic)} of {vm} cannot be kept",
            because="its guest's tools report none",
            do=f"start VMware Tools in the guest, or name them: ip=ADDRESS; or {typed(nic, fixed_ips=())}",
        )
    for address in nic.fixed_ips:
        if not is_address(address):
            raise BadInput(f"'{address}' is no address for {short(nic)} of {vm}", because="allowed: IPv4 and IPv6")
    if mapping.fixed_ips not in ("keep", ()) and len(takers) > 1:
        raise BadInput(
            f"{', '.join(nic.fixed_ips)} cannot be the address of {len(takers)} NICs of {vm}",
            because=f"{', '.join(short(taker) for taker in takers)} are on '{mapping.source}'",
            do=f"map each by its label: --network-map '{nic.label}={nic.network},ip=ADDRESS'",
        )
    if nic.mac_kept and is_group_address(nic.mac):
        raise BadInput(
            f"the MAC {nic.mac} of {short(nic)} of {vm} cannot be kept",
            because="it is a group's (multicast), which no NIC can have, though Neutron would take it",
            do=f"correct it in vSphere, or have a new one: {typed(nic, mac_kept=False)}",
        )
    if nic.security_groups and nic.port_security is False:
        raise BadInput(
            f"the port of {short(nic)} of {vm} cannot have security groups without port security",
            because=f"{listed(nic.security_groups)} are asked for, and port security is off",
            do="leave one of them out",
        )


def plain_mac(text: str) -> str:
    """A MAC as it is compared: Neutron and vSphere disagree about case and separators, and Neutron with itself."""
    return text.lower().replace("-", ":")


def is_address(text: str) -> bool:
    """Whether it is one of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_group_address(mac: str) -> bool:
    """Whether it is a multicast or broadcast MAC: the lowest bit of its first byte (IEEE 802)."""
    first = mac[:2]
    return all(digit in hexdigits for digit in first) and bool(first) and bool(int(first, 16) & 1)


def typed(nic: Nic, **changes: object) -> str:
    """The --network-map that asks for this NIC's port, with changes to the NIC's fields: what an operator types."""
    wanted = nic.model_copy(update=changes)
    parts = [f"{wanted.mapped_by or wanted.source_network}={wanted.network}"]
    parts[0] += f"/{wanted.subnet}" if wanted.subnet else ""
    parts += [] if wanted.mac_kept else ["mac=new"]
    parts += [f"ip={'+'.join(wanted.fixed_ips)}"] if wanted.fixed_ips else []
    if wanted.security_groups is not None:
        parts.append(f"security-groups={':'.join(wanted.security_groups) or 'none'}")
    if wanted.port_security is not None:
        parts.append(f"port-security={'on' if wanted.port_security else 'off'}")
    return f"--network-map '{','.join(parts)}'"


def short(nic: VmNic | Nic) -> str:
    """'NIC 1' for 'Network adapter 1', as one says it."""
    return nic.label.replace("Network adapter", "NIC")


def listed(names: Sequence[str]) -> str:
    """Names for an error's text."""
    return ", ".join(f"'{name}'" for name in names) or "none"
