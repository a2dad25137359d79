"""Changed Block Tracking: turning it on, and asking it what changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xms.errors import (
    ChangeTrackingBroken,
    ChangeTrackingReset,
    ChangeTrackingUnavailable,
    VmUnsupported,
    XmsError,
)
from xms.orders.source import ChangeTracking, SnapshotDisk, VmOrder
from xms.pulse import Pulse
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.faults import explained, fault_text
from xms.vsphere.inventory import change_id_of, label_of, snapshot_trees, virtual_disks
from xms.vsphere.properties import Properties, read
from xms.vsphere.session import VsphereSession
from xms.vsphere.snapshots import (
    refuse_disks_without_snapshots,
    remove_snapshots,
    take_snapshot,
)
from xms.vsphere.tasks import wait_for_other_tasks, wait_for_task

ALLOCATED = "*"
"""Asked since this change id, vSphere tells which areas are allocated."""

LOWEST_HARDWARE = 7
"""Virtual hardware (vmx-07) that knows change tracking."""

SMALLEST_AVERAGE_WINDOW = 1 << 20
"""Bytes that an answer's window covers, on the average of very many. Two thousand areas of the smallest grain cover
more; an answer of less, again and again, is no way to get through a disk."""

WINDOWS_AT_LEAST = 1000

TRIES = 3
TRY_AGAIN_SECONDS = 1.0
"""A general error of vCenter may be of the moment. It is asked again, since the other conclusion costs a full copy."""

STATE = (
    "capability.changeTrackingSupported",
    "config.changeTrackingEnabled",
    "config.hardware.device",
    "config.version",
    "runtime.powerState",
    "snapshot",
)


def enable_change_tracking(session: VsphereSession, order: VmOrder, *, pulse: Pulse) -> ChangeTracking:
    """Turn change tracking on where it is off, and make sure that it has taken effect on every disk.

    On a VM that runs, it takes effect at the next snapshot: one is made and removed, which stuns the VM
    twice for a moment.

    Raises:
        VmUnsupported: virtual hardware, a disk, or snapshots of others stand in the way; nothing was changed.
        ChangeTrackingUnavailable: the host does not support it, or it did not take effect.
        SnapshotFailed: the snapshot that makes it take effect could not be made or removed.
        Interrupted: from `pulse`.
    """
    with explained(session.name, f"change tracking of {order.vm} could not be turned on"):
        vm = session.virtual_machine(order.moref)
        wait_for_other_tasks(session, vm, pulse=pulse)
        state = read(session, vm, STATE)
        _refuse_unfit(state, vm=order.vm)
        was_enabled = bool(state.get("config.changeTrackingEnabled"))
        if was_enabled and not _untracked(state["config.hardware.device"]):
            return ChangeTracking(turned_on_now=False)
        # A crash may have left the snapshot that this function makes further down.
        remove_snapshots(session, order, pulse=pulse)
        _refuse_snapshots(read(session, vm, ["snapshot"]), vm=order.vm)
        if not was_enabled:
            _configure(session, vm, order, pulse=pulse)
        _make_effective(session, vm, order, pulse=pulse)
    return ChangeTracking(turned_on_now=True)


def _refuse_unfit(state: Properties, *, vm: str) -> None:
    hardware = state.get("config.version", "")
    number = re.fullmatch(r"vmx-(\d+)", hardware)
    if number is None or int(number[1]) < LOWEST_HARDWARE:
        raise VmUnsupported(
            f"{vm} has virtual hardware {hardware or 'of an unknown version'}",
            because=f"change tracking needs vmx-{LOWEST_HARDWARE:02} or newer",
            do="upgrade the VM's compatibility in vSphere (it has to be powered off for that), then retry",
        )
    refuse_disks_without_snapshots(state.get("config.hardware.device", []), vm=vm)
    if not state.get("capability.changeTrackingSupported"):
        raise ChangeTrackingUnavailable(
            f"change tracking cannot be turned on for {vm}",
            because="its host says that it does not support it for this VM",
            do="move the VM to a host and a datastore that do",
        )


def _refuse_snapshots(properties: Properties, *, vm: str) -> None:
    """Turned on under a snapshot, change tracking may give wrong answers without an error (vSphere documentation)."""
    names = [tree.name for tree in snapshot_trees(properties)]
    if names:
        raise VmUnsupported(
            f"change tracking cannot be turned on for {vm} while it has snapshots",
            because="it has " + ", ".join(f"'{name}'" for name in names),
            means="nothing was changed",
            do="remove these snapshots, or have their owner remove them, then retry",
        )


def _configure(session: VsphereSession, vm: Any, order: VmOrder, *, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    try:
        task = vm.Reconfigure(vim.vm.ConfigSpec(changeTrackingEnabled=True))
        wait_for_task(session, task, pulse=pulse)
    except (vim.fault.InvalidPowerState, vmodl.fault.NotSupported) as fault:
        raise ChangeTrackingUnavailable(
            f"change tracking cannot be turned on for {order.vm}",
            because=fault_text(fault),
            means="nothing was changed",
            do="resume or power off a suspended VM, or move the VM to a host that supports change tracking; then retry",
        ) from fault


def _make_effective(session: VsphereSession, vm: Any, order: VmOrder, *, pulse: Pulse) -> None:  # noqa: ANN401
    state = read(session, vm, STATE)
    if state["runtime.powerState"] == "poweredOff" and not _untracked(state["config.hardware.device"]):
        return
    taken = take_snapshot(session, order, pulse=pulse, freeze=False)
    remove_snapshots(session, order, pulse=pulse)
    untracked = [disk.label for disk in taken.disks if disk.change_id is None]
    if untracked:
        raise ChangeTrackingUnavailable(
            f"change tracking of {order.vm} did not take effect",
            because=f"it is on, but vSphere gives no change id for {', '.join(untracked)}",
            do="turn it off and on again with the VM powered off, then retry",
        )


def _untracked(devices: list[Any]) -> list[str]:
    return [label_of(disk) for disk in virtual_disks(devices) if change_id_of(disk) is None]


@dataclass(frozen=True)
class ChangeQuery:
    """Which disk of which snapshot is asked about."""

    vm: VmOrder
    snapshot: str
    disk: SnapshotDisk


def query_changes(
    session: VsphereSession, query: ChangeQuery, *, since: str, pulse: Pulse
) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) in bytes of what changed from change id `since` to the snapshot.

    A page without areas is not the end (vSphere API, DiskChangeInfo): the end is where the returned window reaches the
    disk's capacity. Areas may overlap, and may be larger than what was changed, never smaller.

    Args:
        session: where.
        query: which disk.
        since: a change id, or "*" for the allocated areas.
        pulse: called for each page.

    Raises:
        ChangeTrackingReset: `since` belongs to another epoch; every byte has to be read again.
        ChangeTrackingBroken: vSphere cannot tell, or its answer cannot be right; the same consequence.
        SnapshotLost: the snapshot is gone.
        Interrupted: from `pulse`.
    """
    if since != ALLOCATED:
        refuse_other_epoch(query, since=since)
    vm = session.virtual_machine(query.vm.moref)
    snapshot = session.snapshot(query.snapshot)
    capacity = query.disk.capacity
    windows_left = WINDOWS_AT_LEAST + capacity // SMALLEST_AVERAGE_WINDOW
    offset = 0
    # An offset at or beyond the capacity is an InvalidArgument, so the condition also spares a last, wrong call.
    while offset < capacity:
        pulse()
        page = _page(session, vm, snapshot, query, offset=offset, since=since, pulse=pulse)
        end = page.startOffset + page.length
        windows_left -= 1
        if not windows_left:
            raise _broken(query, f"after very many answers vSphere has come to byte {offset} only")
        if page.startOffset > offset or end <= offset:
            raise _broken(query, f"asked from byte {offset}, vSphere answered for bytes {page.startOffset} to {end}")
        for area in page.changedArea or ():
            if area.start < 0 or area.length <= 0:
                raise _broken(query, f"vSphere named an area of {area.length} bytes at byte {area.start}")
            if area.start < capacity:
                yield area.start, min(area.length, capacity - area.start)
        offset = end


