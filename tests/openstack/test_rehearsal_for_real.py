"""A rehearsal's part of a real OpenStack, as a plain member: copies on Ceph RBD and on files, and a boot beside all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.openstack.conftest import GIB
from tests.target_killed.itinerary import boot_sector
from xms.config import TargetConfig
from xms.engine.writer import Volume
from xms.models import Disk, MigrationSpec, Nic
from xms.openstack import clones, evidence, image_properties, isolated_network, ports, quotas, servers, volumes
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.claim import Claim, claim_volume
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Holder
from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, MakeIsolatedNetwork
from xms.orders.target import BootServer, FinalizeVolumes, MakePorts, MakeVolume, SeeRunning, ServerOrder, TargetOrder
from xms.pulse import no_pulse
from xms.rehearsal import rehearsal_id

CLOUDS = os.environ.get("XMS_OPENSTACK_CLOUDS", "")
CEPH_CONF = Path(CLOUDS).parent / "etc" / "ceph" / "ceph.conf"
HOLDER = Holder("rehearsal-test", 10.0)
DATA = 24 << 20
"""Bytes of the replica that are looked at."""

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.skipif(not CLOUDS, reason="XMS_OPENSTACK_CLOUDS is not set: NOT tested on a real OpenStack"),
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with connect(TargetConfig(cloud="lab", clouds_file=Path(CLOUDS), poll_seconds=0.5)) as cloud:
        yield cloud


@pytest.fixture(scope="module", params=["rbd", "nfs"])
def volume_type(cloud: Cloud, request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name not in [known.name for known in cloud.volumes.types()]:
        pytest.skip(f"this OpenStack was brought up without the back end {name}")
    return name


@pytest.fixture(scope="module")
def job() -> TargetOrder:
    return TargetOrder(job_id=f"warm-rehearsal-{uuid.uuid4().hex[:8]}", target_project="migration")


@pytest.fixture(scope="module")
def copies(job: TargetOrder) -> TargetOrder:
    return job.model_copy(update={"job_id": rehearsal_id(job.job_id)})


@pytest.fixture
def way(tmp_path: Path) -> AttachByCinder:
    return AttachByCinder(data_dir=tmp_path, ceph_conf=CEPH_CONF)


def claimed(cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachByCinder) -> AbstractContextManager[Claim]:
    return claim_volume(
        cloud, volume_id, job_id=target.job_id, worker=HOLDER.worker, lease_seconds=10.0, pulse=no_pulse, way=way
    )


def write(cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachByCinder, content: bytes) -> None:
    with claimed(cloud, target, volume_id, way) as claim, Volume(claim.path, GIB, claim, lambda: None) as volume:
        volume.write(0, memoryview(content))
        volume.flush()


def read(cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachByCinder, length: int) -> bytes:
    with claimed(cloud, target, volume_id, way) as claim, Path(claim.path).open("rb") as file:
        return file.read(length)


@pytest.mark.timeout(900)
def test_a_copy_boots_beside_its_replica_and_neither_knows_of_the_other(
    cloud: Cloud, job: TargetOrder, copies: TargetOrder, volume_type: str, way: AttachByCinder
) -> None:
    made = volumes.make(
        cloud,
        MakeVolume(target=job, disk_key=2000, capacity=GIB, name="rehearsal-test", volume_type=volume_type),
        no_pulse,
    )
    replica = boot_sector() + os.urandom(DATA)
    write(cloud, job, made.volume_id, way, replica)
    disk = Disk(key=2000, label="Hard disk 1", capacity=GIB, volume_id=made.volume_id, volume_size=GIB)
    nic = Nic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", source_network="VM Network", mac_kept=False)
    spec = MigrationSpec(
        source="lab",
        vm="db",
        target_project=job.target_project,
        instance_name="db rehearsal",
        flavor="m1.nano",
        volume_type=volume_type,
    )
    server = ServerOrder(target=copies)
    try:
        quotas.check_rehearsal(cloud, CheckRehearsal(target=copies, spec=spec, disks=(disk,), nics=(nic,)))
        order = CloneVolumes(
            target=copies,
            of_job=job.job_id,
            disks=(disk,),
            token=uuid.uuid4().hex,
            instance_name="db rehearsal",
            timeout_seconds=120,
        )
        cloned = clones.clone(cloud, order, no_pulse)
        copy = cloned.disks[0]
        # The next sync writes to the replica: the copy has none of it.
        newer = replica[:512] + os.urandom(DATA)
        write(cloud, job, made.volume_id, way, newer)
        assert read(cloud, copies, copy.volume_id or "", way, len(replica)) == replica
        network = isolated_network.make(cloud, MakeIsolatedNetwork(target=copies, name="db rehearsal"), no_pulse)
        (on_it,) = ports.make(
            cloud,
            MakePorts(
                target=copies,
                instance_name="db rehearsal",
                nics=(nic.model_copy(update={"network": network.network_id}),),
            ),
            no_pulse,
        )
        assert on_it.port_mac != nic.mac
        image_properties.finalize(cloud, FinalizeVolumes(target=copies, disks=(copy,), root_disk_key=2000))
        boot = BootServer(target=copies, spec=spec, disks=(copy,), root_disk_key=2000, nics=(on_it,))
        server = ServerOrder(target=copies, server_id=servers.boot(cloud, boot, no_pulse))
        seen = evidence.see_running(
            cloud,
            SeeRunning(server=server, console_evidence="guest of the test runs", timeout_seconds=180),
            no_pulse,
        )
        assert seen.evidence == "console: the guest of the test runs"
        assert cloud.volumes.get_volume(made.volume_id).status == "available"
        # And the next sync, while it runs.
        assert read(cloud, job, made.volume_id, way, len(newer)) == newer
    finally:
        servers.remove(cloud, server, no_pulse)
        ports.remove(cloud, copies.job_id, no_pulse)
        isolated_network.remove(cloud, copies, no_pulse)
        clones.delete(cloud, copies, HOLDER, no_pulse)
        left = (
            servers.of_job(cloud, copies.job_id),
            ports.ports_of(cloud, copies.job_id),
            isolated_network.networks_of(cloud, copies.job_id),
            volumes.of_job(cloud, copies.job_id),
        )
        still = read(cloud, job, made.volume_id, way, len(replica))
        volumes.delete(cloud, [made.volume_id], job_id=job.job_id, holder=HOLDER, pulse=no_pulse)
    assert left == ([], [], [], [])
    assert still[:512] == replica[:512]
    assert len(still) == len(replica)
