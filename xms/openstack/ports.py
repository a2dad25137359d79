"""A job's ports: one a NIC, as its mapping asks, found again by their description where a crash left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from xms.errors import TargetFault, TargetNotFound, TargetRejected
from xms.models import Nic
from xms.openstack import networks
from xms.openstack.addresses import FixedIp, fixed_ips
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import ADDRESS_TAKEN, translated
from xms.openstack.port_refusals import explained
from xms.orders.target import MakePorts, PortsRemoved
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port

RELEASE_SECONDS: Final = 60.0
"""How long Nova may take to let go of the port of an instance that it has deleted."""


def mark(job_id: str, nic_key: int) -> str:
    """A port's description. Unlike a tag it is set by the call that makes the port, so no crash can come in between."""
    return f"{job_mark(job_id)} {nic_key}"


def job_mark(job_id: str) -> str:
    """What the descriptions of all ports of the job begin with."""
    return f"xms {job_id} nic"


def make(cloud: Cloud, order: MakePorts, pulse: Pulse) -> tuple[Nic, ...]:
    """Make the ports that are not there yet, and remove those of the job that no NIC needs any more.

    A port of an earlier attempt is taken where it is what is asked for now; else it is replaced, unless the job's
    instance has it. Of two that a NIC has, since two attempts raced, the older counts.

    Returns:
        The NICs, each with its port's id, MAC and addresses.

    Raises:
        TargetNotFound: a network, subnet or security group is not there.
        BadInput: an address does not fit the network's subnets.
        TargetRejected: a MAC or an address is in use there, or may not be chosen by this project; or somebody else
            uses a port of the job.
        QuotaExceeded: the project's quota for ports is used up.
    """
    job = order.target.job_id
    there = ports_of(cloud, job)
    wishes = {mark(job, nic.key): _wish(cloud, nic) for nic in order.nics}
    for port in there:
        if port.description not in wishes and not port.device_id:
            _remove(cloud, port)
    made = []
    for nic in order.nics:
        pulse()
        description = mark(job, nic.key)
        candidates = [port for port in there if port.description == description]
        wish = wishes[description]
        port = _choose(cloud, job, wish, candidates, pulse) or _make(cloud, order, wish)
        if not nic.mac_kept:
            # Nothing but this keeps two attempts that race from having two ports: both take the older one.
            again = [one for one in ports_of(cloud, job) if one.description == description]
            port = _choose(cloud, job, wish, again, pulse) or port
        addresses = tuple(str(fixed["ip_address"]) for fixed in port.fixed_ips or ())
        found = {"port_id": str(port.id), "port_mac": networks.plain_mac(str(port.mac_address)), "port_ips": addresses}
        made.append(nic.model_copy(update=found))
    return tuple(made)


def remove(cloud: Cloud, job_id: str, pulse: Pulse) -> PortsRemoved:
    """Remove the ports that the job made, and no others; none is a success.

    Returns:
        What was left, because something that is not the job's uses it.

    Raises:
        TargetFault: the job's own instance still uses one.
    """
    left = []
    for port in ports_of(cloud, job_id):
        pulse()
        use, user = _use_of(cloud, port, job_id)
        if use is _Use.SOMEBODY_ELSE:
            left.append(f"port {port.id} ({port.name}) was left: {user} uses it")
        elif use is _Use.OUR_INSTANCE and not _released(cloud, port, pulse):
            raise TargetFault(
                f"port {port.id} ({port.name}) was not removed",
                because=f"{user} uses it",
                do="remove the instance first",
            )
        else:
            _remove(cloud, port)
    return PortsRemoved(left=tuple(left))


def ports_of(cloud: Cloud, job_id: str) -> list[Port]:
    """The ports that the job made, oldest first."""
    with translated(f"the ports of job {job_id} were not listed"):
        found = [port for port in cloud.network.ports(project_id=cloud.project_id) if is_of(port, job_id)]
    return sorted(found, key=lambda port: (str(port.created_at), str(port.id)))


def is_of(port: Port, job_id: str) -> bool:
    """Whether the job made it."""
    # Job ids hold no spaces (xms.models.job_id), so that no job's mark is the beginning of another's.
    return str(port.description or "").startswith(f"{job_mark(job_id)} ")


@dataclass(frozen=True)
class _Wish:
    """What is asked for a NIC's port, with the names resolved."""

    nic: Nic
    network: Network
    subnet_id: str | None
    fixed_ips: list[FixedIp]
    security_groups: list[str] | None

    def attributes(self) -> dict[str, Any]:
        """For Neutron; what is left out it chooses itself."""
        asked: dict[str, Any] = {"network_id": self.network.id}
        if self.nic.mac_kept:
            asked["mac_address"] = self.nic.mac
        if self.fixed_ips:
            asked["fixed_ips"] = self.fixed_ips
        if self.nic.port_security is not None:
            asked["port_security_enabled"] = self.nic.port_security
        if self.security_groups is not None:
            asked["security_groups"] = self.security_groups
        elif self.nic.port_security is False:
            asked["security_groups"] = []
        return asked

    def is_met_by(self, port: Port) -> bool:
        """Whether the port is what would be made now. What was not asked for may be as it is."""
        has_the_mac = networks.plain_mac(str(port.mac_address)) == self.nic.mac
        groups = set(port.security_group_ids or ())
        return bool(
            port.network_id == self.network.id
            and has_the_mac == self.nic.mac_kept
            and self._addresses_are_met_by(port)
            and (self.security_groups is None or groups == set(self.security_groups))
            and self.nic.port_security in (None, port.is_port_security_enabled)
        )

    def _addresses_are_met_by(self, port: Port) -> bool:
        has = [(str(fixed["subnet_id"]), str(fixed["ip_address"])) for fixed in port.fixed_ips or ()]
        asked = {(fixed["subnet_id"], fixed["ip_address"]) for fixed in self.fixed_ips if "ip_address" in fixed}
        subnets = {subnet for subnet, _ in asked}
        return (
            (self.subnet_id is None or any(subnet == self.subnet_id for subnet, _ in has))
            and {pair for pair in has if pair[0] in subnets} == asked
            and bool(has)
        )


