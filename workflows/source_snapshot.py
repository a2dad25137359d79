"""The snapshot that a sync reads from: one in which every disk is tracked."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from workflows.calls import CONTROL, call, refusal
    from xms import source_changes
    from xms.errors import ChangeTrackingUnavailable, VmUnsupported
    from xms.job import JobState
    from xms.models import MigrationSpec
    from xms.orders.source import SnapshotTaken


async def take_tracked_snapshot(spec: MigrationSpec, state: JobState, reason: str) -> SnapshotTaken:
    """A snapshot in which every disk has a change id: without one no baseline could be committed.

    Where change tracking was turned off meanwhile, by whomever, it is turned on again.

    Raises:
        ActivityError: vSphere did not make it, or did not turn change tracking on.
        ApplicationError: change tracking does not take effect, or the VM has no disks.
    """
    snapshot = await _take(spec, state, reason)
    untracked = [disk.label for disk in snapshot.disks if disk.change_id is None]
    vm = state.vm_order(spec)
    if untracked:
        state.note(workflow.now(), "change tracking", f"is off for {', '.join(untracked)}; it is turned on again")
        state.doing = "turning change tracking on"
        await call(SourceActivities.enable_change_tracking, vm, **CONTROL)
        snapshot = await _take(spec, state, reason)
        untracked = [disk.label for disk in snapshot.disks if disk.change_id is None]
    if untracked:
        raise refusal(
            ChangeTrackingUnavailable,
            f"change tracking of {vm.vm} does not take effect",
            because=f"its snapshots give no change id for {', '.join(untracked)}",
            means="nothing was copied; the replica is as of the last committed sync",
            do="turn change tracking off and on again with the VM powered off, then retry",
        )
    return snapshot


async def _take(spec: MigrationSpec, state: JobState, reason: str) -> SnapshotTaken:
    state.doing = "taking a snapshot"
    vm = state.vm_order(spec)
    snapshot = await call(SourceActivities.take_snapshot, vm, summary=f"{vm.vm}: snapshot for {reason}", **CONTROL)
    source_changes.take_in(state, snapshot, workflow.now())
    if state.sync is not None:
        state.sync = state.sync.model_copy(update={"snapshot_at": snapshot.taken_at})
    if not snapshot.disks:
        raise refusal(VmUnsupported, f"{vm.vm} has no disks", because="there is nothing to replicate")
    return snapshot
