"""The stand-in cloud for the tests of the target's client."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from xms.config import TargetConfig
from xms.models import MigrationSpec, NetworkMapping
from xms.openstack.cloud import Cloud, connect
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.orders.target import MakeVolume, TargetOrder

PROJECT = "infra"
GIB = 1 << 30


@pytest.fixture(scope="session")
def cloud_server() -> Iterator[CloudServer]:
    # Not tmp_path: QEMU's sockets in it need a short path.
    directory = Path(tempfile.mkdtemp(prefix="xms-cloud-", dir="/tmp"))
    server = CloudServer(directory)
    server.start()
    server.faults.volume_seconds = 0.1
    server.faults.server_seconds = 0.1
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def target_config(cloud_server: CloudServer, tmp_path_factory: pytest.TempPathFactory) -> TargetConfig:
    clouds = tmp_path_factory.mktemp("clouds") / "clouds.yaml"
    cloud_server.write_clouds_yaml(clouds)
    return TargetConfig(
        cloud="lab", clouds_file=clouds, poll_seconds=0.1, retry_seconds=2.0, zeroed_volume_types=("ssd",)
    )


@pytest.fixture
def cloud(target_config: TargetConfig) -> Iterator[Cloud]:
    with connect(target_config, PROJECT) as cloud:
        yield cloud


@pytest.fixture
def target() -> TargetOrder:
    """A job of this test alone."""
    return TargetOrder(job_id=f"warm-test-{uuid.uuid4().hex[:8]}", target_project=PROJECT)


def volume_order(target: TargetOrder, *, key: int = 2000, capacity: int = GIB, volume_type: str = "ssd") -> MakeVolume:
    return MakeVolume(target=target, disk_key=key, capacity=capacity, name=f"disk-{key}", volume_type=volume_type)


def a_vm(*, cpus: int = 1, memory: int = 1 << 30) -> VmDetails:
    return VmDetails(
        moref="vm-101",
        name="db-prod-01",
        power_state="poweredOn",
        cpus=cpus,
        memory=memory,
        disks=(
            VmDisk(key=2000, label="Hard disk 1", capacity=3 * GIB // 2, path="[ds] a.vmdk"),
            VmDisk(key=2001, label="Hard disk 2", capacity=GIB, path="[ds] b.vmdk"),
        ),
        nics=(
            VmNic(key=4000, label="Network adapter 1", mac="00:50:56:9A:11:02", network="VM Network"),
            VmNic(key=4001, label="Network adapter 2", mac="00:50:56:9a:11:03", network="Backup"),
        ),
    )


def a_spec(
    *mappings: tuple[str, str],
    flavor: str = "m1.small",
    volume_type: str = "ssd",
    availability_zone: str | None = None,
    vm: str = "db-prod-01",
) -> MigrationSpec:
    return MigrationSpec(
        source="prod",
        vm=vm,
        target_project=PROJECT,
        instance_name=vm,
        flavor=flavor,
        volume_type=volume_type,
        availability_zone=availability_zone,
        network_map=tuple(
            NetworkMapping(source=source, network=network)
            for source, network in (mappings or (("VM Network", "internal-net"), ("Backup", "backup-net")))
        ),
    )
