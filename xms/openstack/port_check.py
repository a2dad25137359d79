"""Could a NIC's port be made as its mapping asks? Looked at before anything is made, and nothing is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from xms.errors import BadInput
from xms.models import Nic
from xms.openstack import networks, port_rights, ports
from xms.openstack.addresses import FixedIp, fixed_ips
from xms.openstack.faults import translated
from xms.openstack.networks import short, typed
from xms.orders.preflight import PortFacts

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port
    from openstack.network.v2.subnet import Subnet

    from xms.openstack.reading import Reading


@dataclass(frozen=True)
class Place:
    """Where a NIC's port would be.

    Attributes:
        subnets: all of the network's.
        named: the one that was asked for.
    """

    network: Network
    subnets: Sequence[Subnet]
    named: Subnet | None


def place_of(reading: Reading, nic: Nic) -> Place:
    """The network and subnets that the NIC is mapped to.

    Raises:
        TargetNotFound, BadInput: there is none of that name, or several.
    """
    cloud = reading.cloud
    network = reading.once(("network", nic.network), partial(networks.find_network, cloud, nic.network))
    named = None
    if nic.subnet is not None:
        key = ("subnet", nic.network, nic.subnet)
        named = reading.once(key, partial(networks.find_subnet, cloud, network, nic.subnet))
    subnets = reading.once(("subnets", network.id), partial(networks.subnets_of, cloud, network))
    return Place(network=network, subnets=subnets, named=named)


def looks(reading: Reading, nic: Nic, place: Place, job_id: str) -> Iterator[Callable[[], object]]:
    """The looks at one NIC's port; each raises BadInput or TargetNotFound where something is against it."""
    yield partial(_refuse_external, nic, place.network)
    yield partial(fixed_ips, nic, place.network, place.subnets, place.named)
    yield partial(_look_at_rights, reading, nic, place)
    yield partial(_look_at_taken, reading, nic, place, job_id)
    for name in nic.security_groups or ():
        key = ("security group", name)
        yield partial(reading.once, key, partial(networks.find_security_groups, reading.cloud, [name]))


def facts(reading: Reading, nic: Nic, place: Place) -> PortFacts:
    """What the rules of a preflight look at."""
    asked = [place.named] if place.named is not None else place.subnets
    network = place.network
    return PortFacts(
        nic=nic,
        network=str(network.name),
        of_other_project=network.project_id != reading.cloud.project_id,
        up=network.is_admin_state_up is not False,
        mtu=network.mtu,
        dhcp=any(subnet.is_dhcp_enabled for subnet in asked),
    )


def _refuse_external(nic: Nic, network: Network) -> None:
    if network.is_router_external and not network.is_shared:
        raise BadInput(
            f"no instance may be in network '{network.name}', which {short(nic)} is mapped to",
            because="it is external and not shared: Nova lets only administrators boot in it",
            do="map the NIC to a network behind a router, and give the instance a floating IP",
        )


def _look_at_rights(reading: Reading, nic: Nic, place: Place) -> None:
    """Ask for what the policy may leave to the network's owner, each thing alone."""
    refused = {}
    for what, wish in _wishes(nic, place):
        key = ("right", str(place.network.id), what)
        words = reading.once(key, partial(port_rights.refusal, reading.cloud, place.network, **wish))
        if words:
            refused[what] = words
    if not refused:
        return
    without = {
        "mac_kept": nic.mac_kept and "MAC" not in refused,
        "fixed_ips": () if "address" in refused else nic.fixed_ips,
        "port_security": None if "port security" in refused else nic.port_security,
    }
    theirs = place.network.project_id != reading.cloud.project_id
    of_whom = "which belongs to another project" if theirs else "although it is this project's"
    raise BadInput(
        f"the {' and the '.join(refused)} of the port of {short(nic)} cannot be chosen in network "
        f"'{place.network.name}', {of_whom}",
        because="; ".join(dict.fromkeys(refused.values())),
        do=f"go on without: {typed(nic, **without)}; or have an administrator allow it (policy "
        "create_port:mac_address, create_port:fixed_ips:ip_address, create_port:port_security_enabled); or map the NIC "
        "to a network of the target project",
    )


def _wishes(nic: Nic, place: Place) -> Iterator[tuple[str, dict[str, Any]]]:
    if nic.mac_kept:
        yield "MAC", {"mac_address": nic.mac}
    addresses = _addresses(nic, place)
    if addresses:
        yield "address", {"fixed_ips": addresses}
    if nic.port_security is not None:
        yield "port security", {"port_security_enabled": nic.port_security}


def _addresses(nic: Nic, place: Place) -> list[FixedIp]:
    """Those that are asked for by name; none where they do not fit, which another look tells."""
    try:
        asked = fixed_ips(nic, place.network, place.subnets, place.named)
    except BadInput:
        return []
    return [fixed for fixed in asked if "ip_address" in fixed]


def _look_at_taken(reading: Reading, nic: Nic, place: Place, job_id: str) -> None:
    """Among the ports that the project may see: of a network that another project owns, these are its own alone."""
    others = [port for port in _ports_in(reading, place.network) if not ports.is_of(port, job_id)]
    has_mac = [port for port in others if nic.mac_kept and networks.plain_mac(str(port.mac_address)) == nic.mac]
    if has_mac:
        raise BadInput(
            f"the MAC {nic.mac} of {short(nic)} is in use in network '{place.network.name}'",
            because=_told(has_mac),
            do=f"free it there, or have a new one: {typed(nic, mac_kept=False)}",
        )
    for address in nic.fixed_ips:
        has_it = [port for port in others if address in [fixed["ip_address"] for fixed in port.fixed_ips or ()]]
        if has_it:
            raise BadInput(
                f"{address} is in use in network '{place.network.name}', where {short(nic)} would have it",
                because=_told(has_it),
                do=f"free it there, name another one (ip=ADDRESS), or let Neutron choose: {typed(nic, fixed_ips=())}",
            )


def _ports_in(reading: Reading, network: Network) -> list[Port]:
    def look() -> list[Port]:
        with translated(f"the ports in network '{network.name}' were not listed"):
            return list(reading.cloud.network.ports(network_id=network.id))

    return reading.once(("ports in", str(network.id)), look)


def _told(found: Sequence[Port]) -> str:
    return "; ".join(_one(port) for port in found)


def _one(port: Port) -> str:
    name = f" ({port.name})" if port.name else ""
    return f"port {port.id}{name}" + (f" of {port.device_id}" if port.device_id else "")
