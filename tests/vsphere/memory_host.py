"""An ESXi host in memory: machines whose disks are bytes and whose change tracking is exact, in 64 KiB grains."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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

GRAIN = 64 << 10


def new_epoch() -> str:
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

    def begin_another_epoch(self) -> None:
        self.epoch, self.intervals, self.change_ids = new_epoch(), [set()], {}


class MemoryMachine:
    """One VM; see lab.esxi.interface.Machine.

    Attributes:
        guest_answers: whether its tools run; a guest that answers shuts down at once, unless it is stubborn.
    """

    def __init__(self, spec: MachineSpec, *, capacity: int) -> None:
        self.spec = spec
        self.annotation = ""
        self.power_state: PowerState = "poweredOff"
        self.guest_answers = True
        self.stubborn = False
        self.change_tracking = False
        self.snapshots: tuple[int, ...] = ()
        self.shutdowns_asked = 0
        self._in_effect = False
        self._made = 0
        self._disks = {disk.key: Tracked(capacity) for disk in spec.disks}

    @property
    def tools_running(self) -> bool:
        return self.guest_answers and self.power_state == "poweredOn"

    def power_on(self) -> None:
        self._need("poweredOff")
        self.power_state = "poweredOn"

    def power_off(self) -> None:
        self._need("poweredOn")
        self.power_state = "poweredOff"

    def shutdown_guest(self) -> None:
        self._need("poweredOn")
        if not self.guest_answers:
            raise GuestSilentError
        self.shutdowns_asked += 1
        if not self.stubborn:
            self.power_state = "poweredOff"

    def set_change_tracking(self, enabled: bool) -> None:  # noqa: FBT001 - the interface's
        self.change_tracking = enabled
        self._in_effect = enabled and (self._in_effect or self.power_state == "poweredOff")

    def reset_change_tracking(self) -> None:
        for disk in self._disks.values():
            disk.begin_another_epoch()

    def create_snapshot(self) -> int:
        self._made += 1
        self._in_effect = self.change_tracking
        for disk in self._disks.values():
            if self._in_effect:
                disk.change_ids[self._made] = f"{disk.epoch}/{len(disk.intervals)}"
                disk.intervals.append(set())
        self.snapshots = (*self.snapshots, self._made)
        return self._made

    def remove_snapshot(self, sequence: int) -> None:
        self.snapshots = tuple(one for one in self.snapshots if one != sequence)

    def capacity(self, disk_key: int) -> int:
        return self._disks[disk_key].capacity

    def change_id(self, disk_key: int, sequence: int | None) -> str | None:
        disk = self._disks[disk_key]
        if sequence is not None:
            return disk.change_ids.get(sequence)
        return f"{disk.epoch}/{len(disk.intervals)}" if self._in_effect else None

    def changed_areas(self, disk_key: int, since: str, sequence: int | None) -> list[tuple[int, int]]:
        disk = self._disks[disk_key]
        if since == "*":
            return [(grain * GRAIN, GRAIN) for grain in sorted(disk.allocated)]
        epoch, _, first = since.rpartition("/")
        until = disk.change_ids[sequence] if sequence is not None else f"{disk.epoch}/{len(disk.intervals)}"
        if epoch != disk.epoch or until.rpartition("/")[0] != epoch:
            raise UnknownChangeIdError
        changed = set().union(*disk.intervals[int(first) : int(until.rpartition("/")[2])])
        return [(grain * GRAIN, GRAIN) for grain in sorted(changed)]

    def export(self, disk_key: int, sequence: int) -> Export:
        raise NotImplementedError(f"the bytes of {disk_key} at {sequence} are not kept")

    def write(self, disk_key: int, offset: int, data: bytes) -> None:
        disk = self._disks[disk_key]
        grains = range(offset // GRAIN, -(-(offset + len(data)) // GRAIN))
        disk.allocated.update(grains)
        disk.intervals[-1].update(grains)

    def _need(self, state: PowerState) -> None:
        if self.power_state != state:
            raise PowerStateError


class MemoryHost:
    """See lab.esxi.interface.Host."""

    def __init__(self, machines: Sequence[MemoryMachine]) -> None:
        self.machines = tuple(machines)

    def close(self) -> None:
        """Nothing runs."""


def a_machine(name: str, *, disks: int = 1, capacity: int = 1 << 30, networks: Sequence[str] = ()) -> MemoryMachine:
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
                key=4000 + number, label=f"Network adapter {number + 1}", mac=f"00:50:56:AA:00:0{number}", network=net
            )
            for number, net in enumerate(networks)
        ),
        cpus=2,
        memory=1 << 30,
        guest=False,
    )
    return MemoryMachine(spec, capacity=capacity)
