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
from xms.models import Disk, MigrationSpec, NetworkMapping, Nic
from xms.openstack import image_properties, ports, servers, volumes
from xms.openstack.cloud import Cloud, connect
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.orders.target import BootServer, FinalizeVolumes, MakePorts, MakeVolume, ServerOrder, TargetOrder
from xms.pulse import no_pulse

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


GREETING = b"the guest of the test runs\r\n"


def boot_sector() -> bytes:
    """16-bit code that writes the greeting to the first serial port, byte by byte, and halts."""
    code = bytes.fromhex("31c0 8ed8 be157c ac 84c0 7406 baf803 ee ebf5 f4 ebfd") + GREETING + b"\0"
    return code.ljust(510, b"\0") + b"\x55\xaa"


def two_nics() -> tuple[Nic, ...]:
    digits = uuid.uuid4().hex
    return tuple(
        Nic(
            key=4000 + place,
            label=f"Network adapter {place + 1}",
            mac=f"00:50:56:{digits[:2]}:{digits[2:4]}:{place:02x}",
            source_network="VM Network",
            network=network,
        )
        for place, network in enumerate(("internal-net", "backup-net"))
    )


@pytest.fixture
def booting(cloud: Cloud, cloud_server: CloudServer, target: TargetOrder) -> Iterator[BootServer]:
    """Everything that a boot needs: two volumes, the second of them bootable, and two ports."""
    disks = tuple(
        Disk(
            key=key,
            label=f"Hard disk {key - 1999}",
            capacity=GIB,
            volume_id=volumes.make(cloud, volume_order(target, key=key), no_pulse).volume_id,
        )
        for key in (2000, 2001)
    )
    with cloud_server.volume_file(str(disks[1].volume_id)).open("r+b") as file:
        file.write(boot_sector())
    image_properties.finalize(cloud, FinalizeVolumes(target=target, disks=disks, root_disk_key=2001))
    nics = ports.make(cloud, MakePorts(target=target, instance_name="tiny", nics=two_nics()), no_pulse)
    yield BootServer(
        target=target, spec=a_spec(flavor="m1.nano", vm="tiny"), disks=disks, root_disk_key=2001, nics=nics
    )
    servers.remove(cloud, ServerOrder(target=target), no_pulse)
