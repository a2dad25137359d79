"""A worker that cannot work says why, in words, and ends; it never shows a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lab.programs import free_port
from lab.temporal_server import TemporalServer

REPOSITORY = Path(__file__).parents[1]


def a_config(directory: Path, text: str = "") -> Path:
    path = directory / "config.toml"
    path.write_text(f'[worker]\nname = "w"\ndata_dir = "{directory / "data"}"\n{text}\n[target]\ncloud = "lab"\n')
    return path


def worker(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", *words],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_configuration_it_says_where_it_looked() -> None:
    ended = worker(XMS_CONFIG="/nowhere/config.toml")
    assert ended.returncode == 2
    assert "the worker has no configuration" in ended.stderr
    assert "/nowhere/config.toml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_key_of_the_configuration_is_named(tmp_path: Path) -> None:
    ended = worker("--config", str(a_config(tmp_path, "stream = 3")))
    assert ended.returncode == 2
    assert "worker.stream" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    ended = worker("--config", str(a_config(tmp_path)), PATH=str(empty))
    assert ended.returncode == 2
    assert "nbdkit" in ended.stderr
    assert "--role control" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unknown_role_is_refused_with_the_allowed_ones(tmp_path: Path) -> None:
    ended = worker("--config", str(a_config(tmp_path)), "--role", "both")
    assert ended.returncode == 2
    assert "all, control, data" in ended.stderr


def test_without_temporal_it_says_where_it_asked(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    ended = worker("--config", str(a_config(tmp_path)), TEMPORAL_ADDRESS=address)
    assert ended.returncode == 1
    assert address in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def temporal(tmp_path: Path) -> TemporalServer:
    return TemporalServer(tmp_path / "temporal")


def test_a_worker_registers_the_search_attributes_serves_metrics_and_ends_on_sigterm(
    tmp_path: Path, temporal: TemporalServer
) -> None:
    port = free_port()
    config = a_config(tmp_path, f'metrics = "127.0.0.1:{port}"')
    temporal.start()
    log = tmp_path / "worker.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "--config", str(config)],
                cwd=REPOSITORY,
                env=os.environ | {"TEMPORAL_ADDRESS": temporal.address},
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 30
        while b"worker is ready" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"temporal_" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert b"Traceback" not in log.read_bytes()
    finally:
        temporal.stop()
