"""What a stream's outcome means for its disk: how far the baseline advances, and what is not believed.

A baseline is committed when its stream has said that everything is flushed, or what is not. A stream that failed
commits nothing but what it had flushed by its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.calls import failure_type, last_progress, refusal
    from xms import quantities
    from xms.change_map import ByteRanges
    from xms.comparing import Comparing
    from xms.errors import VerificationFailed
    from xms.job import JobState
    from xms.models import Baseline
    from xms.orders.copy import StreamResult
    from xms.orders.source import DiskPlan, SnapshotDisk


@dataclass(frozen=True)
class Planned:
    """A disk's change map, beside the disk as the snapshot froze it."""

    frozen: SnapshotDisk
    plan: DiskPlan


class Commits:
    """Takes the outcomes of one sync's streams into the job's record."""

    def __init__(self, state: JobState, comparing: Comparing) -> None:
        self._state = state
        self._comparing = comparing

    def what_is_flushed(self, item: Planned, failure: ActivityError) -> None:
        """A stream that failed for good has flushed the snapshot's content up to its last checkpoint: that is kept."""
        progress = last_progress(failure)
        if progress is None or progress.disk_key != item.frozen.key or is_cancelled_exception(failure):
            return
        if failure_type(failure) == VerificationFailed.__name__:
            # What a volume does not give back is not there, whatever was flushed.
            return
        ranges = ByteRanges.decode(item.plan.ranges)
        remaining = ranges.from_offset(progress.flushed_to)
        done = ranges.total - remaining.total
        if done <= 0:
            self._count_as_unseeded(item, ByteRanges.decode(progress.differing))
            return
        result = StreamResult(
            disk_key=item.frozen.key,
            bytes_read=done,
            bytes_written=done,
            remaining=remaining.encode(self._state.unseeded_limit),
            remaining_bytes=remaining.total,
            cut_short="the stream failed; what it had flushed is kept",
            differing=progress.differing,
        )
        self.commit(item, result)

    def commit(self, item: Planned, result: StreamResult) -> None:
        """Advance one disk's baseline: everything that `result` does not name as remaining is flushed.

        What differed from the snapshot although it should have been copied is not there either.
        """
        remaining = ByteRanges.decode(result.remaining)
        differing = ByteRanges.decode(result.differing)
        unseeded = remaining | differing
        baseline = Baseline(
            change_id=item.frozen.change_id,
            unseeded=unseeded.encode(self._state.unseeded_limit),
            unseeded_bytes=unseeded.total,
        )
        self._take_in(item, ByteRanges.decode(result.compared), differing)
        disk = self._state.disk(item.frozen.key)
        counted = "bytes_full" if item.plan.full else "bytes_incremental"
        changes = {
            "baseline": baseline,
            "capacity": item.frozen.capacity,
            counted: getattr(disk, counted) + result.bytes_read,
        }
        self._state.replace_disk(disk.model_copy(update=changes))
        self._state.bytes_full += result.bytes_read if item.plan.full else 0
        self._state.bytes_incremental += 0 if item.plan.full else result.bytes_read
        if result.cut_short:
            text = f"{item.frozen.label}: {result.cut_short}; {quantities.size(remaining.total)} go on later"
            self._state.note(workflow.now(), "cut short", text)

    def believed(self, item: Planned, outcome: StreamResult | BaseException) -> StreamResult | BaseException:
        """The outcome, or an error in its place: what was flushed and what is left must be what was planned."""
        if not isinstance(outcome, StreamResult) or outcome.flushed_bytes is None:
            return outcome
        flushed, left = outcome.flushed_bytes, outcome.remaining_bytes
        if flushed + left == item.plan.bytes:
            return outcome
        return refusal(
            VerificationFailed,
            f"the sync of {item.frozen.label} is not complete",
            because=f"{item.plan.bytes} bytes were planned, but the volume's account has {flushed} bytes flushed "
            f"and {left} are said to be left",
            means="nothing of it is committed; the replica of this disk is as of the last committed sync",
            do="nothing, unless it comes again: then look at the log of the worker that copied it",
        )

    def _count_as_unseeded(self, item: Planned, differing: ByteRanges) -> None:
        """What a stream found to differ before it failed is copied again, though nothing else of it counts."""
        self._take_in(item, ByteRanges(), differing)
        disk = self._state.disk(item.frozen.key)
        unseeded = ByteRanges.decode(disk.baseline.unseeded) | differing
        if differing and disk.baseline.change_id is not None:
            changes = {"unseeded": unseeded.encode(self._state.unseeded_limit), "unseeded_bytes": unseeded.total}
            self._state.replace_disk(disk.model_copy(update={"baseline": disk.baseline.model_copy(update=changes)}))

    def _take_in(self, item: Planned, compared: ByteRanges, differing: ByteRanges) -> None:
        self._comparing.take_in(item.frozen.key, item.frozen.capacity, compared, differing, workflow.now())
