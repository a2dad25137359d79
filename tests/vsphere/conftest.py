"""A stand-in vCenter over a host in memory, and sessions with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.esxi.memory import MemoryHost, MemoryMachine, a_machine
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from xms.config import SourceConfig
from xms.models import Model
from xms.orders.source import VmOrder
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.sessions import Sessions

ADDRESS = "127.1"
"""Loopback by a name that no client treats as one."""

USER = "administrator@vsphere.local"


@dataclass
class AVcenter:
    """The server with what is needed to reach it, and the machines behind it."""

    server: VcenterServer
    config: SourceConfig
    machines: tuple[MemoryMachine, ...]
    directory: Path
    _log_ins: list[str] | None = None

    @property
    def log_ins(self) -> list[str]:
        """The passwords that it was sent; it has to be asked for them before."""
        if self._log_ins is None:
            self._log_ins = sent = []
            log_in = self.server._center.sessions.log_in

            def noted(user: str, password: str, **more: str) -> object:
                sent.append(password)
                return log_in(user, password, **more)

            self.server._center.sessions.log_in = noted  # type: ignore[assignment, method-assign]
        return self._log_ins

    @property
    def web(self) -> MemoryMachine:
        return self.machines[0]

    @property
    def order(self) -> VmOrder:
        return VmOrder(job_id="warm-lab-web", source="lab", moref="vm-101", vm="web")


@dataclass
class CountingPulse:
    """A pulse that counts, and stops the work at its nth beat."""

    stop_at: int | None = None
    stop_with: type[Exception] = RuntimeError
    beats: int = field(default=0)

    def __call__(self, detail: Model | None = None) -> None:
        del detail
        self.beats += 1
        if self.stop_at is not None and self.beats >= self.stop_at:
            raise self.stop_with("told to stop")


@pytest.fixture
def pulse() -> CountingPulse:
    return CountingPulse()


@contextmanager
def a_vcenter(directory: Path, *, names: Sequence[str] = ("vcenter.lab",), **options: Any) -> Iterator[AVcenter]:  # noqa: ANN401 - the server's options
    machines = (
        a_machine("web", disks=2, networks=("VM Network", "Backup")),
        a_machine("db/prod"),
        a_machine("twin"),
        a_machine("twin"),
    )
    machines[0].power_on()
    machines[3].move_storage("ds2")
    thumbprint = make(directory / "vcenter.pem", names)
    password_file = directory / "password"
    password_file.write_text("secret\n")
    password_file.chmod(0o600)
    server = VcenterServer(
        MemoryHost(machines),
        address="127.0.0.1",
        port=0,
        certificate=directory / "vcenter.pem",
        users={USER: "secret"},
        **options,
    )
    server.start()
    config = SourceConfig(
        host=ADDRESS,
        port=server.port,
        username=USER,
        password_file=password_file,
        thumbprint=thumbprint,
        timeout_seconds=20,
    )
    try:
        yield AVcenter(server=server, config=config, machines=machines, directory=directory)
    finally:
        server.stop()


@pytest.fixture
def vcenter(tmp_path: Path) -> Iterator[AVcenter]:
    with a_vcenter(tmp_path) as running:
        yield running


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with closing(Sessions()) as opened:
        yield opened


@pytest.fixture
def session(vcenter: AVcenter) -> Iterator[VsphereSession]:
    with connect("lab", vcenter.config) as opened:
        yield opened
