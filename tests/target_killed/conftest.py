"""A stand-in cloud of each module's own, so that what it holds is the module's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from lab.cloud.server import CloudServer
from tests.target_killed.stage import Run, Stage, make_stage


@pytest.fixture(scope="module")
def attach() -> Literal["cinder", "nova"]:
    """How workers get at volumes; a module may have another one."""
    return "cinder"


@pytest.fixture(scope="module")
def stage(attach: Literal["cinder", "nova"]) -> Iterator[Stage]:
    # Not tmp_path: QEMU's sockets in it need a short path.
    directory = Path(tempfile.mkdtemp(prefix="xms-killed-", dir="/tmp"))
    server = CloudServer(directory)
    server.start()
    yield make_stage(server, directory, attach)
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def untouched(stage: Stage) -> Run:
    """A job that nothing happens to: what is to be compared with, and the calls that there are."""
    run = stage.play("untouched")
    assert not run.trouble
    assert not run.errors
    return run
