"""A stand-in cloud of these tests' own, so that what it holds is theirs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT
from tests.target_killed.stage import Stage
from xms.config import TargetConfig


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # Not tmp_path: QEMU's sockets in it need a short path.
    directory = Path(tempfile.mkdtemp(prefix="xms-killed-", dir="/tmp"))
    server = CloudServer(directory)
    server.start()
    server.set_quota(PROJECT, instances=-1, cores=-1, ram=-1)
    server.faults.volume_seconds = 0.02
    server.faults.server_seconds = 0.02
    clouds = tmp_path_factory.mktemp("clouds") / "clouds.yaml"
    server.write_clouds_yaml(clouds)
    yield Stage(server, TargetConfig(cloud="lab", clouds_file=clouds, poll_seconds=0.03))
    server.stop()
    shutil.rmtree(directory)
