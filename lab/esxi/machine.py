"""One VM of the stand-in ESXi host: power, snapshots, change tracking and exports over one QEMU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

import nbd

from lab.esxi.change_tracking import ChangeId, DiskTracking
from lab.esxi.guest_console import GuestConsole
from lab.esxi.interface import (
    Export,
    GuestSilentError,
    MachineSpec,
    PowerState,
    PowerStateError,
    UnknownChangeIdError,
)
from lab.esxi.qemu import QemuProcess, live_node
from lab.esxi.qmp import Json, QmpClient, QmpClosedError
from lab.esxi.snapshots import FrozenDisk, SnapshotStore

WRITE_LIMIT: Final = 16 << 20
"""Bytes a request; QEMU takes 32 MiB."""


class LabMachine:
    """Implements lab.esxi.interface.Machine. It starts powered off, with change tracking not configured.

    Args:
        spec: the machine; its disks' files exist.
        directory: its own: console, log, fleece images.
        accelerator: "tcg" or "kvm".
        spawner: see QemuProcess.

    Raises:
        QemuEndedError: QEMU did not come up.
    """

    def __init__(self, spec: MachineSpec, directory: Path, *, accelerator: str, spawner: Executor) -> None:
        if spec.guest and spec.firmware != "bios":
            raise ValueError(f"{spec.name}: no firmware but BIOS finds a disk on pvscsi")
        directory.mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self.annotation = ""
        self._lock = threading.RLock()
        # Not `_lock`: a guest's writes go on while a snapshot is made. Taken after it where both are.
        self._writing = threading.Lock()
        self._on = False
        self._console = GuestConsole(directory / "console.log")
        self._capacities = {disk.key: disk.file.stat().st_size for disk in spec.disks}
        self._sequence = 0
        self._snapshots: dict[int, Mapping[int, FrozenDisk]] = {}
        self._tracking_configured = False
        self._writers: dict[int, nbd.NBD] = {}
        self._qemu = QemuProcess(spec, directory, accelerator=accelerator, spawner=spawner)
        with contextlib.ExitStack() as undo:
            undo.callback(self._qemu.end)
            try:
                self._qmp = QmpClient(self._qemu.control, listener=self._notice)
                undo.callback(self._qmp.close)
                live = {key: live_node(key) for key in self._capacities}
                self._store = SnapshotStore(self._qmp, directory, self._qemu.nbd_socket, live)
                self._tracking = {key: DiskTracking(self._qmp, node) for key, node in live.items()}
                if not spec.guest:
                    self._writers = {key: _connected(self._store.serve_writable(key)) for key in live}
            except QmpClosedError as error:
                raise self._qemu.complaint() from error
            undo.pop_all()

    @property
    def pid(self) -> int:
        """Process id of its QEMU."""
        return self._qemu.pid

    def close(self) -> None:
        """Pull the plug and end its QEMU. Snapshots, fleece images and change ids go with it."""
        with self._lock:
            with self._writing:
                self._on = False
                self._qemu.end()
                self._writers.clear()
            self._snapshots.clear()
            self._store.remove_files()
        self._qmp.close()

    # --- power --------------------------------------------------------------------------------------------------------

    @property
    def power_state(self) -> PowerState:
        """As it is now; follows a shutdown that the guest did by itself, and the loss of its QEMU."""
        return "poweredOn" if self._on and self._qemu.alive else "poweredOff"

    @property
    def tools_running(self) -> bool:
        """Whether the guest would answer: its writer or a login prompt was seen since the last power-on or reset."""
        if self.power_state == "poweredOff":
            return False
        return self._console.up if self.spec.guest else self.spec.plays_tools

    def power_on(self) -> None:
        """Start the guest (from reset). Raises PowerStateError when it runs."""
        with self._lock:
            self._refuse_if("poweredOn")
            if self._tracking_configured:
                self._begin_tracking()
            if self.spec.guest:
                with self._qmp.expecting("RESET"):
                    self._qmp.command("system_reset")
            # Before the guest runs: it may shut down at once, which `_notice` sees.
            self._on = True
            if self.spec.guest:
                self._qmp.command("cont")

    def power_off(self) -> None:
        """Pull the plug. Raises PowerStateError when it is off."""
        with self._lock:
            self._refuse_if("poweredOff")
            if self.spec.guest:
                self._qmp.command("stop")
            with self._writing:
                self._on = False

    def shutdown_guest(self) -> None:
        """Ask the guest to shut down and return at once. Raises PowerStateError, GuestSilentError."""
        with self._lock:
            self._refuse_if("poweredOff")
            if not self.tools_running:
                raise GuestSilentError(f"{self.spec.name}: the guest's tools do not run")
            if self.spec.guest:
                self._qmp.command("system_powerdown")
            else:
                with self._writing:
                    self._on = False

    def _refuse_if(self, state: PowerState) -> None:
        if self.power_state == state:
            raise PowerStateError(f"{self.spec.name} is {state}")

    def _notice(self, event: str, _data: Json) -> None:
        """Follow what the guest does by itself. Runs in the control connection's thread: no lock, no commands."""
        if event == "SHUTDOWN":
            self._on = False
        elif event == "RESET":
            self._console.restart()

    # --- change tracking ----------------------------------------------------------------------------------------------

    @property
    def change_tracking(self) -> bool:
        """Whether tracking is configured; it takes effect at the next snapshot of a machine that runs, else at once."""
        return self._tracking_configured

    def set_change_tracking(self, enabled: bool) -> None:  # noqa: FBT001 - the one thing that it sets
        """Configure tracking; turning it off forgets every change id."""
        with self._lock:
            self._tracking_configured = enabled
            if not enabled:
                for tracking in self._tracking.values():
                    tracking.forget()
                for sequence, disks in self._snapshots.items():
                    self._snapshots[sequence] = {
                        key: FrozenDisk(None, disk.fleece, disk.node) for key, disk in disks.items()
                    }
            elif self.power_state == "poweredOff":
                self._begin_tracking()

    def reset_change_tracking(self) -> None:
        """Begin another epoch on every disk, as a revert or a host's power loss does."""
        with self._lock:
            for tracking in self._tracking.values():
                if tracking.last is not None:
                    tracking.begin()

    def change_id(self, disk_key: int, sequence: int | None) -> str | None:
        """Change id of a disk in a snapshot, or of the live disk (None); None while tracking is not in effect.

        The live disk's is that of the youngest point, which it has left since: as a `since` it covers too much, never
        too little.
        """
        with self._lock:
            point = self._tracking[disk_key].last if sequence is None else self._frozen(disk_key, sequence).change_id
            return None if point is None else str(point)

    def changed_areas(self, disk_key: int, since: str, sequence: int | None) -> list[tuple[int, int]]:
        """(start, length) in bytes of what changed from change id `since` to the snapshot; ascending, 64 KiB grain.

        `since` "*" gives the allocated areas. None as the snapshot means the live disk (only when powered off).

        Raises:
            UnknownChangeIdError: `since` is of another epoch or younger than the snapshot, or nothing was tracked.
            PowerStateError: the live disk was asked for while the machine runs.
        """
        with self._lock:
            tracking = self._tracking[disk_key]
            if sequence is None:
                self._refuse_if("poweredOn")
                node, until = live_node(disk_key), None
                tracked = tracking.last is not None
            else:
                disk = self._frozen(disk_key, sequence)
                node, until = disk.node, disk.change_id
                tracked = until is not None
            if not tracked:
                raise UnknownChangeIdError(f"{self.spec.name}: change tracking was not in effect")
            if since == "*":
                return self._store.allocated_areas(node)
            with tracking.changes(ChangeId.parse(since), until) as bitmap:
                return self._store.dirty_areas(disk_key, bitmap)

    def _begin_tracking(self) -> None:
        for tracking in self._tracking.values():
            if tracking.last is None:
                tracking.begin()

    # --- snapshots ----------------------------------------------------------------------------------------------------

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Sequence numbers of the snapshots that exist, oldest first."""
        with self._lock:
            return tuple(sorted(self._snapshots))

    def create_snapshot(self) -> int:
        """One point in time of all disks; returns its sequence number."""
        with self._lock:
            sequence = self._sequence + 1
            points = {key: each.cut(begin=self._tracking_configured) for key, each in self._tracking.items()}
            made = self._store.create(sequence, self._capacities, points)
            for tracking in self._tracking.values():
                tracking.cut_done()
            self._snapshots[sequence] = {
                key: FrozenDisk(self._tracking[key].last, fleece, node) for key, (fleece, node) in made.items()
            }
            self._sequence = sequence
            return sequence

    def remove_snapshot(self, sequence: int) -> None:
        """Forget a snapshot and what it kept; its change id stays valid as a `since`. Raises KeyError when unknown."""
        with self._lock:
            self._store.remove(self._snapshots[sequence])
            del self._snapshots[sequence]

    def capacity(self, disk_key: int) -> int:
        """Bytes."""
        return self._capacities[disk_key]

    def export(self, disk_key: int, sequence: int) -> Export:
        """Read-only NBD export of a disk of a snapshot, with base:allocation; made at the first call."""
        with self._lock:
            return self._store.export(self._frozen(disk_key, sequence))

    def _frozen(self, disk_key: int, sequence: int) -> FrozenDisk:
        return self._snapshots[sequence][disk_key]

    # --- a machine without a guest ------------------------------------------------------------------------------------

    def write(self, disk_key: int, offset: int, data: bytes) -> None:
        """Write to the live disk of a machine without a guest, as its guest would; tracked like a guest's writes.

        Raises:
            PowerStateError: it is off: nothing writes then.
        """
        view = memoryview(data)
        for start in range(0, len(data), WRITE_LIMIT):
            with self._writing:
                self._writer(disk_key).pwrite(bytes(view[start : start + WRITE_LIMIT]), offset + start)

    def discard(self, disk_key: int, offset: int, length: int) -> None:
        """Give an area of whole sectors back, as a guest's fstrim would: it reads as zeroes and is not allocated.

        Raises:
            PowerStateError: as for `write`.
        """
        with self._writing:
            writer = self._writer(disk_key)
            # A trim alone is dropped while a snapshot exists: QEMU's copy-before-write filter does not pass it on.
            writer.zero(length, offset)
            writer.trim(length, offset)

    def _writer(self, disk_key: int) -> nbd.NBD:
        if self.spec.guest:
            raise ValueError(f"{self.spec.name} has a guest, which alone writes its disks")
        self._refuse_if("poweredOff")
        return self._writers[disk_key]


def _connected(export: Export) -> nbd.NBD:
    handle = nbd.NBD()
    handle.set_export_name(export.name)
    handle.connect_unix(str(export.socket))
    return handle
