"""The snapshot that one sync reads from: made after the leftovers of a crash are gone, removed with its consolidation.

It is known by its name alone, which carries the job's id; no other snapshot is ever touched.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from xms.errors import SnapshotFailed, SnapshotRefused, VmNotFound, VmUnsupported, XmsError
from xms.orders.source import SnapshotDisk, SnapshotTaken, VmOrder
from xms.pulse import Pulse
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.datastores import refuse_without_room
from xms.vsphere.faults import AS_OF_THE_LAST_SYNC, explained, fault_text, is_permission, remedy
from xms.vsphere.inventory import (
    TOOLS_RUN,
    capacity_of,
    change_id_of,
    label_of,
    snapshot_trees,
    virtual_disks,
)
from xms.vsphere.properties import read, read_all
from xms.vsphere.session import VsphereSession
from xms.vsphere.tasks import wait_for_other_tasks, wait_for_task

logger = logging.getLogger(__name__)

QUIESCED: Final = "quiesced"
"""What a snapshot is whose file systems the guest had frozen."""

_STATE: Final = ("config.hardware.device", "guest.toolsRunningStatus", "name", "runtime.host", "runtime.powerState")

_REFUSALS: Final[tuple[tuple[Any, str], ...]] = (
    (
        vim.fault.TooManySnapshotLevels,
        "the chain of its snapshots is at vSphere's limit: remove snapshots that nobody needs, then retry",
    ),
    (vim.fault.SnapshotDisabled, "allow snapshots of this VM (snapshot.maxSnapshots in its settings), then retry"),
    (
        vim.fault.SnapshotIncompatibleDeviceInVm,
        "take out the device that the fault names (a shared bus, a device of the host), then retry",
    ),
    (vim.fault.MemorySnapshotOnIndependentDisk, "change the mode of its independent disks, then retry"),
    (
        vim.fault.MultipleSnapshotsNotSupported,
        "remove the snapshot that the VM has: its host keeps only one; then retry",
    ),
    (
        vim.fault.SnapshotMoveFromNonHomeNotSupported,
        "move the VM's snapshots and disks into its home directory (consolidate, or migrate its storage), then retry",
    ),
    (vmodl.fault.NotSupported, "its host makes no snapshots of this VM: move it to one that does, then retry"),
)
"""What no other attempt changes, and what the operator does about it."""

_NOT_THE_GUESTS: Final[tuple[Any, ...]] = (
    *(kind for kind, _ in _REFUSALS),
    vim.fault.SnapshotLocked,
    vim.fault.SnapshotNoChange,
    vim.fault.TaskInProgress,
    vim.fault.ConcurrentAccess,
    vim.fault.FileFault,
    vim.fault.InvalidState,
    vim.fault.InsufficientResourcesFault,
    vmodl.fault.HostCommunication,
    vmodl.fault.InvalidArgument,
    vmodl.fault.RequestCanceled,
)
"""Faults that a snapshot without frozen file systems would meet as well."""

_THE_SAME_EVERYWHERE: Final[tuple[Any, ...]] = (vmodl.fault.ManagedObjectNotFound, vim.fault.NoDiskSpace)
"""Faults that mean the same wherever they come up, as a missing privilege does."""


def snapshot_name(job_id: str) -> str:
    """The name of every snapshot of a job."""
    return f"xms-{job_id}"


def take_snapshot(
    session: VsphereSession, order: VmOrder, *, pulse: Pulse, freeze: bool = True, reserve: int = 0
) -> SnapshotTaken:
    """Make the job's snapshot: one point in time of all disks, with the change ids that are its own.

    Whatever snapshots of this job exist are removed first. File systems are frozen where the guest's tools run; a guest
    that cannot freeze them is snapshotted as it is, which is what a power loss would leave.

    Args:
        session: where.
        order: of which VM, for which job.
        pulse: called while vSphere works.
        freeze: False for a snapshot that nobody will read from.
        reserve: bytes that have to be free on each datastore of the disks, unless the VM is off and writes nothing.

    Raises:
        SnapshotFailed: vSphere could not make it, or could not remove a leftover.
        SnapshotRefused: vSphere makes none of this VM as it is.
        DatastoreFull: there is no room for it to grow.
        VmUnsupported: a disk is not part of snapshots.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`.
    """
    what = f"no snapshot of {order.vm} could be made"
    with explained(session.name, what):
        vm = session.virtual_machine(order.moref)
        leftovers = remove_snapshots(session, order, pulse=pulse)
        properties = read(session, vm, _STATE)
        power_state = str(properties["runtime.powerState"])
        refuse_disks_without_snapshots(properties.get("config.hardware.device", []), vm=order.vm)
        if power_state != "poweredOff":
            refuse_without_room(session, order.moref, vm=order.vm, reserve=reserve)
        unfrozen = _why_not_frozen(power_state, properties.get("guest.toolsRunningStatus"))
        made = _create(session, vm, order, quiesce=freeze and not unfrozen, pulse=pulse)
        disks = read(session, made.snapshot, ["config.hardware.device"])["config.hardware.device"]
        tree = _tree_of(session, vm, made.snapshot)
        host = _host_name(session, properties.get("runtime.host"))
    quiesced = made.quiesced and bool(tree.quiesced)
    unfrozen = unfrozen or made.unfrozen or "vSphere says that the file systems were not frozen"
    return SnapshotTaken(
        moref=made.snapshot._moId,  # noqa: SLF001 - pyVmomi's name for the reference
        name=tree.name,
        taken_at=tree.createTime,
        quiesced=quiesced,
        consistency=QUIESCED if quiesced else f"not quiesced: {unfrozen}",
        vm_name=unquote(properties.get("name", "")),
        power_state=power_state,
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
    """Remove every snapshot of the job, wait until the VM's disks are consolidated, and return how many they were.

    A task that already runs on the VM is waited for, since an earlier attempt may have begun it: what it made is then
    found by its name, and what it removed is not removed again. Snapshots that hang below ours, and all others, are
    left alone. A snapshot or a VM that is already gone is a success. Disks that vSphere says need consolidation get
    it, whether something was removed now or by an attempt that died before it came to that.

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
            if read(session, vm, ["runtime.consolidationNeeded"]).get("runtime.consolidationNeeded"):
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


@dataclass(frozen=True)
class _Made:
    snapshot: Any
    quiesced: bool
    unfrozen: str = ""
    """why the file systems were not frozen although the guest's tools run"""


def _why_not_frozen(power_state: str, tools: str | None) -> str:
    """Why the guest is not asked to freeze its file systems; empty where it is."""
    if power_state == "poweredOff":
        return "the VM is off, and nothing writes to its disks"
    if power_state != "poweredOn":
        return f"the VM is {power_state}, and what its memory holds is not on its disks"
    return "" if tools == TOOLS_RUN else "VMware Tools do not run in the guest; the disks are as after a power loss"


def _create(
    session: VsphereSession,
    vm: Any,  # noqa: ANN401 - pyVmomi's
    order: VmOrder,
    *,
    quiesce: bool,
    pulse: Pulse,
) -> _Made:
    try:
        task = vm.CreateSnapshot(
            name=snapshot_name(order.job_id),
            description=f"XMS reads {order.vm} from it for job {order.job_id}, and removes it",
            memory=False,
            quiesce=quiesce,
        )
        return _Made(wait_for_task(session, task, pulse=pulse), quiesce)
    except vmodl.MethodFault as fault:
        if is_permission(fault) or isinstance(fault, _THE_SAME_EVERYWHERE):
            raise
        if not quiesce or isinstance(fault, _NOT_THE_GUESTS):
            raise _explained_creation(fault, order.vm) from fault
        said = fault_text(fault)
    logger.info("%s cannot freeze its file systems (%s); its snapshot is taken as it is", order.vm, said)
    # A failed quiesced snapshot may leave one behind.
    remove_snapshots(session, order, pulse=pulse)
    made = _create(session, vm, order, quiesce=False, pulse=pulse)
    unfrozen = f"the guest could not freeze its file systems ({said}); the disks are as after a power loss"
    return _Made(made.snapshot, quiesced=False, unfrozen=unfrozen)


def _explained_creation(fault: Exception, vm: str) -> XmsError:
    what = f"no snapshot of {vm} could be made"
    for kind, do in _REFUSALS:
        if isinstance(fault, kind):
            return SnapshotRefused(what, because=fault_text(fault), means=AS_OF_THE_LAST_SYNC, do=do)
    return SnapshotFailed(what, because=fault_text(fault), means=AS_OF_THE_LAST_SYNC, do=remedy(fault))


def _remove(session: VsphereSession, snapshot: Any, *, vm: str, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    try:
        wait_for_task(session, snapshot.Remove(removeChildren=False, consolidate=True), pulse=pulse)
    except vmodl.fault.ManagedObjectNotFound:
        logger.info("a snapshot of %s was already gone", vm)
    except vmodl.MethodFault as fault:
        if is_permission(fault):
            raise
        raise SnapshotFailed(
            f"the snapshot of {vm} could not be removed",
            because=fault_text(fault),
            means="it grows on the datastore until it is removed; the data is intact",
            do=remedy(fault),
        ) from fault


def _consolidate(session: VsphereSession, vm: Any, *, name: str, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    try:
        wait_for_task(session, vm.ConsolidateDisks(), pulse=pulse)
    except vmodl.fault.ManagedObjectNotFound:
        raise
    except vmodl.MethodFault as fault:
        if is_permission(fault):
            raise
        raise SnapshotFailed(
            f"the disks of {name} could not be consolidated",
            because=fault_text(fault),
            means="the data is intact; the VM runs on a delta disk that grows",
            do=remedy(fault),
        ) from fault


def _host_name(session: VsphereSession, host: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """The name of the ESXi host, or its reference where the account may not see the name; both tell hosts apart."""
    if host is None:
        return ""
    names = [found.get("name") for _, found in read_all(session, [host], ["name"])]
    return str(next(filter(None, names), host._moId))  # noqa: SLF001 - pyVmomi's name


def _tree_of(session: VsphereSession, vm: Any, snapshot: Any) -> Any:  # noqa: ANN401 - pyVmomi's
    """The snapshot's node, which alone tells its name and when vCenter's clock says that it was taken."""
    for tree in snapshot_trees(read(session, vm, ["snapshot"])):
        if tree.snapshot._moId == snapshot._moId:  # noqa: SLF001 - pyVmomi's name for the reference
            return tree
    raise vmodl.fault.ManagedObjectNotFound(obj=snapshot, msg="the snapshot was removed as soon as it was made")
