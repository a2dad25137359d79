"""The snapshot that one sync reads from: made after the leftovers of a crash are gone, removed with its consolidation.

It is known by its name alone, which carries the job's id; no other snapshot is ever touched.
"""

from __future__ import annotations

import logging
from typing import Any

from xms.errors import SnapshotFailed, VmNotFound, VmUnsupported
from xms.orders.source import SnapshotDisk, SnapshotTaken, VmOrder
from xms.pulse import Pulse
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.faults import explained, fault_text
from xms.vsphere.inventory import (
    TOOLS_RUN,
    capacity_of,
    change_id_of,
    label_of,
    snapshot_trees,
    virtual_disks,
)
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession
from xms.vsphere.tasks import wait_for_other_tasks, wait_for_task

logger = logging.getLogger(__name__)


def snapshot_name(job_id: str) -> str:
    """The name of every snapshot of a job."""
    return f"xms-{job_id}"


def take_snapshot(session: VsphereSession, order: VmOrder, *, pulse: Pulse, freeze: bool = True) -> SnapshotTaken:
    """Make the job's snapshot: one point in time of all disks, with the change ids that are its own.

    Whatever snapshots of this job exist are removed first. File systems are frozen where the guest's tools run; a guest
    that cannot freeze them is snapshotted as it is, which is what a power loss would leave.

    Args:
        session: where.
        order: of which VM, for which job.
        pulse: called while vSphere works.
        freeze: False for a snapshot that nobody will read from.

    Raises:
        SnapshotFailed: vSphere could not make it, or could not remove a leftover.
        VmUnsupported: a disk is not part of snapshots.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`.
    """
    what = f"no snapshot of {order.vm} could be made"
    with explained(session.name, what):
        vm = session.virtual_machine(order.moref)
        leftovers = remove_snapshots(session, order, pulse=pulse)
        properties = read(
            session,
            vm,
            ["config.hardware.device", "guest.toolsRunningStatus", "runtime.powerState", "runtime.host"],
        )
        refuse_disks_without_snapshots(properties.get("config.hardware.device", []), vm=order.vm)
        guest_runs = (
            properties.get("guest.toolsRunningStatus") == TOOLS_RUN and properties["runtime.powerState"] == "poweredOn"
        )
        snapshot, quiesced = _create(session, vm, order, quiesce=freeze and guest_runs, pulse=pulse)
        disks = read(session, snapshot, ["config.hardware.device"])["config.hardware.device"]
        tree = _tree_of(session, vm, snapshot)
        host = _host_name(session, properties.get("runtime.host"))
    return SnapshotTaken(
        moref=snapshot._moId,  # noqa: SLF001 - pyVmomi's name for the reference
        name=tree.name,
        taken_at=tree.createTime,
        quiesced=quiesced,
        leftovers_removed=leftovers,
        host=host,
        disks=tuple(
            SnapshotDisk(
                key=disk.key,
                label=label_of(disk),
                capacity=capacity_of(disk),
                path=disk.backing.fileName,
                change_id=change_id_of(disk),
            )
            for disk in virtual_disks(disks)
        ),
    )


def remove_snapshots(session: VsphereSession, order: VmOrder, *, pulse: Pulse) -> int:
    """Remove every snapshot of the job, wait until their disks are consolidated, and return how many they were.

    A task that already runs on the VM is waited for, since an earlier attempt may have begun it. Snapshots that hang
    below ours, and all others, are left alone. A snapshot or a VM that is already gone is a success.

    Raises:
        SnapshotFailed: vSphere could not remove one, or could not consolidate its disks.
        Interrupted: from `pulse`.
    """
    vm = session.virtual_machine(order.moref)
    try:
        with explained(session.name, f"the snapshots of {order.vm} could not be removed"):
            wait_for_other_tasks(session, vm, pulse=pulse)
            ours = [
                tree.snapshot
                for tree in snapshot_trees(read(session, vm, ["snapshot"]))
                if tree.name == snapshot_name(order.job_id)
            ]
            # The youngest first: nothing that is ours then hangs below what is being removed.
            for snapshot in reversed(ours):
                _remove(session, snapshot, vm=order.vm, pulse=pulse)
            if ours and read(session, vm, ["runtime.consolidationNeeded"]).get("runtime.consolidationNeeded"):
                _consolidate(session, vm, name=order.vm, pulse=pulse)
    except VmNotFound:
        return 0
    return len(ours)


