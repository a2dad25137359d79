"""Stand-in vCenters over the machines of a test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lab.esxi.memory import MemoryHost, MemoryMachine, a_machine
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from tests.vsphere.conftest import ADDRESS, USER, AVcenter
from xms.config import SourceConfig

THOUSAND: Final = 1000


def a_thousand() -> list[MemoryMachine]:
    return [a_machine(f"vm-{number:04}", disks=4, networks=("LAN", "Backup")) for number in range(THOUSAND)]


@contextmanager
def a_vcenter(directory: Path, *machines: MemoryMachine) -> Iterator[AVcenter]:
    thumbprint = make(directory / "many.pem", ["vcenter.lab"])
    password_file = directory / "password-of-many"
    password_file.write_text("secret\n")
    password_file.chmod(0o600)
    server = VcenterServer(
        MemoryHost(machines), address="127.0.0.1", port=0, certificate=directory / "many.pem", users={USER: "secret"}
    )
    server.start()
    config = SourceConfig(
        host=ADDRESS, port=server.port, username=USER, password_file=password_file, thumbprint=thumbprint
    )
    try:
        yield AVcenter(server=server, config=config, machines=machines, directory=directory)
    finally:
        server.stop()


def changed(machine: MemoryMachine, **spec: Any) -> MemoryMachine:  # noqa: ANN401 - fields of MachineSpec
    return MemoryMachine(replace(machine.spec, **spec), capacity=1 << 30)


def with_disk(machine: MemoryMachine, **disk: Any) -> MemoryMachine:  # noqa: ANN401 - fields of DiskSpec
    return changed(machine, disks=tuple(replace(one, **disk) for one in machine.spec.disks))
