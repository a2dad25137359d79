"""QueryChangedDiskAreas, with the rules that facts about vSphere list: windows, empty pages, faults."""

from __future__ import annotations

from collections.abc import Sequence

from lab.esxi.interface import PowerStateError, UnknownChangeIdError
from lab.vcenter.inventory import Inventory
from lab.vcenter.machines import SnapshotRecord, VirtualMachine
from lab.vcenter.switches import FaultSwitches, Page
from lab.vcenter.vocabulary import Data, Reference, identity, invalid_argument, vim

EVERYTHING = "*"
"""The change id that asks for the allocated areas."""


def query_changed_disk_areas(
    inventory: Inventory,
    switches: FaultSwitches,
    machine: VirtualMachine,
    *,
    snapshot: Reference | None,
    device_key: int,
    start_offset: int,
    change_id: str,
) -> Data:
    """Answer one page.

    Raises:
        vmodl.fault.ManagedObjectNotFound: the snapshot is gone.
        vmodl.fault.InvalidArgument: naming snapshot, deviceKey, startOffset or changeId.
        vim.fault.FileFault: change tracking is not in effect, `*` is refused, or a running VM's live disk is asked for.
    """
    record = _record_of(inventory, machine, snapshot)
    with machine.holding(record):
        areas, capacity = _areas(switches, machine, record, device_key, start_offset, change_id)
    page = _page(areas, start_offset, capacity, switches)
    return _described(page if switches.change_page is None else switches.change_page(start_offset, page))


def _areas(
    switches: FaultSwitches,
    machine: VirtualMachine,
    record: SnapshotRecord | None,
    device_key: int,
    start_offset: int,
    change_id: str,
) -> tuple[Sequence[tuple[int, int]], int]:
    """All areas, and the capacity of the disk as it was."""
    disks = record.disks if record else machine.machine.spec.disks
    disk = next((disk for disk in disks if disk.key == device_key), None)
    if disk is None:
        raise invalid_argument("deviceKey")
    sequence = record.sequence if record else None
    capacity = record.capacities[device_key] if record else machine.machine.capacity(device_key)
    if not 0 <= start_offset < capacity:
        raise invalid_argument("startOffset")
    file = machine.disk_file(disk, sequence) if sequence is not None else disk.datastore_path
    if record is None and machine.running:
        raise _file_fault(file)
    if machine.machine.change_id(device_key, sequence) is None:
        raise _file_fault(file)
    if change_id == EVERYTHING and switches.refuse_allocated_map:
        raise _file_fault(file)
    try:
        return machine.machine.changed_areas(device_key, change_id, sequence), capacity
    except UnknownChangeIdError:
        raise invalid_argument("changeId") from None
    except PowerStateError:
        raise _file_fault(file) from None  # it was started just now


def _record_of(inventory: Inventory, machine: VirtualMachine, snapshot: Reference | None) -> SnapshotRecord | None:
    if snapshot is None:
        return None
    owner, record = inventory.snapshot(snapshot)
    if identity(owner.reference) != identity(machine.reference):
        raise invalid_argument("snapshot")
    return record


def _page(areas: Sequence[tuple[int, int]], start: int, capacity: int, switches: FaultSwitches) -> Page:
    """The window from `start`: it covers what its areas tell, and reaches the capacity with the last of them."""
    kept = [
        (max(begin, start), begin + length) for begin, length in areas if begin + length > start and begin < capacity
    ]
    if switches.empty_pages and kept and kept[0][0] > start:
        kept, end = [], kept[0][0]
    elif len(kept) > switches.page_size:
        end = kept[switches.page_size][0]
        kept = kept[: switches.page_size]
    else:
        end = capacity
    return start, end - start, [(begin, min(finish, capacity) - begin) for begin, finish in kept]


def _described(page: Page) -> Data:
    start, length, areas = page
    info = vim.VirtualMachine.DiskChangeInfo
    return info(
        startOffset=start,
        length=length,
        changedArea=[info.DiskChangeExtent(start=begin, length=size) for begin, size in areas],
    )


def _file_fault(file: str) -> Exception:
    path = file.replace("[", "/vmfs/volumes/", 1).replace("] ", "/", 1)
    fault: Exception = vim.fault.FileFault(file=file, msg=f"Error caused by file {path}")
    return fault
