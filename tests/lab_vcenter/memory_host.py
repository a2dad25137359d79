"""An ESXi host in memory: disks are bytearrays, change tracking is a number a grain."""

from __future__ import annotations

import threading
import uuid
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


@dataclass
class Epoch:
    """Change tracking of one disk since it took effect; a write is tagged with the point that comes after it."""

    name: str = field(default_factory=lambda: str(uuid.uuid4()))
    point: int = 1
    written_at: dict[int, int] = field(default_factory=dict)

    @property
    def change_id(self) -> str:
        return f"{self.name}/{self.point}"


@dataclass
class MemoryDisk:
    data: bytearray
    allocated: set[int] = field(default_factory=set)
    epoch: Epoch | None = None


@dataclass
class FrozenDisk:
    data: bytes
    allocated: frozenset[int]
    epoch: str | None
    point: int
    written_at: dict[int, int]


class MemoryMachine:
    """Implements lab.esxi.interface.Machine."""

    def __init__(self, spec: MachineSpec, capacity: int) -> None:
        self.spec = spec
        self.annotation = ""
        self.tools = False
        self.configured = False
        self.power: PowerState = "poweredOff"
        self.disks = {disk.key: MemoryDisk(bytearray(capacity)) for disk in spec.disks}
        self.frozen: dict[int, dict[int, FrozenDisk]] = {}
        self.last_sequence = 0
        self.may_finish_snapshot: threading.Event | None = None

    @property
    def power_state(self) -> PowerState:
        return self.power

    @property
    def tools_running(self) -> bool:
        return self.tools and self.power == "poweredOn"

    @property
    def change_tracking(self) -> bool:
        return self.configured

    @property
    def snapshots(self) -> tuple[int, ...]:
        return tuple(sorted(self.frozen))

    def power_on(self) -> None:
        if self.power == "poweredOn":
            raise PowerStateError
        self.power = "poweredOn"

    def power_off(self) -> None:
        if self.power == "poweredOff":
            raise PowerStateError
        self.power = "poweredOff"

    def shutdown_guest(self) -> None:
        if self.power == "poweredOff":
            raise PowerStateError
        if not self.tools:
            raise GuestSilentError
        self.power = "poweredOff"

    def set_change_tracking(self, enabled: bool) -> None:  # noqa: FBT001 - the interface's
        self.configured = enabled
        if not enabled:
            for disk in self.disks.values():
                disk.epoch = None
        elif self.power == "poweredOff":
            self._take_effect()

    def reset_change_tracking(self) -> None:
        for disk in self.disks.values():
            disk.epoch = Epoch()

    def _take_effect(self) -> None:
        for disk in self.disks.values():
            disk.epoch = disk.epoch or Epoch()

    def create_snapshot(self) -> int:
        if self.configured:
            self._take_effect()
        self.last_sequence += 1
        self.frozen[self.last_sequence] = {key: self._freeze(disk) for key, disk in self.disks.items()}
        if self.may_finish_snapshot is not None and not self.may_finish_snapshot.wait(10):
            raise TimeoutError
        return self.last_sequence

    def _freeze(self, disk: MemoryDisk) -> FrozenDisk:
        epoch = disk.epoch
        frozen = FrozenDisk(
            data=bytes(disk.data),
            allocated=frozenset(disk.allocated),
            epoch=epoch.name if epoch else None,
            point=epoch.point if epoch else 0,
            written_at=dict(epoch.written_at) if epoch else {},
        )
        if epoch:
            epoch.point += 1
        return frozen

    def remove_snapshot(self, sequence: int) -> None:
        del self.frozen[sequence]

    def capacity(self, disk_key: int) -> int:
        return len(self.disks[disk_key].data)

    def change_id(self, disk_key: int, sequence: int | None) -> str | None:
        if sequence is None:
            epoch = self.disks[disk_key].epoch
            return epoch.change_id if epoch else None
        frozen = self.frozen[sequence][disk_key]
        return f"{frozen.epoch}/{frozen.point}" if frozen.epoch else None

    def changed_areas(self, disk_key: int, since: str, sequence: int | None) -> list[tuple[int, int]]:
        state = self.frozen[sequence][disk_key] if sequence is not None else self._freeze(self.disks[disk_key])
        if since == "*":
            return _areas(state.allocated, len(state.data))
        name, _, point = since.partition("/")
        if name != state.epoch or not point.isdecimal() or int(point) > state.point:
            raise UnknownChangeIdError
        return _areas({grain for grain, tag in state.written_at.items() if tag > int(point)}, len(state.data))

    def export(self, disk_key: int, sequence: int) -> Export:
        return Export(Path(f"/run/{self.spec.name}.sock"), f"disk-{disk_key}-{sequence}")

    def write(self, disk_key: int, offset: int, data: bytes) -> None:
        disk = self.disks[disk_key]
        disk.data[offset : offset + len(data)] = data
        grains = range(offset // GRAIN, (offset + len(data) - 1) // GRAIN + 1)
        disk.allocated.update(grains)
        if disk.epoch:
            disk.epoch.written_at.update(dict.fromkeys(grains, disk.epoch.point))


def _areas(grains: set[int] | frozenset[int], size: int) -> list[tuple[int, int]]:
    """Neighbouring grains as one area, cut at the end of the disk."""
    areas: list[tuple[int, int]] = []
    for grain in sorted(grains):
        start, length = grain * GRAIN, min(GRAIN, size - grain * GRAIN)
        if areas and sum(areas[-1]) == start:
            areas[-1] = (areas[-1][0], areas[-1][1] + length)
        else:
            areas.append((start, length))
    return areas


class MemoryHost:
    """Implements lab.esxi.interface.Host."""

    def __init__(self, machines: tuple[MemoryMachine, ...]) -> None:
        self.machines = machines

    def close(self) -> None:
        """Nothing runs."""


def a_machine(name: str, *, disks: int = 1, nics: int = 1, capacity: int = 1 << 20) -> MemoryMachine:
    return MemoryMachine(
        MachineSpec(
            name=name,
            disks=tuple(
                DiskSpec(
                    key=2000 + number,
                    label=f"Hard disk {number + 1}",
                    file=Path("/nowhere"),
                    datastore_path=f"[ds1] {name}/{name}{'' if number == 0 else f'_{number}'}.vmdk",
                )
                for number in range(disks)
            ),
            nics=tuple(
                NicSpec(
                    key=4000 + number,
                    label=f"Network adapter {number + 1}",
                    mac=f"00:50:56:9a:11:{number:02x}",
                    network="VM Network" if number == 0 else "Backup",
                )
                for number in range(nics)
            ),
        ),
        capacity,
    )
