"""What administrators and accidents do to a VM between two syncs, through the activities and the real client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.source import SourceActivities
from lab.esxi.interface import DiskSpec
from lab.esxi.memory import GRAIN, MemoryMachine
from tests.vsphere.conftest import AVcenter
from xms.change_map import ByteRanges
from xms.config import Config, TargetConfig
from xms.errors import DatastoreFull, PowerOffNotConfirmed, VmNotFound, VmUnsupported
from xms.models import Baseline
from xms.orders.source import DiskPlan, PlanDisk, PowerOff, SnapshotDisk, SnapshotTaken
from xms.vsphere.bindings import vmodl


class AJob:
    """The source's side of a job: snapshots, and plans against the baselines of the snapshot before."""

    def __init__(self, vcenter: AVcenter) -> None:
        self.vcenter = vcenter
        self.activities = SourceActivities(Config(sources={"lab": vcenter.config}, target=TargetConfig(cloud="lab")))
        self.baselines: dict[int, str | None] = {}
        self.capacities: dict[int, int] = {}

    def enable(self) -> bool:
        return ActivityEnvironment().run(self.activities.enable_change_tracking, self.vcenter.order).turned_on_now

    def snapshot(self) -> SnapshotTaken:
        return ActivityEnvironment().run(self.activities.take_snapshot, self.vcenter.order)

    def sync(self) -> dict[int, DiskPlan]:
        taken = self.snapshot()
        plans = {disk.key: self.plan(taken, disk) for disk in taken.disks}
        self.baselines = {disk.key: disk.change_id for disk in taken.disks}
        self.capacities = {disk.key: disk.capacity for disk in taken.disks}
        return plans

    def plan(self, taken: SnapshotTaken, disk: SnapshotDisk) -> DiskPlan:
        order = PlanDisk(
            vm=self.vcenter.order,
            snapshot=taken.moref,
            disk=disk,
            baseline=Baseline(change_id=self.baselines.get(disk.key)),
            replica_capacity=self.capacities.get(disk.key, disk.capacity),
            volume_is_zeroed=False,
        )
        return ActivityEnvironment().run(self.activities.plan_disk, order)


@pytest.fixture
def job(vcenter: AVcenter) -> AJob:
    job = AJob(vcenter)
    job.enable()
    job.sync()
    return job


def lose_host(web: MemoryMachine) -> None:
    web.lose_host()
    web.power_on()


def move_storage(web: MemoryMachine) -> None:
    web.power_off()
    web.move_storage("ds2")
    web.power_on()


def turn_off_and_on(web: MemoryMachine) -> None:
    web.set_change_tracking(False)
    web.set_change_tracking(True)


@pytest.mark.parametrize(
    "accident",
    [MemoryMachine.reset_change_tracking, lose_host, move_storage, turn_off_and_on],
    ids=["revert", "host power loss", "storage migration", "tracking off and on"],
)
def test_another_epoch_of_change_tracking_reseeds_the_disk_with_the_reason(
    job: AJob, accident: Callable[[MemoryMachine], None]
) -> None:
    accident(job.vcenter.web)
    for plan in job.sync().values():
        assert plan.bytes == 1 << 30
        assert "began anew: its change id was of" in plan.reseed_reason
    assert [plan.bytes for plan in job.sync().values()] == [0, 0]


def test_a_reset_of_one_disk_reseeds_that_disk_only(job: AJob) -> None:
    web = job.vcenter.web
    web._disks[2001].forget()
    web.write(2000, 3 * GRAIN, b"x")
    plans = job.sync()
    assert (plans[2000].bytes, plans[2000].reseed_reason) == (GRAIN, "")
    assert plans[2001].bytes == 1 << 30
    assert "Hard disk 2" in plans[2001].reseed_reason


def test_change_tracking_that_was_turned_off_is_seen_in_the_snapshot_and_turned_on_again(job: AJob) -> None:
    job.vcenter.web.set_change_tracking(False)
    assert [disk.change_id for disk in job.snapshot().disks] == [None, None]
    assert job.enable()
    plans = job.sync()
    assert all("began anew" in plan.reseed_reason for plan in plans.values())


def test_change_tracking_that_was_lost_under_a_snapshot_of_somebody_else_needs_a_person(job: AJob) -> None:
    job.vcenter.web.set_change_tracking(False)
    job.vcenter.web.create_snapshot()
    with pytest.raises(VmUnsupported, match="while it has snapshots"):
        job.enable()


