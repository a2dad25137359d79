"""A worker's claim on a volume: the lease, the attachment and the device, taken together and given back together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from xms.errors import TargetFault, VolumeBusy, XmsError
from xms.models import Model
from xms.openstack import attachments, host_connection
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.openstack.lease import Holder, Lease, MetadataLease
from xms.pulse import Pulse, no_pulse

log = logging.getLogger(__name__)

T = TypeVar("T")

LIFE_SECONDS: Final = 0.5

INSTANCE_LEAVES_SECONDS: Final = 30.0
"""How long an instance that was deleted may still be seen on its volumes."""
LEAVE_SECONDS: Final = 60.0
"""How long Cinder may take to show a volume as available after its attachment was deleted."""


@dataclass(frozen=True)
class Claim:
    """A volume that this worker alone may write to, as long as `check` says so."""

    volume_id: str
    path: str
    size: int
    """bytes of the device"""
    lease: Lease

    @property
    def token(self) -> str:
        """The name of this claim, unique among all claims of all volumes."""
        return self.lease.token

    @property
    def previous(self) -> str:
        """Token of the claim before this one; "" where there was none."""
        return self.lease.previous

    def check(self) -> None:
        """Before each write: no call, no waiting.

        Raises:
            LeaseLost: the volume may be another's by now.
        """
        self.lease.check()

    def renew(self) -> None:
        """At each checkpoint, and at least every few seconds; asks the cloud only when a quarter of the lease is over.

        Raises:
            LeaseLost: the volume is another's, or the lease ran out.
        """
        self.lease.keep()


@contextmanager
def claim_volume(
    cloud: Cloud, volume_id: str, *, job_id: str, worker: str, lease_seconds: float, pulse: Pulse
) -> Iterator[Claim]:
    """Hold a volume of a job for writing, and have it as a path.

    A holder that died is waited out (see `xms.openstack.lease`), and its attachments are removed: those that were there
    before the lease was taken, never one that came later. Cinder gives a volume to one attachment at a time, so of two
    that believe to have the lease one is refused there. At the end the device is disconnected, the attachment deleted
    and the lease given back; flushing is the writer's own affair.

    Raises:
        VolumeBusy: another worker or an instance has it.
        VolumeFailed: it is in an error state, or the device did not appear.
        Refused: it is not the job's.
        xms.errors.Interrupted: the pulse said so.
    """
    # Not first on the helper thread of `showing_life`, which could never be joined then.
    host_connection.load_os_brick()
    attachments.volume_of_job(cloud, volume_id, job_id)
    # In this order: an attachment that is listed here belongs to a holder whose record is read after it.
    left_behind = _after_instances(cloud, volume_id, pulse)
    lease = Lease(MetadataLease(cloud, volume_id), volume=volume_id, worker=worker, seconds=lease_seconds)
    lease.claim(pulse)
    with ExitStack() as stack:
        stack.enter_context(_given_back(f"the lease of volume {volume_id}", lease.release))
        keeping = keep_alive([lease], pulse)
        attachments.remove(cloud, left_behind)
        attachments.wait_available(cloud, volume_id, pulse=keeping)
        lease.check()
        attachment_id, connection_info = showing_life(lambda: _attach(cloud, volume_id, worker), keeping)
        stack.enter_context(
            _given_back(f"the attachment of volume {volume_id}", lambda: _detach(cloud, volume_id, attachment_id))
        )
        device = showing_life(lambda: host_connection.connect(connection_info), keeping)
        stack.enter_context(
            _given_back(f"the device of volume {volume_id}", lambda: showing_life(device.disconnect, keeping))
        )
        with translated(f"the attachment of volume {volume_id} was not completed"):
            cloud.volumes.complete_attachment(attachment_id)
        lease.keep()
        yield Claim(volume_id, device.path, device.size, lease)


@contextmanager
def claim_volumes(
    cloud: Cloud, volume_ids: Sequence[str], *, job_id: str, holder: Holder, pulse: Pulse
) -> Iterator[tuple[Claim, ...]]:
    """Hold several volumes of a job, in the order given; the first ones are kept while the others are waited for.

    Raises:
        The same as `claim_volume`.
    """
    claims: list[Claim] = []
    with ExitStack() as stack:
        for volume_id in volume_ids:
            claim = claim_volume(
                cloud,
                volume_id,
                job_id=job_id,
                worker=holder.worker,
                lease_seconds=holder.lease_seconds,
                pulse=keep_alive(tuple(claims), pulse),
            )
            claims.append(stack.enter_context(claim))
        yield tuple(claims)


def keep_alive(leases: Sequence[Lease | Claim], pulse: Pulse) -> Pulse:
    """A pulse that renews leases as well: for work that waits for programs instead of moving bytes itself.

    Its call raises LeaseLost, too.
    """

    def both(detail: Model | None = None) -> None:
        pulse(detail)
        for lease in leases:
            if isinstance(lease, Claim):
                lease.renew()
            else:
                lease.keep()

    return both


def showing_life(call: Callable[[], T], pulse: Pulse) -> T:
    """Make a call that blocks for as long as a back end likes, iSCSI log-ins for half a minute, and pulse meanwhile.

    The call is always waited for, since what it made has to be undone. So a pulse that wants to stop the work is not
    heard here; the next one says so again.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="blocking") as helper:
        future = helper.submit(call)
        while not wait([future], LIFE_SECONDS).done:
            with suppress(XmsError):
                pulse()
        return future.result()


@contextmanager
def _given_back(what: str, undo: Callable[[], object]) -> Iterator[None]:
    """One step of giving back. It never hides the failure that the work ended with; without one, its own is raised."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except XmsError as second:
            error.add_note(f"besides, {what} was not given back: {second}")
            log.warning("%s was not given back: %s", what, second)
        raise
    undo()


def _after_instances(cloud: Cloud, volume_id: str, pulse: Pulse) -> tuple[str, ...]:
    """Attachments of workers. An instance that was deleted just now keeps its own for some seconds."""
    busy: VolumeBusy | None = None

    def look() -> tuple[str, ...] | None:
        nonlocal busy
        try:
            return attachments.of_workers(cloud, volume_id)
        except VolumeBusy as error:
            busy = error
            return None

    found = cloud.wait_for(look, timeout=INSTANCE_LEAVES_SECONDS, pulse=pulse)
    if found is None:
        raise busy or VolumeBusy(f"volume {volume_id} is attached to an instance")
    return found


def _attach(cloud: Cloud, volume_id: str, worker: str) -> tuple[str, Mapping[str, Any]]:
    properties = host_connection.connector_properties(worker, cloud.volume_host())
    try:
        with translated(f"volume {volume_id} was not attached to worker {worker}"):
            made = cloud.volumes.create_attachment(volume_id, connector=dict(properties), mode="rw")
    except TargetFault as error:
        # Cinder's answer when another attachment was quicker: the status is no longer 'available'.
        raise VolumeBusy(error.what, because=error.because, do="nothing: it is tried again") from error
    return str(made.id), dict(made.connection_info or {})


def _detach(cloud: Cloud, volume_id: str, attachment_id: str) -> None:
    # The pulse may be what ended the work; the giving back is bounded by time instead.
    attachments.remove(cloud, [attachment_id])
    attachments.wait_available(cloud, volume_id, pulse=no_pulse, timeout=LEAVE_SECONDS)
