"""Exports that live for all examples: their files are written anew between two connections."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.rig import Served
from tests.histories.job import Exported

DISKS = 2


@dataclass(frozen=True)
class Workshop:
    """Where volumes are made, and exports for the disks."""

    directory: Path
    exports: tuple[Exported, ...]


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    memory = "/dev/shm"  # noqa: S108 - the directory made in it is private
    directory = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None, prefix="histories-"))
    served = []
    exports = []
    for number in range(DISKS):
        file = directory / f"disk-{number}"
        file.touch()
        served.append(Served(directory / f"{number}.sock", ("file", file)))
        exports.append(Exported(served[-1].uri, file))
    yield Workshop(directory, tuple(exports))
    for server in served:
        server.kill()
    shutil.rmtree(directory)
