"""The life of a job's volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.cloud.server import CloudServer
from lab.cloud.state import VolumeType, new_id
from tests.openstack.conftest import GIB, PROJECT, volume_order
from xms.errors import QuotaExceeded, Refused, TargetRejected, VolumeBusy, VolumeFailed
from xms.models import Disk, SecureBoot
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


def test_a_volume_tells_a_person_what_it_is(cloud: Cloud, target: TargetOrder) -> None:
    told = {"label": "Hard disk 1", "source": "prod", "vm": "db-prod-01", "name": "n" * 300}
    made = volumes.make(cloud, volume_order(target).model_copy(update=told), no_pulse)
    volume = cloud.volumes.get_volume(made.volume_id)
    assert volume.name == "n" * 255
    assert volume.description == f"XMS replica of Hard disk 1 of db-prod-01 on prod, job {target.job_id}"
    assert volume.metadata == {
        "xms_job": target.job_id,
        "xms_disk": "2000",
        "xms_disk_label": "Hard disk 1",
        "xms_capacity": str(GIB),
        "xms_source": "prod",
        "xms_vm": "db-prod-01",
        "xms_made_by": "XMS",
    }


@pytest.mark.parametrize(("instance", "volume", "zone"), [("az-1", None, "az-1"), ("az-7", None, "nova")])
def test_a_volume_is_in_the_instances_zone_where_cinder_has_it(
    cloud: Cloud, target: TargetOrder, instance: str, volume: str | None, zone: str
) -> None:
    wanted = {"availability_zone": instance, "volume_availability_zone": volume}
    made = volumes.make(cloud, volume_order(target).model_copy(update=wanted), no_pulse)
    assert cloud.volumes.get_volume(made.volume_id).availability_zone == zone


def test_a_volumes_own_zone_goes_before_the_instances(cloud: Cloud, target: TargetOrder) -> None:
    wanted = {"availability_zone": "nova", "volume_availability_zone": "az-1"}
    made = volumes.make(cloud, volume_order(target).model_copy(update=wanted), no_pulse)
    assert cloud.volumes.get_volume(made.volume_id).availability_zone == "az-1"


def a_twin(cloud: Cloud, target: TargetOrder, **metadata: str) -> str:
    made = cloud.volumes.create_volume(
        size=1, name="twin", volume_type="ssd", metadata={"xms_job": target.job_id, "xms_disk": "2000", **metadata}
    )
    return str(cloud.volumes.wait_for_status(made, "available", interval=0.1, wait=10).id)


def test_of_two_volumes_of_a_disk_the_older_one_counts_and_the_empty_one_is_removed(
    cloud: Cloud, target: TargetOrder
) -> None:
    older, younger = a_twin(cloud, target), a_twin(cloud, target)
    assert volumes.make(cloud, volume_order(target), no_pulse).volume_id == older
    assert [volume.id for volume in volumes.of_job(cloud, target.job_id)] == [older]
    assert cloud.volumes.find_volume(younger, ignore_missing=True) is None


def test_a_volume_that_somebody_claimed_goes_before_an_older_one_and_is_never_removed(
    cloud: Cloud, target: TargetOrder
) -> None:
    a_twin(cloud, target)
    seeded = [a_twin(cloud, target, xms_lease="worker-1/dead/released") for _ in range(2)]
    assert volumes.make(cloud, volume_order(target), no_pulse).volume_id == seeded[0]
    assert [volume.id for volume in volumes.of_job(cloud, target.job_id)] == seeded


def test_an_attempt_that_was_overtaken_removes_what_it_made(
    cloud: Cloud, target: TargetOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = cloud.volumes.create_volume
    others: list[str] = []

    def overtaken(**wishes: object) -> object:
        monkeypatch.undo()
        others.append(a_twin(cloud, target))
        return make(**wishes)

    monkeypatch.setattr(cloud.volumes, "create_volume", overtaken)
    made = volumes.make(cloud, volume_order(target), no_pulse)
    assert (made.volume_id, made.found) == (others[0], True)
    assert [volume.id for volume in volumes.of_job(cloud, target.job_id)] == others


def test_what_is_none_of_the_jobs_disks_is_removed_when_it_never_held_anything(
    cloud: Cloud, target: TargetOrder
) -> None:
    kept, empty = a_twin(cloud, target), a_twin(cloud, target)
    seeded = a_twin(cloud, target, xms_lease="worker-1/dead/released")
    volumes.remove_twins(cloud, target.job_id, {kept}, no_pulse)
    assert [volume.id for volume in volumes.of_job(cloud, target.job_id)] == [kept, seeded]
    assert cloud.volumes.find_volume(empty, ignore_missing=True) is None


def test_a_volume_is_found_among_more_than_one_answer_holds(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    first = volumes.make(cloud, volume_order(target), no_pulse)
    for key in (2001, 2002):
        volumes.make(cloud, volume_order(target, key=key), no_pulse)
    cloud_server.cloud.page_limit = 2
    try:
        assert volumes.make(cloud, volume_order(target), no_pulse).volume_id == first.volume_id
        assert len(volumes.of_job(cloud, target.job_id)) == 3
    finally:
        cloud_server.cloud.page_limit = 1000


@pytest.fixture
def another_type(cloud_server: CloudServer) -> Iterator[Callable[..., str]]:
    """Adds volume types to the cloud for one test."""
    added: list[str] = []

    def add(name: str, *, encrypted: bool = False, **specs: str) -> str:
        made = VolumeType(new_id(), name, capacity=100, encrypted=encrypted, extra_specs=specs)
        cloud_server.cloud.volume_types[made.id] = made
        added.append(made.id)
        return name

    yield add
    for type_id in added:
        del cloud_server.cloud.volume_types[type_id]


@pytest.mark.parametrize(
    ("kind", "told"), [({"encrypted": True}, "are encrypted"), ({"multiattach": "<is> True"}, "several times at once")]
)
def test_a_type_that_no_replica_can_be_kept_on_is_refused_by_its_first_volume_which_is_deleted(
    cloud: Cloud, target: TargetOrder, another_type: Callable[..., str], kind: dict[str, Any], told: str
) -> None:
    order = volume_order(target, volume_type=another_type("special", **kind))
    with pytest.raises(TargetRejected, match=told) as error:
        volumes.make(cloud, order, no_pulse)
    assert "the empty volume is deleted" in error.value.means
    assert volumes.of_job(cloud, target.job_id) == []


def test_workers_that_attach_by_nova_take_encrypted_volumes(
    cloud: Cloud, target: TargetOrder, another_type: Callable[..., str]
) -> None:
    order = volume_order(target, volume_type=another_type("special", encrypted=True))
    assert not volumes.make(cloud, order, no_pulse, encrypted=True).found


def test_a_volume_beyond_the_quota_of_its_type_is_refused_as_such(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    cloud_server.set_quota(PROJECT, gigabytes_of_type={"ssd": 0})
    try:
        with pytest.raises(QuotaExceeded, match="gigabytes_ssd quota"):
            volumes.make(cloud, volume_order(target), no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, gigabytes_of_type={})


def test_an_extension_that_failed_is_told_with_what_an_administrator_does(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    order = ExtendVolume(target=target, volume_id=made.volume_id, capacity=GIB + 1)
    cloud_server.faults.next_extension_error = "extend volume:Volume extend failed."
    for _ in range(2):
        with pytest.raises(VolumeFailed, match="Volume extend failed") as error:
            volumes.extend(cloud, order, HOLDER, no_pulse)
        assert f"openstack volume set --state available {made.volume_id}" in error.value.do


def test_an_extension_that_an_attempt_left_is_waited_for(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    cloud_server.faults.volume_seconds = 1.0
    try:
        cloud.volumes.extend_volume(made.volume_id, 2)
        order = ExtendVolume(target=target, volume_id=made.volume_id, capacity=GIB + 1)
        assert volumes.extend(cloud, order, HOLDER, no_pulse).size == 2 * GIB
    finally:
        cloud_server.faults.volume_seconds = 0.1


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


def finalizing(target: TargetOrder, volume_id: str, **told: object) -> FinalizeVolumes:
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


def test_what_an_earlier_cutover_said_and_this_one_does_not_is_removed(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    cloud.volumes.set_volume_image_metadata(made.volume_id, os_admin_user="kept")
    before = finalizing(target, made.volume_id, block_bus="scsi", firmware="uefi", os_distro="debian")
    image_properties.finalize(cloud, before)
    image_properties.finalize(cloud, finalizing(target, made.volume_id))
    assert dict(cloud.volumes.get_volume(made.volume_id).volume_image_metadata) == {
        "os_admin_user": "kept",
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_machine_type": "q35",
        "hw_firmware_type": "bios",
    }


@pytest.mark.parametrize(
    ("told", "described"),
    [
        ({"firmware": "uefi", "secure_boot": SecureBoot.OPTIONAL}, {"os_secure_boot": "optional"}),
        ({"firmware": "uefi", "secure_boot": SecureBoot.OPTIONAL, "machine": "pc"}, {"os_secure_boot": "disabled"}),
        ({"firmware": "uefi", "secure_boot": SecureBoot.REQUIRED}, {"os_secure_boot": "required"}),
        ({"guest_agent": True}, {"hw_qemu_guest_agent": "yes"}),
        ({"os_type": "windows", "os_version": "10.0"}, {"os_type": "windows", "os_version": "10.0"}),
    ],
)
def test_the_guest_is_described_in_novas_words(
    target: TargetOrder, told: dict[str, Any], described: dict[str, str]
) -> None:
    assert described.items() <= image_properties.image_properties(finalizing(target, "x", **told)).items()


@pytest.mark.parametrize(
    "told",
    [
        {"net_bus": "foo"},
        {"firmware": "efi"},
        {"machine": "vax"},
        {"os_type": "plan9"},
        {"secure_boot": SecureBoot.REQUIRED},
        {"secure_boot": SecureBoot.REQUIRED, "firmware": "uefi", "machine": "pc"},
    ],
)
def test_what_nova_would_refuse_is_refused(target: TargetOrder, told: dict[str, Any]) -> None:
    with pytest.raises(TargetRejected, match="cannot be booted"):
        image_properties.image_properties(finalizing(target, "x", **told))


def test_what_nobody_can_read_of_a_distribution_is_left_out(target: TargetOrder) -> None:
    order = finalizing(target, "x", os_distro="a b\nc", os_version="12")
    described = image_properties.image_properties(order)
    assert "os_distro" not in described
    assert described["os_version"] == "12"
