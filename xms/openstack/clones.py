"""Copies of a job's volumes for a rehearsal: made while nobody writes to the volumes, and deleted as nothing else is.

Cinder clones (`source_volid`): each of its drivers has to be able to. Where the back end makes copies on write (Ceph),
one takes a second whatever its size. A file of NFS is copied byte by byte, and Cinder calls its source `available`
meanwhile, so that nothing but the caller keeps writers away. Snapshots are not used: on NFS they turn the volume's file
into an overlay, which workers do not write to; on Ceph one cannot be deleted before the volume that came of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from xms.errors import CopyTooSlow, Refused, TargetNotFound, VolumeBusy, VolumeFailed, XmsError
from xms.models import Disk
from xms.openstack import attachments, volumes
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.lease import Holder
from xms.orders.rehearsal import CloneVolumes, VolumesCloned
from xms.orders.target import TargetOrder
from xms.pulse import Pulse
from xms.rehearsal import is_rehearsal

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

CLONE_KEY: Final = "xms_rehearsal"
"""Metadata key of every copy; its value is the rehearsal's token."""
UNHARMED: Final = "the job and its volumes are as they were; syncs go on"


def clone(cloud: Cloud, order: CloneVolumes, pulse: Pulse) -> VolumesCloned:
    """Copy each volume and wait until all copies are available, or find those that an earlier attempt made.

    Nobody may write to the volumes from the first attempt until this has ended: the caller lets no sync run.

    Raises:
        Refused: a volume is not the job's.
        VolumeBusy: somebody has a volume.
        QuotaExceeded: the project's quota for volumes or gigabytes is used up.
        VolumeFailed: the back end could not copy; the reason is Cinder's. What it left is removed at the next attempt.
        CopyTooSlow: not all were available in time.
        xms.errors.Interrupted: the pulse said so.
    """
    began = time.monotonic()
    made = {disk.key: _started(cloud, order, disk, pulse) for disk in order.disks}
    for disk in order.disks:
        left = max(0.0, began + order.timeout_seconds - time.monotonic())
        _wait(cloud, order, disk, made[disk.key], left, pulse)
    return VolumesCloned(
        disks=tuple(disk.model_copy(update={"volume_id": made[disk.key]}) for disk in order.disks),
        seconds=time.monotonic() - began,
    )


def delete(cloud: Cloud, target: TargetOrder, holder: Holder, pulse: Pulse) -> None:
    """Delete the copies of a job's rehearsals; none is a success. All are tried before the first failure is raised.

    Raises:
        Refused: the id is not a rehearsal's, or a volume that bears it was not made as a copy: that one is kept.
        VolumeBusy: a worker lives on one, or an instance has it.
        VolumeFailed: one is not gone.
    """
    if not is_rehearsal(target.job_id):
        raise Refused(
            f"no volumes of {target.job_id} are deleted",
            because="that is a job, and only copies of rehearsals are deleted here",
        )
    failed: list[XmsError] = []
    # Those that an attempt before this one asked to go are waited for.
    for volume in volumes.of_job(cloud, target.job_id, without=("error_deleting",)):
        try:
            _refuse_other_than_copies(volume, target.job_id)
            _settled(cloud, str(volume.id), volumes.MAKING_SECONDS, pulse)
            volumes.delete_one(cloud, str(volume.id), job_id=target.job_id, holder=holder, pulse=pulse)
        except TargetNotFound:
            # Another attempt was quicker.
            continue
        except (Refused, VolumeBusy, VolumeFailed) as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _refuse_other_than_copies(volume: Volume, rehearsal: str) -> None:
    """Cinder itself says of a copy what it was made of, and the key was set by the call that made it."""
    if CLONE_KEY not in (volume.metadata or {}) or not volume.source_volume_id:
        raise Refused(
            f"volume {volume.id} is kept",
            because=f"its metadata says {JOB_KEY}={rehearsal}, but it is no copy that a rehearsal made",
            do="delete it by hand if nobody needs it",
        )


