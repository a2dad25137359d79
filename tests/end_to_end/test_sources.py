"""A worker process and its sources: taken up while it runs, checked from where the disks are read, left politely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.temporal_server import TemporalServer
from tests.cli.conftest import ROOT, Terminal
from tests.vsphere.conftest import USER, AVcenter, a_vcenter

pytestmark = pytest.mark.slow


@pytest.fixture
def vcenter(tmp_path: Path) -> Iterator[AVcenter]:
    (tmp_path / "vcenter").mkdir()
    with a_vcenter(tmp_path / "vcenter", host_name="localhost") as running:
        yield running


def a_worker(directory: Path, address: str) -> subprocess.Popen[bytes]:
    config = directory / "config.toml"
    config.write_text(f'[worker]\nname = "w"\ndata_dir = "{directory / "data"}"\n[target]\ncloud = "lab"\n')
    log = directory / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "--config", str(config)],
            cwd=ROOT,
            env=os.environ | {"TEMPORAL_ADDRESS": address},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 60
    while b"worker is ready" not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return process


def test_a_source_is_created_checked_and_removed_while_the_worker_runs_and_is_logged_out_of_at_its_end(
    tmp_path: Path, vcenter: AVcenter
) -> None:
    temporal = TemporalServer(tmp_path / "temporal")
    temporal.start()
    worker = None
    try:
        worker = a_worker(tmp_path, temporal.address)
        terminal = Terminal(temporal.address, tmp_path)
        terminal.environment["XMS_CONFIG"] = str(tmp_path / "config.toml")
        assert terminal.xms("source", "list", "-o", "json").json["sources"] == []

        endpoint = ("--host", "127.1", "--port", str(vcenter.config.port), "--username", USER)
        trust = ("--thumbprint", str(vcenter.config.thumbprint), "--password-env", "VC")
        created = terminal.xms("source", "create", "lab", *endpoint, *trust, VC="secret")
        assert created.code == 0, created.err
        file = tmp_path / "sources.d" / "lab.toml"
        file.write_text(file.read_text() + f"nfc_port = {vcenter.config.port}\n")
        checked = terminal.xms("source", "check", "lab")
        assert checked.code == 0, checked.out + checked.err
        assert "all that migrations need" in checked.out
        assert "1 of 1 reached by worker w" in checked.out

        file.write_text(file.read_text().replace(f"nfc_port = {vcenter.config.port}", "nfc_port = 1"))
        vcenter.server.faults.withheld_privileges = {"VirtualMachine.Config.DiskLease"}
        checked = terminal.xms("source", "check", "lab")
        assert checked.code == 5
        assert "VirtualMachine.Config.DiskLease  lab-dc" in checked.out
        assert "port 1: Connection refused" in checked.out

        assert terminal.xms("source", "remove", "lab", "--yes").code == 0
        assert terminal.xms("source", "check", "lab").code == 2
        assert vcenter.server.sessions >= 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert vcenter.server.sessions == 0
        assert b"secret" not in (tmp_path / "worker.log").read_bytes()
    finally:
        if worker is not None and worker.poll() is None:
            worker.kill()
            worker.wait()
        temporal.stop()
