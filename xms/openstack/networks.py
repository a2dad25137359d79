"""The target networks that NICs are mapped to, by name or id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xms.errors import BadInput, TargetNotFound
from xms.models import NetworkMapping, Nic
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.source import VmNic

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
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


def mapped(vm: str, nics: Sequence[VmNic], mappings: Sequence[NetworkMapping]) -> tuple[Nic, ...]:
    """Give each NIC its target network.

    A mapping that names a NIC by its label ('Network adapter 2') goes before one that names its network.

    Raises:
        BadInput: a mapping fits no NIC, fits twice, or a NIC has none; the text lists the VM's networks.
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
    return tuple(_mapped(nic, by_source.get(nic.label) or by_source[nic.network]) for nic in nics)


def _mapped(nic: VmNic, mapping: NetworkMapping) -> Nic:
    return Nic(
        key=nic.key,
        label=nic.label,
        # Neutron and vSphere disagree about case and separators.
        mac=nic.mac.lower().replace("-", ":"),
        source_network=nic.network,
        network=mapping.network,
        subnet=mapping.subnet,
    )


def short(nic: VmNic) -> str:
    """'NIC 1' for 'Network adapter 1', as one says it."""
    return nic.label.replace("Network adapter", "NIC")


def listed(names: Sequence[str]) -> str:
    """Names for an error's text."""
    return ", ".join(f"'{name}'" for name in names) or "none"