def refuse_disks_without_snapshots(devices: list[Any], *, vm: str) -> None:
    """Refuse a VM with a disk that snapshots leave out: its data would silently not be migrated.

    Raises:
        VmUnsupported: it has an independent disk, a physical RDM, or a disk that several VMs write.
    """
    reasons = [
        f"{label_of(disk)} is {reason}"
        for disk in virtual_disks(devices)
        for reason in _without_snapshots(disk.backing)
    ]
    if reasons:
        raise VmUnsupported(
            f"{vm} has disks that no snapshot holds",
            because="; ".join(reasons),
            means="nothing was changed; a warm migration reads from snapshots and would leave these disks out",
            do="change the disks' mode, or detach them and migrate their data in another way",
        )


def _without_snapshots(backing: Any) -> list[str]:  # noqa: ANN401 - pyVmomi's
    mode = getattr(backing, "diskMode", None) or ""
    reasons = [f"in mode {mode}"] if mode.startswith("independent") else []
    if getattr(backing, "compatibilityMode", None) == "physicalMode":
        reasons.append("a raw device mapping in physical mode")
    if getattr(backing, "sharing", None) == "sharingMultiWriter":
        reasons.append("shared with other writers")
    return reasons


def _create(
    session: VsphereSession,
    vm: Any,  # noqa: ANN401 - pyVmomi's
    order: VmOrder,
    *,
    quiesce: bool,
    pulse: Pulse,
) -> tuple[Any, bool]:
    """The new snapshot, and whether the guest's file systems were frozen for it."""
    try:
        task = vm.CreateSnapshot(
            name=snapshot_name(order.job_id),
            description=f"XMS reads {order.vm} from it for job {order.job_id}, and removes it",
            memory=False,
            quiesce=quiesce,
        )
        return wait_for_task(session, task, pulse=pulse), quiesce
    except vim.fault.TooManySnapshotLevels as fault:
        raise SnapshotFailed(
            f"no snapshot of {order.vm} could be made",
            because=fault_text(fault),
            do="the chain of its snapshots is at vSphere's limit: remove snapshots that nobody needs",
        ) from fault
    except vmodl.fault.ManagedObjectNotFound:
        raise
    except vmodl.MethodFault as fault:
        if not quiesce or isinstance(fault, vim.fault.TaskInProgress):
            raise SnapshotFailed(
                f"no snapshot of {order.vm} could be made",
                because=fault_text(fault),
                means="the replica is as the last committed sync left it",
                do="nothing while it is tried again; vCenter's task list tells more",
            ) from fault
        logger.info(
            "%s cannot freeze its file systems (%s); its snapshot is taken as it is", order.vm, fault_text(fault)
        )
    # A failed quiesced snapshot may leave one behind.
    remove_snapshots(session, order, pulse=pulse)
    return _create(session, vm, order, quiesce=False, pulse=pulse)


def _remove(session: VsphereSession, snapshot: Any, *, vm: str, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    try:
        wait_for_task(session, snapshot.Remove(removeChildren=False, consolidate=True), pulse=pulse)
    except vmodl.fault.ManagedObjectNotFound:
        logger.info("a snapshot of %s was already gone", vm)
    except vmodl.MethodFault as fault:
        raise SnapshotFailed(
            f"the snapshot of {vm} could not be removed",
            because=fault_text(fault),
            means="it grows on the datastore until it is removed; the data is intact",
            do="nothing while it is tried again; vCenter's task list tells more",
        ) from fault


def _consolidate(session: VsphereSession, vm: Any, *, name: str, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    try:
        wait_for_task(session, vm.ConsolidateDisks(), pulse=pulse)
    except vmodl.MethodFault as fault:
        raise SnapshotFailed(
            f"the disks of {name} could not be consolidated after its snapshot was removed",
            because=fault_text(fault),
            means="the data is intact; the VM runs on a delta disk that grows",
            do="does a backup hold the disks locked? It is tried again",
        ) from fault


def _host_name(session: VsphereSession, host: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """The name of the ESXi host, or its reference where the account may not see the name; both tell hosts apart."""
    if host is None:
        return ""
    return str(read(session, host, ["name"]).get("name") or host._moId)  # noqa: SLF001 - pyVmomi's name


def _tree_of(session: VsphereSession, vm: Any, snapshot: Any) -> Any:  # noqa: ANN401 - pyVmomi's
    """The snapshot's node, which alone tells its name and when vCenter's clock says that it was taken."""
    for tree in snapshot_trees(read(session, vm, ["snapshot"])):
        if tree.snapshot._moId == snapshot._moId:  # noqa: SLF001 - pyVmomi's name for the reference
            return tree
    raise vmodl.fault.ManagedObjectNotFound(obj=snapshot, msg="the snapshot was removed as soon as it was made")
