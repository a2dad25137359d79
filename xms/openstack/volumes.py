"""A job's volumes: made once, found again by their metadata, released, finished, and deleted only when told to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from xms.errors import TargetNotFound, TargetRejected, VolumeFailed
from xms.openstack import attachments
from xms.openstack.claim import keep_alive
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.lease import LEASE_KEY, Holder, Lease, LeaseRecord, MetadataLease
from xms.orders.target import ExtendVolume, MakeVolume, VolumeMade
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

DISK_KEY: Final = "xms_disk"
GIB: Final = 1 << 30
MAKING_SECONDS: Final = 600.0
DELETING_SECONDS: Final = 300.0
ON_THEIR_WAY_OUT: Final = ("deleting", "error_deleting")
TEXT_LIMIT: Final = 255
"""Characters of a name, a description or a metadata value (Cinder's and Nova's schemas)."""

MADE_BY: Final = "XMS"


def gibibytes(capacity: int) -> int:
    """The size that Cinder is asked for: whole GiB, never less than the disk's bytes."""
    return max(1, -(-capacity // GIB))


def make(cloud: Cloud, order: MakeVolume, pulse: Pulse, *, encrypted: bool = False) -> VolumeMade:
    """Make a disk's volume and wait until it is available, or find the one that an earlier attempt made.

    A volume whose making failed, and which therefore never held anything, is replaced. Where two attempts made one
    each, the older one counts, and the other is removed, unless somebody ever claimed it.

    Args:
        cloud: the target project.
        order: the disk.
        pulse: shown while it waits.
        encrypted: whether workers can write to a volume that Cinder encrypts.

    Raises:
        QuotaExceeded: the project's quota for volumes or gigabytes is used up.
        TargetRejected: the type's volumes are none that a replica can be kept on; the empty one is deleted again.
        VolumeFailed: it went to an error state; the reason is Cinder's.
        xms.errors.Interrupted: the pulse said so.
    """
    there = _of_disk(cloud, order)
    for twin in there[1:]:
        remove_unused(cloud, twin, pulse)
    found = there[0] if there else None
    made: Volume | None = None
    if found is not None and found.status == "error" and not was_claimed(found):
        _delete(cloud, str(found.id), pulse)
        found = None
    if found is None:
        made = _create(cloud, order)
        found = _of_disk(cloud, order, made)[0]
        if found.id != made.id:
            remove_unused(cloud, made, pulse)
    if found.status == "creating":
        found = attachments.wait_available(cloud, str(found.id), pulse=pulse, timeout=MAKING_SECONDS)
    if found.status.startswith("error"):
        raise VolumeFailed(
            f"volume {found.id} of disk {order.disk_key} is in state '{found.status}'",
            because=attachments.reason_of(cloud, str(found.id)),
            means="it is kept: it may hold what was copied already" if was_claimed(found) else "nothing was copied yet",
            do="have its state reset in the cloud, then retry the job",
        )
    _refuse_unsuitable(cloud, order, found, pulse, encrypted=encrypted)
    return VolumeMade(
        volume_id=str(found.id), size=int(found.size) * GIB, found=made is None or str(found.id) != str(made.id)
    )


def _create(cloud: Cloud, order: MakeVolume) -> Volume:
    with translated(f"the volume '{order.name}' of {gibibytes(order.capacity)} GiB was not made"):
        return cloud.volumes.create_volume(
            name=order.name[:TEXT_LIMIT],
            size=gibibytes(order.capacity),
            volume_type=order.volume_type,
            availability_zone=order.volume_availability_zone or _zone(cloud, order.availability_zone),
            description=_description(order),
            metadata=_metadata(order),
        )


def _description(order: MakeVolume) -> str:
    disk = order.label or f"disk {order.disk_key}"
    of_vm = f" of {order.vm} on {order.source}" if order.vm else ""
    return f"{MADE_BY} replica of {disk}{of_vm}, job {order.target.job_id}"[:TEXT_LIMIT]


def _metadata(order: MakeVolume) -> dict[str, str]:
    """What tells a person, and this product, whose volume it is."""
    told = {
        JOB_KEY: order.target.job_id,
        DISK_KEY: str(order.disk_key),
        "xms_disk_label": order.label,
        "xms_capacity": str(order.capacity),
        "xms_source": order.source,
        "xms_vm": order.vm,
        "xms_made_by": MADE_BY,
    }
    return {key: value[:TEXT_LIMIT] for key, value in told.items() if value}


def _refuse_unsuitable(cloud: Cloud, order: MakeVolume, volume: Volume, pulse: Pulse, *, encrypted: bool) -> None:
    """Before anything is copied: what the type's volumes are, a member sees at the first one only."""
    if volume.is_encrypted and not encrypted:
        because = "its volumes are encrypted, and a worker that attaches by Cinder has no key for them"
        remedy = "take a type that is not encrypted, or let workers attach by Nova (target.attach)"
    elif volume.is_multiattach:
        because = "its volumes may be attached several times at once, so that an attachment keeps no second writer away"
        remedy = "take a type without multiattach"
    else:
        return
    removed = remove_unused(cloud, volume, pulse)
    raise TargetRejected(
        f"a replica cannot be kept on volume type '{order.volume_type}'",
        because=because,
        means="nothing was copied" + (", and the empty volume is deleted" if removed else f"; {volume.id} is kept"),
        do=remedy,
    )


def extend(cloud: Cloud, order: ExtendVolume, holder: Holder, pulse: Pulse) -> VolumeMade:
    """Make the volume as large as its disk has become; large enough already is a success.

    Raises:
        QuotaExceeded: the project's quota for gigabytes is used up.
        VolumeBusy: a worker or an instance has it.
        VolumeFailed: Cinder could not extend it.
    """
    volume = attachments.volume_of_job(cloud, order.volume_id, order.target.job_id)
    wanted = gibibytes(order.capacity)
    if volume.status == "extending":
        # An attempt before this one asked for it.
        volume = attachments.wait_available(cloud, order.volume_id, pulse=pulse, timeout=MAKING_SECONDS)
    _refuse_failed_extension(cloud, volume, wanted)
    if int(volume.size) < wanted:
        if volume.status != "available":
            release(cloud, [order.volume_id], job_id=order.target.job_id, holder=holder, pulse=pulse)
        with translated(f"volume {order.volume_id} was not extended from {volume.size} to {wanted} GiB"):
            cloud.volumes.extend_volume(order.volume_id, wanted)
        volume = _extended(cloud, order.volume_id, wanted, pulse)
    return VolumeMade(volume_id=order.volume_id, size=int(volume.size) * GIB, found=True)


def _extended(cloud: Cloud, volume_id: str, wanted: int, pulse: Pulse) -> Volume:
    def look() -> Volume | None:
        with translated(f"volume {volume_id} was not read"):
            volume = cloud.volumes.get_volume(volume_id)
        return None if volume.status == "extending" else volume

    volume = cloud.wait_for(look, timeout=MAKING_SECONDS, pulse=pulse)
    if volume is None:
        raise VolumeFailed(
            f"volume {volume_id} was not extended", because=f"after {MAKING_SECONDS:.0f} s it is still 'extending'"
        )
    _refuse_failed_extension(cloud, volume, wanted)
    if int(volume.size) < wanted:
        raise VolumeFailed(
            f"volume {volume_id} has {volume.size} GiB instead of {wanted}",
            because=attachments.reason_of(cloud, volume_id)
            or f"Cinder extended it no further, and it is '{volume.status}'",
            means="what was copied is as it was",
        )
    return volume


def _refuse_failed_extension(cloud: Cloud, volume: Volume, wanted: int) -> None:
    if volume.status == "error_extending":
        raise VolumeFailed(
            f"volume {volume.id} was not extended from {volume.size} to {wanted} GiB",
            because=attachments.reason_of(cloud, str(volume.id)) or "it is in state 'error_extending'",
            means="what was copied is as it was, and nothing is written to the volume until it is mended",
            do="have an administrator see to the back end, and then: openstack volume set --state available "
            f"{volume.id}; then retry the job",
        )


def release(cloud: Cloud, volume_ids: Sequence[str], *, job_id: str, holder: Holder, pulse: Pulse) -> None:
    """Free the volumes of what dead workers left on them. A worker that lives is not robbed.

    Raises:
        VolumeBusy: a worker lives on it, or an instance has it.
    """
    for volume_id in volume_ids:
        volume = attachments.volume_of_job(cloud, volume_id, job_id)
        left_behind = attachments.of_workers(cloud, volume_id)
        if not left_behind and volume.status == "available" and _is_free(volume):
            continue
        lease = Lease(
            MetadataLease(cloud, volume_id), volume=volume_id, worker=holder.worker, seconds=holder.lease_seconds
        )
        lease.claim(pulse)
        keeping = keep_alive([lease], pulse)
        attachments.remove(cloud, left_behind, pulse=keeping)
        attachments.wait_available(cloud, volume_id, pulse=keeping)
        lease.release()


def delete(cloud: Cloud, volume_ids: Sequence[str], *, job_id: str, holder: Holder, pulse: Pulse) -> None:
    """Delete volumes of the job, on the operator's explicit order only; one that is gone already is a success.

    Volumes of the job that nobody ever claimed are deleted with them: a call that made one without an answer leaves it.

    Raises:
        Refused: a volume does not carry the job's id; it and those after it are kept.
        VolumeBusy: a worker lives on it, or an instance has it.
    """
    for volume_id in volume_ids:
        delete_one(cloud, volume_id, job_id=job_id, holder=holder, pulse=pulse)
    remove_twins(cloud, job_id, (), pulse)


def delete_one(cloud: Cloud, volume_id: str, *, job_id: str, holder: Holder, pulse: Pulse) -> None:
    """Free one volume of the job and delete it; one that is gone already is a success.

    Raises:
        Refused, VolumeBusy, VolumeFailed: as `delete` does.
    """
    try:
        volume = attachments.volume_of_job(cloud, volume_id, job_id)
    except TargetNotFound:
        return
    if volume.status == "deleting":
        # An attempt before this one asked for it.
        _see_gone(cloud, volume_id, pulse)
        return
    if not volume.status.startswith("error"):
        release(cloud, [volume_id], job_id=job_id, holder=holder, pulse=pulse)
    _delete(cloud, volume_id, pulse)


def of_job(cloud: Cloud, job_id: str, *, without: Collection[str] = ON_THEIR_WAY_OUT) -> list[Volume]:
    """The job's volumes, oldest first; those on their way out are left out.

    Cinder filters them, a project may have thousands, but its word is not taken for it: an installation may ignore
    the filter, and its database may compare without regard to case.
    """
    with translated(f"the volumes of job {job_id} were not listed"):
        found = [
            volume
            for volume in cloud.volumes.volumes(details=True, properties=str({JOB_KEY: job_id}))
            if (volume.metadata or {}).get(JOB_KEY) == job_id and volume.status not in without
        ]
    return sorted(found, key=lambda volume: (str(volume.created_at), str(volume.id)))


def was_claimed(volume: Volume) -> bool:
    """Whether a worker ever had the volume, so that it may hold data."""
    return LEASE_KEY in (volume.metadata or {})


def remove_twins(cloud: Cloud, job_id: str, kept: Collection[str], pulse: Pulse) -> None:
    """Delete volumes of the job that are none of its disks' and never held anything.

    Two attempts at making one, of which the first was believed dead, may leave such.

    Args:
        cloud: the target project.
        job_id: of the job.
        kept: the volumes of its disks, as the job's record has them.
        pulse: shown while it waits.
    """
    for volume in of_job(cloud, job_id):
        if str(volume.id) not in kept:
            remove_unused(cloud, volume, pulse)


def remove_unused(cloud: Cloud, volume: Volume, pulse: Pulse) -> bool:
    """Delete a volume that nobody ever claimed; False where somebody did, or has it now, and it is kept."""
    volume_id = str(volume.id)

    def look() -> Volume | None:
        with translated(f"volume {volume_id} was not read"):
            now = cloud.volumes.get_volume(volume_id)
        return None if now.status == "creating" else now

    try:
        now = cloud.wait_for(look, timeout=MAKING_SECONDS, pulse=pulse)
        if now is None or was_claimed(now) or now.status not in ("available", "error"):
            return False
        if attachments.listed(cloud, volume_id):
            return False
        _delete(cloud, volume_id, pulse)
    except TargetNotFound:
        # Another attempt was quicker.
        pass
    return True


def _of_disk(cloud: Cloud, order: MakeVolume, made: Volume | None = None) -> list[Volume]:
    """The volumes of the disk, first the one that counts: one that may hold data, else the oldest.

    Args:
        cloud: the target project.
        order: names the disk.
        made: just now, whether the list has it yet or not.
    """
    found = [
        volume
        for volume in of_job(cloud, order.target.job_id)
        if (volume.metadata or {}).get(DISK_KEY) == str(order.disk_key)
    ]
    if made is not None and made.id not in [volume.id for volume in found]:
        found.append(made)
    return sorted(found, key=lambda volume: (not was_claimed(volume), volume.status == "error"))


def _is_free(volume: Volume) -> bool:
    record = LeaseRecord.parse(str((volume.metadata or {}).get(LEASE_KEY, "")))
    return record is None or record.count is None


def _delete(cloud: Cloud, volume_id: str, pulse: Pulse) -> None:
    with translated(f"volume {volume_id} was not deleted"):
        cloud.volumes.delete_volume(volume_id, ignore_missing=True)
    _see_gone(cloud, volume_id, pulse)


def _see_gone(cloud: Cloud, volume_id: str, pulse: Pulse) -> None:
    def gone() -> bool | None:
        try:
            with translated(f"volume {volume_id} was not read"):
                status = str(cloud.volumes.get_volume(volume_id).status)
        except TargetNotFound:
            return True
        if status.startswith("error"):
            raise VolumeFailed(
                f"volume {volume_id} was not deleted",
                because=f"it is in state '{status}' {attachments.reason_of(cloud, volume_id)}",
            )
        return None

    if cloud.wait_for(gone, timeout=DELETING_SECONDS, pulse=pulse) is None:
        raise VolumeFailed(
            f"volume {volume_id} is not gone", because=f"after {DELETING_SECONDS:.0f} s it is still there"
        )


def _zone(cloud: Cloud, zone: str | None) -> str | None:
    """The instance's zone, where Cinder has one of that name too; else Cinder's own choice."""
    if zone is None:
        return None
    with translated("the volume service's zones were not listed"):
        return zone if any(known.name == zone for known in cloud.volumes.availability_zones()) else None
