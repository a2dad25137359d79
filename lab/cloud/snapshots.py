"""Snapshots of volumes, below the API: a copy of the volume's file, and the way back to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.cloud import volumes
from lab.cloud.refusals import Refused, not_found
from lab.cloud.state import Cloud, Message, Project, Snapshot, User, Volume, now

FAILED = "create snapshot:Snapshot failed to create."


def find(cloud: Cloud, project: Project, snapshot_id: str) -> Snapshot:
    """A snapshot of the project. Raises Refused, 404."""
    snapshot = cloud.snapshots.get(snapshot_id)
    if snapshot is None or snapshot.project_id != project.id:
        raise not_found("Snapshot", snapshot_id)
    return snapshot


def create(cloud: Cloud, project: Project, user: User, volume: Volume, *, forced: bool) -> Snapshot:
    """A snapshot of a volume that is available, or in use where that is said to be meant; complete in a while.

    It holds what the volume holds when it is complete: whoever writes meanwhile does not know which of it.
    """
    allowed = ("available", "in-use") if forced else ("available",)
    if volume.status not in allowed:
        text = f"status must be {', '.join(allowed)}, but current status is: {volume.status}."
        raise Refused(400, f"Invalid volume: Volume {volume.id} {text}")
    _check_quota(cloud, project, volume)
    snapshot = Snapshot(project.id, user.id, volume, volume.size, file=cloud.directory / "snapshots")
    snapshot.file = snapshot.file / f"snapshot-{snapshot.id}"
    snapshot.file.parent.mkdir(parents=True, exist_ok=True)
    cloud.snapshots[snapshot.id] = snapshot
    fails = cloud.faults.take_snapshot_error()

    def freeze() -> None:
        if fails:
            _set_status(snapshot, "error")
            cloud.messages.append(Message(project.id, snapshot.id, FAILED))
            return
        _copy(volume.file, snapshot.file)
        _set_status(snapshot, "available")

    cloud.later(cloud.faults.volume_seconds, freeze)
    return snapshot


def _check_quota(cloud: Cloud, project: Project, volume: Volume) -> None:
    limit, used = project.quota.snapshots, len(cloud.of_project(cloud.snapshots, project))
    if 0 <= limit <= used:
        raise Refused(413, f"SnapshotLimitExceeded: Maximum number of snapshots allowed ({limit}) exceeded")
    volumes.check_size_quota(cloud, project, volume.size, volume.volume_type)


def delete(cloud: Cloud, snapshot: Snapshot) -> None:
    """Delete it; gone in a while."""
    if snapshot.status not in ("available", "error"):
        text = "Snapshot status must be available or error and must not be part of a group."
        raise Refused(400, f"Invalid snapshot: {text}")
    _set_status(snapshot, "deleting")

    def remove() -> None:
        snapshot.file.unlink(missing_ok=True)
        cloud.snapshots.pop(snapshot.id, None)

    cloud.later(cloud.faults.volume_seconds, remove)


def revert(cloud: Cloud, volume: Volume, snapshot_id: str) -> None:
    """Take an available volume back to its last snapshot; done in a while."""
    there = cloud.snapshots_of(volume)
    if not there:
        raise Refused(400, f"Volume {volume.id} doesn't have any snapshots.")
    last = there[-1]
    if last.id != snapshot_id:
        text = f"Specified snapshot {snapshot_id} is None or not the latest one of volume {volume.id}."
        raise Refused(400, text)
    what = f"Can't revert volume {volume.id} to its latest snapshot"
    if last.size != volume.size:
        raise Refused(400, f"{what} {last.id}. The volume size must be equal to the snapshot size.")
    if volume.status != "available":
        raise Refused(409, f"Invalid volume: {what}. Volume's status must be 'available'.")
    volumes.set_status(volume, "reverting")
    if last.status != "available":
        # As Cinder does it: the volume stays so.
        raise Refused(409, f"Invalid snapshot: {what}. Snapshot's status must be 'available'.")
    _set_status(last, "restoring")

    def restore() -> None:
        draft = volume.file.with_suffix(".reverted")
        _copy(last.file, draft)
        draft.replace(volume.file)
        volumes.set_status(volume, "available")
        _set_status(last, "available")

    cloud.later(cloud.faults.volume_seconds, restore)


def _copy(source: Path, target: Path) -> None:
    # It keeps the holes.
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def _set_status(snapshot: Snapshot, status: str) -> None:
    snapshot.status = status
    snapshot.updated = now()
