"""A host with one machine of two disks and no guest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbd
import pytest

from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, Export, MachineSpec
from lab.esxi.machine import LabMachine

MEBIBYTE = 1 << 20
SIZE = 64 * MEBIBYTE
ROOT, DATA = 2000, 2001

Read = Callable[[Export, int, int], bytes]


def machine_spec(directory: Path, name: str = "db-prod-01", *, plays_tools: bool = True) -> MachineSpec:
    disks = []
    for key, label in ((ROOT, "root"), (DATA, "data")):
        file = directory / f"{name}-{label}.raw"
        with file.open("wb") as empty:
            empty.truncate(SIZE)
        disks.append(DiskSpec(key, f"Hard disk {key - 1999}", file, f"[ds1] {name}/{label}.vmdk"))
    return MachineSpec(name, tuple(disks), guest=False, plays_tools=plays_tools)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LabHost]:
    with LabHost(tmp_path / "host", [machine_spec(tmp_path)]) as host:
        yield host


@pytest.fixture
def machine(host: LabHost) -> LabMachine:
    """Runs, and its changes are tracked."""
    machine = host.machines[0]
    machine.set_change_tracking(True)
    machine.power_on()
    return machine


@pytest.fixture
def read() -> Iterator[Read]:
    handles: dict[Export, nbd.NBD] = {}

    def read(export: Export, offset: int, length: int) -> bytes:
        if export not in handles:
            handles[export] = handle = nbd.NBD()
            handle.set_export_name(export.name)
            handle.connect_unix(str(export.socket))
        return bytes(handles[export].pread(length, offset))

    yield read
    handles.clear()
