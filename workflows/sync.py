"""One sync: snapshot -> change maps -> streams -> commit the baselines -> remove the snapshot.

Full, incremental, the rest of a full one, and the final delta all go this way; only what the planner finds differs. A
disk's baseline is committed when its stream has said that everything is flushed, or what is not. A stream that failed
commits nothing. What a stream compared and found to differ counts as not copied yet.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from activities.streaming import StreamingActivities
    from activities.target import TargetActivities
    from workflows.calls import (
        CLEAN_UP,
        CONTROL,
        STREAM,
        Policy,
        explain,
        failure_type,
        last_progress,
        refusal,
        to_the_end,
    )
    from workflows.host_slots import HostIsBusy, HostSlots, give_reserved_back
    from workflows.preparation import make_volume
    from xms import quantities
    from xms.change_map import ByteRanges
    from xms.comparing import Comparing
    from xms.errors import ChangeTrackingUnavailable, NoProgress, VerificationFailed, VmUnsupported
    from xms.host_budget import SlotAnswer, limits_of
    from xms.job import JobState
    from xms.models import Baseline, MigrationSpec, SyncRecord, Trouble
    from xms.orders.copy import StreamDisk, StreamResult
    from xms.orders.source import DiskPlan, PlanDisk, SnapshotDisk, SnapshotTaken
    from xms.orders.target import ExtendVolume, VolumesOrder


CLEAN_UP_AGAIN: Final = timedelta(minutes=15)
"""After an hour of trying in vain, and then from time to time, since the next sync may be days away."""


async def remove_leftovers(spec: MigrationSpec, state: JobState, policy: Policy) -> None:
    """Remove the job's snapshots, and what workers left on its volumes.

    Raises:
        ActivityError: one of the two could not be done.
    """
    await workflow.execute_activity_method(SourceActivities.remove_snapshots, state.vm_order(spec), **policy)
    order = VolumesOrder(target=state.target_order(spec), volume_ids=state.volume_ids)
    await workflow.execute_activity_method(TargetActivities.release_volumes, order, **policy)
    state.clean_up_at = None


@dataclass(frozen=True)
class Planned:
    """A disk's change map, beside the disk as the snapshot froze it."""

    frozen: SnapshotDisk
    plan: DiskPlan


