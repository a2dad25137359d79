"""Snapshots of a job's volumes: made while they are in use, gone back to once, and no others touched."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.cloud.server import CloudServer
from lab.cloud.volumes import complete
from tests.cloud_contract.scene import WORKER
from tests.openstack.conftest import GIB, PROJECT, volume_order
from xms.errors import Refused
from xms.models import Baseline, Disk
from xms.openstack import volumes
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.lease import Holder
from xms.openstack.volume_snapshots import REVERTED_KEY, make, remove, revert
from xms.orders.target import RevertVolumes, SnapshotVolumes, TargetOrder, VolumesOrder, VolumesSnapshotted
from xms.pulse import no_pulse

AT = datetime(2026, 11, 29, 1, 2, 3, tzinfo=UTC)
LATER = datetime(2026, 11, 29, 1, 5, 0, tzinfo=UTC)
HOLDER = Holder("worker-1", 5.0)
BASELINE = Baseline(change_id="52 2d/7", unseeded="x", unseeded_bytes=5)


@dataclass
class Replica:
    """Two volumes of a job, with something in them."""

    cloud: Cloud
    server: CloudServer
    target: TargetOrder
    disks: tuple[Disk, ...]

    def order(self, at: datetime = AT) -> SnapshotVolumes:
        return SnapshotVolumes(target=self.target, disks=self.disks, replica_of=at)

    def make(self, at: datetime = AT) -> VolumesSnapshotted:
        return make(self.cloud, self.order(at), no_pulse)

    def write(self, content: bytes) -> None:
        for disk in self.disks:
            with self.server.volume_file(disk.volume_id or "").open("r+b") as file:
                file.write(content)

    def read(self, length: int = 8) -> list[bytes]:
        return [self.server.volume_file(disk.volume_id or "").read_bytes()[:length] for disk in self.disks]

    def revert(self, made: VolumesSnapshotted) -> Any:  # noqa: ANN401 - the answer
        return revert(self.cloud, RevertVolumes(target=self.target, snapshots=made.snapshots), HOLDER, no_pulse)

    def remove(self) -> tuple[str, ...]:
        ids = tuple(disk.volume_id or "" for disk in self.disks)
        return remove(self.cloud, VolumesOrder(target=self.target, volume_ids=ids), no_pulse).left

    def there(self) -> list[str]:
        mine = {disk.volume_id for disk in self.disks}
        return [str(each.id) for each in self.cloud.volumes.snapshots(details=True) if each.volume_id in mine]


@pytest.fixture
def replica(cloud: Cloud, cloud_server: CloudServer, target: TargetOrder) -> Replica:
    cloud_server.set_quota(PROJECT, snapshots=1000)
    disks = []
    for key in (2000, 2001):
        made = volumes.make(cloud, volume_order(target, key=key), no_pulse)
        disk = Disk(key=key, label=f"Hard disk {key - 1999}", capacity=GIB, volume_id=made.volume_id)
        disks.append(disk.model_copy(update={"baseline": BASELINE}))
    replica = Replica(cloud, cloud_server, target, tuple(disks))
    replica.write(b"replica!")
    return replica


def test_the_volumes_of_a_worker_that_converts_have_snapshots_which_know_what_they_hold(replica: Replica) -> None:
    with claim_volume(
        replica.cloud,
        replica.disks[0].volume_id or "",
        job_id=replica.target.job_id,
        worker="worker-1",
        lease_seconds=5.0,
        pulse=no_pulse,
    ):
        made = replica.make()
    assert [(each.disk_key, each.volume_id, each.baseline) for each in made.snapshots] == [
        (disk.key, disk.volume_id, BASELINE) for disk in replica.disks
    ]
    assert not made.missing
    found = replica.cloud.volumes.get_snapshot(made.snapshots[0].snapshot_id)
    assert found.metadata == {
        "xms_job": replica.target.job_id,
        "xms_disk": "2000",
        "xms_replica": AT.isoformat(),
        "xms_made_by": "XMS",
    }


def test_a_volume_that_is_being_attached_has_its_snapshot_as_soon_as_it_is(replica: Replica) -> None:
    volume_id = replica.disks[0].volume_id or ""
    attachment = replica.cloud.volumes.create_attachment(volume_id, connector=WORKER, mode="rw")
    assert replica.cloud.volumes.get_volume(volume_id).status == "attaching"
    timer = threading.Timer(0.7, complete, [replica.server.cloud.attachments[attachment.id]])
    timer.start()
    made = replica.make()
    timer.join()
    assert [each.disk_key for each in made.snapshots] == [2000, 2001]
    replica.cloud.volumes.delete_attachment(attachment.id)


def test_snapshots_are_found_again_and_those_of_another_replica_are_replaced(replica: Replica) -> None:
    first = replica.make()
    assert replica.make() == first
    second = replica.make(LATER)
    assert not {each.snapshot_id for each in first.snapshots} & {each.snapshot_id for each in second.snapshots}
    assert replica.remove() == ()
    assert replica.there() == []


def test_a_disk_without_a_snapshot_is_told_and_the_others_have_theirs(replica: Replica) -> None:
    replica.server.faults.next_snapshot_error = True
    made = replica.make()
    assert [each.disk_key for each in made.snapshots] == [2001]
    assert made.missing == ("disk 2000: create snapshot:Snapshot failed to create.",)


def test_a_quota_that_is_used_up_is_told(replica: Replica) -> None:
    replica.server.set_quota(PROJECT, snapshots=0)
    made = replica.make()
    assert made.snapshots == ()
    assert "Maximum number of snapshots allowed" in made.missing[1]


def test_a_volume_goes_back_and_its_snapshot_is_gone_before_anybody_writes_to_it(replica: Replica) -> None:
    made = replica.make()
    replica.write(b"target's")
    assert replica.revert(made).disk_keys == (2000, 2001)
    assert replica.read() == [b"replica!", b"replica!"]
    assert replica.there() == []


def test_a_revert_whose_answer_was_lost_is_known_and_not_done_again(replica: Replica) -> None:
    made = replica.make()
    replica.revert(made)
    replica.write(b"synced..")
    assert replica.revert(made).disk_keys == (2000, 2001)
    assert replica.read() == [b"synced..", b"synced.."]


def test_a_revert_that_died_before_the_snapshots_removal_is_done_again(replica: Replica) -> None:
    made = replica.make()
    replica.write(b"target's")
    volume_id, snapshot_id = made.snapshots[0].volume_id, made.snapshots[0].snapshot_id
    replica.cloud.volumes.revert_volume_to_snapshot(volume_id, snapshot_id)
    assert replica.revert(made).disk_keys == (2000, 2001)
    assert replica.read() == [b"replica!", b"replica!"]
    assert replica.there() == []


def test_a_snapshot_that_is_gone_is_none_to_believe_in(replica: Replica) -> None:
    made = replica.make()
    replica.remove()
    reverted = replica.revert(made)
    assert reverted.disk_keys == ()
    assert "is not there any more" in reverted.refused[0]
    assert REVERTED_KEY not in replica.cloud.volumes.get_volume(made.snapshots[0].volume_id).metadata


def test_a_snapshot_of_somebody_else_is_never_touched_and_stands_in_the_way(replica: Replica) -> None:
    made = replica.make()
    volume_id = made.snapshots[0].volume_id
    theirs = replica.cloud.volumes.create_snapshot(volume_id=volume_id, metadata={JOB_KEY: "warm-other"})
    replica.write(b"target's")
    reverted = replica.revert(made)
    assert reverted.disk_keys == (2001,)
    assert "not the latest one" in reverted.refused[0]
    assert replica.read() == [b"target's", b"replica!"]
    assert replica.remove() == ()
    assert replica.there() == [theirs.id]
    replica.cloud.volumes.delete_snapshot(theirs.id)


def test_a_later_snapshot_of_the_jobs_own_does_not_stand_in_the_way(replica: Replica) -> None:
    made = replica.make()
    replica.cloud.volumes.create_snapshot(
        volume_id=made.snapshots[0].volume_id, metadata={JOB_KEY: replica.target.job_id}
    )
    replica.write(b"target's")
    assert replica.revert(made).disk_keys == (2000, 2001)
    assert replica.read() == [b"replica!", b"replica!"]


def test_a_snapshot_in_a_state_of_error_is_not_gone_back_to(replica: Replica) -> None:
    made = replica.make()
    replica.server.cloud.snapshots[made.snapshots[0].snapshot_id].status = "error"
    reverted = replica.revert(made)
    assert reverted.disk_keys == (2001,)
    assert "it is in state 'error'" in reverted.refused[0]
    assert replica.cloud.volumes.get_volume(made.snapshots[0].volume_id).status == "available"


def test_a_volume_that_is_another_jobs_has_neither_snapshot_nor_revert(replica: Replica) -> None:
    made = replica.make()
    other = replica.target.model_copy(update={"job_id": "warm-other"})
    with pytest.raises(Refused):
        make(replica.cloud, replica.order().model_copy(update={"target": other}), no_pulse)
    with pytest.raises(Refused):
        revert(replica.cloud, RevertVolumes(target=other, snapshots=made.snapshots), HOLDER, no_pulse)
