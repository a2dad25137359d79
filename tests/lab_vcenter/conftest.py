"""A stand-in vCenter over two machines in memory, and a logged-in client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.esxi.memory import MemoryHost, MemoryMachine, a_machine
from lab.vcenter import certificate
from lab.vcenter.server import VcenterServer
from tests.lab_vcenter.client import USERS, Remote, connected, vm_named


@dataclass
class Lab:
    server: VcenterServer
    certificate: Path
    thumbprint: str
    web: MemoryMachine
    database: MemoryMachine


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    web = a_machine("web01", capacity=1 << 20, networks=["VM Network"], plays_tools=False)
    database = a_machine("db01", disks=2, capacity=1 << 20, networks=["VM Network", "Backup"], plays_tools=False)
    pem = tmp_path / "vcenter.pem"
    thumbprint = certificate.make(pem, ["127.0.0.1", "localhost"])
    server = VcenterServer(MemoryHost((web, database)), address="127.0.0.1", port=0, certificate=pem, users=USERS)
    server.start()
    try:
        yield Lab(server, pem, thumbprint, web, database)
    finally:
        server.stop()


@pytest.fixture
def service(lab: Lab) -> Iterator[Remote]:
    with connected(lab.server.port, lab.certificate) as client:
        yield client


@pytest.fixture
def web(service: Remote) -> Remote:
    return vm_named(service, "web01")


@pytest.fixture
def database(service: Remote) -> Remote:
    return vm_named(service, "db01")
