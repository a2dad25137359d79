"""Cinder: what the product reads of its answers, and which states a volume passes through."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

import pytest
from openstack.exceptions import BadRequestException, ForbiddenException, NotFoundException, ResourceFailure

from tests.cloud_contract.error_cases import HUGE_GIB
from tests.cloud_contract.scene import NOBODY, WORKER, Scene

GIB = 1 << 30


def test_a_new_volume_is_creating_and_then_available_with_what_it_was_given(scene: Scene) -> None:
    wanted = {"xms_job": "warm-contract", "xms_disk": "2000"}
    made = scene.cloud.volumes.create_volume(
        name=scene.name(),
        size=1,
        volume_type=scene.place.volume_types[0],
        availability_zone=None,
        description="replica of disk 2000",
        metadata=wanted,
    )
    assert made.status == "creating"
    scene.settled(made, "available")
    volume = scene.cloud.volumes.get_volume(made.id)
    assert volume.metadata == wanted
    assert (volume.size, volume.volume_type) == (1, scene.place.volume_types[0])
    assert volume.description == "replica of disk 2000"
    assert (volume.is_bootable, volume.is_encrypted, volume.attachments) == (False, False, [])
    assert datetime.fromisoformat(volume.created_at)


def test_volumes_are_listed_with_their_metadata_and_found_by_it(scene: Scene) -> None:
    job = f"warm-{scene.name()}"
    marked = scene.new_volume(metadata={"xms_job": job, "xms_disk": "2000"})
    other = scene.volume
    listed = {volume.id: volume for volume in scene.cloud.volumes.volumes(details=True)}
    assert {marked.id, other.id} <= set(listed)
    assert listed[marked.id].metadata["xms_job"] == job
    found = list(scene.cloud.volumes.volumes(details=True, properties=str({"xms_job": job})))
    assert [volume.id for volume in found] == [marked.id]


def test_metadata_is_added_key_by_key_and_taken_away(scene: Scene) -> None:
    volume = scene.new_volume(metadata={"xms_job": "warm-contract"})
    scene.cloud.volumes.set_volume_metadata(volume.id, xms_lease="worker/1/0")
    scene.cloud.volumes.set_volume_metadata(volume.id, xms_lease="worker/1/1")
    assert scene.cloud.volumes.get_volume(volume.id).metadata == {"xms_job": "warm-contract", "xms_lease": "worker/1/1"}
    scene.cloud.volumes.delete_volume_metadata(volume.id, keys=["xms_lease"])
    assert scene.cloud.volumes.get_volume(volume.id).metadata == {"xms_job": "warm-contract"}
    with pytest.raises(NotFoundException):
        scene.cloud.volumes.delete_volume_metadata(volume.id, keys=["xms_lease"])


def test_a_metadata_value_may_have_255_characters(scene: Scene) -> None:
    scene.cloud.volumes.set_volume_metadata(scene.volume.id, xms_long="x" * 255)
    with pytest.raises(BadRequestException):
        scene.cloud.volumes.set_volume_metadata(scene.volume.id, xms_long="x" * 256)


def test_image_metadata_makes_a_volume_one_that_a_server_boots_from(scene: Scene) -> None:
    volume = scene.new_volume()
    scene.cloud.volumes.set_volume_bootable_status(volume.id, bootable=True)
    scene.cloud.volumes.set_volume_image_metadata(volume.id, hw_disk_bus="scsi", hw_scsi_model="virtio-scsi")
    scene.cloud.volumes.set_volume_image_metadata(volume.id, os_type="linux")
    found = scene.cloud.volumes.get_volume(volume.id)
    assert found.is_bootable is True
    assert found.volume_image_metadata == {
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "os_type": "linux",
    }
    scene.cloud.volumes.delete_volume_image_metadata(volume.id, keys=["os_type"])
    assert "os_type" not in scene.cloud.volumes.get_volume(volume.id).volume_image_metadata


def test_a_volume_grows(scene: Scene) -> None:
    volume = scene.new_volume()
    scene.cloud.volumes.extend_volume(volume.id, 2)
    assert scene.cloud.volumes.get_volume(volume.id).status == "extending"
    scene.settled(scene.cloud.volumes.get_volume(volume.id), "available")
    assert scene.cloud.volumes.get_volume(volume.id).size == 2
    with pytest.raises(BadRequestException, match=r"New size for extend must be greater than current size"):
        scene.cloud.volumes.extend_volume(volume.id, 2)


def test_a_deleted_volume_is_gone_and_may_be_deleted_again(scene: Scene) -> None:
    volume = scene.new_volume()
    scene.cloud.volumes.delete_volume(volume.id, ignore_missing=True)
    scene.cloud.volumes.wait_for_delete(volume, interval=scene.place.config.poll_seconds, wait=60)
    scene.cloud.volumes.delete_volume(volume.id, ignore_missing=True)
    with pytest.raises(NotFoundException):
        scene.cloud.volumes.get_volume(volume.id)
    assert volume.id not in [found.id for found in scene.cloud.volumes.volumes(details=True)]


def test_why_a_volume_failed_is_told_by_cinders_messages_only(scene: Scene) -> None:
    made = scene.cloud.volumes.create_volume(name=scene.name(), size=HUGE_GIB, volume_type=scene.place.volume_types[0])
    with pytest.raises(ResourceFailure):
        scene.settled(made, "available")
    answer = scene.cloud.volumes.get(f"/messages?resource_uuid={made.id}", microversion="3.5")
    assert answer.ok
    assert [item["user_message"] for item in answer.json()["messages"]] == [
        "schedule allocate volume:Could not find any available weighted backend."
    ]
    unaware = scene.cloud.volumes.get(f"/messages?resource_uuid={made.id}", microversion="3.0")
    assert unaware.status_code == 404
    scene.cloud.volumes.delete_volume(made.id, ignore_missing=True)
    scene.cloud.volumes.wait_for_delete(made, interval=scene.place.config.poll_seconds, wait=60)


def test_a_workers_attachment_lives_from_attaching_to_in_use_to_available(scene: Scene) -> None:
    volume = scene.new_volume()
    made = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
    assert scene.cloud.volumes.get_volume(volume.id).status == "attaching"
    assert made.volume_id == volume.id
    assert made.connection_info["driver_volume_type"]
    scene.cloud.volumes.complete_attachment(made.id)
    used = scene.cloud.volumes.get_volume(volume.id)
    assert used.status == "in-use"
    assert [(each["attachment_id"], each["server_id"]) for each in used.attachments] == [(made.id, None)]
    listed = list(scene.cloud.volumes.attachments(volume_id=volume.id))
    assert [(each.id, each.volume_id, each.instance, each.status) for each in listed] == [
        (made.id, volume.id, None, "attached")
    ]
    assert scene.cloud.volumes.get_attachment(made.id).volume_id == volume.id
    scene.cloud.volumes.delete_attachment(made.id, ignore_missing=True)
    scene.settled(volume, "available")
    assert list(scene.cloud.volumes.attachments(volume_id=volume.id)) == []
    with pytest.raises(NotFoundException):
        scene.cloud.volumes.get_attachment(made.id)
    scene.cloud.volumes.delete_attachment(made.id, ignore_missing=True)


def test_an_attachment_that_was_never_completed_gives_the_volume_back(scene: Scene) -> None:
    volume = scene.new_volume()
    made = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
    scene.cloud.volumes.delete_attachment(made.id, ignore_missing=True)
    scene.settled(volume, "available")


def test_an_attachment_without_a_connector_reserves_the_volume(scene: Scene) -> None:
    volume = scene.new_volume()
    made = scene.cloud.volumes.create_attachment(volume.id, connector={}, mode="rw")
    assert scene.cloud.volumes.get_volume(volume.id).status == "reserved"
    reserved = scene.cloud.volumes.get_attachment(made.id)
    assert reserved.status == "reserved"
    assert "driver_volume_type" not in (reserved.connection_info or {})
    scene.cloud.volumes.delete_attachment(made.id, ignore_missing=True)
    scene.settled(volume, "available")


def test_attachments_are_not_filtered_by_a_volume_that_is_not_there(scene: Scene) -> None:
    assert list(scene.cloud.volumes.attachments(volume_id=NOBODY)) == []


def test_a_member_reads_limits_types_and_zones(scene: Scene) -> None:
    assert scene.volume.id
    limits = scene.cloud.volumes.get_limits().absolute
    assert 0 < limits.total_volumes_used <= limits.max_total_volumes
    assert 0 < limits.total_gigabytes_used <= limits.max_total_volume_gigabytes
    types = {found.name: found for found in scene.cloud.volumes.types()}
    assert set(scene.place.volume_types) <= set(types)
    assert all(isinstance(found.id, str) for found in types.values())
    assert "nova" in [zone.name for zone in scene.cloud.volumes.availability_zones()]


def test_the_endpoint_names_the_host_that_the_volume_service_is_on(scene: Scene) -> None:
    assert urlsplit(str(scene.cloud.volumes.get_endpoint())).hostname == "127.0.0.1"


def test_every_back_end_makes_volumes(scene: Scene) -> None:
    for volume_type in scene.place.volume_types[1:]:
        volume = scene.new_volume(volume_type=volume_type)
        made = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
        assert made.connection_info["driver_volume_type"] == volume_type
        scene.cloud.volumes.delete_attachment(made.id, ignore_missing=True)
        scene.settled(volume, "available")


def test_whether_a_type_is_encrypted_is_no_members_business(scene: Scene) -> None:
    name = scene.place.volume_types[0]
    known = next(kind for kind in scene.cloud.volumes.types() if kind.name == name)
    with pytest.raises(ForbiddenException, match="volume_type_encryption:get"):
        scene.cloud.volumes.get_type_encryption(known.id)


def test_a_volume_is_cloned_with_its_description_and_without_its_metadata(scene: Scene) -> None:
    for volume_type in scene.place.volume_types:
        source = scene.new_volume(volume_type=volume_type, metadata={"xms_job": "warm-contract", "xms_lease": "a/1/0"})
        scene.cloud.volumes.set_volume_bootable_status(source.id, bootable=True)
        scene.cloud.volumes.set_volume_image_metadata(source.id, hw_disk_bus="scsi")
        wanted = {"xms_job": "rehearsal-warm-contract", "xms_rehearsal": "token"}
        made = scene.cloud.volumes.create_volume(
            name=scene.name(), size=1, source_volume_id=source.id, description="copy", metadata=wanted
        )
        assert made.status == "creating"
        assert scene.cloud.volumes.get_volume(source.id).status == "available"
        scene.settled(made, "available")
        copy = scene.cloud.volumes.get_volume(made.id)
        assert (copy.source_volume_id, copy.volume_type, copy.size) == (source.id, volume_type, 1)
        assert (copy.metadata, copy.description) == (wanted, "copy")
        assert copy.availability_zone == source.availability_zone
        assert copy.is_bootable is True
        assert copy.volume_image_metadata == {"hw_disk_bus": "scsi"}
        assert scene.cloud.volumes.get_volume(source.id).metadata == {
            "xms_job": "warm-contract",
            "xms_lease": "a/1/0",
        }


def test_a_volume_is_deleted_while_a_clone_of_it_is_there(scene: Scene) -> None:
    for volume_type in scene.place.volume_types:
        source = scene.new_volume(volume_type=volume_type)
        made = scene.cloud.volumes.create_volume(name=scene.name(), size=1, source_volume_id=source.id)
        scene.settled(made, "available")
        for volume in (source, made):
            scene.cloud.volumes.delete_volume(volume.id, ignore_missing=True)
            scene.cloud.volumes.wait_for_delete(volume, interval=scene.place.config.poll_seconds, wait=60)


def test_a_clone_is_not_smaller_than_its_source(scene: Scene) -> None:
    source = scene.new_volume(size=2)
    with pytest.raises(BadRequestException, match=r"cannot be smaller than"):
        scene.cloud.volumes.create_volume(name=scene.name(), size=1, source_volume_id=source.id)
