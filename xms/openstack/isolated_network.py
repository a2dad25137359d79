"""The network of a rehearsal: made by a plain member, with nothing on it but the copy.

Nothing leads out of it: it has no router, and its subnet no gateway. The addresses are those that are kept for test
networks (RFC 2544, 198.18.0.0/15), so that no guest takes them for a real network's. DHCP is on: a guest that asks
finds an address, as on its real network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xms.errors import TargetRejected
from xms.openstack import ports
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.rehearsal import IsolatedNetwork, MakeIsolatedNetwork
from xms.orders.target import TargetOrder
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port

CIDR: Final = "198.18.0.0/24"
DHCP_OWNER: Final = "network:dhcp"
"""Owner of the ports that Neutron's own DHCP service has."""


def mark(job_id: str) -> str:
    """The network's description: set by the call that makes it, so that no crash can come in between."""
    return f"xms {job_id} network"


def make(cloud: Cloud, order: MakeIsolatedNetwork, pulse: Pulse) -> IsolatedNetwork:
    """Make the network with its subnet, or find what an earlier attempt made of it.

    Raises:
        QuotaExceeded: the project's quota for networks or subnets is used up.
        TargetRejected: somebody else is on it.
    """
    job = order.target.job_id
    there = networks_of(cloud, job)
    for twin in there[1:]:
        _remove(cloud, twin)
    pulse()
    if not there:
        with translated(f"the network '{order.name}' of the rehearsal was not made"):
            made = cloud.network.create_network(name=order.name, description=mark(job))
        # Two attempts that race agree on the older one.
        there = networks_of(cloud, job) or [made]
        if there[0].id != made.id:
            _remove(cloud, made)
    network = there[0]
    refuse_unless_alone(cloud, network, job)
    with translated(f"the subnets of network {network.id} were not listed"):
        subnets = list(cloud.network.subnets(network_id=network.id))
    if not subnets:
        with translated(f"the subnet of network '{order.name}' of the rehearsal was not made"):
            subnets = [
                cloud.network.create_subnet(
                    network_id=network.id,
                    name=order.name,
                    description=mark(job),
                    ip_version=4,
                    cidr=CIDR,
                    gateway_ip=None,
                    enable_dhcp=True,
                )
            ]
    return IsolatedNetwork(network_id=str(network.id), subnet_id=str(subnets[0].id))


def remove(cloud: Cloud, target: TargetOrder, pulse: Pulse) -> None:
    """Remove the networks of a job's rehearsals with their subnets; none is a success.

    Raises:
        TargetFault: something is still on one.
    """
    for network in networks_of(cloud, target.job_id):
        pulse()
        _remove(cloud, network)


def networks_of(cloud: Cloud, job_id: str) -> list[Network]:
    """The networks that carry the rehearsal's mark, oldest first. Others are never touched."""
    with translated(f"the networks of {job_id} were not listed"):
        found = [
            network
            for network in cloud.network.networks(project_id=cloud.project_id)
            if network.description == mark(job_id)
        ]
    return sorted(found, key=lambda network: (str(network.created_at), str(network.id)))


def refuse_unless_alone(cloud: Cloud, network: Network, job_id: str) -> None:
    """See that nobody but the rehearsal is on the network.

    Raises:
        TargetRejected: a router is, or somebody's port, or it is shared; nothing was booted on it.
    """
    with translated(f"the ports of network {network.id} were not listed"):
        strangers = [
            _words(port)
            for port in cloud.network.ports(network_id=network.id)
            if port.device_owner != DHCP_OWNER and not ports.is_of(port, job_id)
        ]
    if network.is_shared or network.is_router_external:
        strangers.append("it is shared with other projects")
    if strangers:
        raise TargetRejected(
            f"network {network.id} ({network.name}) cannot isolate the rehearsal",
            because="; ".join(strangers),
            means="the copy was not started",
            do="take it off the network, or delete the network; then order the rehearsal again",
        )


def _words(port: Port) -> str:
    return f"port {port.id} of {port.device_owner or 'nobody'} is on it"


def _remove(cloud: Cloud, network: Network) -> None:
    with translated(f"network {network.id} ({network.name}) of the rehearsal was not removed"):
        cloud.network.delete_network(network.id, ignore_missing=True)
