"""Snapshots of a job's volumes: made while the volumes are the replica, gone back to, removed.

A snapshot carries the job's id, the disk and the time of the replica that it holds. By these it is found again, and
nothing without the job's id is ever touched.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from xms.errors import QuotaExceeded, TargetFault, TargetNotFound, TargetRejected, VolumeFailed
from xms.openstack import attachments, volumes
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.lease import Holder
from xms.openstack.volumes import DISK_KEY, MADE_BY, TEXT_LIMIT
from xms.orders.target import (
    RevertVolumes,
    SnapshotsLeft,
    SnapshotVolumes,
    VolumeSnapshot,
    VolumesOrder,
    VolumesReverted,
    VolumesSnapshotted,
)
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.snapshot import Snapshot

REPLICA_KEY: Final = "xms_replica"
"""Metadata key of a snapshot: the time of the source's snapshot that the volume equalled."""

REVERTED_KEY: Final = "xms_reverted"
"""Metadata key of a volume: the snapshot that it was last taken back to. So a repetition knows, the snapshot gone."""

MAKING_SECONDS: Final = 120.0
"""The source is off meanwhile. A snapshot that takes longer is none that costs little."""

REVERTING_SECONDS: Final = 3600.0
"""A driver that cannot do it by itself has Cinder copy the whole volume."""

GONE_SECONDS: Final = 300.0


def make(cloud: Cloud, order: SnapshotVolumes, pulse: Pulse) -> VolumesSnapshotted:
    """Make one snapshot a volume and wait until it is complete, or find what an earlier attempt made.

    The volumes are in use by the worker that converts them, which writes to overlays only; Cinder wants to be told
    that this is meant. What fails is told and does not stop the others.

    Raises:
        TargetUnreachable: the cloud does not answer.
        xms.errors.Interrupted: the pulse said so.
    """
    asked: list[tuple[int, str, Snapshot]] = []
    missing = []
    replica = order.replica_of.isoformat()
    for disk in order.disks:
        volume_id = disk.volume_id or ""
        try:
            attachments.volume_of_job(cloud, volume_id, order.target.job_id)
            there = _of_job(cloud, volume_id, order.target.job_id)
            for old in there:
                if _replica(old) != replica or _failed(old):
                    _ask_to_delete(cloud, str(old.id))
            found = next((one for one in there if _replica(one) == replica and not _failed(one)), None)
            asked.append((disk.key, volume_id, found or _create(cloud, order, disk.key, volume_id, pulse)))
        except (QuotaExceeded, TargetFault, TargetNotFound, TargetRejected) as error:
            missing.append(f"{disk.label}: {error.because}")
    made = []
    baselines = {disk.key: disk.baseline for disk in order.disks}
    for key, volume_id, snapshot in asked:
        because = _wait_complete(cloud, str(snapshot.id), pulse)
        if because:
            _ask_to_delete(cloud, str(snapshot.id))
            missing.append(f"disk {key}: {because}")
        else:
            made.append(
                VolumeSnapshot(disk_key=key, volume_id=volume_id, snapshot_id=str(snapshot.id), baseline=baselines[key])
            )
    return VolumesSnapshotted(snapshots=tuple(made), missing=tuple(missing))


def _create(cloud: Cloud, order: SnapshotVolumes, disk_key: int, volume_id: str, pulse: Pulse) -> Snapshot:
    """Ask for it as soon as Cinder takes the order: the worker that converts attaches the volume just now."""
    last: TargetFault | None = None

    def ask() -> Snapshot | None:
        nonlocal last
        if attachments.status_of(cloud, volume_id) in attachments.UNDER_WAY:
            return None
        try:
            return _ask_for(cloud, order, disk_key, volume_id)
        except TargetFault as error:
            # The volume's state may have changed between the question and the order.
            if last is not None and last.because == error.because:
                raise
            last = error
            return None

    made = cloud.wait_for(ask, timeout=attachments.SETTLE_SECONDS, pulse=pulse)
    if made is None:
        raise last or TargetFault(
            f"no snapshot was made of volume {volume_id}",
            because=f"the volume is '{attachments.status_of(cloud, volume_id)}'",
        )
    return made


