"""Its disks: whether snapshots hold all of them, whether they can be read, and whether there is room for snapshots."""

from __future__ import annotations

from typing import Final

from xms import quantities
from xms.models import job_id
from xms.orders.preflight import DatastoreFacts, Subject
from xms.orders.source import VmDisk
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule, unknown

GIB: Final = 1 << 30
SECTOR: Final = 512

LARGEST: Final = 62 << 40
"""Bytes of the largest virtual disk that vSphere makes."""

MANY: Final = 24
"""Disks beyond which a target may have no slots left: each is a PCI device of its own there."""

WARN_BELOW: Final = 0.10
"""Share of a datastore, and of the disks that would grow on it, that should be free."""

BLOCK_BELOW: Final = 0.03
"""Share of a datastore below which no snapshot is begun: one that fills up stops every VM on it."""


@rule(
    "storage.disks", BLOCK, finds="it has no disk", do="there is nothing to replicate: make the instance anew instead"
)
def has_disks(subject: Subject) -> Found | None:
    """A migration is one of disks."""
    return None if subject.vm.disks else Found("it has no disk")


@rule(
    "storage.disk-count",
    WARN,
    finds=f"more than {MANY} disks",
    do="see how many volumes an instance may have there (PCI slots of the machine type), or move data to fewer disks",
)
def disk_count(subject: Subject) -> Found | None:
    """Each disk becomes a virtio device."""
    number = len(subject.vm.disks)
    return Found(f"it has {number} disks; a target may have room for fewer") if number > MANY else None


@rule(
    "storage.disk-size",
    BLOCK,
    NOTE,
    finds="a disk of no size, over 62 TiB, or not of whole sectors; as a note: not of whole GiB",
    do="correct the disk in vSphere",
)
def disk_size(subject: Subject) -> Found | None:
    """Volumes have whole GiB, so that a replica may be longer than its disk."""
    disks = subject.vm.disks
    wrong = [disk for disk in disks if not 0 < disk.capacity <= LARGEST or disk.capacity % SECTOR]
    if wrong:
        return Found("sizes that cannot be: " + ", ".join(f"{disk.label} of {disk.capacity} bytes" for disk in wrong))
    odd = [disk for disk in disks if disk.capacity % GIB]
    if odd:
        names = ", ".join(f"{disk.label} ({quantities.size(disk.capacity)})" for disk in odd)
        return Found(
            f"its volume is rounded up to whole GiB: {names}", NOTE, do="nothing: the guest sees a longer disk"
        )
    return None


@rule(
    "storage.disk-mode",
    BLOCK,
    finds="an independent or nonpersistent disk",
    do="set the disk's mode to dependent (persistent) in vSphere while the VM is off",
)
def disk_mode(subject: Subject) -> Found | None:
    """Snapshots leave such disks out."""
    found = [f"{disk.label} ({disk.mode})" for disk in subject.vm.disks if disk.mode != "persistent"]
    return Found(f"snapshots leave out {', '.join(found)}") if found else None


@rule(
    "storage.raw-device",
    BLOCK,
    NOTE,
    finds="a raw device mapping: a physical one blocks, a virtual one is copied as any disk (a note)",
    do="convert it to a virtual disk (storage migration), or to virtual compatibility mode",
)
def raw_device(subject: Subject) -> Found | None:
    """Snapshots leave a physical mapping out."""
    disks = subject.vm.disks
    physical = [disk.label for disk in disks if disk.raw_device and disk.raw_device != "virtualMode"]
    if physical:
        return Found(f"physical raw device mapping: {', '.join(physical)}")
    virtual = [disk.label for disk in disks if disk.raw_device]
    if virtual:
        text = f"virtual raw device mapping, copied into a volume as any disk: {', '.join(virtual)}"
        return Found(text, NOTE, do="nothing; the LUN itself stays as it is")
    return None


@rule(
    "storage.shared-disk",
    BLOCK,
    finds="a disk that other VMs may write to (multi-writer, or a SCSI bus that is shared)",
    do="take the VM out of its cluster, or migrate the cluster's data by its own means (replication, backup)",
)
def shared_disk(subject: Subject) -> Found | None:
    """Of such disks vSphere makes no snapshots, and the other VMs' writes would be missed."""
    found = [f"{disk.label} ({disk.shared})" for disk in subject.vm.disks if disk.shared]
    return Found(f"shared with other VMs: {', '.join(found)}") if found else None


