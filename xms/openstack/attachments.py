"""A volume's attachments: those of workers, which a job may remove, and those of others, which it never does.

A worker's attachment has no instance (attach = cinder), or it has the instance that the worker is (attach = nova),
which the volume's metadata then name: one key an instance, written before the attachment is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from xms.errors import Refused, TargetFault, TargetNotFound, VolumeBusy, VolumeFailed
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.attachment import Attachment
    from openstack.block_storage.v3.volume import Volume

SETTLE_SECONDS: Final = 120.0
"""How long Nova and Cinder may take to agree that a volume is free."""
WORKER_KEY: Final = "xms_worker_"
UNDER_WAY: Final = frozenset({"reserved", "attaching", "detaching"})
"""States that an attachment passes through."""
OWN_WORK: Final = frozenset(
    {"backing-up", "restoring-backup", "uploading", "downloading", "retyping", "migrating", "maintenance"}
)
"""States in which Cinder itself, or one of its services, has the volume."""
MIGRATES: Final = frozenset({"starting", "migrating", "completing"})
NOVAS: Final = "ConflictNovaUsingAttachment"
"""Cinder's answer to the deletion of an attachment that belongs to Nova."""


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


def worker_key(instance_id: str) -> str:
    """Metadata key that says: this instance is a worker. Its value is the worker's name."""
    return f"{WORKER_KEY}{instance_id}"


def worker_keys(volume: Volume) -> tuple[str, ...]:
    """Those keys of a volume."""
    return tuple(key for key in volume.metadata or {} if key.startswith(WORKER_KEY))


def listed(cloud: Cloud, volume_id: str) -> list[Attachment]:
    """Every attachment of a volume, whosever it is."""
    with translated(f"the attachments of volume {volume_id} were not read"):
        return [item for item in cloud.volumes.attachments(volume_id=volume_id) if item.volume_id == volume_id]


def of_workers(cloud: Cloud, volume_id: str) -> tuple[str, ...]:
    """Ids of this product's attachments: those without an instance, and those of instances that are workers.

    Raises:
        VolumeBusy: another instance has the volume, or Cinder itself works on it.
    """
    found = listed(cloud, volume_id)
    if not found:
        return ()
    with translated(f"volume {volume_id} was not read"):
        volume = cloud.volumes.get_volume(volume_id)
    if str(volume.status) in OWN_WORK or str(volume.migration_status or "") in MIGRATES:
        # Cinder makes attachments without an instance for itself then.
        raise VolumeBusy(
            f"volume {volume_id} is in use by Cinder itself",
            because=f"it is '{volume.status}'"
            + (f", its migration '{volume.migration_status}'" if volume.migration_status else ""),
            means="nothing was written to it",
            do="nothing: it is tried again when that has ended",
        )
    workers = worker_keys(volume)
    instances = [str(item.instance) for item in found if item.instance and worker_key(item.instance) not in workers]
    if instances:
        raise VolumeBusy(
            f"volume {volume_id} is attached to instance {', '.join(instances)}",
            means="nothing was written to it",
            do="remove the instance, or detach the volume from it",
        )
    return tuple(str(item.id) for item in found)


def remove(cloud: Cloud, attachment_ids: Iterable[str], *, pulse: Pulse = no_pulse) -> None:
    """Remove attachments; one that is gone already is a success. What Nova made, Nova has to take away.

    Nova's detaching is asked for here, and done when the volume is available. It is a fence as well: whatever the
    instance still had to write, it does not reach the volume afterwards.

    Raises:
        VolumeFailed: Nova does not detach it.
    """
    for attachment_id in attachment_ids:
        try:
            with translated(f"attachment {attachment_id} was not deleted"):
                cloud.volumes.delete_attachment(attachment_id, ignore_missing=True)
        except TargetFault as error:
            if NOVAS not in error.because:
                raise
            _detach_by_nova(cloud, attachment_id, pulse)


def _detach_by_nova(cloud: Cloud, attachment_id: str, pulse: Pulse) -> None:
    try:
        with translated(f"attachment {attachment_id} was not read"):
            attachment = cloud.volumes.get_attachment(attachment_id)
    except TargetNotFound:
        return
    volume_id, instance = str(attachment.volume_id), str(attachment.instance)
    last = ""

    def ask() -> bool | None:
        nonlocal last
        try:
            detach(cloud, volume_id, instance)
        except TargetFault as error:
            # Nova does not detach what it still attaches, or detaches already.
            last = error.because
            return None if status_of(cloud, volume_id) in UNDER_WAY - {"detaching"} else True
        return True

    if cloud.wait_for(ask, timeout=SETTLE_SECONDS, pulse=pulse) is None:
        raise VolumeFailed(
            f"volume {volume_id} was not detached from instance {instance}",
            because=last,
            do=f"see what the instance does (openstack server show {instance}); an administrator can reset the volume",
        )


def detach(cloud: Cloud, volume_id: str, instance: str) -> None:
    """Ask Nova to detach; nothing to detach is a success. It is done when the volume is available.

    Raises:
        TargetFault: Nova does not, in the state that instance or volume are in.
    """
    with translated(f"volume {volume_id} was not detached from instance {instance}"):
        cloud.compute.delete_volume_attachment(instance, volume_id, ignore_missing=True)


def status_of(cloud: Cloud, volume_id: str) -> str:
    """What Cinder says that the volume is."""
    with translated(f"volume {volume_id} was not read"):
        return str(cloud.volumes.get_volume(volume_id).status)


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
        raise _stuck(cloud, volume_id, last, timeout)
    return found


def _stuck(cloud: Cloud, volume_id: str, status: str, seconds: float) -> VolumeFailed:
    holders = [str(item.instance or item.id) for item in listed(cloud, volume_id)]
    do = ""
    if status == "in-use" and holders:
        do = (
            f"see why {', '.join(holders)} keeps it: an instance that is paused or hangs does not let go of a volume "
            "until it is stopped (openstack server stop)"
        )
    elif status in UNDER_WAY:
        held = f"besides attachment {', '.join(holders)}" if holders else "and no attachment is left"
        # Members may not do that: volume_extend:volume_admin_actions:reset_status.
        do = (
            f"nothing, if it is only slow: it is tried again; if it stays '{status}' ({held}), an administrator frees "
            f"it: openstack volume set --state available --detached {volume_id}"
        )
    return VolumeFailed(
        f"volume {volume_id} did not become available",
        because=f"it is '{status}' after {seconds:.0f} s",
        means="nothing was written to it by this attempt",
        do=do,
    )


def reason_of(cloud: Cloud, volume_id: str) -> str:
    """What Cinder tells a user about the volume's last failure: only its message API knows (3.5); "" without one."""
    with translated(f"the messages about volume {volume_id} were not read"):
        answer = cloud.volumes.get(f"/messages?resource_uuid={volume_id}", microversion="3.5")
    if not answer.ok:
        return ""
    return "; ".join(item["user_message"] for item in answer.json().get("messages", ()))
