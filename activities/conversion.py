"""Guest conversion as a transaction."""

from __future__ import annotations

from temporalio import activity

from activities.execution import activity_pulse
from workflows.names import host_queue
from xms.config import Config
from xms.conversion.transaction import Conversion
from xms.errors import ConversionFailed
from xms.models import Disk
from xms.openstack.claim import claim_volumes, keep_alive
from xms.openstack.cloud import connect
from xms.openstack.lease import Holder
from xms.orders.conversion import Committed, ConversionOrder, Convert, Converted
from xms.orders.source import Done


class ConversionActivities:
    """Guest conversion as a transaction: convert on overlays, then commit them, or forget them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._holder = Holder(config.worker.name, config.worker.lease_seconds)

    @activity.defn(no_thread_cancel_exception=True)
    def convert(self, order: Convert) -> Converted:
        """Convert the guest on new overlays; the volumes are only read, and claimed so that nobody else writes."""
        pulse = activity_pulse()
        conversion = Conversion(self.config, order.vm.job_id)
        with (
            connect(self.config.target_named(order.target_name), order.target_project) as cloud,
            claim_volumes(
                cloud, volume_ids(order.disks), job_id=order.vm.job_id, holder=self._holder, pulse=pulse
            ) as claims,
        ):
            return conversion.convert(order, claims, host_queue(self.config.worker.name), keep_alive(claims, pulse))

    @activity.defn(no_thread_cancel_exception=True)
    def commit_conversion(self, order: ConversionOrder) -> Committed:
        """Write this worker's overlays into the volumes and flush them."""
        pulse = activity_pulse()
        conversion = Conversion(self.config, order.vm.job_id)
        if earlier := conversion.committed():
            return earlier
        with (
            connect(self.config.target_named(order.target_name), order.target_project) as cloud,
            claim_volumes(
                cloud, volume_ids(order.disks), job_id=order.vm.job_id, holder=self._holder, pulse=pulse
            ) as claims,
        ):
            return conversion.commit(claims, keep_alive(claims, pulse))

    @activity.defn(no_thread_cancel_exception=True)
    def discard_conversion(self, order: ConversionOrder) -> Done:
        """Forget this worker's overlays of the job; none is a success."""
        Conversion(self.config, order.vm.job_id).discard()
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
