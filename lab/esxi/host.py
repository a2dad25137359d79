"""The stand-in ESXi host: a set of machines, each with a QEMU of its own."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lab.esxi.interface import MachineSpec
from lab.esxi.machine import LabMachine


class HostDirectoryInUseError(Exception):
    """Another host runs in the directory."""


class LabHost:
    """Implements lab.esxi.interface.Host. All machines start powered off; `power_on` of each starts its guest.

    Nothing of it outlives the process, not even after SIGKILL. Snapshots and change ids last as long as the host.

    Args:
        directory: made if missing; `<directory>/<vm>/console.log` is a guest's console.
        specs: the machines; their disks' files exist, and nobody else writes them.
        accelerator: "tcg" or "kvm".

    Raises:
        HostDirectoryInUseError: another host runs in `directory`.
        QemuEndedError: a machine's QEMU did not come up.
    """

    def __init__(self, directory: Path, specs: Sequence[MachineSpec], *, accelerator: str = "tcg") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "host.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise HostDirectoryInUseError(f"another host runs in {directory}") from error
        # One thread that lives until `close`: QEMU ends when the thread that started it does (see QemuProcess).
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="esxi-spawner")
        self._machines: list[LabMachine] = []
        try:
            for spec in specs:
                machine = LabMachine(spec, directory / spec.name, accelerator=accelerator, spawner=self._spawner)
                self._machines.append(machine)
        except BaseException:
            self.close()
            raise

    @property
    def machines(self) -> tuple[LabMachine, ...]:
        """Every VM of it."""
        return tuple(self._machines)

    def close(self) -> None:
        """End every machine's process, as a loss of power would. Calling it again does nothing."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.close)
            stack.callback(self._spawner.shutdown)
            while self._machines:
                stack.callback(self._machines.pop().close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
