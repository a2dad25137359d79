"""A worker's claim on a volume, on the stand-in cloud."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, volume_order
from xms.errors import Interrupted, LeaseLost, Refused, TargetUnreachable, VolumeBusy
from xms.models import Model
from xms.openstack import attachments, host_connection, volumes
from xms.openstack.claim import Claim, claim_volume, claim_volumes, keep_alive
from xms.openstack.cloud import Cloud
from xms.openstack.lease import Holder, Lease, LeaseRecord, MetadataLease
from xms.openstack.steps import showing_life
from xms.orders.target import TargetOrder
from xms.pulse import Pulse, no_pulse

LEASE = 2.0


@pytest.fixture
def volume_id(cloud: Cloud, target: TargetOrder) -> str:
    return volumes.make(cloud, volume_order(target), no_pulse).volume_id


def claimed(
    cloud: Cloud, target: TargetOrder, volume_id: str, *, worker: str = "worker-1", pulse: Pulse = no_pulse
) -> AbstractContextManager[Claim]:
    return claim_volume(cloud, volume_id, job_id=target.job_id, worker=worker, lease_seconds=LEASE, pulse=pulse)


def die_holding(cloud: Cloud, volume_id: str) -> Lease:
    """What a worker leaves that is killed while it writes: leased, attached, never given back."""
    lease = Lease(MetadataLease(cloud, volume_id), volume=volume_id, worker="worker-1", seconds=LEASE)
    lease.claim(no_pulse)
    attachment = cloud.volumes.create_attachment(
        volume_id, connector={"host": "worker-1", "ip": "127.0.0.1"}, mode="rw"
    )
    cloud.volumes.complete_attachment(attachment.id)
    return lease


def test_a_claimed_volume_is_a_path_of_its_size_that_keeps_what_is_written(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str
) -> None:
    with claimed(cloud, target, volume_id) as claim:
        assert claim.size == GIB
        claim.check()
        with Path(claim.path).open("r+b") as file:
            file.write(b"xms")
        assert cloud.volumes.get_volume(volume_id).status == "in-use"
    with cloud_server.volume_file(volume_id).open("rb") as file:
        assert file.read(3) == b"xms"
    volume = cloud.volumes.get_volume(volume_id)
    assert (volume.status, volume.attachments) == ("available", [])
    record = LeaseRecord.parse(volume.metadata["xms_lease"])
    assert record is not None
    assert (record.worker, record.count) == ("worker-1", None)


def test_a_second_worker_is_kept_out_while_the_first_lives(cloud: Cloud, target: TargetOrder, volume_id: str) -> None:
    with claimed(cloud, target, volume_id) as claim:
        with (
            pytest.raises(VolumeBusy, match="worker-1"),
            claimed(cloud, target, volume_id, worker="worker-2", pulse=keep_alive([claim], no_pulse)),
        ):
            pytest.fail("it got in")
        claim.check()
        assert cloud.volumes.get_volume(volume_id).status == "in-use"


def test_a_killed_workers_claim_is_taken_over_with_its_attachment(
    cloud: Cloud, target: TargetOrder, volume_id: str
) -> None:
    dead = die_holding(cloud, volume_id)
    with claimed(cloud, target, volume_id, worker="worker-2") as claim:
        assert len(attachments.of_workers(cloud, volume_id)) == 1
        assert claim.previous == dead.token
        with pytest.raises(LeaseLost):
            dead.check()
        with pytest.raises(LeaseLost):
            dead.renew()
    assert cloud.volumes.get_volume(volume_id).status == "available"


def test_a_reservation_that_never_became_an_attachment_is_taken_over(
    cloud: Cloud, target: TargetOrder, volume_id: str
) -> None:
    cloud.volumes.create_attachment(volume_id, mode="rw")
    with claimed(cloud, target, volume_id) as claim:
        claim.check()


def test_an_attachment_that_came_after_the_listing_is_not_removed(
    cloud: Cloud, target: TargetOrder, volume_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = die_holding(cloud, volume_id)
    quicker: list[str] = []

    def somebody_else_is_quicker(detail: Model | None = None) -> None:
        del detail
        if not quicker:
            attachments.remove(cloud, attachments.of_workers(cloud, volume_id))
            made = cloud.volumes.create_attachment(volume_id, connector={"host": "w3", "ip": "127.0.0.1"}, mode="rw")
            quicker.append(str(made.id))

    monkeypatch.setattr(attachments, "wait_available", lambda cloud, wanted, **_named: cloud.volumes.get_volume(wanted))
    with (
        pytest.raises(VolumeBusy, match="was not attached to worker worker-2"),
        claimed(cloud, target, volume_id, worker="worker-2", pulse=somebody_else_is_quicker),
    ):
        pytest.fail("it got in")
    assert dead.token
    assert list(attachments.of_workers(cloud, volume_id)) == quicker


def test_two_volumes_are_claimed_together_and_both_kept(cloud: Cloud, target: TargetOrder, volume_id: str) -> None:
    second = volumes.make(cloud, volume_order(target, key=2001), no_pulse).volume_id
    die_holding(cloud, second)
    with claim_volumes(
        cloud, [volume_id, second], job_id=target.job_id, holder=Holder("worker-2", LEASE), pulse=no_pulse
    ) as claims:
        # Waiting out the dead holder of the second took longer than the first one's lease.
        for claim in claims:
            claim.check()
        assert [claim.volume_id for claim in claims] == [volume_id, second]


def test_a_volume_of_another_job_is_not_touched(cloud: Cloud, volume_id: str) -> None:
    with (
        pytest.raises(Refused, match="is not touched"),
        claim_volume(cloud, volume_id, job_id="warm-other", worker="w", lease_seconds=LEASE, pulse=no_pulse),
    ):
        pytest.fail("it got in")
    assert "xms_lease" not in cloud.volumes.get_volume(volume_id).metadata


def test_the_works_own_failure_is_the_one_that_is_told(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str
) -> None:
    def work() -> None:
        with claimed(cloud, target, volume_id):
            cloud_server.faults.refuse("volume", 200)
            raise Interrupted("stop")

    with pytest.raises(Interrupted) as error:
        work()
    cloud_server.faults.refuse("volume", 0)
    assert any("was not given back" in note for note in error.value.__notes__)


def test_a_failed_return_after_good_work_is_told(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str
) -> None:
    with pytest.raises(TargetUnreachable), claimed(cloud, target, volume_id):
        cloud_server.faults.refuse("volume", 200)
    cloud_server.faults.refuse("volume", 0)


def test_an_interruption_while_waiting_for_a_dead_holder_leaves_its_record(
    cloud: Cloud, target: TargetOrder, volume_id: str
) -> None:
    dead = die_holding(cloud, volume_id)
    before = cloud.volumes.get_volume(volume_id).metadata["xms_lease"]

    def stop(detail: Model | None = None) -> None:
        del detail
        raise Interrupted("stop")

    with pytest.raises(Interrupted), claimed(cloud, target, volume_id, worker="worker-2", pulse=stop):
        pytest.fail("it got in")
    assert cloud.volumes.get_volume(volume_id).metadata["xms_lease"] == before
    assert dead.token in before


def test_a_connector_names_the_worker_and_how_it_is_reached() -> None:
    found = host_connection.connector_properties("worker-7", "127.0.0.1")
    assert (found["host"], found["ip"]) == ("worker-7", "127.0.0.1")
    assert "platform" in found


def test_a_back_end_that_takes_its_time_is_waited_for_with_signs_of_life() -> None:
    beats: list[Model | None] = []

    def beat(detail: Model | None = None) -> None:
        beats.append(detail)
        raise Interrupted("the work has to stop")

    def log_in() -> str:
        time.sleep(1.7)
        return "/dev/sdx"

    assert showing_life(log_in, beat) == "/dev/sdx"
    assert len(beats) == 3
