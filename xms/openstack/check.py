"""Can the target take this VM? Every finding is told at once, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from xms.config import TargetConfig
from xms.errors import BadInput, QuotaExceeded, TargetNotFound, XmsError
from xms.models import Nic, job_id
from xms.openstack import networks, port_check
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.ports import is_of as port_is_of
from xms.openstack.volumes import gibibytes
from xms.orders.preflight import PortFacts, TargetFacts, TargetLook, TargetWanted
from xms.orders.source import VmDetails
from xms.orders.target import CheckTarget, TargetChecked
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.compute.v2.flavor import Flavor

T = TypeVar("T")

MIB: Final = 1 << 20
UNLIMITED: Final = -1


@dataclass(frozen=True)
class Candidate:
    """A VM that the target shall take.

    Attributes:
        job_id: of its migration; what that has made already needs no quota any more.
        for_cutover: the volumes exist already.
        known: its NICs as they were earlier.
    """

    vm: VmDetails
    job_id: str
    for_cutover: bool = False
    known: tuple[Nic, ...] = ()


class Reading:
    """What the cloud answers, asked once however many VMs are looked at."""

    def __init__(self, cloud: Cloud, pulse: Pulse = no_pulse) -> None:
        self.cloud = cloud
        self.pulse = pulse
        self._known: dict[tuple[str, ...], Any] = {}

    def once(self, key: tuple[str, ...], look: Callable[[], T]) -> T:
        """The answer to a look, or the refusal that it was answered with, each time the same."""
        if key not in self._known:
            self.pulse()
            try:
                self._known[key] = look()
            except (TargetNotFound, BadInput) as refusal:
                self._known[key] = refusal
        found = self._known[key]
        if isinstance(found, XmsError):
            raise found.with_traceback(None)
        answer: T = found
        return answer


def check_target(cloud: Cloud, config: TargetConfig, order: CheckTarget, pulse: Pulse = no_pulse) -> TargetChecked:
    """Resolve what was submitted against the target project, and reckon its quotas. Nothing is changed.

    Raises:
        TargetNotFound: flavor, volume type, zone, network or subnet is not there.
        BadInput: the flavor is too small, or NICs and mappings do not fit.
        QuotaExceeded: the project's quotas do not cover the VM.
    """
    job = job_id(order.spec.source, order.spec.vm)
    candidate = Candidate(vm=order.vm, job_id=job, for_cutover=order.for_cutover, known=order.known)
    findings = look_at(Reading(cloud, pulse), TargetWanted.of(order.spec), candidate)
    findings.raise_if_any(order.vm.name)
    checked = findings.checked(cloud, config)
    if checked is None:
        raise AssertionError("a check without findings gave no answer")
    return checked


def facts_of(reading: Reading, config: TargetConfig, wanted: TargetWanted, candidate: Candidate) -> TargetFacts:
    """The same for a preflight, which judges what the looks came to. What is not wanted is not looked at."""
    findings = look_at(reading, wanted, candidate)
    return TargetFacts(
        looks=findings.looks(), ports=tuple(findings.ports), checked=findings.checked(reading.cloud, config)
    )


def shared_out(wanted: TargetWanted, vms: Sequence[VmDetails]) -> Iterator[TargetWanted]:
    """What is wanted for each VM of many, which are given one network map together.

    A mapping that fits another VM is none of this one's; one that fits no VM at all is a mistake, and every VM's.
    """
    named = [{name for nic in vm.nics for name in (nic.network, nic.label)} for vm in vms]
    of_any = set().union(*named)
    for of_this in named:
        mappings = wanted.network_map
        if mappings is not None:
            mappings = tuple(one for one in mappings if one.source in of_this or one.source not in of_any)
        yield wanted.model_copy(update={"network_map": mappings})


def look_at(reading: Reading, wanted: TargetWanted, candidate: Candidate) -> Findings:
    """Look at everything that is wanted."""
    findings = Findings(wanted, reading.pulse)
    vm = candidate.vm
    if wanted.project is not None:
        # The connection was made in it.
        findings.of("project", lambda: None)
    if wanted.flavor is not None:
        findings.flavor = findings.of("flavor", partial(_flavor, reading, wanted.flavor, vm))
    if wanted.volume_type is not None:
        findings.of("volume type", partial(_volume_type, reading, wanted.volume_type))
    if wanted.availability_zone is not None:
        findings.of("availability zone", partial(_zone, reading, wanted.availability_zone))
    if wanted.network_map is not None:
        findings.nics = findings.of(
            "network map", partial(networks.mapped, vm.name, vm.nics, wanted.network_map, candidate.known)
        )
        _look_at_networks(reading, findings, candidate.job_id)
    if findings.flavor is not None and wanted.project is not None:
        findings.of("quota", partial(_quotas, reading, candidate, findings.flavor))
    elif wanted.flavor is not None and wanted.project is not None:
        findings.skip("quota", "not reckoned: there is no flavor to reckon with")
    return findings


def _look_at_networks(reading: Reading, findings: Findings, job: str) -> None:
    if findings.nics is None:
        for what in ("networks", "ports"):
            findings.skip(what, "not looked at: the NICs are not mapped")
        return
    # Without a NIC the looks are made all the same, and find nothing.
    findings.of("networks", lambda: None)
    findings.of("ports", lambda: None)
    for nic in findings.nics:
        place = findings.of("networks", partial(port_check.place_of, reading, nic))
        if place is not None:
            findings.ports.append(port_check.facts(reading, nic, place))
            for look in port_check.looks(reading, nic, place, job):
                findings.of("ports", look)


class Findings:
    """What the looks came to, collected, so that a person mends all of it at once.

    Troubles of the connection are not collected.

    Attributes:
        flavor, nics: what was resolved; None where that was not wanted or not possible.
        ports: where those of the NICs would be.
    """

    def __init__(self, wanted: TargetWanted, pulse: Pulse) -> None:
        self.flavor: Flavor | None = None
        self.nics: tuple[Nic, ...] | None = None
        self.ports: list[PortFacts] = []
        self._wanted = wanted
        self._pulse = pulse
        self._looks: dict[str, list[XmsError]] = {}
        self._skipped: dict[str, str] = {}

    def of(self, what: str, look: Callable[[], T]) -> T | None:
        """The answer, or None and one finding more."""
        self._pulse()
        found = self._looks.setdefault(what, [])
        try:
            return look()
        except (TargetNotFound, BadInput, QuotaExceeded) as finding:
            if finding.what not in [earlier.what for earlier in found]:
                found.append(finding)
            return None

    def skip(self, what: str, because: str) -> None:
        """Say why a look was not made."""
        self._skipped[what] = because

    def raise_if_any(self, vm: str) -> None:
        """Raise the only finding, or all of them as one error of the first one's class."""
        found = [finding for findings in self._looks.values() for finding in findings]
        if found:
            raise _as_one(found, f"the target cannot take {vm} as submitted")

    def looks(self) -> tuple[TargetLook, ...]:
        """Each look with what was found."""
        made = [
            TargetLook(what=what, trouble=_as_one(found, f"{len(found)} {what} are wrong").trouble() if found else None)
            for what, found in self._looks.items()
        ]
        return (*made, *(TargetLook(what=what, skipped=because) for what, because in self._skipped.items()))

    def checked(self, cloud: Cloud, config: TargetConfig) -> TargetChecked | None:
        """What was resolved; None where not all of it was looked at, or something was found."""
        wanted = self._wanted
        if any(self._looks.values()) or self.flavor is None or self.nics is None or wanted.volume_type is None:
            return None
        return TargetChecked(
            project_id=cloud.project_id,
            flavor_id=str(self.flavor.id),
            cloud=cloud.name,
            nics=self.nics,
            zeroed_volumes=wanted.volume_type in config.zeroed_volume_types,
        )


