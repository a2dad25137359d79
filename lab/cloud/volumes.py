"""Volumes themselves, below the API: their files, their quota, and who holds them."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from lab.cloud.refusals import Json, Refused
from lab.cloud.state import Attachment, Cloud, Message, Project, User, Volume, VolumeType, now

GIBIBYTE = 1 << 30
CLONABLE = frozenset({"available", "in-use"})
DELETABLE = frozenset({"available", "error", "error_restoring", "error_extending", "error_managing"})
RESERVABLE = frozenset({"available", "downloading"})
NO_ROOM = "schedule allocate volume:Could not find any available weighted backend."


def used(cloud: Cloud, project: Project, volume_type: VolumeType | None = None) -> tuple[int, int]:
    """How many volumes the project has, of a type or of any, and the GiB of them and of their snapshots."""
    of_project = cloud.of_project(cloud.volumes, project)
    sizes = [volume.size for volume in of_project if volume_type in (None, volume.volume_type)]
    frozen = [
        snapshot.size
        for snapshot in cloud.of_project(cloud.snapshots, project)
        if volume_type in (None, snapshot.volume.volume_type)
    ]
    return len(sizes), sum(sizes) + sum(frozen)


def check_size_quota(cloud: Cloud, project: Project, requested: int, volume_type: VolumeType) -> None:
    """Refuse GiB that the project's quota, or its quota for the type, does not cover."""
    kind = volume_type.name
    of_type = project.quota.gigabytes_of_type.get(kind, -1)
    for name, limit, (_, consumed) in (
        ("gigabytes", project.quota.gigabytes, used(cloud, project)),
        (f"gigabytes_{kind}", of_type, used(cloud, project, volume_type)),
    ):
        if 0 <= limit < consumed + requested:
            raise Refused(
                413,
                f"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {name} quota. "
                f"Requested {requested}G, quota is {limit}G and {consumed}G has been consumed.",
            )


def check_count_quota(cloud: Cloud, project: Project, volume_type: VolumeType) -> None:
    """Refuse a volume more than the project's quota, or its quota for the type, allows."""
    kind = volume_type.name
    of_type = project.quota.volumes_of_type.get(kind, -1)
    for name, limit, (count, _) in (
        ("volumes", project.quota.volumes, used(cloud, project)),
        (f"volumes_{kind}", of_type, used(cloud, project, volume_type)),
    ):
        if 0 <= limit <= count:
            text = f"VolumeLimitExceeded: Maximum number of volumes allowed ({limit}) exceeded for quota '{name}'."
            raise Refused(413, text)


def create(
    cloud: Cloud,
    project: Project,
    user: User,
    size: int,
    volume_type: VolumeType,
    zone: str,
    *,
    takes_over: Volume | None = None,
) -> Volume:
    """A new volume; it becomes available, or fails where its back end is full, in a while.

    Args:
        cloud: where.
        project: whose.
        user: who asks.
        size: GiB.
        volume_type: decides about the back end.
        zone: of the volume service.
        takes_over: a volume whose bytes it gets when it becomes available; None: it is empty.
    """
    check_size_quota(cloud, project, size, volume_type)
    check_count_quota(cloud, project, volume_type)
    directory = cloud.directory / "volumes"
    volume = Volume(project.id, user.id, size, volume_type, zone, file=directory)
    volume.file = directory / f"volume-{volume.id}"
    stored = sum(each.size for each in cloud.volumes.values() if each.volume_type is volume_type)
    cloud.volumes[volume.id] = volume
    reason = cloud.faults.take_volume_error() or (NO_ROOM if stored + size > volume_type.capacity else "")
    if reason:
        cloud.later(cloud.faults.volume_seconds, lambda: _fail(cloud, volume, reason))
        return volume
    directory.mkdir(parents=True, exist_ok=True)
    with volume.file.open("xb") as file:
        file.truncate(size * GIBIBYTE)

    def finish() -> None:
        if takes_over is not None and takes_over.file.exists():
            copy_sparsely(takes_over.file, volume.file)
        set_status(volume, "available")

    cloud.later(cloud.faults.volume_seconds, finish)
    return volume


def copy_sparsely(source: Path, target: Path) -> None:
    """Copy what a file has, over the beginning of one that has nothing yet."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        end, offset = reader.seek(0, os.SEEK_END), 0
        while offset < end:
            try:
                begin = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
            except OSError:
                # ENXIO: nothing but a hole is left.
                return
            offset = os.lseek(reader.fileno(), begin, os.SEEK_HOLE)
            reader.seek(begin)
            writer.seek(begin)
            shutil.copyfileobj(_Limited(reader, offset - begin), writer)


class _Limited:
    """The next bytes of a file, and no more."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int = -1) -> bytes:
        """At most `size` of them."""
        asked = self._left if size < 0 else min(size, self._left)
        data = self._file.read(asked)
        self._left -= len(data)
        return data


