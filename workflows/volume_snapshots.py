"""Snapshots of the volumes: made while they are the replica, gone back to after a target ran on them, removed.

They only save a full copy. So none of them missing, and none that cannot be gone back to, fails a cutover or a sync:
that disk is copied in full then, as where there are none.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.target import TargetActivities
    from workflows.calls import CLEAN_UP, CONTROL, SNAPSHOTS, Policy, call, explain
    from xms.job import JobState
    from xms.models import MigrationSpec
    from xms.orders.target import RevertVolumes, SnapshotVolumes, VolumesOrder, VolumesReverted


async def take(spec: MigrationSpec, state: JobState) -> None:
    """Make a snapshot of each volume; before the volumes are written to, those that count are complete."""
    state.snapshots_of_volumes, state.volume_snapshots = True, ()
    order = SnapshotVolumes(
        target=state.target_order(spec), disks=state.disks, replica_of=state.replica_of or workflow.now()
    )
    try:
        made = await call(TargetActivities.snapshot_volumes, order, summary="for a roll-back", **SNAPSHOTS)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        trouble = explain(error, f"the volumes of {spec.vm} have no snapshots")
        state.note(workflow.now(), "no volume snapshot", f"{trouble.what}: {trouble.because or trouble.kind}")
        return
    state.volume_snapshots = made.snapshots
    for text in made.missing:
        state.note(workflow.now(), "no volume snapshot", text)


async def restore(spec: MigrationSpec, state: JobState) -> None:
    """Before the first sync after a cutover that was rolled back: volumes that a target wrote to go back.

    Raises:
        ActivityError: the cloud does not answer for now. The snapshots are kept for the next try.
    """
    if not state.snapshots_of_volumes:
        return
    target = state.target_order(spec)
    spoiled = {disk.key for disk in state.disks if disk.baseline.change_id is None}
    wanted = tuple(snapshot for snapshot in state.volume_snapshots if snapshot.disk_key in spoiled)
    if wanted:
        state.doing = "taking the volumes back to their snapshots"
        order = RevertVolumes(target=target, snapshots=wanted)
        _take_in(state, order, await call(TargetActivities.revert_volumes, order, **CONTROL))
    state.volume_snapshots = ()
    state.doing = "removing the volumes' snapshots"
    await remove(spec, state, CONTROL)


def _take_in(state: JobState, order: RevertVolumes, reverted: VolumesReverted) -> None:
    for snapshot in order.snapshots:
        if snapshot.disk_key in reverted.disk_keys:
            disk = state.disk(snapshot.disk_key)
            state.replace_disk(disk.model_copy(update={"baseline": snapshot.baseline}))
            text = f"{disk.label} is back at its snapshot: what the target wrote is undone"
            state.note(workflow.now(), "volume reverted", text)
    for text in reverted.refused:
        state.note(workflow.now(), "volume not reverted", f"{text}; the disk is copied in full")


async def remove(spec: MigrationSpec, state: JobState, policy: Policy = CLEAN_UP) -> None:
    """Remove those that there may be. What is left is named in the story, and hinders neither a sync nor a job's end.

    Raises:
        ActivityError: the call was cancelled.
    """
    if not state.snapshots_of_volumes:
        return
    order = VolumesOrder(
        target=state.target_order(spec), volume_ids=tuple(dict.fromkeys((*state.volume_ids, *state.former_volumes)))
    )
    try:
        left = (await call(TargetActivities.remove_volume_snapshots, order, **policy)).left
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        trouble = explain(error, "snapshots of the volumes could not be removed")
        left = (f"{trouble.what}: {trouble.because or trouble.kind}",)
    for text in left:
        state.note(workflow.now(), "volume snapshot left", text)
    state.snapshots_of_volumes, state.volume_snapshots = bool(left), ()