def _as_one(found: list[XmsError], what: str) -> XmsError:
    """The only one, or all of them as one error of the first one's class."""
    first = found[0]
    if len(found) == 1:
        return first
    return type(first)(
        what,
        because="\n".join(f"{finding.what}: {finding.because}" for finding in found),
        do="\n".join(dict.fromkeys(finding.do for finding in found if finding.do)),
    )


def _flavor(reading: Reading, name: str, vm: VmDetails) -> Flavor:
    flavor = reading.once(("flavor", name), partial(_find_flavor, reading.cloud, name))
    memory = -(-vm.memory // MIB)
    if flavor.vcpus < vm.cpus or flavor.ram < memory:
        raise BadInput(
            f"flavor '{name}' is too small for {vm.name}",
            because=f"it has {flavor.vcpus} vCPUs and {flavor.ram} MiB, the VM has {vm.cpus} and {memory} MiB",
            do="take a flavor that matches or exceeds the VM",
        )
    return flavor


def _find_flavor(cloud: Cloud, name: str) -> Flavor:
    with translated(f"flavor '{name}' was not looked up"):
        flavor = cloud.compute.find_flavor(name, ignore_missing=True)
        if flavor is not None:
            return flavor
        known = sorted(str(found.name) for found in cloud.compute.flavors(details=True))
    raise TargetNotFound(f"no flavor is called '{name}'", because=f"the flavors are: {networks.listed(known)}")


def _volume_type(reading: Reading, name: str) -> None:
    with translated(f"volume type '{name}' was not looked up"):
        known = reading.once(
            ("volume types",), lambda: sorted(str(found.name) for found in reading.cloud.volumes.types())
        )
    if name not in known:
        raise TargetNotFound(
            f"no volume type is called '{name}'", because=f"the volume types are: {networks.listed(known)}"
        )


def _zone(reading: Reading, name: str) -> None:
    with translated(f"availability zone '{name}' was not looked up"):
        known = reading.once(
            ("zones",), lambda: sorted(str(found.name) for found in reading.cloud.compute.availability_zones())
        )
    if name not in known:
        raise TargetNotFound(
            f"no availability zone is called '{name}'", because=f"the zones are: {networks.listed(known)}"
        )


def _quotas(reading: Reading, candidate: Candidate, flavor: Flavor) -> None:
    """Compare what the job still has to make with what the quotas leave; what it has made already counts as used.

    Raises:
        QuotaExceeded: with needed, used and allowed of each quota that does not do.
    """
    vm, job, cloud = candidate.vm, candidate.job_id, reading.cloud
    project = cloud.project_id
    with translated("the quotas of the target project were not read"):
        storage = reading.once(("storage limits",), lambda: cloud.volumes.get_limits().absolute)
        compute = reading.once(("compute limits",), lambda: cloud.compute.get_limits().absolute)
        ports = reading.once(("port quota",), lambda: cloud.network.get_quota(project, details=True).ports or {})
        volumes = reading.once(("volumes",), lambda: list(cloud.volumes.volumes(details=True)))
        all_ports = reading.once(("ports",), lambda: list(cloud.network.ports(project_id=project)))
    mine = [volume for volume in volumes if _is_of(volume.metadata, job)]
    my_ports = [port for port in all_ports if port_is_of(port, job)]
    sizes = [gibibytes(disk.capacity) for disk in vm.disks]
    footprint = (
        ("volumes", len(sizes) - len(mine), storage.total_volumes_used, storage.max_total_volumes),
        (
            "gigabytes",
            sum(sizes) - sum(int(volume.size) for volume in mine),
            storage.total_gigabytes_used,
            storage.max_total_volume_gigabytes,
        ),
    )
    shape = (
        ("cores", flavor.vcpus, compute.total_cores_used, compute.total_cores),
        ("ram (MiB)", flavor.ram, compute.total_ram_used, compute.total_ram),
        ("instances", 1, compute.instances_used, compute.instances),
        ("ports", len(vm.nics) - len(my_ports), ports.get("used"), ports.get("limit")),
    )
    short = [
        f"{name}: needs {needed} more, {used} of {limit} are used"
        for name, needed, used, limit in (shape if candidate.for_cutover else footprint + shape)
        if limit is not None and limit != UNLIMITED and needed > 0 and (used or 0) + needed > limit
    ]
    if short:
        raise QuotaExceeded(
            f"the quota of the target project does not cover {vm.name}",
            because="; ".join(short),
            do="have the quota raised, or free some of it",
        )


def _is_of(metadata: Mapping[str, str] | None, job: str) -> bool:
    return (metadata or {}).get(JOB_KEY) == job
