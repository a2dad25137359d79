"""Do the project's quotas cover what a job still has to make?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from xms.errors import QuotaExceeded, TargetRefusedLogin
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.ports import is_of as port_is_of
from xms.openstack.reading import Candidate, Reading
from xms.openstack.volumes import gibibytes
from xms.orders.preflight import TargetWanted
from xms.orders.rehearsal import CheckRehearsal

if TYPE_CHECKING:
    from openstack.compute.v2.flavor import Flavor

UNLIMITED: Final = -1
NO_LIMIT: Final = (0, UNLIMITED)

Line = tuple[str, int, int | None, int | None]
"""Name of a quota, what is needed more, what is used, and what is allowed."""


def check(reading: Reading, wanted: TargetWanted, candidate: Candidate, flavor: Flavor) -> None:
    """Compare what the job still has to make with what the quotas leave; what it has made already counts as used.

    Raises:
        QuotaExceeded: with needed, used and allowed of each quota that does not do.
    """
    vm = candidate.vm
    lines = [*([] if candidate.for_cutover else _volumes(reading, wanted, candidate)), *_instance(reading, flavor)]
    lines.append(_ports(reading, candidate))
    _refuse(f"the quota of the target project does not cover {vm.name}", lines)


def _refuse(what: str, lines: Sequence[Line]) -> None:
    short = [
        f"{name}: needs {needed} more, {used} of {limit} are used"
        for name, needed, used, limit in lines
        if limit is not None and limit != UNLIMITED and needed > 0 and (used or 0) + needed > limit
    ]
    if short:
        raise QuotaExceeded(what, because="; ".join(short), do="have the quota raised, or free some of it")


def check_rehearsal(cloud: Cloud, order: CheckRehearsal) -> None:
    """Compare what a copy of the VM needs beside what is there with what the quotas leave.

    Raises:
        QuotaExceeded: with needed, used and allowed of each quota that does not do.
        TargetNotFound: there is no such flavor.
    """
    reading = Reading(cloud)
    with translated("the flavor of the rehearsal was not looked up"):
        flavor = cloud.compute.find_flavor(order.spec.flavor, ignore_missing=False)
    lines = [*_copies(cloud, order), *_instance(reading, flavor), *_isolated_network(cloud, order)]
    _refuse(f"the quota of the target project does not cover a rehearsal of {order.spec.vm}", lines)


def _copies(cloud: Cloud, order: CheckRehearsal) -> list[Line]:
    sizes = [gibibytes(disk.volume_size or disk.capacity) for disk in order.disks]
    known = _storage(cloud)
    kind = order.spec.volume_type
    return [
        (f"{name}{suffix}", needed, *known.get(f"{name}{suffix}", NO_LIMIT))
        for suffix in ("", f"_{kind}")
        for name, needed in (("volumes", len(sizes)), ("gigabytes", sum(sizes)))
    ]


def _isolated_network(cloud: Cloud, order: CheckRehearsal) -> list[Line]:
    with translated("the network quotas of the target project were not read"):
        quota = cloud.network.get_quota(cloud.project_id, details=True)
    needed = {"networks": 1, "subnets": 1, "ports": len(order.nics)}
    there = {name: getattr(quota, name) or {} for name in needed}
    return [(name, number, there[name].get("used"), there[name].get("limit")) for name, number in needed.items()]


def _volumes(reading: Reading, wanted: TargetWanted, candidate: Candidate) -> list[Line]:
    """Those of all volumes, those of the type, and that of one volume's size."""
    cloud = reading.cloud
    with translated("the volume quotas of the target project were not read"):
        known = reading.once(("storage quota",), lambda: _storage(cloud))
        volumes = reading.once(("volumes",), lambda: list(cloud.volumes.volumes(details=True)))
    mine = [volume for volume in volumes if (volume.metadata or {}).get(JOB_KEY) == candidate.job_id]
    sizes = [gibibytes(disk.capacity) for disk in candidate.vm.disks]
    number, total = len(sizes) - len(mine), sum(sizes) - sum(int(volume.size) for volume in mine)
    kinds = ["", *([f"_{wanted.volume_type}"] if wanted.volume_type else [])]
    lines: list[Line] = [
        line
        for kind in kinds
        for line in (
            (f"volumes{kind}", number, *known.get(f"volumes{kind}", NO_LIMIT)),
            (f"gigabytes{kind}", total, *known.get(f"gigabytes{kind}", NO_LIMIT)),
        )
    ]
    _, largest = known.get("per_volume_gigabytes", NO_LIMIT)
    return [*lines, ("per_volume_gigabytes", max(sizes, default=0), 0, largest)]


def _storage(cloud: Cloud) -> Mapping[str, tuple[int, int]]:
    """Used, what is reserved included, and allowed, by name. Where members may not see quotas, limits have the sums."""
    try:
        with translated("the volume quotas of the target project were not read"):
            quota = cloud.volumes.get_quota_set(cloud.project_id, usage=True)
    except TargetRefusedLogin:
        limits = cloud.volumes.get_limits().absolute
        return {
            "volumes": (limits.total_volumes_used, limits.max_total_volumes),
            "gigabytes": (limits.total_gigabytes_used, limits.max_total_volume_gigabytes),
        }
    allowed, reserved = quota.to_dict(), quota.reservation or {}
    return {
        name: (int(used) + int(reserved.get(name, 0)), int(allowed[name])) for name, used in (quota.usage or {}).items()
    }


def _instance(reading: Reading, flavor: Flavor) -> list[Line]:
    with translated("the compute quotas of the target project were not read"):
        compute = reading.once(("compute limits",), lambda: reading.cloud.compute.get_limits().absolute)
    return [
        ("cores", flavor.vcpus, compute.total_cores_used, compute.total_cores),
        ("ram (MiB)", flavor.ram, compute.total_ram_used, compute.total_ram),
        ("instances", 1, compute.instances_used, compute.instances),
    ]


def _ports(reading: Reading, candidate: Candidate) -> Line:
    cloud = reading.cloud
    project = cloud.project_id
    with translated("the port quota of the target project was not read"):
        quota = reading.once(("port quota",), lambda: cloud.network.get_quota(project, details=True).ports or {})
        there = reading.once(("ports",), lambda: list(cloud.network.ports(project_id=project)))
    mine = [port for port in there if port_is_of(port, candidate.job_id)]
    return ("ports", len(candidate.vm.nics) - len(mine), quota.get("used"), quota.get("limit"))
