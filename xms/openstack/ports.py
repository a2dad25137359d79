"""A job's ports: one a NIC, with the NIC's MAC, found again by their description where a crash left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xms.errors import TargetRefusedLogin, TargetRejected
from xms.models import Nic
from xms.openstack import networks
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.target import MakePorts
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port


def mark(job_id: str, nic_key: int) -> str:
    """A port's description. Unlike a tag it is set by the call that makes the port, so no crash can come in between."""
    return f"{job_mark(job_id)} {nic_key}"


def job_mark(job_id: str) -> str:
    """What the descriptions of all ports of the job begin with."""
    return f"xms {job_id} nic"


def make(cloud: Cloud, order: MakePorts, pulse: Pulse) -> tuple[Nic, ...]:
    """Make the ports that are not there yet; each keeps its NIC's MAC.

    Raises:
        TargetNotFound: a network or subnet is not there.
        TargetRejected: a MAC is in use there, or may not be chosen by this project.
        QuotaExceeded: the project's quota for ports is used up.
    """
    there = {port.description: port for port in ports_of(cloud, order.target.job_id)}
    made = []
    for nic in order.nics:
        pulse()
        network = networks.find_network(cloud, nic.network)
        port = there.get(mark(order.target.job_id, nic.key))
        if port is not None and not _fits(port, nic, network) and not port.device_id:
            _remove(cloud, port)
            port = None
        if port is None:
            port = _make(cloud, order, nic, network)
        made.append(nic.model_copy(update={"port_id": str(port.id)}))
    return tuple(made)


def remove(cloud: Cloud, job_id: str, pulse: Pulse) -> None:
    """Remove the ports that the job made, and no others; none is a success.

    Raises:
        TargetFault: an instance still uses one.
    """
    for port in ports_of(cloud, job_id):
        pulse()
        _remove(cloud, port)


def ports_of(cloud: Cloud, job_id: str) -> list[Port]:
    """The ports that the job made."""
    with translated(f"the ports of job {job_id} were not listed"):
        return [port for port in cloud.network.ports(project_id=cloud.project_id) if is_of(port, job_id)]


def is_of(port: Port, job_id: str) -> bool:
    """Whether the job made it."""
    # Job ids hold no spaces (xms.models.job_id), so that no job's mark is the beginning of another's.
    return str(port.description or "").startswith(f"{job_mark(job_id)} ")


def _fits(port: Port, nic: Nic, network: Network) -> bool:
    return bool(port.network_id == network.id and str(port.mac_address).lower() == nic.mac)


def _make(cloud: Cloud, order: MakePorts, nic: Nic, network: Network) -> Port:
    subnet = None if nic.subnet is None else networks.find_subnet(cloud, network, nic.subnet)
    what = f"no port for {nic.label} of {order.instance_name} in network '{network.name}'"
    try:
        with translated(what):
            return cloud.network.create_port(
                name=f"{order.instance_name} {nic.label}",
                description=mark(order.target.job_id, nic.key),
                network_id=network.id,
                mac_address=nic.mac,
                **({} if subnet is None else {"fixed_ips": [{"subnet_id": subnet.id}]}),
            )
    except TargetRefusedLogin as error:
        if "mac_address" not in error.because:
            raise
        raise TargetRejected(
            what,
            because=f"this project may not choose the MAC {nic.mac} there: {error.because}",
            means="the network belongs to another project, and Neutron's policy lets only its owner choose MACs",
            do="have an administrator allow it (policy create_port:mac_address), or map the NIC to a network of the "
            "target project",
        ) from error


def _remove(cloud: Cloud, port: Port) -> None:
    with translated(f"port {port.id} ({port.name}) was not removed"):
        cloud.network.delete_port(port.id, ignore_missing=True)
