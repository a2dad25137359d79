"""A job's server: booted once, found again by its metadata, removed on roll-back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import openstack.exceptions

from xms.errors import (
    BootFailed,
    BootRefused,
    Interrupted,
    NeverStarted,
    Refused,
    TargetFault,
    TargetNotFound,
    TargetRejected,
    TargetUnreachable,
    VolumeFailed,
    XmsError,
)
from xms.evidence import last_lines
from xms.openstack import attachments, user_data
from xms.openstack.boot_record import BootRecord
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.openstack.volumes import MADE_BY, TEXT_LIMIT
from xms.openstack.volumes import of_job as of_job_volumes
from xms.orders.target import BootServer, ServerOrder
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume
    from openstack.compute.v2.server import Server
    from openstack.compute.v2.volume_attachment import VolumeAttachment

ACTIVE_SECONDS: Final = 900.0
GONE_SECONDS: Final = 300.0
CONSOLE_LINES: Final = 400
TAIL_LINES: Final = 12
ON_THE_WAY: Final = ("BUILD", "UNKNOWN")
"""What a server may be on its way to ACTIVE; Nova says UNKNOWN while it cannot reach the host's cell."""
NOTHING_RAN: Final = "no guest ran on the volumes: they are as the conversion left them"


def boot(cloud: Cloud, order: BootServer, pulse: Pulse, *, user_data_dir: Path | None = None) -> str:
    """Boot the instance from the job's volumes on the job's ports, and wait until it is ACTIVE.

    The server of an earlier attempt is taken, unless it is in ERROR: then it is removed and made again.

    Args:
        cloud: the target project.
        order: what to boot.
        pulse: shown while it waits.
        user_data_dir: where the worker has the file that the order names as user data.

    Returns:
        The server's id.

    Raises:
        BootRefused: Nova refuses it as it is, the quota included, and it is certain that no guest ran.
        NeverStarted: the same, but another attempt may help.
        BootFailed: it went to ERROR, or was not ACTIVE in time; with Nova's fault and the console's end.
        XmsError: any other, where a guest may have run before it.
    """
    volume_ids = _boot_order(order)
    record = BootRecord.of(cloud, volume_ids[0], order.target.job_id)
    try:
        server = _earlier(cloud, order, volume_ids[0], record, pulse)
        if server is None:
            name = order.spec.user_data
            content = None if name is None else user_data.encoded(user_data_dir, name)
            server = _create(cloud, order, volume_ids, content, record, pulse)
        return _wait_active(cloud, str(server.id), record, pulse)
    except Interrupted:
        raise
    except XmsError as error:
        if record.may_have_run:
            raise
        kind = NeverStarted if error.retryable else BootRefused
        raise kind(error.what, because=error.because, means=NOTHING_RAN, do=error.do) from error


def _earlier(cloud: Cloud, order: BootServer, root_id: str, record: BootRecord, pulse: Pulse) -> Server | None:
    """What an attempt before this one left: a server on its way, or none. Those that failed are removed."""
    there = of_job(cloud, order.target.job_id)
    # Of two that were asked for, one has the volumes.
    there.sort(key=lambda server: (server.status == "ERROR", root_id not in [disk.id for disk in _disks(server)]))
    kept = there[0] if there and there[0].status != "ERROR" else None
    for server in there:
        if server is not kept:
            _judge(cloud, server, record)
            _delete(cloud, server, pulse)
    if not there and record.may_have_run:
        # What came of the last question is not there any more, and nobody can say what it did.
        record.ran()
    if there and kept is None:
        record.none_came()
    return kept


def _judge(cloud: Cloud, server: Server, record: BootRecord) -> None:
    """Write down that a guest may have run, unless the server itself says that it cannot."""
    try:
        # A list was seen to leave the fault out.
        never_placed = _never_placed(get(cloud, str(server.id)))
    except TargetNotFound:
        never_placed = False
    if not never_placed:
        record.ran()


def _create(
    cloud: Cloud, order: BootServer, volume_ids: list[str], content: str | None, record: BootRecord, pulse: Pulse
) -> Server:
    for volume_id in volume_ids:
        attachments.volume_of_job(cloud, volume_id, order.target.job_id)
        attachments.wait_available(cloud, volume_id, pulse=pulse)
    spec = order.spec
    what = f"instance '{spec.instance_name}' was not made"
    with translated(what):
        flavor = cloud.compute.find_flavor(spec.flavor, ignore_missing=False)
    wishes = {
        "availability_zone": spec.availability_zone,
        "key_name": spec.key_pair,
        "user_data": content,
        "config_drive": spec.config_drive or None,
    }
    record.asked()
    try:
        with translated(what):
            return cloud.compute.create_server(
                name=spec.instance_name,
                flavor_id=flavor.id,
                networks=[{"port": nic.port_id} for nic in order.nics] or "none",
                block_device_mapping=[
                    {
                        "uuid": volume_id,
                        "source_type": "volume",
                        "destination_type": "volume",
                        "boot_index": 0 if place == 0 else -1,
                        "delete_on_termination": False,
                        "disk_bus": order.block_bus,
                    }
                    for place, volume_id in enumerate(volume_ids)
                ],
                metadata=_metadata(order),
                **{key: value for key, value in wishes.items() if value is not None},
            )
    except XmsError as error:
        # After any other answer, or none, there may be a server all the same.
        if _is_refusal(error) and not of_job(cloud, order.target.job_id):
            record.none_came()
        raise


