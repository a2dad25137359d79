"""A host without QEMU: machines that exist in memory, a thousand if need be, with exact change tracking.

It keeps where bytes were written and not what they were, so that nothing can be exported from it. For everything that
vCenter does beside the data path.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lab.esxi.interface import (
    DiskSpec,
    Export,
    GuestSilentError,
    MachineSpec,
    NicSpec,
    PowerState,
    PowerStateError,
    UnknownChangeIdError,
)

GRAIN: Final = 64 << 10
"""Bytes that one bit of change tracking stands for."""

_BLOCKED_SECONDS: Final = 10.0


def new_epoch() -> str:
    """The part of a change id that a reset changes, as vSphere writes it: "52 2d 7b .. 51 cc-77 4c .. 7b"."""
    text = uuid.uuid4().bytes.hex(" ")
    return f"{text[:23]}-{text[24:]}"


@dataclass
class Tracked:
    """One disk's change tracking: what changed in each interval between two points in time."""

    capacity: int
    epoch: str = field(default_factory=new_epoch)
    allocated: set[int] = field(default_factory=set)
    intervals: list[set[int]] = field(default_factory=lambda: [set()])
    change_ids: dict[int, str] = field(default_factory=dict)
    capacities: dict[int, int] = field(default_factory=dict)
    """bytes, by snapshot"""

    @property
    def change_id(self) -> str:
        """Of the live disk."""
        return f"{self.epoch}/{len(self.intervals)}"

    def freeze(self, sequence: int, *, tracked: bool) -> None:
        """End an interval with a snapshot."""
        self.capacities[sequence] = self.capacity
        if tracked:
            self.change_ids[sequence] = self.change_id
            self.intervals.append(set())

    def forget(self) -> None:
        """Begin another epoch: change ids that were given out name nothing any more."""
        self.epoch, self.intervals, self.change_ids = new_epoch(), [set()], {}


