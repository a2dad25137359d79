"""Exports for the engine's tests; they end with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.rig import Serve, Served


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start nbdkit on a private socket: serve("file", path), serve("--filter=delay", "file", path, "rdelay=1")."""
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="engine-"))
    started: list[Served] = []

    def start(*words: str | Path) -> Served:
        started.append(Served(directory / f"{len(started)}.sock", words))
        return started[-1]

    yield start
    for served in started:
        served.kill()
    shutil.rmtree(directory)