def _ask_for(cloud: Cloud, order: SnapshotVolumes, disk_key: int, volume_id: str) -> Snapshot:
    told = {
        JOB_KEY: order.target.job_id,
        DISK_KEY: str(disk_key),
        REPLICA_KEY: order.replica_of.isoformat(),
        "xms_made_by": MADE_BY,
    }
    with translated(f"no snapshot was made of volume {volume_id}"):
        return cloud.volumes.create_snapshot(
            volume_id=volume_id,
            name=f"{order.target.job_id} {disk_key}"[:TEXT_LIMIT],
            description=f"{MADE_BY}: disk {disk_key} before its conversion, job {order.target.job_id}"[:TEXT_LIMIT],
            is_forced=True,
            metadata={key: value[:TEXT_LIMIT] for key, value in told.items()},
        )


def _wait_complete(cloud: Cloud, snapshot_id: str, pulse: Pulse) -> str:
    """Why there is no complete snapshot; empty where there is."""
    last = ""

    def look() -> str | None:
        nonlocal last
        with translated(f"snapshot {snapshot_id} was not read"):
            last = str(cloud.volumes.get_snapshot(snapshot_id).status)
        if last.startswith("error"):
            return attachments.reason_of(cloud, snapshot_id) or f"its snapshot is in state '{last}'"
        return "" if last == "available" else None

    found = cloud.wait_for(look, timeout=MAKING_SECONDS, pulse=pulse)
    return f"its snapshot is '{last}' after {MAKING_SECONDS:.0f} s" if found is None else found


def revert(cloud: Cloud, order: RevertVolumes, holder: Holder, pulse: Pulse) -> VolumesReverted:
    """Take each volume back to its snapshot, and remove the snapshot before anybody can write to the volume again.

    A call that is believed lost and comes later finds no snapshot then, and undoes nothing that was written since.

    Raises:
        TargetUnreachable, VolumeBusy, VolumeFailed: not now: somebody has a volume still. It may be repeated.
        Refused: a volume is not the job's.
        xms.errors.Interrupted: the pulse said so.
    """
    done, refused = [], []
    for snapshot in order.snapshots:
        if attachments.status_of(cloud, snapshot.volume_id) == "reverting":
            # An attempt before this one asked for it.
            attachments.wait_available(cloud, snapshot.volume_id, pulse=pulse, timeout=REVERTING_SECONDS)
        volumes.release(cloud, [snapshot.volume_id], job_id=order.target.job_id, holder=holder, pulse=pulse)
        try:
            _revert(cloud, snapshot, order.target.job_id, pulse)
        except (TargetFault, TargetNotFound, TargetRejected, VolumeFailed) as error:
            refused.append(f"volume {snapshot.volume_id} was not taken back to its snapshot: {error.because}")
        else:
            done.append(snapshot.disk_key)
    return VolumesReverted(disk_keys=tuple(done), refused=tuple(refused))


def _revert(cloud: Cloud, snapshot: VolumeSnapshot, job_id: str, pulse: Pulse) -> None:
    volume_id, snapshot_id = snapshot.volume_id, snapshot.snapshot_id
    volume = attachments.volume_of_job(cloud, volume_id, job_id)
    there = {str(one.id): str(one.status) for one in _of_job(cloud, volume_id, job_id)}
    if snapshot_id not in there:
        if (volume.metadata or {}).get(REVERTED_KEY) == snapshot_id:
            _wait_gone(cloud, snapshot_id, pulse)
            return
        raise TargetNotFound(f"snapshot {snapshot_id} is gone", because=f"snapshot {snapshot_id} is not there any more")
    # Cinder's last act of a revert, after the volume is free again.
    because = f"it is in state '{there[snapshot_id]}'" if there[snapshot_id] not in {"available", "restoring"} else ""
    if because := because or _wait_complete(cloud, snapshot_id, pulse):
        # Asked all the same, Cinder refuses and was seen to leave the volume 'reverting' for ever.
        raise VolumeFailed(f"volume {volume_id} was not taken back to snapshot {snapshot_id}", because=because)
    for later in there:
        # Cinder goes back to a volume's last snapshot only; a call that came late may have made another one.
        if later != snapshot_id:
            _delete(cloud, later, pulse)
    with translated(f"volume {volume_id} was not taken back to snapshot {snapshot_id}"):
        cloud.volumes.revert_volume_to_snapshot(volume_id, snapshot_id)
    attachments.wait_available(cloud, volume_id, pulse=pulse, timeout=REVERTING_SECONDS)
    with translated(f"it was not written down that volume {volume_id} is back at its snapshot"):
        cloud.volumes.set_volume_metadata(volume_id, **{REVERTED_KEY: snapshot_id})
    _wait_complete(cloud, snapshot_id, pulse)
    try:
        _delete(cloud, snapshot_id, pulse)
    except TargetFault:
        # A call that was believed lost takes the volume back once more just now.
        _wait_complete(cloud, snapshot_id, pulse)
        attachments.wait_available(cloud, volume_id, pulse=pulse, timeout=REVERTING_SECONDS)
        _delete(cloud, snapshot_id, pulse)