def _metadata(order: BootServer) -> dict[str, str]:
    """What tells a person, and this product, whose server it is."""
    told = {
        JOB_KEY: order.target.job_id,
        "xms_source": order.spec.source,
        "xms_vm": order.spec.vm,
        "xms_made_by": MADE_BY,
    }
    return {key: value[:TEXT_LIMIT] for key, value in told.items()}


def _is_refusal(error: XmsError) -> bool:
    """Whether the cloud itself said no, so that nothing was made: 4xx, but for a time that ran out on the way."""
    cause = error.__cause__
    status = cause.status_code if isinstance(cause, openstack.exceptions.HttpException) else None
    return status is not None and 400 <= status < 500 and status != 408  # noqa: PLR2004 - HTTP's own numbers


def _never_placed(server: Server) -> bool:
    """Whether Nova found no host for it. One that failed on a host may have run there for a moment."""
    fault = _fault(server)
    return (
        server.status == "ERROR"
        and not server.host_id
        and not server.launched_at
        and fault.startswith("No valid host was found")
    )


def _fault(server: Server) -> str:
    return str(server.fault.get("message", "")) if isinstance(server.fault, dict) else ""


def _disks(server: Server) -> list[VolumeAttachment]:
    return list(server.attached_volumes or ())


def remove(cloud: Cloud, order: ServerOrder, pulse: Pulse) -> None:
    """Remove the job's server, and wait until it is gone and has let go of the volumes; none is a success.

    The volumes stay: one that somebody marked to be deleted with the server is unmarked before.

    Raises:
        Refused: the server does not carry the job's id.
        TargetRejected: a volume would be deleted with it; the server is still there.
        TargetFault: it is still there after some minutes.
        VolumeFailed: it is gone, but a volume is not free.
    """
    if order.server_id:
        try:
            server = get(cloud, order.server_id)
        except TargetNotFound:
            server = None
        if server is not None and (server.metadata or {}).get(JOB_KEY) != order.target.job_id:
            raise Refused(
                f"instance {order.server_id} is not removed",
                because=f"its metadata does not say {JOB_KEY}={order.target.job_id}",
            )
    for server in of_job(cloud, order.target.job_id):
        _delete(cloud, server, pulse)
    if order.see_volumes_free:
        see_volumes_free(cloud, order.target.job_id, pulse)


def see_volumes_free(cloud: Cloud, job_id: str, pulse: Pulse) -> None:
    """Cinder lets go of a volume some seconds after its server is gone, or, where a back end hangs, never.

    Raises:
        VolumeFailed: it has not let go of one after some minutes.
    """
    held: list[Volume] = []

    def look() -> bool | None:
        held[:] = [
            volume
            for volume in of_job_volumes(cloud, job_id)
            if volume.status == "detaching" or any(each.get("server_id") for each in volume.attachments or ())
        ]
        return None if held else True

    if cloud.wait_for(look, timeout=attachments.SETTLE_SECONDS, pulse=pulse) is None:
        names = ", ".join(f"{volume.id} ('{volume.status}')" for volume in held)
        raise VolumeFailed(
            f"the instance is gone, but not from its volumes: {names}",
            because=f"Cinder has not let go of them after {attachments.SETTLE_SECONDS:.0f} s",
            means="what is on them is kept; until they are free nothing can be copied to them",
            do="have an administrator see to the back end, then delete what is left (openstack volume attachment list "
            "--volume-id ID) and set the volume's state to available",
        )


def of_job(cloud: Cloud, job_id: str) -> list[Server]:
    """The servers that carry the job's id, oldest first; those on their way out are left out."""
    with translated(f"the instances of job {job_id} were not listed"):
        found = [
            server
            for server in cloud.compute.servers(details=True)
            if (server.metadata or {}).get(JOB_KEY) == job_id and server.status not in ("DELETED", "SOFT_DELETED")
        ]
    return sorted(found, key=lambda server: (str(server.created_at), str(server.id)))