def test_a_disk_that_grew_is_copied_from_its_old_end_on(job: AJob) -> None:
    job.vcenter.web.grow(2000, (1 << 30) + 10 * GRAIN)
    plans = job.sync()
    assert list(ByteRanges.decode(plans[2000].ranges)) == [(1 << 30, 10 * GRAIN)]
    assert plans[2001].bytes == 0


def a_disk(key: int) -> DiskSpec:
    return DiskSpec(key=key, label="Hard disk 3", file=Path("/nowhere"), datastore_path="[ds1] web/new.vmdk")


def test_a_disk_that_was_added_is_copied_in_full_and_tracked_from_then_on(job: AJob) -> None:
    job.vcenter.web.add_disk(a_disk(2002), 1 << 20)
    plans = job.sync()
    assert (plans[2002].bytes, plans[2002].full, plans[2002].reseed_reason) == (1 << 20, True, "")
    job.vcenter.web.write(2002, 0, b"x")
    assert job.sync()[2002].bytes == GRAIN


def test_a_disk_that_was_removed_is_in_no_snapshot_any_more(job: AJob) -> None:
    job.vcenter.web.remove_disk(2001)
    assert list(job.sync()) == [2000]


def test_a_disk_that_took_the_place_of_another_is_not_taken_for_it(job: AJob) -> None:
    job.vcenter.web.add_disk(a_disk(2001), 1 << 30)
    plan = job.sync()[2001]
    assert plan.bytes == 1 << 30
    assert "began anew" in plan.reseed_reason


def test_a_disk_that_is_taken_out_while_its_snapshot_is_read_is_planned_to_its_end(job: AJob) -> None:
    job.vcenter.web.write(2001, 0, b"x")
    taken = job.snapshot()
    job.vcenter.web.remove_disk(2001)
    assert job.plan(taken, taken.disks[1]).bytes == GRAIN


def test_a_vm_that_was_renamed_is_found_by_its_reference_and_tells_its_new_name(job: AJob) -> None:
    job.vcenter.web.rename("web/old")
    taken = job.snapshot()
    assert taken.vm_name == "web/old"
    assert taken.name == "xms-warm-lab-web"
    assert taken.leftovers_removed == 1


def test_a_vm_that_was_moved_to_another_host_is_read_there(job: AJob) -> None:
    assert job.snapshot().host == "esxi-1.lab"
    job.vcenter.server.faults.moved.add("web")
    assert job.snapshot().host == "esxi-2.lab"


def test_a_vm_that_somebody_powered_off_is_synced_as_before_and_says_so(job: AJob) -> None:
    job.vcenter.web.write(2000, 0, b"x")
    job.vcenter.web.power_off()
    assert job.snapshot().power_state == "poweredOff"
    assert job.sync()[2000].bytes == GRAIN


def test_a_suspended_vm_is_synced_as_before_and_no_cutover_takes_it(job: AJob) -> None:
    job.vcenter.web.write(2000, 0, b"x")
    job.vcenter.web.suspend()
    assert job.snapshot().power_state == "suspended"
    assert job.sync()[2000].bytes == GRAIN
    with pytest.raises(PowerOffNotConfirmed, match="is suspended"):
        ActivityEnvironment().run(job.activities.power_off, PowerOff(vm=job.vcenter.order))


def test_a_vm_that_was_deleted_needs_a_person_and_its_volumes_are_said_to_be_kept(job: AJob) -> None:
    job.vcenter.server.delete_vm("web")
    with pytest.raises(VmNotFound) as gone:
        job.snapshot()
    assert gone.value.needs_person
    assert "the volumes are kept" in gone.value.means
    assert "abandon this job" in gone.value.do
    assert ActivityEnvironment().run(job.activities.remove_snapshots, job.vcenter.order).removed == 0


def test_a_snapshot_is_refused_by_the_sources_own_reserve(job: AJob) -> None:
    job.vcenter.server.faults.free_space["ds1"] = 9 << 30
    with pytest.raises(DatastoreFull, match="no snapshot of web is made"):
        job.snapshot()


def test_an_answer_that_breaks_off_in_the_middle_of_its_pages_is_asked_for_again_as_a_whole(job: AJob) -> None:
    web, faults = job.vcenter.web, job.vcenter.server.faults
    for grain in range(0, 20, 2):
        web.write(2000, grain * GRAIN, b"x")
    faults.page_size = 3
    taken = job.snapshot()
    faults.fail("QueryChangedDiskAreas", vmodl.fault.HostCommunication, times=1)
    with pytest.raises(Exception, match="did not tell what changed"):
        job.plan(taken, taken.disks[0])
    assert job.plan(taken, taken.disks[0]).areas == 10
