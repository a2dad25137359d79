"""A volume's attachments: those of workers, which a job may remove, and those of instances, which it never does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xms.errors import Refused, VolumeBusy, VolumeFailed
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

SETTLE_SECONDS = 120.0
"""How long Nova and Cinder may take to agree that a volume is free."""


def volume_of_job(cloud: Cloud, volume_id: str, job_id: str) -> Volume:
    """The volume, if it is the job's.

    Raises:
        TargetNotFound: there is no such volume.
        Refused: its metadata does not carry the job's id.
    """
    with translated(f"volume {volume_id} of job {job_id} was not read"):
        volume = cloud.volumes.get_volume(volume_id)
    owner = (volume.metadata or {}).get(JOB_KEY, "")
    if owner != job_id:
        raise Refused(
            f"volume {volume_id} is not touched",
            because=f"its metadata says {JOB_KEY}={owner or '(nothing)'}, not {job_id}",
            do="name the job that made the volume",
        )
    return volume


def of_workers(cloud: Cloud, volume_id: str) -> tuple[str, ...]:
    """Ids of the attachments that no instance has: on a volume of a job, those of this product's workers.

    Raises:
        VolumeBusy: an instance has the volume.
    """
    with translated(f"the attachments of volume {volume_id} were not read"):
        found = [item for item in cloud.volumes.attachments(volume_id=volume_id) if item.volume_id == volume_id]
    instances = [str(item.instance) for item in found if item.instance]
    if instances:
        raise VolumeBusy(
            f"volume {volume_id} is attached to instance {', '.join(instances)}",
            means="nothing was written to it",
            do="remove the instance, or detach the volume from it",
        )
    return tuple(str(item.id) for item in found)


def remove(cloud: Cloud, attachment_ids: Iterable[str]) -> None:
    """Delete attachments; one that is gone already is a success."""
    for attachment_id in attachment_ids:
        with translated(f"attachment {attachment_id} was not deleted"):
            cloud.volumes.delete_attachment(attachment_id, ignore_missing=True)


def wait_available(cloud: Cloud, volume_id: str, *, pulse: Pulse, timeout: float = SETTLE_SECONDS) -> Volume:
    """Wait until the volume is free.

    Raises:
        VolumeFailed: it went to an error state, or did not become available within `timeout` seconds.
        xms.errors.Interrupted: the pulse said so.
    """
    last = ""

    def look() -> Volume | None:
        nonlocal last
        with translated(f"volume {volume_id} was not read"):
            volume = cloud.volumes.get_volume(volume_id)
        last = str(volume.status)
        if last.startswith("error"):
            raise VolumeFailed(f"volume {volume_id} is in state '{last}'", because=reason_of(cloud, volume_id))
        return volume if last == "available" else None

    found = cloud.wait_for(look, timeout=timeout, pulse=pulse)
    if found is None:
        raise VolumeFailed(
            f"volume {volume_id} did not become available", because=f"it is '{last}' after {timeout:.0f} s"
        )
    return found


def reason_of(cloud: Cloud, volume_id: str) -> str:
    """What Cinder tells a user about the volume's last failure: only its message API knows (3.5); "" without one."""
    with translated(f"the messages about volume {volume_id} were not read"):
        answer = cloud.volumes.get(f"/messages?resource_uuid={volume_id}", microversion="3.5")
    if not answer.ok:
        return ""
    return "; ".join(item["user_message"] for item in answer.json().get("messages", ()))
