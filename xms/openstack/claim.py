"""A worker's claim on a volume: the lease, the attachment and the device, taken together and given back together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from xms.errors import VolumeBusy
from xms.models import Model
from xms.openstack import attachments
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.attach_way import AttachWay
from xms.openstack.cloud import Cloud
from xms.openstack.lease import Heritage, Holder, Lease, MetadataLease
from xms.openstack.steps import given_back
from xms.pulse import Pulse

INSTANCE_LEAVES_SECONDS: Final = 30.0
"""How long an instance that was deleted may still be seen on its volumes."""
DEFAULT_WAY: Final = AttachByCinder()


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
def claim_volume(  # noqa: PLR0913 - who takes what, and how
    cloud: Cloud,
    volume_id: str,
    *,
    job_id: str,
    worker: str,
    lease_seconds: float,
    pulse: Pulse,
    way: AttachWay = DEFAULT_WAY,
    heritage: Heritage | None = None,
) -> Iterator[Claim]:
    """Hold a volume of a job for writing, and have it as a path, by the way given. Use it on a thread that lives on.

    A holder that died is waited out (see `xms.openstack.lease`), and its attachments are removed: those that were there
    before the lease was taken, never one that came later. Cinder gives a volume to one attachment at a time, so of two
    that believe to have the lease one is refused there. At the end the device is disconnected, the attachment deleted
    and the lease given back; flushing is the writer's own affair.

    Raises:
        VolumeBusy: another worker or an instance has it.
        VolumeFailed: it is in an error state, or the device did not appear.
        Refused: it is not the job's.
        ConfigurationError, ProgramMissing: this worker cannot write to such a volume; nothing was taken.
        xms.errors.Interrupted: the pulse said so.
    """
    way.prepare()
    way.refuse(cloud, attachments.volume_of_job(cloud, volume_id, job_id))
    # In this order: an attachment that is listed here belongs to a holder whose record is read after it.
    left_behind = _after_instances(cloud, volume_id, pulse)
    store = MetadataLease(cloud, volume_id)
    lease = Lease(store, volume=volume_id, worker=worker, seconds=lease_seconds, heritage=heritage)
    lease.claim(pulse)
    with ExitStack() as stack:
        stack.enter_context(given_back(f"the lease of volume {volume_id}", lease.release))
        keeping = keep_alive([lease], pulse)
        attachments.remove(cloud, left_behind, pulse=keeping)
        volume = attachments.wait_available(cloud, volume_id, pulse=keeping)
        lease.check()
        device = stack.enter_context(way.attached(cloud, volume, worker=worker, pulse=keeping))
        lease.keep()
        yield Claim(volume_id, device.path, device.size, lease)


@contextmanager
def claim_volumes(
    cloud: Cloud,
    volume_ids: Sequence[str],
    *,
    job_id: str,
    holder: Holder,
    pulse: Pulse,
    way: AttachWay = DEFAULT_WAY,
    heritage: Heritage | None = None,
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
                way=way,
                heritage=heritage,
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