def console(cloud: Cloud, server_id: str) -> str:
    """The end of the server's console; "" where the cloud keeps none or it is not ready."""
    try:
        with translated(f"the console of instance {server_id} was not read"):
            answer: dict[str, Any] = cloud.compute.get_server_console_output(server_id, length=CONSOLE_LINES)
    except (TargetFault, TargetNotFound, TargetRejected):
        # Clouds without console logs answer 400, 404, 409 or 501: that is no failure of the guest.
        return ""
    return str(answer.get("output") or "")


def _boot_order(order: BootServer) -> list[str]:
    disks = sorted(order.disks, key=lambda disk: disk.key != order.root_disk_key)
    missing = [disk.label for disk in disks if disk.volume_id is None]
    if missing or not disks or disks[0].key != order.root_disk_key:
        raise TargetRejected(
            f"instance '{order.spec.instance_name}' cannot be booted",
            because=f"there is no volume for {', '.join(missing) or 'the root disk'}",
        )
    return [disk.volume_id for disk in disks if disk.volume_id is not None]


def get(cloud: Cloud, server_id: str) -> Server:
    """The server as it is now.

    Raises:
        TargetNotFound: there is none of that id.
    """
    with translated(f"instance {server_id} was not read"):
        return cloud.compute.get_server(server_id)


def _wait_active(cloud: Cloud, server_id: str, record: BootRecord, pulse: Pulse) -> str:
    def look() -> str | None:
        try:
            server = get(cloud, server_id)
        except TargetNotFound as error:
            raise BootFailed(f"instance {server_id} is gone", because="somebody removed it while it started") from error
        if server.status not in ("ACTIVE", *ON_THE_WAY):
            if _never_placed(server):
                record.never_placed()
            raise boot_failure(cloud, server, f"instance {server_id} went to {server.status}")
        return server_id if server.status == "ACTIVE" else None

    if cloud.wait_for(look, timeout=ACTIVE_SECONDS, pulse=pulse) is None:
        raise boot_failure(
            cloud, get(cloud, server_id), f"instance {server_id} was not ACTIVE within {ACTIVE_SECONDS:.0f} s"
        )
    return server_id


def boot_failure(cloud: Cloud, server: Server, what: str, found: str = "") -> BootFailed:
    """What to raise of a server that does not run, or not as it should: with Nova's fault and the console's end.

    Args:
        cloud: the target project.
        server: as it was read last.
        what: what is so.
        found: what was found beside it.
    """
    tail = "\n".join(last_lines(console(cloud, str(server.id)), TAIL_LINES))
    request = _request_of(cloud, str(server.id))
    fault = _fault(server).strip() + (f" (request {request})" if request else "")
    because = "\n".join(part for part in (found, fault.strip(), tail and f"the console ends with:\n{tail}") if part)
    return BootFailed(
        what,
        because=because or f"it is {server.status}, and its console is empty",
        means="a guest may have run on the volumes",
        do="see the instance's console and the cloud's logs; the cutover can be repeated",
    )


def _request_of(cloud: Cloud, server_id: str) -> str:
    """Id of the request that made the server, by which its cloud's logs are searched; "" where it is not told."""
    try:
        with translated(f"the actions of instance {server_id} were not listed"):
            actions = list(cloud.compute.server_actions(server_id))
    except XmsError:
        # It is told beside another failure, which counts.
        return ""
    return next((str(action.request_id) for action in actions if action.action == "create"), "")


def _delete(cloud: Cloud, server: Server, pulse: Pulse) -> None:
    server_id = str(server.id)
    _keep_volumes(cloud, server)
    with translated(f"instance {server_id} was not removed"):
        cloud.compute.delete_server(server_id, ignore_missing=True)

    def gone() -> bool | None:
        try:
            return True if get(cloud, server_id).status in ("DELETED", "SOFT_DELETED") else None
        except TargetNotFound:
            return True

    if cloud.wait_for(gone, timeout=GONE_SECONDS, pulse=pulse) is None:
        raise TargetFault(f"instance {server_id} is not gone", because=f"after {GONE_SECONDS:.0f} s it is still there")


def _keep_volumes(cloud: Cloud, server: Server) -> None:
    """No volume goes with its server, whoever marked it so."""
    for disk in _disks(server):
        if not disk.delete_on_termination:
            continue
        try:
            with translated(f"volume {disk.id} is still to be deleted with instance {server.id}"):
                cloud.compute.update_volume_attachment(server.id, disk.id, delete_on_termination=False)
        except TargetUnreachable:
            raise
        except XmsError as error:
            raise TargetRejected(
                f"instance {server.id} is not removed",
                because=f"{error.what}: {error.because}",
                means="the instance and its volumes are still there",
                do="have the volume's delete_on_termination turned off (openstack server volume update "
                "--preserve-on-termination), then go on",
            ) from error
