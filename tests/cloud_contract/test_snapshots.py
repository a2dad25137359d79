"""Cinder's snapshots of volumes: made of a volume in use, gone back to, removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from openstack.exceptions import BadRequestException, ConflictException, HttpException, NotFoundException

from tests.cloud_contract.scene import NOBODY, WORKER, Scene

if TYPE_CHECKING:
    from openstack.block_storage.v3.snapshot import Snapshot
    from openstack.block_storage.v3.volume import Volume


def a_type_with_snapshots(scene: Scene) -> str:
    """Files on a share have none of a volume that is in use outside of Nova: the last case."""
    found = next((name for name in scene.place.volume_types if name != "nfs"), None)
    if found is None:
        pytest.skip("this OpenStack was brought up with files on a share alone, which have no snapshots in use")
    return found


def new_volume(scene: Scene) -> Volume:
    return scene.new_volume(volume_type=a_type_with_snapshots(scene))


def snapshot_of(scene: Scene, volume: Volume, **wishes: Any) -> Snapshot:  # noqa: ANN401 - the SDK's
    made = scene.cloud.volumes.create_snapshot(volume_id=volume.id, name=scene.name(), is_forced=True, **wishes)
    return settled(scene, made, "available")


def settled(scene: Scene, snapshot: Snapshot, status: str) -> Snapshot:
    found: Snapshot = scene.cloud.volumes.wait_for_status(
        snapshot, status, failures=[], interval=scene.place.config.poll_seconds, wait=60
    )
    return found


def removed(scene: Scene, snapshot: Snapshot) -> None:
    scene.cloud.volumes.delete_snapshot(snapshot.id, ignore_missing=True)
    scene.cloud.volumes.wait_for_delete(snapshot, interval=scene.place.config.poll_seconds, wait=60)


def words_of(caught: pytest.ExceptionInfo[HttpException]) -> str:
    return str(caught.value.details)


def test_a_volume_in_use_has_a_snapshot_only_where_that_is_said_to_be_meant(scene: Scene) -> None:
    volume = new_volume(scene)
    attachment = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
    status = "must be available, in-use, but current status is: attaching"
    with pytest.raises(BadRequestException, match=status):
        scene.cloud.volumes.create_snapshot(volume_id=volume.id, is_forced=True)
    scene.cloud.volumes.complete_attachment(attachment.id)
    with pytest.raises(BadRequestException, match="status must be available, but current status is: in-use"):
        scene.cloud.volumes.create_snapshot(volume_id=volume.id)
    wanted = {"xms_job": "warm-contract", "xms_disk": "2000"}
    made = scene.cloud.volumes.create_snapshot(
        volume_id=volume.id, name=scene.name(), description="before", is_forced=True, metadata=wanted
    )
    assert (made.status, made.metadata, made.volume_id) == ("creating", wanted, volume.id)
    found = settled(scene, made, "available")
    assert (found.metadata, found.size, found.description) == (wanted, 1, "before")
    assert scene.cloud.volumes.get_snapshot(made.id).status == "available"
    assert scene.cloud.volumes.get_volume(volume.id).status == "in-use"
    removed(scene, found)


def test_the_snapshots_of_a_volume_are_listed(scene: Scene) -> None:
    volume, other = new_volume(scene), new_volume(scene)
    made = snapshot_of(scene, volume, metadata={"xms_job": "warm-contract"})
    others = snapshot_of(scene, other)
    listed = list(scene.cloud.volumes.snapshots(details=True, volume_id=volume.id))
    assert [(each.id, each.volume_id, each.status) for each in listed] == [(made.id, volume.id, "available")]
    assert listed[0].metadata == {"xms_job": "warm-contract"}
    assert list(scene.cloud.volumes.snapshots(details=True, volume_id=NOBODY)) == []
    removed(scene, made)
    removed(scene, others)


def test_a_volume_goes_back_to_its_last_snapshot_and_keeps_its_metadata(scene: Scene) -> None:
    volume = new_volume(scene)
    snapshot = snapshot_of(scene, volume)
    scene.cloud.volumes.set_volume_metadata(volume.id, xms_boot="ran")
    scene.cloud.volumes.revert_volume_to_snapshot(volume.id, snapshot.id)
    assert scene.cloud.volumes.get_volume(volume.id).status in {"reverting", "available"}
    scene.settled(scene.cloud.volumes.get_volume(volume.id), "available")
    settled(scene, scene.cloud.volumes.get_snapshot(snapshot.id), "available")
    assert scene.cloud.volumes.get_volume(volume.id).metadata == {"xms_boot": "ran"}
    removed(scene, snapshot)


def test_what_cannot_be_gone_back_to_is_refused(scene: Scene) -> None:
    volume = new_volume(scene)
    with pytest.raises(BadRequestException) as none:
        scene.cloud.volumes.revert_volume_to_snapshot(volume.id, NOBODY)
    assert words_of(none) == f"Volume {volume.id} doesn't have any snapshots."
    snapshot = snapshot_of(scene, volume)
    attachment = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
    scene.cloud.volumes.complete_attachment(attachment.id)
    with pytest.raises(ConflictException) as used:
        scene.cloud.volumes.revert_volume_to_snapshot(volume.id, snapshot.id)
    assert "Volume's status must be 'available'" in words_of(used)
    scene.cloud.volumes.delete_attachment(attachment.id, ignore_missing=True)
    scene.settled(scene.cloud.volumes.get_volume(volume.id), "available")
    later = snapshot_of(scene, volume)
    with pytest.raises(BadRequestException) as not_the_last:
        scene.cloud.volumes.revert_volume_to_snapshot(volume.id, snapshot.id)
    assert words_of(not_the_last) == (
        f"Specified snapshot {snapshot.id} is None or not the latest one of volume {volume.id}."
    )
    removed(scene, later)
    scene.cloud.volumes.extend_volume(volume.id, 2)
    scene.settled(scene.cloud.volumes.get_volume(volume.id), "available")
    with pytest.raises(BadRequestException) as grown:
        scene.cloud.volumes.revert_volume_to_snapshot(volume.id, snapshot.id)
    assert words_of(grown) == (
        f"Can't revert volume {volume.id} to its latest snapshot {snapshot.id}. "
        "The volume size must be equal to the snapshot size."
    )
    removed(scene, snapshot)


def test_a_volume_with_snapshots_is_not_deleted(scene: Scene) -> None:
    volume = new_volume(scene)
    snapshot = snapshot_of(scene, volume)
    with pytest.raises(BadRequestException, match="have snapshots"):
        scene.cloud.volumes.delete_volume(volume.id, ignore_missing=True)
    removed(scene, snapshot)
    scene.cloud.volumes.delete_volume(volume.id, ignore_missing=True)


def test_a_snapshot_that_is_on_its_way_out_is_not_deleted_again(scene: Scene) -> None:
    # Nor can it be gone back to: Cinder refuses, and leaves the volume 'reverting' until an administrator comes.
    volume = new_volume(scene)
    snapshot = snapshot_of(scene, volume)
    scene.cloud.volumes.delete_snapshot(snapshot.id, ignore_missing=True)
    assert scene.cloud.volumes.get_snapshot(snapshot.id).status == "deleting"
    with pytest.raises(BadRequestException, match="Snapshot status must be available or error"):
        scene.cloud.volumes.delete_snapshot(snapshot.id, ignore_missing=True)
    scene.cloud.volumes.wait_for_delete(snapshot, interval=scene.place.config.poll_seconds, wait=60)
    scene.cloud.volumes.delete_snapshot(snapshot.id, ignore_missing=True)
    with pytest.raises(NotFoundException):
        scene.cloud.volumes.get_snapshot(snapshot.id)


def test_snapshots_have_a_quota_of_their_own(scene: Scene) -> None:
    volume = new_volume(scene)
    used = scene.cloud.volumes.get_limits().absolute.total_snapshots_used
    with scene.place.quota(snapshots=used), pytest.raises(HttpException) as refused:
        scene.cloud.volumes.create_snapshot(volume_id=volume.id, is_forced=True)
    assert refused.value.status_code == 413
    assert words_of(refused) == f"SnapshotLimitExceeded: Maximum number of snapshots allowed ({used}) exceeded"


@pytest.mark.parametrize(
    "call",
    [
        lambda scene: scene.cloud.volumes.create_snapshot(volume_id=NOBODY, is_forced=True),
        lambda scene: scene.cloud.volumes.get_snapshot(NOBODY),
        lambda scene: scene.cloud.volumes.revert_volume_to_snapshot(NOBODY, NOBODY),
    ],
    ids=["made", "read", "reverted"],
)
def test_what_is_not_there_is_not_found(scene: Scene, call: Callable[[Scene], object]) -> None:
    with pytest.raises(NotFoundException):
        call(scene)


def test_why_a_snapshot_failed_is_told_by_cinders_messages_only(scene: Scene) -> None:
    if scene.place.name == "stand-in":
        scene.place.fail_next_snapshot()
    elif "nfs" not in scene.place.volume_types:
        pytest.skip("this OpenStack was brought up without files on a share, which fail it")
    volume = scene.new_volume(volume_type="nfs" if "nfs" in scene.place.volume_types else scene.place.volume_types[0])
    attachment = scene.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
    scene.cloud.volumes.complete_attachment(attachment.id)
    made = scene.cloud.volumes.create_snapshot(volume_id=volume.id, is_forced=True)
    settled(scene, made, "error")
    answer = scene.cloud.volumes.get(f"/messages?resource_uuid={made.id}", microversion="3.5")
    assert [item["user_message"] for item in answer.json()["messages"]] == [
        "create snapshot:Snapshot failed to create."
    ]
    scene.cloud.volumes.delete_attachment(attachment.id, ignore_missing=True)
    scene.settled(volume, "available")
    removed(scene, made)