@rule(
    "storage.controller",
    WARN,
    finds="disks on an NVMe controller, or on one that is not known",
    do="see that the guest mounts by UUID or label: virt-v2v renames /dev/sda in its files, but not /dev/nvme0n1",
)
def controller(subject: Subject) -> Found | None:
    """Every disk is on virtio afterwards; what counts is what the guest called it before."""
    strange = [disk for disk in subject.vm.disks if disk.controller in {"", "nvme"}]
    if not strange:
        return None
    names = ", ".join(f"{disk.label} ({disk.controller or 'controller not known'})" for disk in strange)
    return Found(f"the guest will find them under other names: {names}")


@rule(
    "storage.snapshots",
    BLOCK,
    WARN,
    finds="snapshots of others: they block while change tracking is off, else they are a warning",
    do="remove these snapshots, or have their owner remove them",
)
def snapshots(subject: Subject) -> Found | None:
    """Change tracking that is turned on under a snapshot may give wrong answers without an error."""
    vm = subject.vm
    # Those of a job of this VM are removed by the job itself.
    own = {f"xms-{job_id(subject.source, name)}" for name in (vm.name, vm.path)}
    foreign = [name for name in vm.snapshots if name not in own]
    if not foreign:
        return None
    names = ", ".join(f"'{name}'" for name in foreign)
    if vm.change_tracking_enabled and all(disk.change_id for disk in vm.disks):
        return Found(f"it has {_times(len(foreign))} of others ({names}): syncs read through a longer chain", WARN)
    return Found(f"it has {_times(len(foreign))} of others ({names}), and change tracking is off")


def _times(number: int) -> str:
    return f"{number} snapshot{'s' * (number != 1)}"


@rule(
    "storage.consolidation",
    WARN,
    finds="its disks need consolidation",
    do="consolidate its disks in vSphere (Snapshots, Consolidate) before it is submitted",
)
def consolidation(subject: Subject) -> Found | None:
    """A consolidation in the middle of a migration stretches a cutover, and on some builds it loses change tracking."""
    if not subject.vm.consolidation_needed:
        return None
    return Found("its disks need consolidation: files of removed snapshots are left")


@rule(
    "storage.datastore-space",
    WARN,
    BLOCK,
    finds=f"little room for a snapshot's growth: less than {WARN_BELOW:.0%} of the datastore, or of the VM's disks on "
    f"it, is free; less than {BLOCK_BELOW:.0%} of the datastore blocks, and so does one that cannot be reached",
    do="free space on the datastore, or move disks away from it (before the job begins: that loses change tracking)",
)
def datastore_space(subject: Subject) -> Found | None:
    """A snapshot grows with what the guest writes while it is there; a full datastore stops every VM on it."""
    known = {datastore.name: datastore for datastore in subject.datastores}
    blocked, tight, not_known = [], [], []
    for name, disks in _by_datastore(subject.vm.disks).items():
        found = known.get(name)
        if found is None or found.free is None or not found.capacity:
            not_known.append(name)
        elif not found.accessible:
            blocked.append(f"{name} cannot be reached")
        elif found.free < BLOCK_BELOW * found.capacity:
            blocked.append(_space(found))
        elif found.free < WARN_BELOW * max(found.capacity, sum(disk.capacity for disk in disks)):
            tight.append(_space(found))
    if blocked:
        return Found(f"no room for snapshots: {', '.join(blocked)}", BLOCK)
    if tight:
        return Found(f"little room for snapshots: {', '.join(tight)}")
    return unknown(f"the free space of {', '.join(not_known)}") if not_known else None


def _space(datastore: DatastoreFacts) -> str:
    free, capacity = datastore.free or 0, datastore.capacity or 0
    return f"{datastore.name} has {quantities.size(free)} free of {quantities.size(capacity)}"


def _by_datastore(disks: tuple[VmDisk, ...]) -> dict[str, list[VmDisk]]:
    found: dict[str, list[VmDisk]] = {}
    for disk in disks:
        found.setdefault(disk.datastore or "a datastore that is not told", []).append(disk)
    return found


@rule(
    "storage.datastore-maintenance",
    WARN,
    finds="a datastore of its disks is in maintenance mode",
    do="wait until the maintenance is over: it moves disks away, and a moved disk is copied in full again",
)
def datastore_maintenance(subject: Subject) -> Found | None:
    """Storage migration begins change tracking anew."""
    found = [datastore.name for datastore in subject.datastores if datastore.in_maintenance]
    return Found(f"in maintenance: {', '.join(found)}") if found else None


RULES: Final[tuple[Rule, ...]] = (
    has_disks,
    disk_count,
    disk_size,
    disk_mode,
    raw_device,
    shared_disk,
    controller,
    snapshots,
    consolidation,
    datastore_space,
    datastore_maintenance,
)
