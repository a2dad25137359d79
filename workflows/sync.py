"""One sync: snapshot -> change maps -> streams -> commit the baselines -> remove the snapshot.

Full, incremental, the rest of a full one, and the final delta all go this way; only what the planner finds differs. The
snapshot is taken in `workflows.source_snapshot`, and what a stream's outcome means for its disk stands in
`workflows.commits`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from activities.streaming import StreamingActivities
    from activities.target import TargetActivities
    from workflows.calls import (
        CLEAN_UP,
        CONTROL,
        STREAM,
        WHILE_OFF,
        Policy,
        call,
        explain,
        heed_cancellation,
        refusal,
        to_the_end,
    )
    from workflows.commits import Commits, Planned
    from workflows.host_slots import HostIsBusy, HostSlots, give_reserved_back
    from workflows.names import SOURCE_FIRST
    from workflows.preparation import make_volume
    from workflows.source_snapshot import take_tracked_snapshot
    from workflows.volume_snapshots import restore
    from xms import quantities, verification
    from xms.change_map import ByteRanges
    from xms.comparing import Comparing
    from xms.cutover import SyncFigures
    from xms.errors import DatastoreFull, NoProgress
    from xms.host_budget import SlotAnswer, limits_of
    from xms.job import SYNCS_REMEMBERED, JobState
    from xms.models import MigrationSpec, SyncRecord, Trouble
    from xms.orders.copy import StreamDisk, StreamResult
    from xms.orders.source import PlanDisk, SnapshotDisk, SnapshotTaken
    from xms.orders.target import ExtendVolume, VolumesOrder


CLEAN_UP_AGAIN: Final = timedelta(minutes=15)
"""After an hour of trying in vain, and then from time to time, since the next sync may be days away."""


async def remove_leftovers(spec: MigrationSpec, state: JobState, policy: Policy) -> None:
    """Remove the job's snapshots, and what workers left on its volumes.

    Raises:
        ActivityError: one of the two could not be done.
    """
    await call(SourceActivities.remove_snapshots, state.vm_order(spec), **policy)
    order = VolumesOrder(target=state.target_order(spec), volume_ids=state.volume_ids)
    await call(TargetActivities.release_volumes, order, **policy)
    state.clean_up_at = None


class Sync:
    """Runs one sync of a job and records in the job's state what came of it."""

    comparing: Comparing
    """of the run"""

    commits: Commits
    """of the run"""

    figures: SyncFigures | None
    """of the run, where it was committed"""

    waits: list[float]
    """of the run: seconds that each stream waited for the source's host"""

    def __init__(self, spec: MigrationSpec, state: JobState, reason: str) -> None:
        self.spec = spec
        self.state = state
        self.reason = reason
        self.final = False
        self.left_behind: Trouble | None = None
        """Why a snapshot or an attachment of this sync is still there."""

        self.given_up: Trouble | None = None
        """Why the source needs a rest before the next sync, where something is left for that."""

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
        self.final = final
        self.state.sync = SyncRecord(reason=self.reason, started_at=workflow.now())
        self.comparing = Comparing(self.spec, self.state, final=final)
        self.commits = Commits(self.state, self.comparing)
        self.figures, self.waits = None, []
        try:
            if not final:
                await restore(self.spec, self.state)
            snapshot = await take_tracked_snapshot(self.spec, self.state, self.reason)
            await self._copy(snapshot, final=final)
        except (Exception, asyncio.CancelledError) as error:
            if final and not isinstance(error, HostIsBusy) and workflow.patched(SOURCE_FIRST):
                self._leave_for_the_next()
                raise
            # Not `finally`: a coroutine that Python throws away, because its worker ends, may not await anything.
            await to_the_end(self._clean_up())
            raise
        began = self.state.sync.started_at if self.state.sync else workflow.now()
        await to_the_end(self._clean_up())
        if self.figures is not None:
            self._remember(self.figures.model_copy(update={"seconds": (workflow.now() - began).total_seconds()}))

    async def _copy(self, snapshot: SnapshotTaken, *, final: bool) -> None:
        state = self.state
        if snapshot.leftovers_removed:
            self._note("snapshots", f"removed {snapshot.leftovers_removed} that a crash had left")
        await self._match_volumes(snapshot)
        self.comparing.begin()
        state.doing = "reading the change maps"
        heed_cancellation()
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
        heed_cancellation()
        streamed = await asyncio.gather(
            *(self._stream(item, snapshot, slots, streams, final=final) for item in planned), return_exceptions=True
        )
        outcomes = [self.commits.believed(item, outcome) for item, outcome in zip(planned, streamed, strict=True)]
        for item, outcome in zip(planned, outcomes, strict=True):
            if isinstance(outcome, StreamResult):
                self.commits.commit(item, outcome)
            elif isinstance(outcome, ActivityError) and not final:
                self.commits.what_is_flushed(item, outcome)
        self._count([outcome for outcome in outcomes if isinstance(outcome, StreamResult)], streams)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise failures[0]
        self._take_in_surrender(outcomes)
        if not state.seeded and not any(
            isinstance(outcome, StreamResult) and (outcome.bytes_read or outcome.compared) for outcome in outcomes
        ):
            raise refusal(
                NoProgress,
                f"the sync of {self.name} copied nothing",
                because=f"{self._why_so_early} before that, and {quantities.size(lacking)} are missing",
                do=self.given_up.do
                if self.given_up
                else "see that data workers run and reach the source; a snapshot may have to be allowed to grow older",
            )
        compared = sum(
            ByteRanges.decode(outcome.compared).total for outcome in outcomes if isinstance(outcome, StreamResult)
        )
        self._complete(snapshot, planned, seconds=(workflow.now() - started).total_seconds(), compared=compared)
        self.comparing.end(workflow.now())
        if state.seeded and self.comparing.stands_still:
            raise refusal(
                NoProgress,
                f"the verification of {self.name} did not get on",
                because="this sync compared nothing more before its snapshot reached the age of "
                f"{self.spec.max_snapshot_age_seconds} s",
                means="the sync itself is committed, and the verification goes on later",
                do="see that data workers run and reach the source; a snapshot may have to be allowed to grow older",
            )

    @property
    def name(self) -> str:
        """The VM's, as it is called now."""
        return self.state.vm_name or self.spec.vm

    @property
    def _why_so_early(self) -> str:
        if self.given_up:
            return self.given_up.because
        return f"its snapshot reached the age of {self.spec.max_snapshot_age_seconds} s"

    def _take_in_surrender(self, outcomes: Sequence[StreamResult | BaseException]) -> None:
        """A stream that ended to save the source's datastore: what is left is not gone on with at once."""
        reasons = {outcome.given_up for outcome in outcomes if isinstance(outcome, StreamResult) and outcome.given_up}
        unfinished = not self.state.seeded or verification.runs(self.state)
        if not reasons or not unfinished:
            return
        self.given_up = DatastoreFull(
            f"the sync of {self.name} was given up",
            because="; ".join(sorted(reasons)),
            means="what was flushed counts, and the rest is copied by the next sync; the snapshot is removed",
            do="free space on the datastore before the next sync",
        ).trouble()
        self._note("given up", f"{self.given_up.because}; the next sync goes on after a rest")

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
            made = await call(TargetActivities.extend_volume, order, **CONTROL)
            self.state.replace_disk(known.model_copy(update={"volume_size": made.size}))
            self._note(
                "disk grown", f"{frozen.label} has {quantities.size(frozen.capacity)} now; its volume was extended"
            )

    async def _plan(self, frozen: SnapshotDisk, snapshot: SnapshotTaken) -> Planned:
        disk = self.state.disk(frozen.key)
        order = PlanDisk(
            vm=self.state.vm_order(self.spec),
            snapshot=snapshot.moref,
            disk=frozen,
            baseline=disk.baseline,
            replica_capacity=disk.capacity,
            volume_is_zeroed=disk.pristine and self.state.zeroed_volumes,
            ranges_limit=self.state.unseeded_limit,
        )
        plan = await call(SourceActivities.plan_disk, order, summary=f"{frozen.label}: change map", **CONTROL)
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
            vm=self.state.vm_order(self.spec),
            snapshot=snapshot.moref,
            disk=item.frozen,
            volume_id=disk.volume_id or "",
            target_project=self.spec.target_project,
            target_name=self.spec.target,
            ranges=item.plan.ranges,
            bytes=item.plan.bytes,
            skip_zeroes=item.plan.skip_zeroes,
            verify=verify,
            give_up_at=None if final else give_up_at,
            compare=compare.encode(),
            rate_limit=self.state.rate_of_a_stream(streams),
        )

        asked = workflow.now()

        async def stream(slot: SlotAnswer | None) -> StreamResult:
            self.waits.append((workflow.now() - asked).total_seconds())
            ordered = order if slot is None else order.model_copy(update={"bytes_in_flight": slot.bytes_in_flight})
            self.state.streaming += 1
            try:
                return await call(
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

    def _complete(self, snapshot: SnapshotTaken, planned: list[Planned], *, seconds: float, compared: int = 0) -> None:
        state = self.state
        if not state.seeded:
            return
        copied = sum(item.plan.bytes for item in planned)
        state.last_sync_at = workflow.now()
        state.replica_of = snapshot.taken_at
        state.last_rate = copied / seconds if seconds > 0 else 0.0
        full = any(item.plan.full for item in planned)
        state.sync_count += 0 if full else 1
        self.figures = SyncFigures(
            snapshot_at=snapshot.taken_at,
            bytes=copied,
            streaming_seconds=seconds,
            seconds=seconds,
            full=full,
            final=self.final,
            verified=self.final or self.spec.verify_syncs,
            compared=compared,
            waited_seconds=min(self.waits, default=0.0),
        )
        frozen = ("quiesced" if snapshot.quiesced else "not quiesced") if snapshot.consistency else ""
        text = f"{self.reason}: {quantities.size(copied)} in {seconds:.1f} s"
        self._note("sync committed", f"{text}, {frozen}" if frozen else text)

    def _count(self, results: Sequence[StreamResult], streams: int) -> None:
        """For the report: what a cutover's step moved and verified, and what the streams alone took at the least."""
        cutover = self.state.cutover
        if cutover is None or cutover.running is None:
            return
        at_a_time = min(streams, self.state.host.at_a_time) if self.state.host else streams
        seconds = [result.seconds for result in results]
        took = max(max(seconds, default=0.0), sum(seconds) / max(1, at_a_time))
        step = cutover.running
        cutover = cutover.with_running(
            bytes=(step.bytes or 0) + sum(result.bytes_read for result in results),
            work_seconds=(step.work_seconds or 0.0) + took,
        )
        if self.final:
            verified = cutover.verified_bytes + sum(result.bytes_read for result in results if result.verified)
            cutover = cutover.with_running(found=f"{quantities.size(verified)} read back and compared")
            cutover = cutover.model_copy(update={"verified_bytes": verified})
        self.state.cutover = cutover

    def _remember(self, figures: SyncFigures) -> None:
        self.state.recent_syncs = (*self.state.recent_syncs, figures)[-SYNCS_REMEMBERED:]

    def _leave_for_the_next(self) -> None:
        """The source is off, and is to run again: neither its snapshot nor an attachment hinders that."""
        self.state.clean_up_at = workflow.now()
        self.state.sync = None
        self.state.doing = ""

    async def _clean_up(self) -> None:
        """Leave no snapshot and no attachment; what cannot be removed now is removed later."""
        state = self.state
        await give_reserved_back(state)
        try:
            if state.abandon_asked is None or state.source_is_off:
                state.doing = "removing the snapshot"
                await remove_leftovers(self.spec, state, WHILE_OFF if state.source_is_off else CLEAN_UP)
        except ActivityError as error:
            self.left_behind = explain(error, f"the snapshot of {self.name} could not be removed")
            self._note("clean-up failed", f"{self.left_behind.what}: {self.left_behind.because}; it is tried again")
            state.clean_up_at = workflow.now() + CLEAN_UP_AGAIN
        state.sync = None
        state.doing = ""

    def _note(self, kind: str, text: str) -> None:
        self.state.note(workflow.now(), kind, text)
