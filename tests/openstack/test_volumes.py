"""The life of a job's volumes."""

from __future__ import annotations

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, PROJECT, volume_order
from xms.errors import QuotaExceeded, Refused, TargetRejected, VolumeBusy, VolumeFailed
from xms.models import Disk
from xms.openstack import image_properties, volumes
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import Cloud
from xms.openstack.lease import Holder
from xms.orders.target import ExtendVolume, FinalizeVolumes, TargetOrder
from xms.pulse import no_pulse

HOLDER = Holder("worker-9", 2.0)


def test_a_volume_covers_its_disk_to_the_last_byte() -> None:
    assert [volumes.gibibytes(size) for size in (1, GIB - 1, GIB, GIB + 1, 5 * GIB)] == [1, 1, 1, 2, 5]


def test_a_volume_is_made_once_and_found_again(cloud: Cloud, target: TargetOrder) -> None:
    first = volumes.make(cloud, volume_order(target, capacity=GIB + 1), no_pulse)
    second = volumes.make(cloud, volume_order(target, capacity=GIB + 1), no_pulse)
    other = volumes.make(cloud, volume_order(target, key=2001), no_pulse)
    assert (first.found, first.size) == (False, 2 * GIB)
    assert (second.found, second.volume_id) == (True, first.volume_id)
    assert other.volume_id != first.volume_id


def test_a_volume_that_an_attempt_left_while_it_was_made_is_waited_for(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    cloud_server.faults.volume_seconds = 1.0
    try:
        made = cloud.volumes.create_volume(
            size=1, name="left", volume_type="ssd", metadata={"xms_job": target.job_id, "xms_disk": "2000"}
        )
        found = volumes.make(cloud, volume_order(target), no_pulse)
    finally:
        cloud_server.faults.volume_seconds = 0.1
    assert found.volume_id == made.id
    assert cloud.volumes.get_volume(made.id).status == "available"


def test_a_volume_whose_making_failed_tells_cinders_reason_and_is_replaced(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    cloud_server.faults.next_volume_error = "schedule allocate volume:Could not find any available weighted backend."
    with pytest.raises(VolumeFailed, match="weighted backend"):
        volumes.make(cloud, volume_order(target), no_pulse)
    made = volumes.make(cloud, volume_order(target), no_pulse)
    assert not made.found
    mine = [v for v in cloud.volumes.volumes() if (v.metadata or {}).get("xms_job") == target.job_id]
    assert [volume.id for volume in mine] == [made.volume_id]


def test_a_volume_beyond_the_quota_is_refused_as_such(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    before = cloud_server.cloud.project_named(PROJECT).quota.gigabytes
    cloud_server.set_quota(PROJECT, gigabytes=0)
    try:
        with pytest.raises(QuotaExceeded) as error:
            volumes.make(cloud, volume_order(target), no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, gigabytes=before)
    assert "gigabytes quota" in error.value.because
    assert "request req-" in error.value.because


def test_a_volume_grows_with_its_disk_and_never_shrinks(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    order = ExtendVolume(target=target, volume_id=made.volume_id, capacity=GIB + 1)
    assert volumes.extend(cloud, order, HOLDER, no_pulse).size == 2 * GIB
    assert volumes.extend(cloud, order, HOLDER, no_pulse).size == 2 * GIB
    smaller = order.model_copy(update={"capacity": 1})
    assert volumes.extend(cloud, smaller, HOLDER, no_pulse).size == 2 * GIB
    assert cloud_server.volume_file(made.volume_id).stat().st_size == 2 * GIB


def test_only_volumes_of_the_job_are_deleted(cloud: Cloud, target: TargetOrder) -> None:
    foreign = cloud.volumes.create_volume(size=1, name="somebody's", volume_type="ssd")
    mine = volumes.make(cloud, volume_order(target), no_pulse)
    with pytest.raises(Refused, match="is not touched"):
        volumes.delete(cloud, [str(foreign.id), mine.volume_id], job_id=target.job_id, holder=HOLDER, pulse=no_pulse)
    assert cloud.volumes.get_volume(foreign.id).status != "deleting"
    volumes.delete(cloud, [mine.volume_id], job_id=target.job_id, holder=HOLDER, pulse=no_pulse)
    assert cloud.volumes.find_volume(mine.volume_id, ignore_missing=True) is None
    volumes.delete(cloud, [mine.volume_id], job_id=target.job_id, holder=HOLDER, pulse=no_pulse)


def test_releasing_takes_away_what_a_dead_worker_left(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    cloud.volumes.set_volume_metadata(made.volume_id, xms_lease="worker-1/dead/7")
    cloud.volumes.create_attachment(made.volume_id, connector={"host": "worker-1", "ip": "127.0.0.1"}, mode="rw")
    volumes.release(cloud, [made.volume_id], job_id=target.job_id, holder=HOLDER, pulse=no_pulse)
    volume = cloud.volumes.get_volume(made.volume_id)
    assert volume.status == "available"
    assert volume.metadata["xms_lease"].endswith("/released")


def test_releasing_does_not_rob_a_worker_that_lives(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    with claim_volume(
        cloud, made.volume_id, job_id=target.job_id, worker="worker-1", lease_seconds=2.0, pulse=no_pulse
    ) as claim:

        def live(detail: object = None) -> None:
            del detail
            claim.renew()

        with pytest.raises(VolumeBusy):
            volumes.release(cloud, [made.volume_id], job_id=target.job_id, holder=HOLDER, pulse=live)
        claim.check()


def finalizing(target: TargetOrder, volume_id: str, **told: str) -> FinalizeVolumes:
    disk = Disk(key=2000, label="Hard disk 1", capacity=GIB, volume_id=volume_id)
    return FinalizeVolumes(target=target, disks=(disk,), root_disk_key=2000).model_copy(update=told)


def test_the_root_volume_is_bootable_and_describes_the_guest(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    order = finalizing(target, made.volume_id, block_bus="scsi", firmware="uefi", os_type="linux")
    image_properties.finalize(cloud, order)
    image_properties.finalize(cloud, order)
    volume = cloud.volumes.get_volume(made.volume_id)
    assert volume.is_bootable
    described = dict(volume.volume_image_metadata)
    assert {
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "hw_vif_model": "virtio",
        "hw_machine_type": "q35",
        "hw_firmware_type": "uefi",
        "os_type": "linux",
    }.items() <= described.items()


def test_a_property_that_nova_would_refuse_at_boot_is_refused_before(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    with pytest.raises(TargetRejected, match="disk bus 'foo'"):
        image_properties.finalize(cloud, finalizing(target, made.volume_id, block_bus="foo"))
    assert not cloud.volumes.get_volume(made.volume_id).is_bootable
