"""Can the target take this VM? Every finding is told at once, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from xms.config import TargetConfig
from xms.errors import BadInput, QuotaExceeded, TargetNotFound, XmsError
from xms.models import Nic, job_id
from xms.openstack import instance_check, networks, port_check, quotas, volume_type_check
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.openstack.reading import Candidate, Reading
from xms.orders.preflight import PortFacts, TargetFacts, TargetLook, TargetWanted
from xms.orders.source import VmDetails
from xms.orders.target import CheckTarget, TargetChecked
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.type import Type as VolumeType
    from openstack.compute.v2.flavor import Flavor

T = TypeVar("T")

MIB: Final = 1 << 20


def check_target(cloud: Cloud, config: TargetConfig, order: CheckTarget, pulse: Pulse = no_pulse) -> TargetChecked:
    """Resolve what was submitted against the target project, and reckon its quotas. Nothing is changed.

    Raises:
        TargetNotFound: flavor, volume type, zone, network or subnet is not there.
        BadInput: the flavor is too small, or NICs and mappings do not fit.
        QuotaExceeded: the project's quotas do not cover the VM.
    """
    job = job_id(order.spec.source, order.spec.vm)
    candidate = Candidate(vm=order.vm, job_id=job, for_cutover=order.for_cutover, known=order.known)
    findings = look_at(Reading(cloud, pulse), config, TargetWanted.of(order.spec), candidate)
    findings.raise_if_any(order.vm.name)
    checked = findings.checked(cloud, config)
    if checked is None:
        raise AssertionError("a check without findings gave no answer")
    return checked


def facts_of(reading: Reading, config: TargetConfig, wanted: TargetWanted, candidate: Candidate) -> TargetFacts:
    """The same for a preflight, which judges what the looks came to. What is not wanted is not looked at."""
    findings = look_at(reading, config, wanted, candidate)
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


def look_at(reading: Reading, config: TargetConfig, wanted: TargetWanted, candidate: Candidate) -> Findings:
    """Look at everything that is wanted."""
    findings = Findings(wanted, reading.pulse)
    vm = candidate.vm
    if wanted.project is not None:
        # The connection was made in it.
        findings.of("project", lambda: None)
    if wanted.flavor is not None:
        findings.flavor = findings.of("flavor", partial(_flavor, reading, wanted.flavor, vm))
    if wanted.volume_type is not None:
        found = findings.of("volume type", partial(volume_type_check.find, reading, wanted))
        _look_at_encryption(reading, config, findings, found)
    if wanted.availability_zone is not None:
        findings.of("availability zone", partial(_zone, reading, wanted.availability_zone))
    if wanted.volume_availability_zone is not None:
        findings.of("availability zone", partial(_volume_zone, reading, wanted.volume_availability_zone))
    instance_check.look_at(findings.of, reading, config, wanted, candidate)
    if wanted.network_map is not None:
        findings.nics = findings.of(
            "network map", partial(networks.mapped, vm.name, vm.nics, wanted.network_map, candidate.known)
        )
        _look_at_networks(reading, findings, candidate.job_id)
    if findings.flavor is not None and wanted.project is not None:
        findings.of("quota", partial(quotas.check, reading, wanted, candidate, findings.flavor))
    elif wanted.flavor is not None and wanted.project is not None:
        findings.skip("quota", "not reckoned: there is no flavor to reckon with")
    return findings


def _look_at_encryption(
    reading: Reading, config: TargetConfig, findings: Findings, volume_type: VolumeType | None
) -> None:
    """A worker that attaches by Cinder has no key. Where the type does not tell, its first volume will."""
    if volume_type is None or config.attach != "cinder":
        return
    if volume_type_check.is_encrypted(reading, volume_type) is None:
        findings.skip("encryption", "not known: the cloud tells members nothing of it; the first volume will tell")
    else:
        findings.of("encryption", partial(volume_type_check.refuse_encrypted, reading, volume_type))


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
            cheap_snapshots=wanted.volume_type in config.snapshot_volume_types,
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


def _zone(reading: Reading, name: str) -> None:
    with translated(f"availability zone '{name}' was not looked up"):
        known = reading.once(
            ("zones",), lambda: sorted(str(found.name) for found in reading.cloud.compute.availability_zones())
        )
    if name not in known:
        raise TargetNotFound(
            f"no availability zone is called '{name}'", because=f"the zones are: {networks.listed(known)}"
        )


def _volume_zone(reading: Reading, name: str) -> None:
    with translated(f"availability zone '{name}' of volumes was not looked up"):
        known = reading.once(
            ("volume zones",), lambda: sorted(str(found.name) for found in reading.cloud.volumes.availability_zones())
        )
    if name not in known:
        raise TargetNotFound(
            f"no availability zone of volumes is called '{name}'", because=f"the zones are: {networks.listed(known)}"
        )