def remove(cloud: Cloud, order: VolumesOrder, pulse: Pulse) -> SnapshotsLeft:
    """Remove the job's snapshots of these volumes and wait until they are gone; none is a success.

    Raises:
        TargetUnreachable: the cloud does not answer.
        xms.errors.Interrupted: the pulse said so.
    """
    doomed = [
        snapshot
        for volume_id in order.volume_ids
        for snapshot in _of_job(cloud, volume_id, order.target.job_id, on_their_way_out=True)
    ]
    left = []
    for snapshot in doomed:
        end = _wait_gone if snapshot.status == "deleting" else _delete
        try:
            end(cloud, str(snapshot.id), pulse)
        except (TargetFault, TargetRejected, VolumeFailed) as error:
            left.append(f"{error.what}: {error.because}")
    return SnapshotsLeft(left=tuple(left))


def _of_job(cloud: Cloud, volume_id: str, job_id: str, *, on_their_way_out: bool = False) -> list[Snapshot]:
    """The snapshots of a volume that carry the job's id, whatever Cinder's filter is worth."""
    with translated(f"the snapshots of volume {volume_id} were not listed"):
        return [
            snapshot
            for snapshot in cloud.volumes.snapshots(details=True, volume_id=volume_id)
            if snapshot.volume_id == volume_id
            and (snapshot.metadata or {}).get(JOB_KEY) == job_id
            and (on_their_way_out or snapshot.status != "deleting")
        ]


def _replica(snapshot: Snapshot) -> str:
    return str((snapshot.metadata or {}).get(REPLICA_KEY, ""))


def _failed(snapshot: Snapshot) -> bool:
    return str(snapshot.status).startswith("error")


def _ask_to_delete(cloud: Cloud, snapshot_id: str) -> None:
    """Without waiting, and without a word where it cannot be now: it is looked for again when all are removed."""
    with suppress(TargetFault, TargetRejected), translated(f"snapshot {snapshot_id} was not deleted"):
        cloud.volumes.delete_snapshot(snapshot_id, ignore_missing=True)


def _delete(cloud: Cloud, snapshot_id: str, pulse: Pulse) -> None:
    """Delete it once Cinder is done with it, and wait until it is gone."""
    try:
        _wait_complete(cloud, snapshot_id, pulse)
    except TargetNotFound:
        return
    with translated(f"snapshot {snapshot_id} was not deleted"):
        cloud.volumes.delete_snapshot(snapshot_id, ignore_missing=True)
    _wait_gone(cloud, snapshot_id, pulse)


def _wait_gone(cloud: Cloud, snapshot_id: str, pulse: Pulse) -> None:
    """Wait for a deletion that this attempt or one before it asked for."""
    last = ""

    def gone() -> bool | None:
        nonlocal last
        try:
            with translated(f"snapshot {snapshot_id} was not read"):
                last = str(cloud.volumes.get_snapshot(snapshot_id).status)
        except TargetNotFound:
            return True
        if last == "error_deleting":
            raise VolumeFailed(
                f"snapshot {snapshot_id} was not deleted",
                because=attachments.reason_of(cloud, snapshot_id) or "it is in state 'error_deleting'",
            )
        return None

    if cloud.wait_for(gone, timeout=GONE_SECONDS, pulse=pulse) is None:
        raise VolumeFailed(
            f"snapshot {snapshot_id} is not gone", because=f"after {GONE_SECONDS:.0f} s it is still '{last}'"
        )