def refuse_other_epoch(query: ChangeQuery, *, since: str) -> None:
    """Compare `since` with the snapshot's own change id: the UUID must be the same, the sequence not older.

    vSphere refuses most ids of another epoch by itself; that it refuses all of them is nowhere promised.

    Raises:
        ChangeTrackingReset: they belong to different epochs.
        ChangeTrackingBroken: the snapshot has no change id.
    """
    now = query.disk.change_id
    if now is None:
        raise _broken(query, "the snapshot has no change id: change tracking is off")
    epoch, _, number = since.rpartition("/")
    epoch_now, _, number_now = now.rpartition("/")
    if epoch != epoch_now:
        raise _reset(query, f"its change id was of {epoch}, and is now of {epoch_now}")
    if number.isdigit() and number_now.isdigit() and int(number) > int(number_now):
        raise _reset(query, f"its change id went back from {since} to {now}")


def _page(
    session: VsphereSession,
    vm: Any,  # noqa: ANN401 - pyVmomi's
    snapshot: Any,  # noqa: ANN401 - pyVmomi's
    query: ChangeQuery,
    *,
    offset: int,
    since: str,
    pulse: Pulse,
) -> Any:  # noqa: ANN401 - pyVmomi's
    def ask() -> Any:  # noqa: ANN401 - pyVmomi's
        return vm.QueryChangedDiskAreas(snapshot=snapshot, deviceKey=query.disk.key, startOffset=offset, changeId=since)

    with explained(session.name, f"{session.name} did not tell what changed on {query.disk.label} of {query.vm.vm}"):
        try:
            return _patiently(ask, pulse=pulse)
        except _OF_THE_MOMENT:
            raise
        except _UNANSWERABLE as fault:
            _refuse_lost_snapshot(session, snapshot)
            raise _unanswered(query, fault, since=since) from fault