def clone(cloud: Cloud, project: Project, user: User, source: Volume, size: int) -> Volume:
    """A copy of a volume, as a share of files makes it: all of it is copied while the source is called available.

    What is written to the source meanwhile may be in the copy: here the bytes are taken at the very end.
    """
    if source.status not in CLONABLE:
        text = f"Invalid volume: Source volume {source.id} must be available or in-use, but is {source.status}."
        raise Refused(400, text)
    if size < source.size:
        text = f"Volume size {size}GB cannot be smaller than original volume size {source.size}GB. They must be >= it."
        raise Refused(400, f"Invalid input received: {text}")
    copy = create(cloud, project, user, size, source.volume_type, source.zone, takes_over=source)
    copy.source_id, copy.bootable, copy.image_metadata = source.id, source.bootable, dict(source.image_metadata)
    return copy


def _fail(cloud: Cloud, volume: Volume, reason: str) -> None:
    set_status(volume, "error")
    cloud.messages.append(Message(volume.project_id, volume.id, reason))


def set_status(volume: Volume, status: str) -> None:
    """Another status, and the time of it."""
    volume.status = status
    volume.updated = now()


def extend(cloud: Cloud, project: Project, volume: Volume, size: int) -> None:
    """Grow an available volume to `size` GiB; done in a while."""
    if volume.status != "available":
        text = f"Volume {volume.id} status must be available to extend, currently {volume.status}."
        raise Refused(400, f"Invalid volume: {text}")
    if size <= volume.size:
        text = f"New size for extend must be greater than current size. (current: {volume.size}, extended: {size})."
        raise Refused(400, f"Invalid input received: {text}")
    check_size_quota(cloud, project, size - volume.size, volume.volume_type)
    set_status(volume, "extending")

    def grow() -> None:
        if reason := cloud.faults.take_extension_error():
            set_status(volume, "error_extending")
            cloud.messages.append(Message(volume.project_id, volume.id, reason))
            return
        os.truncate(volume.file, size * GIBIBYTE)
        volume.size = size
        set_status(volume, "available")

    cloud.later(cloud.faults.volume_seconds, grow)


def delete(cloud: Cloud, volume: Volume) -> None:
    """Delete a volume that nobody uses; gone in a while."""
    if volume.status not in DELETABLE or cloud.attachments_of(volume) or cloud.snapshots_of(volume):
        raise Refused(
            400,
            "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
            "error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a "
            "transfer, or be disassociated from snapshots after volume transfer.",
        )
    set_status(volume, "deleting")

    def remove() -> None:
        volume.file.unlink(missing_ok=True)
        cloud.volumes.pop(volume.id, None)

    cloud.later(cloud.faults.volume_seconds, remove)


def reserve(cloud: Cloud, volume: Volume, server_id: str | None, mode: str = "rw") -> Attachment:
    """Reserve the volume, for a server or for a host outside of Nova.

    Raises:
        Refused: 400, somebody else holds it.
    """
    if volume.status not in RESERVABLE:
        text = f"status must be available or downloading to reserve, but the current status is {volume.status}."
        raise Refused(400, f"Invalid volume: Volume {volume.id} {text}")
    attachment = Attachment(volume, volume.project_id, server_id, mode=mode)
    cloud.attachments[attachment.id] = attachment
    set_status(volume, "reserved")
    return attachment


def through_nova(text: str) -> str:
    """Cinder's refusal as Nova passes it on."""
    return f"Invalid input received: {text} (HTTP 400) (Request-ID: req-{uuid.uuid4()})"


def connect(attachment: Attachment, connector: Json) -> None:
    """Tell the storage who will use the volume; from now on there is connection info."""
    attachment.connector = connector
    attachment.status = "attaching"
    set_status(attachment.volume, "attaching")


def complete(attachment: Attachment) -> None:
    """The user of the volume has it."""
    attachment.status = "attached"
    attachment.attached = now()
    set_status(attachment.volume, "in-use")


def release(cloud: Cloud, attachment: Attachment) -> None:
    """The volume is free again."""
    cloud.attachments.pop(attachment.id, None)
    set_status(attachment.volume, "available")


def connection_info(attachment: Attachment) -> Json:
    """What os-brick's LOCAL connector wants: the path of the volume's file."""
    if attachment.connector is None:
        return {}
    return {
        "driver_volume_type": "local",
        "device_path": str(attachment.volume.file),
        "access_mode": attachment.mode,
        "attachment_id": attachment.id,
        "volume_id": attachment.volume.id,
        "encrypted": False,
        "cacheable": False,
        "qos_specs": None,
        "enforce_multipath": False,
    }
