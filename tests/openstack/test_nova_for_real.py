"""Nova's side of attach = "nova" on a real OpenStack, as a plain member. The instance is not this machine, and off."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openstack.conftest import GIB
from xms.config import TargetConfig
from xms.errors import VolumeBusy, VolumeFailed
from xms.openstack import attach_by_nova, attachments, claim, volumes
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.attach_by_nova import AttachByNova
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Lease, MetadataLease
from xms.orders.target import MakeVolume, TargetOrder
from xms.pulse import no_pulse

CLOUDS = os.environ.get("XMS_OPENSTACK_CLOUDS", "")
LEASE = 4.0

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.skipif(not CLOUDS, reason="XMS_OPENSTACK_CLOUDS is not set: NOT tested on a real OpenStack"),
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with connect(TargetConfig(cloud="lab", clouds_file=Path(CLOUDS), poll_seconds=0.5)) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def job() -> TargetOrder:
    return TargetOrder(job_id=f"warm-attach-{uuid.uuid4().hex[:8]}", target_project="migration")


@pytest.fixture(scope="module")
def volume_type(cloud: Cloud) -> str:
    """RBD, or files where the cloud was brought up without Ceph."""
    known = [str(kind.name) for kind in cloud.volumes.types()]
    return next(name for name in ("rbd", "nfs") if name in known)


@pytest.fixture(scope="module")
def volume_id(cloud: Cloud, job: TargetOrder, volume_type: str) -> Iterator[str]:
    order = MakeVolume(target=job, disk_key=2000, capacity=GIB, name="attach-nova-test", volume_type=volume_type)
    made = volumes.make(cloud, order, no_pulse).volume_id
    yield made
    cloud.volumes.delete_volume(made)


@pytest.fixture(scope="module")
def instance(cloud: Cloud, volume_type: str) -> Iterator[str]:
    """An instance that is off: there is no guest in it that could let go of a disk."""
    root = cloud.volumes.create_volume(size=1, volume_type=volume_type, name="attach-nova-root")
    cloud.volumes.wait_for_status(root, "available", interval=0.5, wait=60)
    cloud.volumes.set_volume_bootable_status(root, bootable=True)
    disk = {"uuid": root.id, "source_type": "volume", "destination_type": "volume", "boot_index": 0}
    flavor = cloud.compute.find_flavor("m1.nano", ignore_missing=False)
    server = cloud.compute.create_server(
        name="attach-nova-worker", flavor_id=flavor.id, networks="none", block_device_mapping_v2=[disk]
    )
    server = cloud.compute.wait_for_server(server, wait=120)
    cloud.compute.stop_server(server)
    cloud.compute.wait_for_server(server, "SHUTOFF", wait=120)
    yield str(server.id)
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=120)
    cloud.volumes.delete_volume(root)


def test_a_volume_is_taken_over_from_a_dead_workers_instance(
    cloud: Cloud, job: TargetOrder, volume_id: str, instance: str, tmp_path: Path
) -> None:
    Lease(MetadataLease(cloud, volume_id), volume=volume_id, worker="dead", seconds=LEASE).claim(no_pulse)
    cloud.volumes.set_volume_metadata(volume_id, **{attachments.worker_key(instance): "dead"})
    cloud.compute.create_volume_attachment(instance, volume_id=volume_id)
    with claim_volume(
        cloud,
        volume_id,
        job_id=job.job_id,
        worker="next",
        lease_seconds=LEASE,
        pulse=no_pulse,
        way=AttachByCinder(data_dir=tmp_path),
    ) as taken:
        assert taken.size == GIB
        assert not [each for each in cloud.compute.volume_attachments(instance) if each.volume_id == volume_id]
    cloud.volumes.delete_volume_metadata(volume_id, [attachments.worker_key(instance)])


def test_an_instance_that_is_no_worker_is_not_robbed(
    cloud: Cloud, job: TargetOrder, volume_id: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "INSTANCE_LEAVES_SECONDS", 2.0)
    cloud.compute.create_volume_attachment(instance, volume_id=volume_id)
    with (
        pytest.raises(VolumeBusy, match=instance),
        claim_volume(cloud, volume_id, job_id=job.job_id, worker="next", lease_seconds=LEASE, pulse=no_pulse),
    ):
        pytest.fail("it got in")
    cloud.compute.delete_volume_attachment(instance, volume_id)
    attachments.wait_available(cloud, volume_id, pulse=no_pulse)


def test_nova_and_cinder_agree_and_a_device_that_does_not_come_is_given_back(
    cloud: Cloud,
    job: TargetOrder,
    volume_id: str,
    instance: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attach_by_nova, "APPEAR_SECONDS", 15.0)
    way = AttachByNova(instance=instance, devices=tmp_path)
    with (
        pytest.raises(VolumeFailed) as failed,
        claim_volume(cloud, volume_id, job_id=job.job_id, worker="w", lease_seconds=LEASE, pulse=no_pulse, way=way),
    ):
        pytest.fail("there is no device")
    assert "has 0 devices of it" in failed.value.because
    volume = cloud.volumes.get_volume(volume_id)
    assert (volume.status, volume.attachments) == ("available", [])