def _patiently(ask: Callable[[], Any], *, pulse: Pulse) -> Any:  # noqa: ANN401 - pyVmomi's
    """Ask again after a general error of vCenter, some times."""
    for _ in range(TRIES - 1):
        try:
            return ask()
        except vmodl.fault.SystemError:
            pulse()
            time.sleep(TRY_AGAIN_SECONDS)
    return ask()


_UNANSWERABLE = (
    vim.fault.FileFault,
    vim.fault.NotFound,
    vmodl.fault.InvalidArgument,
    vmodl.fault.NotSupported,
    vmodl.fault.SystemError,
)
"""Faults that say that change tracking cannot answer, whoever asks."""

_OF_THE_MOMENT = (vim.fault.FileLocked, vim.fault.CannotAccessFile, vim.fault.NoDiskSpace)
"""Kinds of FileFault that say nothing of change tracking: a backup, or storage that is away for a moment."""


def _refuse_lost_snapshot(session: VsphereSession, snapshot: Any) -> None:  # noqa: ANN401 - pyVmomi's
    """A snapshot that is gone is told as a wrong argument, or as a disk that is not found, too.

    Raises:
        vmodl.fault.ManagedObjectNotFound: it is gone.
    """
    read(session, snapshot, ["childSnapshot"])


def _unanswered(query: ChangeQuery, fault: Any, *, since: str) -> XmsError:  # noqa: ANN401 - pyVmomi's
    """What a fault means that is none of the moment, while the snapshot is there."""
    said = f"vCenter answered {fault_text(fault)}"
    if not isinstance(fault, vmodl.fault.InvalidArgument):
        return _broken(query, f"{said} for change id {since}")
    # Older versions name the argument in the text alone.
    named = fault.invalidProperty or str(fault.msg or "")
    if "deviceKey" in named:
        return _broken(query, f"{said}: the disk is not tracked")
    if "startOffset" in named:
        return _broken(query, f"{said}: it has the disk smaller than its snapshot")
    return _reset(query, f"{said} for change id {since}")


def _reset(query: ChangeQuery, because: str) -> ChangeTrackingReset:
    return ChangeTrackingReset(
        f"change tracking of {query.disk.label} of {query.vm.vm} began anew",
        because=because,
        means="the replica is intact as of the last sync; this disk is copied in full once more",
        do="nothing; reverting snapshots, moving a powered-off VM and host failures cause it",
    )


def _broken(query: ChangeQuery, because: str) -> ChangeTrackingBroken:
    return ChangeTrackingBroken(
        f"change tracking cannot tell what changed on {query.disk.label} of {query.vm.vm}",
        because=because,
        means="the replica is intact as of the last sync; this disk is copied in full once more",
        do="nothing, unless it happens again: then turn change tracking off and on with the VM powered off",
    )