class MemoryMachine:
    """One VM; see lab.esxi.interface.Machine.

    Attributes:
        guest_answers: whether its tools run; a guest that answers shuts down at once, unless it is stubborn.
        may_finish_snapshot: where it is set to an event, the making of a snapshot waits for that.
    """

    def __init__(self, spec: MachineSpec, *, capacity: int) -> None:
        self.spec = spec
        self.annotation = ""
        self.power_state: PowerState = "poweredOff"
        self.guest_answers = spec.plays_tools
        self.stubborn = False
        self.change_tracking = False
        self.snapshots: tuple[int, ...] = ()
        self.shutdowns_asked = 0
        self.may_finish_snapshot: threading.Event | None = None
        self._in_effect = False
        self._made = 0
        self._disks = {disk.key: Tracked(capacity) for disk in spec.disks}

    @property
    def tools_running(self) -> bool:
        """Whether the guest would answer."""
        return self.guest_answers and self.power_state == "poweredOn"

    def power_on(self) -> None:
        """Start it, or resume it."""
        if self.power_state == "poweredOn":
            raise PowerStateError
        self.power_state = "poweredOn"

    def power_off(self) -> None:
        """Pull the plug."""
        if self.power_state == "poweredOff":
            raise PowerStateError
        self.power_state = "poweredOff"

    def suspend(self) -> None:
        """Stop it with its memory kept."""
        self._need("poweredOn")
        self.power_state = "suspended"

    def shutdown_guest(self) -> None:
        """Ask the guest to shut down."""
        self._need("poweredOn")
        if not self.guest_answers:
            raise GuestSilentError
        self.shutdowns_asked += 1
        if not self.stubborn:
            self.power_state = "poweredOff"

    def set_change_tracking(self, enabled: bool) -> None:  # noqa: FBT001 - the interface's
        """Configure tracking."""
        self.change_tracking = enabled
        self._in_effect = enabled and (self._in_effect or self.power_state == "poweredOff")
        if not enabled:
            self.reset_change_tracking()

    def reset_change_tracking(self) -> None:
        """Begin another epoch on every disk."""
        for disk in self._disks.values():
            disk.forget()

    def create_snapshot(self) -> int:
        """One point in time of all disks."""
        self._made += 1
        self._in_effect = self.change_tracking
        for disk in self._disks.values():
            disk.freeze(self._made, tracked=self._in_effect)
        self.snapshots = (*self.snapshots, self._made)
        if self.may_finish_snapshot is not None and not self.may_finish_snapshot.wait(_BLOCKED_SECONDS):
            raise TimeoutError
        return self._made

    def remove_snapshot(self, sequence: int) -> None:
        """Forget a snapshot."""
        self.snapshots = tuple(one for one in self.snapshots if one != sequence)

    def capacity(self, disk_key: int) -> int:
        """Bytes."""
        return self._disks[disk_key].capacity

    # --- what administrators and accidents do beside the API ----------------------------------------------------------

    def lose_host(self) -> None:
        """Lose the host's power: the machine is off, and its change tracking begins anew."""
        self.power_state = "poweredOff"
        self.reset_change_tracking()

    def move_storage(self, datastore: str) -> None:
        """Move the disks of a machine that is off to another datastore; that begins another epoch."""
        self._need("poweredOff")
        disks = tuple(
            replace(disk, datastore_path=f"[{datastore}] {disk.datastore_path.partition('] ')[2]}")
            for disk in self.spec.disks
        )
        self.spec = replace(self.spec, disks=disks)
        self.reset_change_tracking()

    def rename(self, name: str) -> None:
        """Give it another name; its files keep theirs."""
        self.spec = replace(self.spec, name=name)

    def add_disk(self, disk: DiskSpec, capacity: int) -> None:
        """Put a disk in; where its key was another disk's, it takes that one's place."""
        self._disks[disk.key] = Tracked(capacity)
        self.spec = replace(self.spec, disks=(*(one for one in self.spec.disks if one.key != disk.key), disk))

    def remove_disk(self, disk_key: int) -> None:
        """Take a disk out; snapshots that have it keep it."""
        self.spec = replace(self.spec, disks=tuple(disk for disk in self.spec.disks if disk.key != disk_key))

    def grow(self, disk_key: int, capacity: int) -> None:
        """Make a disk longer, as an administrator may at any time."""
        self._disks[disk_key].capacity = capacity

    def change_id(self, disk_key: int, sequence: int | None) -> str | None:
        """Of a disk in a snapshot, or of the live disk."""
        disk = self._disks[disk_key]
        if sequence is not None:
            return disk.change_ids.get(sequence)
        return disk.change_id if self._in_effect else None

    def changed_areas(self, disk_key: int, since: str, sequence: int | None) -> list[tuple[int, int]]:
        """What changed; see the interface."""
        disk = self._disks[disk_key]
        size = disk.capacity if sequence is None else disk.capacities[sequence]
        if since == "*":
            return _areas(disk.allocated, size)
        epoch, _, first = since.rpartition("/")
        until = disk.change_id if sequence is None else disk.change_ids[sequence]
        epoch_now, _, last = until.rpartition("/")
        if not epoch == epoch_now == disk.epoch or not first.isdecimal() or int(first) > int(last):
            raise UnknownChangeIdError
        return _areas(set().union(*disk.intervals[int(first) : int(last)]), size)

    def export(self, disk_key: int, sequence: int) -> Export:
        """A place where nobody listens."""
        return Export(Path(f"/run/{self.spec.name}.sock"), f"disk-{disk_key}-{sequence}")

    def write(self, disk_key: int, offset: int, data: bytes) -> None:
        """Write to the live disk."""
        disk = self._disks[disk_key]
        grains = range(offset // GRAIN, -(-(offset + len(data)) // GRAIN))
        disk.allocated.update(grains)
        disk.intervals[-1].update(grains)

    def _need(self, state: PowerState) -> None:
        if self.power_state != state:
            raise PowerStateError


def _areas(grains: set[int], size: int) -> list[tuple[int, int]]:
    """Neighbouring grains as one area, cut at the end of the disk."""
    areas: list[tuple[int, int]] = []
    for grain in sorted(grains):
        start, length = grain * GRAIN, min(GRAIN, size - grain * GRAIN)
        if areas and sum(areas[-1]) == start:
            areas[-1] = (areas[-1][0], areas[-1][1] + length)
        elif length > 0:
            areas.append((start, length))
    return areas


class MemoryHost:
    """See lab.esxi.interface.Host."""

    def __init__(self, machines: Sequence[MemoryMachine]) -> None:
        self.machines = tuple(machines)

    def close(self) -> None:
        """Nothing runs."""


def a_machine(
    name: str, *, disks: int = 1, capacity: int = 1 << 30, networks: Sequence[str] = (), plays_tools: bool = True
) -> MemoryMachine:
    """A machine with that many disks of `capacity` bytes, and a NIC a network."""
    spec = MachineSpec(
        name=name,
        disks=tuple(
            DiskSpec(
                key=2000 + number,
                label=f"Hard disk {number + 1}",
                file=Path("/nowhere"),
                datastore_path=f"[ds1] {name}/{name}{f'_{number}' if number else ''}.vmdk",
            )
            for number in range(disks)
        ),
        nics=tuple(
            NicSpec(
                key=4000 + number,
                label=f"Network adapter {number + 1}",
                mac=f"00:50:56:aa:00:{number:02x}",
                network=network,
            )
            for number, network in enumerate(networks)
        ),
        cpus=2,
        memory=1 << 30,
        guest=False,
        plays_tools=plays_tools,
    )
    return MemoryMachine(spec, capacity=capacity)
