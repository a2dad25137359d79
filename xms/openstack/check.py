"""Can the target take this VM? Every finding is told at once, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from xms.config import TargetConfig
from xms.errors import BadInput, QuotaExceeded, TargetNotFound, XmsError
from xms.models import Nic, job_id
from xms.openstack import networks
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.ports import ports_of
from xms.openstack.volumes import gibibytes
from xms.orders.target import CheckTarget, TargetChecked
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.compute.v2.flavor import Flavor

T = TypeVar("T")

MIB: Final = 1 << 20
UNLIMITED: Final = -1


def check_target(cloud: Cloud, config: TargetConfig, order: CheckTarget, pulse: Pulse = no_pulse) -> TargetChecked:
    """Resolve what was submitted against the target project, and reckon its quotas. Nothing is changed.

    Raises:
        TargetNotFound: flavor, volume type, zone, network or subnet is not there.
        BadInput: the flavor is too small, or NICs and mappings do not fit.
        QuotaExceeded: the project's quotas do not cover the VM.
    """
    findings = _Findings(pulse)
    flavor = findings.of(lambda: _flavor(cloud, order))
    findings.of(lambda: _volume_type(cloud, order.spec.volume_type))
    findings.of(lambda: _zone(cloud, order.spec.availability_zone))
    nics = findings.of(lambda: networks.mapped(order.vm.name, order.vm.nics, order.spec.network_map))
    for nic in nics or ():
        findings.of(partial(_network, cloud, nic))
    if flavor is not None:
        findings.of(lambda: _quotas(cloud, order, flavor))
    findings.raise_if_any(order.vm.name)
    if flavor is None or nics is None:
        raise AssertionError("a check without findings gave no answer")
    return TargetChecked(
        project_id=cloud.project_id,
        flavor_id=str(flavor.id),
        cloud=cloud.name,
        nics=nics,
        zeroed_volumes=order.spec.volume_type in config.zeroed_volume_types,
    )


class _Findings:
    """What is wrong, collected, so that a person mends all of it at once.

    Troubles of the connection are not collected.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._found: list[XmsError] = []

    def of(self, look: Callable[[], T]) -> T | None:
        """The answer, or None and one finding more."""
        self._pulse()
        try:
            return look()
        except (TargetNotFound, BadInput, QuotaExceeded) as finding:
            if finding.what not in [earlier.what for earlier in self._found]:
                self._found.append(finding)
            return None

    def raise_if_any(self, vm: str) -> None:
        """Raise the only finding, or all of them as one error of the first one's class."""
        if not self._found:
            return
        first = self._found[0]
        if len(self._found) == 1:
            raise first
        raise type(first)(
            f"the target cannot take {vm} as submitted",
            because="\n".join(f"{finding.what}: {finding.because}" for finding in self._found),
        )


def _flavor(cloud: Cloud, order: CheckTarget) -> Flavor:
    name = order.spec.flavor
    with translated(f"flavor '{name}' was not looked up"):
        flavor = cloud.compute.find_flavor(name, ignore_missing=True)
        if flavor is None:
            known = sorted(str(found.name) for found in cloud.compute.flavors(details=True))
            raise TargetNotFound(f"no flavor is called '{name}'", because=f"the flavors are: {networks.listed(known)}")
    memory = -(-order.vm.memory // MIB)
    if flavor.vcpus < order.vm.cpus or flavor.ram < memory:
        raise BadInput(
            f"flavor '{name}' is too small for {order.vm.name}",
            because=f"it has {flavor.vcpus} vCPUs and {flavor.ram} MiB, the VM has {order.vm.cpus} and {memory} MiB",
            do="take a flavor that matches or exceeds the VM",
        )
    return flavor


def _volume_type(cloud: Cloud, name: str) -> None:
    with translated(f"volume type '{name}' was not looked up"):
        known = sorted(str(found.name) for found in cloud.volumes.types())
    if name not in known:
        raise TargetNotFound(
            f"no volume type is called '{name}'", because=f"the volume types are: {networks.listed(known)}"
        )


def _zone(cloud: Cloud, name: str | None) -> None:
    if name is None:
        return
    with translated(f"availability zone '{name}' was not looked up"):
        known = sorted(str(found.name) for found in cloud.compute.availability_zones())
    if name not in known:
        raise TargetNotFound(
            f"no availability zone is called '{name}'", because=f"the zones are: {networks.listed(known)}"
        )


def _network(cloud: Cloud, nic: Nic) -> None:
    network = networks.find_network(cloud, nic.network)
    if nic.subnet is not None:
        networks.find_subnet(cloud, network, nic.subnet)


def _quotas(cloud: Cloud, order: CheckTarget, flavor: Flavor) -> None:
    """Compare what the job still has to make with what the quotas leave; what it has made already counts as used.

    Raises:
        QuotaExceeded: with needed, used and allowed of each quota that does not do.
    """
    project = cloud.project_id
    with translated("the quotas of the target project were not read"):
        storage = cloud.volumes.get_limits().absolute
        compute = cloud.compute.get_limits().absolute
        ports = cloud.network.get_quota(project, details=True).ports or {}
        mine = [volume for volume in cloud.volumes.volumes(details=True) if _is_of(volume.metadata, order)]
        my_ports = ports_of(cloud, job_id(order.spec.source, order.spec.vm))
    sizes = [gibibytes(disk.capacity) for disk in order.vm.disks]
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
        ("ports", len(order.vm.nics) - len(my_ports), ports.get("used"), ports.get("limit")),
    )
    short = [
        f"{name}: needs {needed} more, {used} of {limit} are used"
        for name, needed, used, limit in (shape if order.for_cutover else footprint + shape)
        if limit is not None and limit != UNLIMITED and needed > 0 and (used or 0) + needed > limit
    ]
    if short:
        raise QuotaExceeded(
            f"the quota of the target project does not cover {order.vm.name}",
            because="; ".join(short),
            do="have the quota raised, or free some of it",
        )


def _is_of(metadata: Mapping[str, str] | None, order: CheckTarget) -> bool:
    return (metadata or {}).get(JOB_KEY) == job_id(order.spec.source, order.spec.vm)
