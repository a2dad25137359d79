"""Volumes and their attachments."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from openstack import exceptions

from lab.cloud.server import CloudServer
from tests.lab_cloud.conftest import Member, VolumeMaker, wait_for

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

GIBIBYTE = 1 << 30


def test_a_volume_is_a_sparse_file_of_zeroes(cloud: CloudServer, make_volume: VolumeMaker) -> None:
    volume = make_volume(3)

    file = cloud.volume_file(volume.id).stat()
    assert (file.st_size, file.st_blocks) == (3 * GIBIBYTE, 0)


def test_a_volume_is_creating_for_a_while(cloud: CloudServer, member: Member) -> None:
    cloud.faults.volume_seconds = 0.3

    volume = member.block_storage.create_volume(size=1)

    assert volume.status == "creating"
    member.block_storage.wait_for_status(volume, "available", interval=0.05, wait=5)


def test_metadata_can_be_added_replaced_and_removed(member: Member, make_volume: VolumeMaker) -> None:
    volume = make_volume(metadata={"job": "a", "disk": "2000"})

    member.block_storage.set_volume_metadata(volume, lease="worker1")
    assert member.block_storage.get_volume(volume).metadata == {"job": "a", "disk": "2000", "lease": "worker1"}
    member.block_storage.delete_volume_metadata(volume, ["lease"])
    assert member.block_storage.get_volume(volume).metadata == {"job": "a", "disk": "2000"}
    with pytest.raises(exceptions.NotFoundException):
        member.block_storage.delete_volume_metadata(volume, ["lease"])


def test_volumes_are_found_by_metadata_name_and_status(member: Member, make_volume: VolumeMaker) -> None:
    mine = make_volume(name="mine", metadata={"job": "a", "disk": "2000"})
    make_volume(name="other", metadata={"job": "b"})
    storage = member.block_storage

    assert [each.id for each in storage.volumes(properties="{'job': 'a'}")] == [mine.id]
    assert [each.id for each in storage.volumes(name="mine")] == [mine.id]
    assert list(storage.volumes(status="error")) == []


def test_a_list_comes_in_pages(member: Member, make_volume: VolumeMaker) -> None:
    made = {make_volume().id for _ in range(5)}

    listed = [each.id for each in member.block_storage.volumes(limit=2)]

    assert len(listed) == 5
    assert set(listed) == made


def test_an_extended_volume_keeps_its_bytes_and_grows_by_zeroes(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker
) -> None:
    volume = make_volume()
    file = cloud.volume_file(volume.id)
    with file.open("r+b") as stream:
        stream.write(b"replica")

    member.block_storage.extend_volume(volume, 2)
    wait_for(member, volume, "available")

    assert member.block_storage.get_volume(volume).size == 2
    with file.open("rb") as stream:
        assert stream.read(8) == b"replica\0"
    assert file.stat().st_size == 2 * GIBIBYTE
    with pytest.raises(exceptions.BadRequestException, match="must be greater than current size"):
        member.block_storage.extend_volume(volume, 2)


def test_image_metadata_is_set_and_unset(member: Member, make_volume: VolumeMaker) -> None:
    volume = make_volume(bootable=True, image_metadata={"hw_disk_bus": "virtio", "os_type": "linux"})
    assert volume.is_bootable
    assert volume.volume_image_metadata == {"hw_disk_bus": "virtio", "os_type": "linux"}

    member.block_storage.delete_volume_image_metadata(volume, ["os_type"])

    assert member.block_storage.get_volume(volume).volume_image_metadata == {"hw_disk_bus": "virtio"}


def test_a_full_back_end_shows_as_error_with_the_reason_in_the_messages(member: Member) -> None:
    storage = member.block_storage
    volume = storage.create_volume(size=5000, volume_type="ssd")

    with pytest.raises(exceptions.ResourceFailure):
        storage.wait_for_status(volume, "available", failures=["error"], interval=0.02, wait=5)

    answer = storage.get(f"/messages?resource_uuid={volume.id}", microversion="3.5").json()
    assert "Could not find any available weighted backend" in answer["messages"][0]["user_message"]
    storage.delete_volume(volume)
    storage.wait_for_delete(volume, interval=0.02, wait=5)


def test_an_ordered_failure_hits_one_volume_only(cloud: CloudServer, member: Member, make_volume: VolumeMaker) -> None:
    cloud.faults.next_volume_error = "the array is on fire"
    volume = member.block_storage.create_volume(size=1)

    with pytest.raises(exceptions.ResourceFailure):
        member.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.02, wait=5)

    assert make_volume().status == "available"


# In a process of its own: os-brick brings eventlet along, which changes the process that imports it.
CONNECT_BY_OS_BRICK = """
import json, sys
from os_brick.initiator import connector
information = json.loads(sys.argv[1])
kind = information["driver_volume_type"].upper()
local = connector.InitiatorConnector.factory(kind, "", use_multipath=False, conn=information)
print(local.connect_volume(information)["path"])
"""


def test_os_brick_connects_an_attachment_to_the_volume_s_file(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker
) -> None:
    volume = make_volume()
    attachment = member.block_storage.create_attachment(volume, connector={"host": "worker1"}, mode="rw")
    line = [sys.executable, "-W", "ignore", "-c", CONNECT_BY_OS_BRICK, json.dumps(dict(attachment.connection_info))]

    path = subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    assert path == str(cloud.volume_file(volume.id))


def test_an_attachment_is_found_by_its_volume_and_completed_twice(member: Member, make_volume: VolumeMaker) -> None:
    storage, volume = member.block_storage, make_volume()
    attachment = storage.create_attachment(volume, connector={"host": "worker1"}, mode="rw")
    storage.complete_attachment(attachment.id)
    storage.complete_attachment(attachment.id)

    found = list(storage.attachments(volume_id=volume.id))

    assert [each.id for each in found] == [attachment.id]
    assert storage.get_attachment(attachment.id).status == "attached"
    assert storage.get_volume(volume).attachments[0]["attachment_id"] == attachment.id


def test_the_host_of_an_attachment_is_hidden_from_a_member(member: Member, make_volume: VolumeMaker) -> None:
    volume = make_volume()
    attachment = member.block_storage.create_attachment(volume, connector={"host": "worker1"}, mode="rw")
    member.block_storage.complete_attachment(attachment.id)

    assert member.block_storage.get_volume(volume).attachments[0]["host_name"] is None


def test_an_attachment_without_connector_reserves_the_volume(member: Member, make_volume: VolumeMaker) -> None:
    storage, volume = member.block_storage, make_volume()

    attachment = storage.create_attachment(volume)
    assert (attachment.status, storage.get_volume(volume).status) == ("reserved", "reserved")
    storage.update_attachment(attachment, connector={"host": "worker1"})
    assert storage.get_volume(volume).status == "attaching"
    storage.delete_attachment(attachment.id, ignore_missing=False)
    assert storage.get_volume(volume).status == "available"


def test_a_null_instance_is_refused_as_cinder_does(member: Member, make_volume: VolumeMaker) -> None:
    volume = make_volume()
    body = {"attachment": {"volume_uuid": volume.id, "instance_uuid": None, "connector": {"host": "w"}}}

    answer = member.block_storage.post("/attachments", json=body, microversion="3.54")

    assert answer.status_code == 400
