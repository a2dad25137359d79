"""A job's volumes: made once, found again by their metadata, released, finished, and deleted only when told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from xms.errors import TargetNotFound, TargetRejected, VolumeFailed
from xms.openstack import attachments
from xms.openstack.claim import keep_alive
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.lease import LEASE_KEY, Holder, Lease, LeaseRecord, MetadataLease
from xms.orders.target import ExtendVolume, FinalizeVolumes, MakeVolume, VolumeMade
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

DISK_KEY: Final = "xms_disk"
GIB: Final = 1 << 30
MAKING_SECONDS: Final = 600.0
DELETING_SECONDS: Final = 300.0

# Nova refuses other values, but only when the server is made, at the end of the downtime; Cinder takes anything.
BLOCK_BUSES: Final = frozenset({"virtio", "scsi", "ide", "sata"})
NET_MODELS: Final = frozenset({"virtio", "e1000", "e1000e", "rtl8139"})
FIRMWARES: Final = frozenset({"bios", "uefi"})


def gibibytes(capacity: int) -> int:
    """The size that Cinder is asked for: whole GiB, never less than the disk's bytes."""
    return max(1, -(-capacity // GIB))


def make(cloud: Cloud, order: MakeVolume, pulse: Pulse) -> VolumeMade:
    """Make a disk's volume and wait until it is available, or find the one that an earlier attempt made.

    A volume whose making failed, and which therefore never held anything, is replaced.

    Raises:
        QuotaExceeded: the project's quota for volumes or gigabytes is used up.
        VolumeFailed: it went to an error state; the reason is Cinder's.
        xms.errors.Interrupted: the pulse said so.
    """
    found = _of_disk(cloud, order.target.job_id, order.disk_key)
    if found is not None and found.status == "error" and LEASE_KEY not in (found.metadata or {}):
        _delete(cloud, str(found.id), pulse)
        found = None
    if found is None:
        with translated(f"the volume '{order.name}' of {gibibytes(order.capacity)} GiB was not made"):
            made = cloud.volumes.create_volume(
                name=order.name,
                size=gibibytes(order.capacity),
                volume_type=order.volume_type,
                availability_zone=_zone(cloud, order.availability_zone),
                description=f"replica of disk {order.disk_key} of {order.target.job_id}",
                metadata={JOB_KEY: order.target.job_id, DISK_KEY: str(order.disk_key)},
            )
        volume = attachments.wait_available(cloud, str(made.id), pulse=pulse, timeout=MAKING_SECONDS)
        return VolumeMade(volume_id=str(volume.id), size=int(volume.size) * GIB)
    if found.status == "creating":
        found = attachments.wait_available(cloud, str(found.id), pulse=pulse, timeout=MAKING_SECONDS)
    if found.status.startswith("error"):
        raise VolumeFailed(
            f"volume {found.id} of disk {order.disk_key} is in state '{found.status}'",
            because=attachments.reason_of(cloud, str(found.id)),
            means="it is kept: it may hold what was copied already",
            do="have its state reset in the cloud, then retry the job",
        )
    return VolumeMade(volume_id=str(found.id), size=int(found.size) * GIB, found=True)


def extend(cloud: Cloud, order: ExtendVolume, holder: Holder, pulse: Pulse) -> VolumeMade:
    """Make the volume as large as its disk has become; large enough already is a success.

    Raises:
        QuotaExceeded: the project's quota for gigabytes is used up.
        VolumeBusy: a worker or an instance has it.
        VolumeFailed: Cinder could not extend it.
    """
    volume = attachments.volume_of_job(cloud, order.volume_id, order.target.job_id)
    wanted = gibibytes(order.capacity)
    if int(volume.size) < wanted:
        if volume.status != "available":
            release(cloud, [order.volume_id], job_id=order.target.job_id, holder=holder, pulse=pulse)
        with translated(f"volume {order.volume_id} was not extended from {volume.size} to {wanted} GiB"):
            cloud.volumes.extend_volume(order.volume_id, wanted)
        volume = attachments.wait_available(cloud, order.volume_id, pulse=pulse, timeout=MAKING_SECONDS)
        if int(volume.size) < wanted:
            raise VolumeFailed(
                f"volume {order.volume_id} has {volume.size} GiB instead of {wanted}",
                because=attachments.reason_of(cloud, order.volume_id),
            )
    return VolumeMade(volume_id=order.volume_id, size=int(volume.size) * GIB, found=True)


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

    Raises:
        Refused: a volume does not carry the job's id; it and those after it are kept.
        VolumeBusy: a worker lives on it, or an instance has it.
    """
    for volume_id in volume_ids:
        try:
            volume = attachments.volume_of_job(cloud, volume_id, job_id)
        except TargetNotFound:
            continue
        if not volume.status.startswith("error") and volume.status != "deleting":
            release(cloud, [volume_id], job_id=job_id, holder=holder, pulse=pulse)
        _delete(cloud, volume_id, pulse)


def finalize(cloud: Cloud, order: FinalizeVolumes) -> None:
    """Make the root volume bootable and describe the converted guest on it. Only the root volume's description counts.

    Raises:
        TargetRejected: Nova would refuse a value at boot.
        Refused: a volume is not the job's.
    """
    root = next(disk for disk in order.disks if disk.key == order.root_disk_key)
    if root.volume_id is None:
        raise TargetRejected(f"disk {root.label} has no volume to boot from")
    attachments.volume_of_job(cloud, root.volume_id, order.target.job_id)
    description = image_metadata(order)
    with translated(f"volume {root.volume_id} was not made bootable"):
        cloud.volumes.set_volume_bootable_status(root.volume_id, bootable=True)
        cloud.volumes.set_volume_image_metadata(root.volume_id, **description)


def image_metadata(order: FinalizeVolumes) -> dict[str, str]:
    """Nova's image properties of the guest as the conversion left it.

    Raises:
        TargetRejected: a value is none that Nova knows.
    """
    for value, allowed, what in (
        (order.block_bus, BLOCK_BUSES, "disk bus"),
        (order.net_bus, NET_MODELS, "network model"),
        (order.firmware, FIRMWARES, "firmware"),
    ):
        if value not in allowed:
            raise TargetRejected(
                f"the {what} '{value}' cannot be booted", because=f"allowed are {', '.join(sorted(allowed))}"
            )
    found = {
        "hw_disk_bus": order.block_bus,
        "hw_vif_model": order.net_bus,
        "hw_machine_type": order.machine,
        "hw_firmware_type": order.firmware,
    }
    if order.block_bus == "scsi":
        found["hw_scsi_model"] = "virtio-scsi"
    if order.os_type:
        found["os_type"] = order.os_type
    return found


def _of_disk(cloud: Cloud, job_id: str, disk_key: int) -> Volume | None:
    """The oldest volume of the disk: where two attempts made one each, both choose the same."""
    with translated(f"the volumes of job {job_id} were not listed"):
        of_disk = [
            volume
            for volume in cloud.volumes.volumes(details=True)
            if (volume.metadata or {}).get(JOB_KEY) == job_id
            and (volume.metadata or {}).get(DISK_KEY) == str(disk_key)
            and volume.status not in ("deleting", "error_deleting")
        ]
    return min(of_disk, key=lambda volume: (str(volume.created_at), str(volume.id)), default=None)


def _is_free(volume: Volume) -> bool:
    record = LeaseRecord.parse(str((volume.metadata or {}).get(LEASE_KEY, "")))
    return record is None or record.count is None


def _delete(cloud: Cloud, volume_id: str, pulse: Pulse) -> None:
    with translated(f"volume {volume_id} was not deleted"):
        cloud.volumes.delete_volume(volume_id, ignore_missing=True)

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
