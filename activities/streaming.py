"""The block streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from temporalio import activity

from activities.execution import activity_pulse
from activities.rate_limit import Ask, FollowedRate
from activities.space_watch import SpaceWatch
from xms.change_map import ByteRanges
from xms.config import Config
from xms.engine.compare import NOT_COMPARED, Comparison, compare_ranges
from xms.engine.copy import CopyResult, copy_ranges
from xms.engine.throttle import Throttle
from xms.errors import SnapshotLost, XmsError
from xms.models import DiskProgress, Model
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import connect
from xms.orders.copy import StreamDisk, StreamResult
from xms.transport.vddk import open_export
from xms.vsphere.datastores import without_room
from xms.vsphere.sessions import Sessions


class StreamingActivities:
    """The block streams. Any data worker can go on with any of them, from the last heartbeat of the one before.

    Args:
        config: the worker's.
        sessions: those of the process, which has to close them: the datastores are looked at through them.
        ask_rate: asks a job what its streams may read; None: what their orders say holds to the end.
    """

    def __init__(self, config: Config, sessions: Sessions, ask_rate: Ask | None = None) -> None:
        self.config = config
        self.sessions = sessions
        self.ask_rate = ask_rate

    @activity.defn(no_thread_cancel_exception=True)
    def stream_disk(self, order: StreamDisk) -> StreamResult:
        """Bring a volume up to a snapshot, compare what is to be compared, and tell what is flushed and what differed.

        The datastores that the snapshot grows on are watched meanwhile, and the stream ends before it fills one.

        A snapshot that is lost on the way ends the stream short: what is flushed is the snapshot's content and counts.
        Only where nothing is flushed, or everything has to be verified, is it a failure.
        """
        ranges = ByteRanges.decode(order.ranges)
        fresh = DiskProgress(disk_key=order.disk.key, planned=ranges.total, worker=self.config.worker.name)
        throttle = Throttle(order.rate_limit)
        rate = FollowedRate(throttle, self.ask_rate)
        pulse = StreamPulse(resumed_from(fresh, verified=order.verify), order.vm.source, rate)
        try:
            with SpaceWatch(self._look_at_datastores(order)) as space:
                result, comparison = self._stream(order, ranges, fresh, pulse, throttle, give_up=space.low)
        except SnapshotLost as lost:
            progress = pulse.progress
            remaining = ranges.from_offset(progress.flushed_to)
            if order.verify or remaining == ranges:
                # What was flushed is verified, and what was found to differ is known: both count.
                lost.progress = progress
                raise
            to_compare = ByteRanges.decode(order.compare)
            differing = ByteRanges.decode(progress.differing) & to_compare
            return StreamResult(
                disk_key=order.disk.key,
                bytes_read=progress.bytes_read,
                bytes_written=progress.bytes_written,
                remaining=remaining.encode(),
                remaining_bytes=remaining.total,
                cut_short=lost.what,
                compared=to_compare.below(progress.compared_to).encode(),
                differing=differing.encode(),
                differing_bytes=differing.total,
            )
        except XmsError as error:
            # Where this was the last try, what is flushed still counts: see Sync in workflows/sync.py.
            error.progress = pulse.progress
            raise
        finally:
            rate.end()
        return StreamResult(
            disk_key=order.disk.key,
            bytes_read=result.bytes_read,
            bytes_written=result.bytes_written,
            remaining=result.remaining.encode(),
            remaining_bytes=result.remaining.total,
            seconds=result.seconds,
            verified=result.verified,
            cut_short=result.cut_short,
            given_up=space.low(),
            flushed_bytes=result.flushed_bytes,
            compared=comparison.compared.encode(),
            differing=comparison.differing.encode(),
            differing_bytes=comparison.differing.total,
        )

    def _look_at_datastores(self, order: StreamDisk) -> Callable[[], str] | None:
        """What the watch does; None for a stream that goes to its end: its source is off, and writes nothing."""
        source = self.config.source(order.vm.source)
        if order.give_up_at is None or not source.snapshot_reserve_gib:
            return None

        def look() -> str:
            with self.sessions.session(order.vm.source, source) as vsphere:
                return without_room(vsphere, order.vm.moref, vm=order.vm.vm, reserve=source.snapshot_reserve_gib << 30)

        return look

    def _stream(
        self,
        order: StreamDisk,
        ranges: ByteRanges,
        fresh: DiskProgress,
        pulse: StreamPulse,
        throttle: Throttle,
        *,
        give_up: Callable[[], str],
    ) -> tuple[CopyResult, Comparison]:
        worker = self.config.worker
        earlier = pulse.progress
        with (
            # The export first: VDDK may take longer to open a disk than a lease lasts.
            open_export(
                source=self.config.source(order.vm.source),
                transport=self.config.transport,
                vm_moref=order.vm.moref,
                vm=order.vm.vm,
                snapshot=order.snapshot,
                path=order.disk.path,
                pulse=pulse,
            ) as uri,
            connect(self.config.target_named(order.target_name), order.target_project) as cloud,
            claim_volume(
                cloud,
                order.volume_id,
                job_id=order.vm.job_id,
                worker=worker.name,
                lease_seconds=worker.lease_seconds,
                pulse=pulse,
            ) as claim,
        ):
            shared: dict[str, Any] = {
                "uri": uri,
                "path": claim.path,
                "capacity": order.disk.capacity,
                "guard": claim,
                "pulse": pulse,
                "give_up_at": order.give_up_at,
                "bytes_in_flight": order.bytes_in_flight,
                "throttle": throttle,
                "give_up": give_up,
            }
            copied = copy_ranges(
                ranges=ranges,
                start_at=earlier.flushed_to,
                skip_zeroes=order.skip_zeroes,
                # What an earlier attempt found to differ travels along, or a second death would have it forgotten.
                report=fresh.model_copy(update={"compared_to": earlier.compared_to, "differing": earlier.differing}),
                verify=order.verify,
                **shared,
            )
            to_compare = ByteRanges.decode(order.compare)
            if not to_compare or copied.cut_short:
                return copied, NOT_COMPARED
            return copied, compare_ranges(ranges=to_compare, report=pulse.progress, **shared)


class StreamPulse:
    """The activity's pulse with a memory: a heartbeat without a detail would erase how far the stream is.

    Args:
        progress: where the stream goes on.
        source: the registered source, for the metrics.
        rate: the job's limit, which is looked at with each beat.
    """

    def __init__(self, progress: DiskProgress, source: str, rate: FollowedRate) -> None:
        self.progress = progress
        self._rate = rate
        self._pulse = activity_pulse()
        meter = activity.metric_meter().with_additional_attributes(
            {"source": source, "queue": activity.info().task_queue}
        )
        self._read = meter.create_counter("xms_stream_bytes_read", "Bytes of change maps read from sources", "By")
        self._written = meter.create_counter("xms_stream_bytes_written", "Bytes of change maps put on volumes", "By")

    def __call__(self, detail: Model | None = None) -> None:
        """Heartbeat with the newest progress, and count what is new in it."""
        if isinstance(detail, DiskProgress):
            # A stream that has to begin again counts from there, and a counter cannot go back.
            self._read.add(max(0, detail.bytes_read - self.progress.bytes_read))
            self._written.add(max(0, detail.bytes_written - self.progress.bytes_written))
            self.progress = detail
        self._rate.look()
        self._pulse(self.progress)


def resumed_from(fresh: DiskProgress, *, verified: bool) -> DiskProgress:
    """Where an earlier attempt at this order had got to, by its last heartbeat; else the beginning.

    Where everything has to be verified, only what is counts. A detail that cannot be read (another version wrote it)
    costs a copy of what is there already, never a byte.
    """
    details = activity.info().heartbeat_details
    if not details:
        return fresh
    try:
        earlier = DiskProgress.model_validate(details[0])
    except ValidationError:
        activity.logger.warning("the last heartbeat cannot be read; the stream begins again")
        return fresh
    if earlier.disk_key != fresh.disk_key or (verified and not earlier.verified):
        return fresh
    return earlier.model_copy(update={"worker": fresh.worker, "rate": 0.0})