class Sync:
    """Runs one sync of a job and records in the job's state what came of it."""

    comparing: Comparing
    """of the run"""

    def __init__(self, spec: MigrationSpec, state: JobState, reason: str) -> None:
        self.spec = spec
        self.state = state
        self.reason = reason
        self.vm = state.vm_order(spec)
        self.left_behind: Trouble | None = None
        """Why a snapshot or an attachment of this sync is still there."""

    async def run(self, *, final: bool = False) -> None:
        """Bring every volume up to a new snapshot.

        Args:
            final: the source is off and this is the last delta: what is written is read back, and the snapshot may
                grow as old as it has to.

        Raises:
            ActivityError: a step failed after its retries. What was flushed by then is committed.
            ApplicationError: nothing was copied although something had to be.
        """
        while True:
            try:
                await self._run(final=final)
            except HostIsBusy:
                self._note("host busy", "no stream was free; the snapshot is removed until one is")
                await HostSlots(self.spec, self.state, self.state.host).reserve()
            else:
                return

    async def _run(self, *, final: bool) -> None:
        self.state.sync = SyncRecord(reason=self.reason, started_at=workflow.now())
        self.comparing = Comparing(self.spec, self.state, final=final)
        try:
            await self._copy(await self._take_snapshot(), final=final)
        except (Exception, asyncio.CancelledError):
            # Not `finally`: a coroutine that Python throws away, because its worker ends, may not await anything.
            await to_the_end(self._clean_up())
            raise
        await to_the_end(self._clean_up())

    async def _take_snapshot(self) -> SnapshotTaken:
        """The sync's snapshot, in which every disk has a change id: without one no baseline could be committed."""
        snapshot = await self._snapshot()
        untracked = [disk.label for disk in snapshot.disks if disk.change_id is None]
        if untracked:
            self._note("change tracking", f"is off for {', '.join(untracked)}; it is turned on again")
            self.state.doing = "turning change tracking on"
            await workflow.execute_activity_method(SourceActivities.enable_change_tracking, self.vm, **CONTROL)
            snapshot = await self._snapshot()
            untracked = [disk.label for disk in snapshot.disks if disk.change_id is None]
        if untracked:
            raise refusal(
                ChangeTrackingUnavailable,
                f"change tracking of {self.vm.vm} does not take effect",
                because=f"its snapshots give no change id for {', '.join(untracked)}",
                means="nothing was copied; the replica is as of the last committed sync",
                do="turn change tracking off and on again with the VM powered off, then retry",
            )
        return snapshot

    async def _snapshot(self) -> SnapshotTaken:
        self.state.doing = "taking a snapshot"
        snapshot = await workflow.execute_activity_method(
            SourceActivities.take_snapshot, self.vm, summary=f"{self.vm.vm}: snapshot for {self.reason}", **CONTROL
        )
        if self.state.sync is not None:
            self.state.sync = self.state.sync.model_copy(update={"snapshot_at": snapshot.taken_at})
        if not snapshot.disks:
            raise refusal(VmUnsupported, f"{self.vm.vm} has no disks", because="there is nothing to replicate")
        return snapshot

    async def _copy(self, snapshot: SnapshotTaken, *, final: bool) -> None:
        state = self.state
        if snapshot.leftovers_removed:
            self._note("snapshots", f"removed {snapshot.leftovers_removed} that a crash had left")
        await self._match_volumes(snapshot)
        self.comparing.begin()
        state.doing = "reading the change maps"
        plans = await asyncio.gather(
            *(self._plan(frozen, snapshot) for frozen in snapshot.disks), return_exceptions=True
        )
        # All have come back: none of them still asks about a snapshot that is removed already.
        planned = [plan for plan in plans if isinstance(plan, Planned)]
        for failure in (plan for plan in plans if isinstance(plan, BaseException)):
            raise failure
        self._record_plans(planned)
        lacking = state.unseeded_bytes
        compares = any(self._to_compare(item) for item in planned)
        state.doing = "copying and comparing" if compares else "copying"
        state.host = limits_of(self.spec.source, snapshot)
        slots = HostSlots(self.spec, state, state.host, urgent=final)
        streams = sum(1 for item in planned if item.plan.bytes or self._to_compare(item))
        started = workflow.now()
        streamed = await asyncio.gather(
            *(self._stream(item, snapshot, slots, streams, final=final) for item in planned), return_exceptions=True
        )
        outcomes = [self._believed(item, outcome) for item, outcome in zip(planned, streamed, strict=True)]
        for item, outcome in zip(planned, outcomes, strict=True):
            if isinstance(outcome, StreamResult):
                self._commit(item, outcome)
            elif isinstance(outcome, ActivityError) and not final:
                self._commit_what_is_flushed(item, outcome)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise failures[0]
        if not state.seeded and not any(
            isinstance(outcome, StreamResult) and (outcome.bytes_read or outcome.compared) for outcome in outcomes
        ):
            raise refusal(
                NoProgress,
                f"the sync of {self.vm.vm} copied nothing",
                because=f"its snapshot reached the age of {self.spec.max_snapshot_age_seconds} s before that, "
                f"and {quantities.size(lacking)} are missing",
                do="see that data workers run and reach the source; a snapshot may have to be allowed to grow older",
            )
        self._complete(snapshot, planned, seconds=(workflow.now() - started).total_seconds())
        self.comparing.end(workflow.now())
        if state.seeded and self.comparing.stands_still:
            raise refusal(
                NoProgress,
                f"the verification of {self.vm.vm} did not get on",
                because="this sync compared nothing more before its snapshot reached the age of "
                f"{self.spec.max_snapshot_age_seconds} s",
                means="the sync itself is committed, and the verification goes on later",
                do="see that data workers run and reach the source; a snapshot may have to be allowed to grow older",
            )

    async def _match_volumes(self, snapshot: SnapshotTaken) -> None:
        """One volume a disk of the snapshot, large enough; a disk that is gone leaves the job, its volume stays."""
        frozen_keys = {frozen.key for frozen in snapshot.disks}
        for disk in self.state.disks:
            if disk.key not in frozen_keys:
                self._note("disk removed", f"{disk.label} is gone from the VM; volume {disk.volume_id} is kept")
                if disk.volume_id is not None:
                    self.state.former_volumes = (*self.state.former_volumes, disk.volume_id)
        self.state.disks = tuple(disk for disk in self.state.disks if disk.key in frozen_keys)
        for frozen in snapshot.disks:
            await self._match_volume(frozen)

    async def _match_volume(self, frozen: SnapshotDisk) -> None:
        known = next((disk for disk in self.state.disks if disk.key == frozen.key), None)
        if known is None or known.volume_id is None:
            await make_volume(self.spec, self.state, frozen)
            if known is None:
                self._note("disk added", f"{frozen.label} is new; it is copied in full")
            # The volume may be that of an earlier disk with this key, which was smaller.
            known = self.state.disk(frozen.key)
        if known.volume_id is not None and frozen.capacity > known.volume_size:
            order = ExtendVolume(
                target=self.state.target_order(self.spec), volume_id=known.volume_id, capacity=frozen.capacity
            )
            made = await workflow.execute_activity_method(TargetActivities.extend_volume, order, **CONTROL)
            self.state.replace_disk(known.model_copy(update={"volume_size": made.size}))
            self._note(
                "disk grown", f"{frozen.label} has {quantities.size(frozen.capacity)} now; its volume was extended"
            )

    async def _plan(self, frozen: SnapshotDisk, snapshot: SnapshotTaken) -> Planned:
        disk = self.state.disk(frozen.key)
        order = PlanDisk(
            vm=self.vm,
            snapshot=snapshot.moref,
            disk=frozen,
            baseline=disk.baseline,
            replica_capacity=disk.capacity,
            volume_is_zeroed=disk.pristine and self.state.zeroed_volumes,
            ranges_limit=self.state.unseeded_limit,
        )
        plan = await workflow.execute_activity_method(
            SourceActivities.plan_disk, order, summary=f"{frozen.label}: change map", **CONTROL
        )
        return Planned(frozen, plan)

    def _record_plans(self, planned: list[Planned]) -> None:
        state = self.state
        for item in planned:
            disk = state.disk(item.frozen.key)
            changes: dict[str, object] = {"last_delta": item.plan.bytes}
            if item.plan.bytes:
                changes["pristine"] = False
            if item.plan.full and not disk.allocated:
                changes["allocated"] = item.plan.bytes
            state.replace_disk(disk.model_copy(update=changes))
            if item.plan.reseed_reason:
                self._note("reseed", f"{item.frozen.label} is copied in full: {item.plan.reseed_reason}")
        if state.sync is not None:
            state.sync = state.sync.model_copy(update={"planned": sum(item.plan.bytes for item in planned)})

    def _to_compare(self, item: Planned) -> ByteRanges:
        return self.comparing.ranges(item.frozen.key, item.frozen.capacity)

    async def _stream(
        self, item: Planned, snapshot: SnapshotTaken, slots: HostSlots, streams: int, *, final: bool
    ) -> StreamResult:
        compare = self._to_compare(item)
        verify = final or self.spec.verify_syncs
        if not item.plan.bytes and not compare:
            return StreamResult(disk_key=item.frozen.key, bytes_read=0, bytes_written=0, verified=verify)
        disk = self.state.disk(item.frozen.key)
        give_up_at = snapshot.taken_at + timedelta(seconds=self.spec.max_snapshot_age_seconds)
        order = StreamDisk(
            vm=self.vm,
            snapshot=snapshot.moref,
            disk=item.frozen,
            volume_id=disk.volume_id or "",
            target_project=self.spec.target_project,
            ranges=item.plan.ranges,
            bytes=item.plan.bytes,
            skip_zeroes=item.plan.skip_zeroes,
            verify=verify,
            give_up_at=None if final else give_up_at,
            compare=compare.encode(),
            rate_limit=self.state.rate_of_a_stream(streams),
        )

        async def stream(slot: SlotAnswer | None) -> StreamResult:
            ordered = order if slot is None else order.model_copy(update={"bytes_in_flight": slot.bytes_in_flight})
            self.state.streaming += 1
            try:
                return await workflow.execute_activity_method(
                    StreamingActivities.stream_disk, ordered, summary=f"{item.frozen.label}: {self.reason}", **STREAM
                )
            finally:
                self.state.streaming -= 1

        result = await slots.during(stream, until=order.give_up_at)
        if result is None:
            return StreamResult(
                disk_key=item.frozen.key,
                bytes_read=0,
                bytes_written=0,
                remaining=item.plan.ranges,
                remaining_bytes=item.plan.bytes,
                cut_short=f"no stream was free on host {snapshot.host} before the snapshot grew too old",
            )
        if self.state.sync is not None:
            self.state.sync = self.state.sync.model_copy(update={"done": self.state.sync.done + result.bytes_read})
        return result

    def _commit_what_is_flushed(self, item: Planned, failure: ActivityError) -> None:
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
            remaining=remaining.encode(self.state.unseeded_limit),
            remaining_bytes=remaining.total,
            cut_short="the stream failed; what it had flushed is kept",
            differing=progress.differing,
        )
        self._commit(item, result)

    def _commit(self, item: Planned, result: StreamResult) -> None:
        """Advance one disk's baseline: everything that `result` does not name as remaining is flushed.

        What differed from the snapshot although it should have been copied is not there either.
        """
        remaining = ByteRanges.decode(result.remaining)
        differing = ByteRanges.decode(result.differing)
        unseeded = remaining | differing
        baseline = Baseline(
            change_id=item.frozen.change_id,
            unseeded=unseeded.encode(self.state.unseeded_limit),
            unseeded_bytes=unseeded.total,
        )
        self._take_in(item, ByteRanges.decode(result.compared), differing)
        disk = self.state.disk(item.frozen.key)
        counted = "bytes_full" if item.plan.full else "bytes_incremental"
        changes = {
            "baseline": baseline,
            "capacity": item.frozen.capacity,
            counted: getattr(disk, counted) + result.bytes_read,
        }
        self.state.replace_disk(disk.model_copy(update=changes))
        self.state.bytes_full += result.bytes_read if item.plan.full else 0
        self.state.bytes_incremental += 0 if item.plan.full else result.bytes_read
        if result.cut_short:
            self._note(
                "cut short", f"{item.frozen.label}: {result.cut_short}; {quantities.size(remaining.total)} go on later"
            )

    def _believed(self, item: Planned, outcome: StreamResult | BaseException) -> StreamResult | BaseException:
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
        disk = self.state.disk(item.frozen.key)
        unseeded = ByteRanges.decode(disk.baseline.unseeded) | differing
        if differing and disk.baseline.change_id is not None:
            changes = {"unseeded": unseeded.encode(self.state.unseeded_limit), "unseeded_bytes": unseeded.total}
            self.state.replace_disk(disk.model_copy(update={"baseline": disk.baseline.model_copy(update=changes)}))

    def _take_in(self, item: Planned, compared: ByteRanges, differing: ByteRanges) -> None:
        self.comparing.take_in(item.frozen.key, item.frozen.capacity, compared, differing, workflow.now())

    def _complete(self, snapshot: SnapshotTaken, planned: list[Planned], *, seconds: float) -> None:
        state = self.state
        if not state.seeded:
            return
        copied = sum(item.plan.bytes for item in planned)
        state.last_sync_at = workflow.now()
        state.replica_of = snapshot.taken_at
        state.last_rate = copied / seconds if seconds > 0 else 0.0
        full = any(item.plan.full for item in planned)
        state.sync_count += 0 if full else 1
        self._note("sync committed", f"{self.reason}: {quantities.size(copied)} in {seconds:.1f} s")

    async def _clean_up(self) -> None:
        """Leave no snapshot and no attachment; what cannot be removed now is removed later."""
        state = self.state
        await give_reserved_back(state)
        try:
            if state.abandon_asked is None or state.source_is_off:
                state.doing = "removing the snapshot"
                await remove_leftovers(self.spec, state, CLEAN_UP)
        except ActivityError as error:
            self.left_behind = explain(error, f"the snapshot of {self.vm.vm} could not be removed")
            self._note("clean-up failed", f"{self.left_behind.what}: {self.left_behind.because}; it is tried again")
            state.clean_up_at = workflow.now() + CLEAN_UP_AGAIN
        state.sync = None
        state.doing = ""

    def _note(self, kind: str, text: str) -> None:
        self.state.note(workflow.now(), kind, text)
