"""Initializing: look at both sides, turn change tracking on, make one volume a disk. Safe to run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from activities.target import TargetActivities
    from workflows.calls import CONTROL, call, refusal
    from xms.errors import VmUnsupported
    from xms.job import JobState
    from xms.models import Disk, MigrationSpec
    from xms.orders.source import VmQuery
    from xms.orders.target import CheckTarget, MakeVolume

if TYPE_CHECKING:
    from xms.orders.source import SnapshotDisk, VmDisk


async def prepare(spec: MigrationSpec, state: JobState) -> None:
    """Find the VM, check the target, turn change tracking on, make the volumes.

    Raises:
        ActivityError: a check refused, or a step failed after its retries.
        ApplicationError: the VM has no disks.
    """
    state.doing = "looking at the VM"
    query = VmQuery(source=spec.source, vm=spec.vm)
    vm = await call(SourceActivities.inspect_vm, query, **CONTROL)
    state.take_in(vm)
    if not vm.disks:
        raise refusal(VmUnsupported, f"{vm.name} has no disks", because="there is nothing to replicate")

    state.doing = "checking the target"
    check = CheckTarget(spec=spec, vm=vm, known=state.nics)
    target = await call(TargetActivities.check_target, check, **CONTROL)
    state.cloud, state.zeroed_volumes = target.cloud, target.zeroed_volumes
    if not state.nics:
        state.nics = target.nics

    state.doing = "turning change tracking on"
    tracking = await call(SourceActivities.enable_change_tracking, state.vm_order(spec), **CONTROL)
    if tracking.turned_on_now:
        state.note(workflow.now(), "change tracking", "turned on")

    state.doing = "making the volumes"
    for disk in vm.disks:
        await make_volume(spec, state, disk)


async def make_volume(spec: MigrationSpec, state: JobState, source: VmDisk | SnapshotDisk) -> None:
    """Make, or find again, the volume of one disk, and put it into the job's record."""
    known = next((disk for disk in state.disks if disk.key == source.key), None)
    if known is not None and known.volume_id is not None:
        return
    order = MakeVolume(
        target=state.target_order(spec),
        disk_key=source.key,
        capacity=source.capacity,
        name=f"{spec.instance_name} {source.label}",
        volume_type=spec.volume_type,
        availability_zone=None,
    )
    made = await call(TargetActivities.make_volume, order, summary=f"{source.label}: volume", **CONTROL)
    state.replace_disk(
        Disk(
            key=source.key,
            label=source.label,
            capacity=source.capacity,
            volume_id=made.volume_id,
            volume_size=made.size,
            pristine=not made.found,
        )
    )
    state.note(workflow.now(), "volume", f"{source.label}: {made.volume_id}")