def _wish(cloud: Cloud, nic: Nic) -> _Wish:
    network = networks.find_network(cloud, nic.network)
    subnet = None if nic.subnet is None else networks.find_subnet(cloud, network, nic.subnet)
    return _Wish(
        nic=nic,
        network=network,
        subnet_id=None if subnet is None else str(subnet.id),
        fixed_ips=fixed_ips(nic, network, networks.subnets_of(cloud, network), subnet),
        security_groups=(
            None if nic.security_groups is None else networks.find_security_groups(cloud, nic.security_groups)
        ),
    )


def _choose(cloud: Cloud, job: str, wish: _Wish, candidates: Sequence[Port], pulse: Pulse) -> Port | None:
    """The port of an earlier attempt that counts; the others are removed."""
    taken: list[Port] = []
    free: list[Port] = []
    for port in candidates:
        use, user = _use_of(cloud, port, job)
        if use is _Use.SOMEBODY_ELSE:
            raise TargetRejected(
                f"{networks.short(wish.nic)} cannot have its port {port.id} ({port.name})",
                because=f"{user} uses it",
                means="the port was made by this job, and given to something else since",
                do="take the port from it (openstack server remove port), or delete it; then cut over again",
            )
        if use is _Use.OUR_INSTANCE:
            taken.append(port)
        elif use is _Use.GONE_INSTANCE and not _released(cloud, port, pulse):
            # Nova would refuse it as still in use, though nothing uses it any more.
            _remove(cloud, port)
        else:
            free.append(port)
    fitting = [port for port in free if wish.is_met_by(port)]
    chosen = next(iter([*taken, *fitting]), None)
    for port in free:
        if chosen is None or port.id != chosen.id:
            _remove(cloud, port)
    return chosen


class _Use(Enum):
    """Who has a port."""

    NOBODY = auto()
    OUR_INSTANCE = auto()
    GONE_INSTANCE = auto()
    SOMEBODY_ELSE = auto()


def _use_of(cloud: Cloud, port: Port, job_id: str) -> tuple[_Use, str]:
    """Who has the port, and what they are called."""
    if not port.device_id:
        return _Use.NOBODY, ""
    if not str(port.device_owner or "").startswith("compute:"):
        # Nova writes both at once: without an owner it is nobody's instance.
        return _Use.SOMEBODY_ELSE, f"{port.device_owner or 'device'} {port.device_id}"
    name = f"instance {port.device_id}"
    try:
        with translated(f"{name}, which has port {port.id}, was not looked up"):
            server = cloud.compute.get_server(port.device_id)
    except TargetNotFound:
        return _Use.GONE_INSTANCE, name
    ours = (server.metadata or {}).get(JOB_KEY) == job_id
    return (_Use.OUR_INSTANCE if ours else _Use.SOMEBODY_ELSE), f"{name} ({server.name})"


def _released(cloud: Cloud, port: Port, pulse: Pulse) -> bool:
    """Whether nothing uses the port any more, or it is gone: Nova may still be about to let go of it."""

    def look() -> bool | None:
        with translated(f"port {port.id} ({port.name}) was not looked up"):
            found = cloud.network.find_port(port.id, ignore_missing=True)
        return True if found is None or not found.device_id else None

    return bool(cloud.wait_for(look, timeout=RELEASE_SECONDS, pulse=pulse))


def _make(cloud: Cloud, order: MakePorts, wish: _Wish) -> Port:
    nic, job = wish.nic, order.target.job_id
    what = f"no port for {nic.label} of {order.instance_name} in network '{wish.network.name}'"
    if nic.mac_kept and networks.is_group_address(nic.mac):
        raise TargetRejected(
            what,
            because=f"{nic.mac} is a group's MAC (multicast), which no NIC can have",
            do=f"correct it in vSphere, or order the cutover with {networks.typed(nic, mac_kept=False)}",
        )
    try:
        with explained(what, nic, str(wish.network.name)):
            return cloud.network.create_port(
                name=f"{order.instance_name} {nic.label}", description=mark(job, nic.key), **wish.attributes()
            )
    except TargetRejected as error:
        # The request of an attempt that was given up may have come through after the ports were listed.
        if ADDRESS_TAKEN.search(error.because):
            for port in ports_of(cloud, job):
                if port.description == mark(job, nic.key) and not port.device_id and wish.is_met_by(port):
                    return port
        raise


def _remove(cloud: Cloud, port: Port) -> None:
    with translated(f"port {port.id} ({port.name}) was not removed"):
        cloud.network.delete_port(port.id, ignore_missing=True)
