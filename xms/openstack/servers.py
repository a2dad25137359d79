"""A job's server: booted once, found again by its metadata, seen running, removed on roll-back."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from xms.errors import BootFailed, Refused, TargetFault, TargetNotFound, TargetRejected
from xms.openstack import attachments
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.faults import translated
from xms.orders.target import BootServer, SeenRunning, SeeRunning, ServerOrder
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.compute.v2.server import Server

ACTIVE_SECONDS: Final = 900.0
GONE_SECONDS: Final = 300.0
CONSOLE_LINES: Final = 400
TAIL_LINES: Final = 12
ON_THE_WAY: Final = ("BUILD", "UNKNOWN")
"""What a server may be on its way to ACTIVE; Nova says UNKNOWN while it cannot reach the host's cell."""
STEADY_SECONDS: Final = 10.0
"""How long a server without a console has to stay ACTIVE to count as running."""


def boot(cloud: Cloud, order: BootServer, pulse: Pulse) -> str:
    """Boot the instance from the job's volumes on the job's ports, and wait until it is ACTIVE.

    The server of an earlier attempt is taken, unless it is in ERROR: then it is removed and made again.

    Returns:
        The server's id.

    Raises:
        BootFailed: it went to ERROR, or was not ACTIVE in time; with Nova's fault and the console's end.
        TargetRejected: Nova refuses the flavor, a property or a port.
        QuotaExceeded: instances, cores or memory.
    """
    for server in of_job(cloud, order.target.job_id):
        if server.status != "ERROR":
            return _wait_active(cloud, str(server.id), pulse)
        _delete(cloud, str(server.id), pulse)
    volumes = _boot_order(order)
    for volume_id in volumes:
        attachments.volume_of_job(cloud, volume_id, order.target.job_id)
        attachments.wait_available(cloud, volume_id, pulse=pulse)
    with translated(f"instance '{order.spec.instance_name}' was not made"):
        flavor = cloud.compute.find_flavor(order.spec.flavor, ignore_missing=False)
        server = cloud.compute.create_server(
            name=order.spec.instance_name,
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
                for place, volume_id in enumerate(volumes)
            ],
            metadata={JOB_KEY: order.target.job_id},
            **({"availability_zone": order.spec.availability_zone} if order.spec.availability_zone else {}),
        )
    return _wait_active(cloud, str(server.id), pulse)


def see_running(cloud: Cloud, order: SeeRunning, pulse: Pulse) -> SeenRunning:
    """Wait for evidence that the guest runs.

    With a regular expression: the server is ACTIVE and its console has a line that matches. Without: the console has
    any output, or, where there is no console, the server stays ACTIVE for ten seconds.

    Raises:
        BootFailed: no evidence in time, or the server is no longer ACTIVE.
        TargetRejected: the regular expression is none.
    """
    server_id = order.server.server_id or _the_server(cloud, order.server.target.job_id)
    try:
        wanted = re.compile(order.console_evidence) if order.console_evidence else None
    except re.error as error:
        raise TargetRejected(f"'{order.console_evidence}' is no regular expression", because=str(error)) from error
    began = time.monotonic()

    def look() -> str | None:
        server = _get(cloud, server_id)
        if server.status != "ACTIVE":
            raise _failed(cloud, server, f"instance {server_id} is {server.status} instead of ACTIVE")
        output = console(cloud, server_id)
        if wanted is not None:
            line = next((line for line in output.splitlines() if wanted.search(line)), None)
            return None if line is None else f"console: {line.strip()}"
        if output.strip():
            return f"ACTIVE, console: {output.strip().splitlines()[-1].strip()}"
        if time.monotonic() - began >= STEADY_SECONDS:
            return f"ACTIVE for {STEADY_SECONDS:.0f} s, without a console"
        return None

    evidence = cloud.wait_for(look, timeout=order.timeout_seconds, pulse=pulse)
    if evidence is None:
        raise _failed(
            cloud,
            _get(cloud, server_id),
            f"instance {server_id} gave no evidence of a running guest within {order.timeout_seconds} s",
        )
    return SeenRunning(evidence=evidence)


def remove(cloud: Cloud, order: ServerOrder, pulse: Pulse) -> None:
    """Remove the job's server and wait until it is gone; none is a success.

    Raises:
        Refused: the server does not carry the job's id.
        TargetFault: it is still there after some minutes.
    """
    if order.server_id:
        try:
            server = _get(cloud, order.server_id)
        except TargetNotFound:
            server = None
        if server is not None and (server.metadata or {}).get(JOB_KEY) != order.target.job_id:
            raise Refused(
                f"instance {order.server_id} is not removed",
                because=f"its metadata does not say {JOB_KEY}={order.target.job_id}",
            )
    for server in of_job(cloud, order.target.job_id):
        _delete(cloud, str(server.id), pulse)


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


def _get(cloud: Cloud, server_id: str) -> Server:
    with translated(f"instance {server_id} was not read"):
        return cloud.compute.get_server(server_id)


def _the_server(cloud: Cloud, job_id: str) -> str:
    found = of_job(cloud, job_id)
    if not found:
        raise TargetNotFound(f"job {job_id} has no instance")
    return str(found[0].id)


def _wait_active(cloud: Cloud, server_id: str, pulse: Pulse) -> str:
    def look() -> str | None:
        try:
            server = _get(cloud, server_id)
        except TargetNotFound as error:
            raise BootFailed(f"instance {server_id} is gone", because="somebody removed it while it started") from error
        if server.status not in ("ACTIVE", *ON_THE_WAY):
            raise _failed(cloud, server, f"instance {server_id} went to {server.status}")
        return server_id if server.status == "ACTIVE" else None

    if cloud.wait_for(look, timeout=ACTIVE_SECONDS, pulse=pulse) is None:
        raise _failed(
            cloud, _get(cloud, server_id), f"instance {server_id} was not ACTIVE within {ACTIVE_SECONDS:.0f} s"
        )
    return server_id


def _failed(cloud: Cloud, server: Server, what: str) -> BootFailed:
    fault = str((server.fault or {}).get("message", "")) if isinstance(server.fault, dict) else ""
    tail = "\n".join(console(cloud, str(server.id)).splitlines()[-TAIL_LINES:])
    because = "\n".join(part for part in (fault, tail and f"the console ends with:\n{tail}") if part)
    return BootFailed(
        what,
        because=because or f"it is {server.status}, and its console is empty",
        means="the volumes are as the conversion left them",
        do="see the instance's console and the cloud's logs; the cutover can be repeated",
    )


def _delete(cloud: Cloud, server_id: str, pulse: Pulse) -> None:
    with translated(f"instance {server_id} was not removed"):
        cloud.compute.delete_server(server_id, ignore_missing=True)

    def gone() -> bool | None:
        try:
            return True if _get(cloud, server_id).status in ("DELETED", "SOFT_DELETED") else None
        except TargetNotFound:
            return True

    if cloud.wait_for(gone, timeout=GONE_SECONDS, pulse=pulse) is None:
        raise TargetFault(f"instance {server_id} is not gone", because=f"after {GONE_SECONDS:.0f} s it is still there")
