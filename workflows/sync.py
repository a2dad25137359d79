"""One sync: snapshot -> change maps -> streams -> commit the baselines -> remove the snapshot.

Full, incremental, the rest of a full one, and the final delta all go this way; only what the planner finds differs. A
disk's baseline is committed when its stream has said that everything is flushed, or what is not. A stream that failed
commits nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from activities.streaming import StreamingActivities
    from activities.target import TargetActivities
    from workflows.calls import CLEAN_UP, CONTROL, STREAM, to_the_end
    from workflows.preparation import make_volume
    from xms.change_map import ByteRanges
    from xms.job import JobState
    from xms.models import Baseline, MigrationSpec, SyncRecord
    from xms.orders import (
        DiskPlan,
        ExtendVolume,
        PlanDisk,
        SnapshotDisk,
        SnapshotTaken,
        StreamDisk,
        StreamResult,
        VolumesOrder,
    )


@dataclass(frozen=True)
class Planned:
    """A disk's change map, beside the disk as the snapshot froze it."""

    frozen: SnapshotDisk
    plan: DiskPlan


class Sync:
    """Runs one sync of a job and records in the job's state what came of it."""

    def __init__(self, spec: MigrationSpec, state: JobState, reason: str) -> None:
        self.spec = spec
        self.state = state
        self.reason = reason
        self.vm = state.vm_order(spec)

    async def run(self, *, final: bool = False) -> None:
        """Bring every volume up to a new snapshot.

        Args:
            final: the source is off and this is the last delta: what is written is read back, and the snapshot may
                grow as old as it has to.

        Raises:
            ActivityError: a step failed after its retries. Disks whose streams were complete are committed.
        """
        state = self.state
        state.sync = SyncRecord(reason=self.reason, started_at=workflow.now())
        snapshot = None
        try:
            state.doing = "taking a snapshot"
            snapshot = await workflow.execute_activity_method(
                SourceActivities.take_snapshot, self.vm, summary=f"{self.vm.vm}: snapshot for {self.reason}", **CONTROL
            )
            state.sync = state.sync.model_copy(update={"snapshot_at": snapshot.taken_at})
            await self._copy(snapshot, final=final)
        finally:
            await to_the_end(self._clean_up(copied=snapshot is not None))
            state.sync = None
            state.doing = ""

    async def _copy(self, snapshot: SnapshotTaken, *, final: bool) -> None:
        state = self.state
        if snapshot.leftovers_removed:
            self._note("snapshots", f"removed {snapshot.leftovers_removed} that a crash had left")
        await self._match_volumes(snapshot)
        state.doing = "reading the change maps"
        planned = await asyncio.gather(*(self._plan(frozen, snapshot) for frozen in snapshot.disks))
        self._record_plans(planned)
        state.doing = "copying"
        started = workflow.now()
        outcomes = await asyncio.gather(
            *(self._stream(item, snapshot, final=final) for item in planned), return_exceptions=True
        )
        for item, outcome in zip(planned, outcomes, strict=True):
            if isinstance(outcome, StreamResult):
                self._commit(item, outcome)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise failures[0]
        self._complete(snapshot, planned, seconds=(workflow.now() - started).total_seconds())

    async def _match_volumes(self, snapshot: SnapshotTaken) -> None:
        """One volume a disk of the snapshot, large enough; a disk that is gone leaves the job, its volume stays."""
        frozen_keys = {frozen.key for frozen in snapshot.disks}
        for disk in self.state.disks:
            if disk.key not in frozen_keys:
                self._note("disk removed", f"{disk.label} is gone from the VM; volume {disk.volume_id} is kept")
        self.state.disks = tuple(disk for disk in self.state.disks if disk.key in frozen_keys)
        for frozen in snapshot.disks:
            await self._match_volume(frozen)

    async def _match_volume(self, frozen: SnapshotDisk) -> None:
        known = next((disk for disk in self.state.disks if disk.key == frozen.key), None)
        if known is None or known.volume_id is None:
            await make_volume(self.spec, self.state, frozen)
            if known is None:
                self._note("disk added", f"{frozen.label} is new; it is copied in full")
        elif frozen.capacity > known.volume_size:
            order = ExtendVolume(
                target=self.state.target_order(self.spec), volume_id=known.volume_id, capacity=frozen.capacity
            )
            made = await workflow.execute_activity_method(TargetActivities.extend_volume, order, **CONTROL)
            self.state.replace_disk(known.model_copy(update={"volume_size": made.size}))
            self._note("disk grown", f"{frozen.label} has {frozen.capacity} bytes now; its volume was extended")

    async def _plan(self, frozen: SnapshotDisk, snapshot: SnapshotTaken) -> Planned:
        disk = self.state.disk(frozen.key)
        order = PlanDisk(
            vm=self.vm,
            snapshot=snapshot.moref,
            disk=frozen,
            baseline=disk.baseline,
            replica_capacity=disk.capacity,
            volume_is_zeroed=disk.pristine and self.state.zeroed_volumes,
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

    async def _stream(self, item: Planned, snapshot: SnapshotTaken, *, final: bool) -> StreamResult:
        if not item.plan.bytes:
            return StreamResult(disk_key=item.frozen.key, bytes_read=0, bytes_written=0, verified=final)
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
            verify=final,
            give_up_at=None if final else give_up_at,
        )
        result = await workflow.execute_activity_method(
            StreamingActivities.stream_disk, order, summary=f"{item.frozen.label}: {self.reason}", **STREAM
        )
        if self.state.sync is not None:
            self.state.sync = self.state.sync.model_copy(update={"done": self.state.sync.done + result.bytes_read})
        return result

    def _commit(self, item: Planned, result: StreamResult) -> None:
        """Advance one disk's baseline: everything that `result` does not name as remaining is flushed."""
        disk = self.state.disk(item.frozen.key)
        remaining = ByteRanges.decode(result.remaining)
        baseline = Baseline(
            change_id=item.frozen.change_id,
            unseeded=remaining.encode(self.state.unseeded_limit),
            unseeded_bytes=remaining.total,
        )
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
            self._note("cut short", f"{item.frozen.label}: {result.cut_short}; {remaining.total} bytes go on later")

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
        self._note("sync committed", f"{self.reason}: {copied} bytes in {seconds:.1f} s")

    async def _clean_up(self, *, copied: bool) -> None:
        """Leave no snapshot and no attachment; what cannot be removed now is removed before the next snapshot."""
        try:
            self.state.doing = "removing the snapshot"
            await workflow.execute_activity_method(SourceActivities.remove_snapshots, self.vm, **CLEAN_UP)
            if copied:
                await self._release()
        except ActivityError as error:
            self._note("clean-up failed", f"{error.cause or error}; it is done before the next snapshot is made")

    async def _release(self) -> None:
        volumes = tuple(disk.volume_id for disk in self.state.disks if disk.volume_id)
        order = VolumesOrder(target=self.state.target_order(self.spec), volume_ids=volumes)
        await workflow.execute_activity_method(TargetActivities.release_volumes, order, **CLEAN_UP)

    def _note(self, kind: str, text: str) -> None:
        self.state.note(workflow.now(), kind, text)
