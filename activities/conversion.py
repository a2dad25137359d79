"""Guest conversion as a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from temporalio import activity

from activities.execution import activity_pulse
from workflows.names import host_queue
from xms.config import Config
from xms.conversion.kvm import Accelerator, Kvm
from xms.conversion.log import read_log
from xms.conversion.readiness import look
from xms.conversion.slots import ConversionSlots
from xms.conversion.stages import Stages
from xms.conversion.transaction import Conversion
from xms.errors import ConversionFailed
from xms.models import Disk
from xms.openstack.attach_way import attach_way
from xms.openstack.claim import Claim, claim_volumes, keep_alive
from xms.openstack.cloud import connect
from xms.openstack.lease import Heritage, Holder
from xms.orders.conversion import (
    Committed,
    ConversionLog,
    ConversionOrder,
    Convert,
    Converted,
    LookBeforeConversion,
    ReadConversionLog,
)
from xms.orders.source import Done


class ConversionActivities:
    """Guest conversion as a transaction: convert on overlays, then commit them, or forget them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._holder = Holder(config.worker.name, config.worker.lease_seconds)
        self._slots = ConversionSlots(config.conversion, config.worker.conversions)
        self._kvm = Kvm(config.conversion.use_kvm)

    def accelerator(self) -> Accelerator:
        """What the appliances of this worker run on. It is found out once: better before the first conversion."""
        return self._kvm.accelerator()

    @activity.defn(no_thread_cancel_exception=True)
    def convert(self, order: Convert) -> Converted:
        """Convert the guest on new overlays; the volumes are only read, and claimed so that nobody else writes."""
        stages = Stages(activity_pulse(), host_queue(self.config.worker.name))
        if order.options.skip:
            return self._convert(order, stages, kvm=False)  # nothing runs, so that no slot is needed
        # Before the volumes are claimed: while it is found out, no lease could be kept.
        accelerator = self.accelerator().name
        with self._slots.taken(stages, accelerator):
            return self._convert(order, stages, kvm=accelerator == "kvm")

    def _convert(self, order: Convert, stages: Stages, *, kvm: bool) -> Converted:
        stages.enter("attaching the volumes")
        queue = host_queue(self.config.worker.name)
        with self._claims(order, stages) as claims:
            return Conversion(self.config, order.vm.job_id).convert(order, claims, queue, stages, kvm=kvm)

    @activity.defn(no_thread_cancel_exception=True)
    def commit_conversion(self, order: ConversionOrder) -> Committed:
        """Write this worker's overlays into the volumes and flush them."""
        stages = Stages(activity_pulse(), host_queue(self.config.worker.name))
        conversion = Conversion(self.config, order.vm.job_id)
        if earlier := conversion.committed():
            return earlier
        stages.enter("attaching the volumes")
        with self._claims(order, stages, conversion.heritage) as claims:
            return conversion.commit(claims, stages)

    @contextmanager
    def _claims(
        self, order: Convert | ConversionOrder, stages: Stages, heritage: Heritage | None = None
    ) -> Iterator[Sequence[Claim]]:
        """The claims of all volumes, which are kept as long as the stages show life."""
        target = self.config.target_named(order.target_name)
        way = attach_way(target, self.config.worker)
        pulse = stages.show
        with (
            connect(target, order.target_project, pulse) as cloud,
            claim_volumes(
                cloud,
                volume_ids(order.disks),
                job_id=order.vm.job_id,
                holder=self._holder,
                pulse=pulse,
                way=way,
                heritage=heritage,
            ) as claims,
            stages.beating_with(lambda beat: keep_alive(claims, beat)),
        ):
            yield claims

    @activity.defn(no_thread_cancel_exception=True)
    def discard_conversion(self, order: ConversionOrder) -> Done:
        """Forget this worker's overlays of the job; none is a success."""
        Conversion(self.config, order.vm.job_id).discard()
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def read_conversion_log(self, order: ReadConversionLog) -> ConversionLog:
        """The end of the log of the job's last conversion on this worker."""
        return read_log(self.config, order)


class ConversionLooks:
    """Looks at whether a conversion can be done, beside those that run."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn(no_thread_cancel_exception=True)
    def look_before_conversion(self, order: LookBeforeConversion) -> Done:
        """See that this worker has what a conversion needs; nothing is run."""
        look(self.config, order)
        return Done()


def volume_ids(disks: tuple[Disk, ...]) -> tuple[str, ...]:
    """The volumes of all disks.

    Raises:
        ConversionFailed: a disk has none.
    """
    missing = [disk.label for disk in disks if disk.volume_id is None]
    if missing:
        raise ConversionFailed("the guest was not converted", because=f"there is no volume for {', '.join(missing)}")
    return tuple(disk.volume_id for disk in disks if disk.volume_id is not None)