def _started(cloud: Cloud, order: CloneVolumes, disk: Disk, pulse: Pulse) -> str:
    """The id of the disk's copy: one of an earlier attempt, the oldest of several, or one that is asked for now."""
    source = _free(cloud, order, disk)
    there = _of_disk(cloud, order, disk)
    usable = [copy for copy in there if copy.status in ("creating", "available")]
    for copy in there:
        if not usable or copy.id != usable[0].id:
            _remove(cloud, copy, pulse)
    if usable:
        return str(usable[0].id)
    label = disk.label or f"disk {disk.key}"
    told = {
        JOB_KEY: order.target.job_id,
        CLONE_KEY: order.token,
        volumes.DISK_KEY: str(disk.key),
        "xms_disk_label": disk.label,
        "xms_source": order.source,
        "xms_vm": order.vm,
        "xms_made_by": volumes.MADE_BY,
    }
    with translated(f"the copy of volume {source.id} for the rehearsal was not made"):
        made = cloud.volumes.create_volume(
            name=f"{order.instance_name} {label}"[: volumes.TEXT_LIMIT],
            size=int(source.size),
            source_volume_id=str(source.id),
            description=f"{volumes.MADE_BY} rehearsal's copy of {label} of job {order.of_job}"[: volumes.TEXT_LIMIT],
            metadata={key: value[: volumes.TEXT_LIMIT] for key, value in told.items() if value},
        )
    return str(made.id)


def _free(cloud: Cloud, order: CloneVolumes, disk: Disk) -> Volume:
    if disk.volume_id is None:
        raise VolumeFailed(f"{disk.label} was not copied for the rehearsal", because="it has no volume yet")
    volume = attachments.volume_of_job(cloud, disk.volume_id, order.of_job)
    if volume.status != "available" or attachments.listed(cloud, disk.volume_id):
        raise VolumeBusy(
            f"volume {disk.volume_id} was not copied for the rehearsal",
            because=f"somebody has it: it is '{volume.status}'",
            means=UNHARMED,
            do="nothing: it is tried again; if it stays so, see who has it: openstack volume attachment list "
            f"--volume-id {disk.volume_id}",
        )
    return volume


def _of_disk(cloud: Cloud, order: CloneVolumes, disk: Disk) -> list[Volume]:
    """This rehearsal's copies of the disk, oldest first."""
    return [
        volume
        for volume in volumes.of_job(cloud, order.target.job_id)
        if (volume.metadata or {}).get(volumes.DISK_KEY) == str(disk.key)
        and (volume.metadata or {}).get(CLONE_KEY) == order.token
    ]


def _remove(cloud: Cloud, copy: Volume, pulse: Pulse) -> None:
    """One of two that two attempts made, or one that failed. It was never used: only one that is returned is."""
    if not volumes.remove_unused(cloud, copy, pulse):
        raise VolumeBusy(f"the superfluous copy {copy.id} was not removed", because="somebody has it")


def _wait(cloud: Cloud, order: CloneVolumes, disk: Disk, copy_id: str, seconds: float, pulse: Pulse) -> None:
    what = f"the copy of volume {disk.volume_id} ({disk.label}) for the rehearsal was not made"
    copy = _settled(cloud, copy_id, seconds, pulse)
    if copy is None:
        raise CopyTooSlow(
            what,
            because=f"after {order.timeout_seconds} s its copy {copy_id} is still 'creating': this back end copies "
            "every byte, and syncs wait for it",
            means=f"the copy is removed; {UNHARMED}",
            do="order it again with more time (--syncs-wait), or keep the replica on a type that makes copies on write",
        )
    if copy.status != "available":
        raise VolumeFailed(
            what,
            because=attachments.reason_of(cloud, copy_id) or f"it is in state '{copy.status}'",
            means=UNHARMED,
            do="see whether the volume type's back end can clone: openstack volume create --source "
            f"{disk.volume_id} --size {copy.size} NAME",
        )


def _settled(cloud: Cloud, copy_id: str, seconds: float, pulse: Pulse) -> Volume | None:
    """The copy once it is no longer in the making; None where it still is after `seconds`."""

    def look() -> Volume | None:
        with translated(f"volume {copy_id} was not read"):
            copy = cloud.volumes.get_volume(copy_id)
        return None if copy.status == "creating" else copy

    return cloud.wait_for(look, timeout=seconds, pulse=pulse)
