"""The stand-in's switches: any method fails with any fault, and what happens to VMs beside the API is seen in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.esxi.interface import DiskSpec, PowerStateError
from lab.esxi.memory import GRAIN
from lab.vcenter.switches import Page
from tests.lab_vcenter.client import (
    Remote,
    areas,
    change_id_of,
    disks_of,
    snapshot_of,
    turn_tracking,
    vim,
    vm_named,
    vmodl,
    wait_for,
)
from tests.lab_vcenter.conftest import Lab

CAPACITY = 1 << 20


def test_a_method_fails_as_often_as_it_is_told_to(lab: Lab, service: Remote) -> None:
    lab.server.faults.fail("CurrentTime", lambda: vmodl.fault.HostCommunication(msg="no"), times=2)
    for _ in range(2):
        with pytest.raises(vmodl.fault.HostCommunication):
            service.CurrentTime()
    assert service.CurrentTime()


def test_a_method_fails_always_until_it_is_told_not_to(lab: Lab, service: Remote) -> None:
    lab.server.faults.fail("CurrentTime", vmodl.fault.HostCommunication, times=None)
    for _ in range(3):
        with pytest.raises(vmodl.fault.HostCommunication):
            service.CurrentTime()
    lab.server.faults.fail("CurrentTime", vmodl.fault.HostCommunication, times=0)
    assert service.CurrentTime()


def test_a_method_may_succeed_and_its_task_fail_without_having_done_anything(lab: Lab, web: Remote) -> None:
    lab.server.faults.fail("CreateSnapshot_Task", lambda: vim.fault.SnapshotLocked(msg="busy"), in_task=True)
    task = web.CreateSnapshot(name="ours", description="", memory=False, quiesce=False)
    with pytest.raises(vim.fault.SnapshotLocked):
        wait_for(task)
    assert web.snapshot is None
    assert snapshot_of(web)


def test_a_quiesced_snapshot_alone_can_fail_and_leaves_one_behind(lab: Lab, web: Remote) -> None:
    lab.web.power_on()
    lab.server.faults.quiesce_fault = lambda: vim.fault.FilesystemQuiesceFault(msg="timed out")
    with pytest.raises(vim.fault.FilesystemQuiesceFault):
        wait_for(web.CreateSnapshot(name="ours", description="", memory=False, quiesce=True))
    assert web.snapshot.rootSnapshotList[0].name == "ours"
    assert snapshot_of(web, "another")


def test_an_answer_of_change_tracking_can_be_any_other(lab: Lab, web: Remote) -> None:
    turn_tracking(web, on=True)
    lab.web.write(2000, 0, b"x")
    snapshot = snapshot_of(web)
    asked = []

    def change(offset: int, page: Page) -> Page:
        asked.append((offset, page))
        return 5, 2 * CAPACITY, [(7, -1)]

    lab.server.faults.change_page = change
    page = web.QueryChangedDiskAreas(snapshot, 2000, 0, "*")
    assert (page.startOffset, page.length) == (5, 2 * CAPACITY)
    assert [(area.start, area.length) for area in page.changedArea] == [(7, -1)]
    assert asked == [(0, (0, CAPACITY, [(0, GRAIN)]))]


def test_a_datastore_has_as_much_free_as_it_is_told(lab: Lab, web: Remote) -> None:
    (datastore,) = web.datastore
    assert datastore.summary.freeSpace > 1 << 40
    lab.server.faults.free_space["ds1"] = 7
    datastore.RefreshDatastore()
    assert datastore.summary.freeSpace == 7


def test_a_moved_vm_is_on_the_second_host(lab: Lab, web: Remote) -> None:
    assert web.runtime.host.name == "esxi-1.lab"
    lab.server.faults.moved.add("web01")
    assert web.runtime.host.name == "esxi-2.lab"


def test_a_renamed_vm_keeps_its_reference_and_its_files(lab: Lab, service: Remote, web: Remote) -> None:
    lab.web.rename("web/99")
    assert web.name == "web%2f99"
    assert vm_named(service, "web01") is None
    assert web.config.files.vmPathName.startswith("[ds1] web01/")


def test_a_deleted_vm_is_not_found_and_in_no_list(lab: Lab, service: Remote, web: Remote) -> None:
    lab.server.delete_vm("web01")
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = web.name
    assert vm_named(service, "web01") is None
    assert vm_named(service, "db01").name == "db01"


def test_a_suspended_vm_is_no_running_one_and_can_be_resumed(lab: Lab, web: Remote) -> None:
    lab.web.power_on()
    lab.web.suspend()
    assert web.runtime.powerState == "suspended"
    with pytest.raises(PowerStateError):
        lab.web.suspend()
    with pytest.raises(vim.fault.InvalidPowerState):
        web.ShutdownGuest()
    wait_for(web.PowerOn())
    assert web.runtime.powerState == "poweredOn"


def test_a_lost_host_leaves_its_vm_off_and_without_its_old_change_ids(lab: Lab, web: Remote) -> None:
    turn_tracking(web, on=True)
    lab.web.power_on()
    since = change_id_of(snapshot_of(web))
    lab.web.lose_host()
    assert web.runtime.powerState == "poweredOff"
    with pytest.raises(vmodl.fault.InvalidArgument, match="changeId"):
        areas(web, snapshot_of(web, "later"), since)


def test_a_storage_migration_is_of_a_vm_that_is_off_and_begins_another_epoch(lab: Lab, web: Remote) -> None:
    turn_tracking(web, on=True)
    since = change_id_of(snapshot_of(web))
    lab.web.move_storage("ds1")
    assert change_id_of(snapshot_of(web, "later")).split("/")[0] != since.split("/")[0]
    lab.web.power_on()
    with pytest.raises(PowerStateError):
        lab.web.move_storage("ds1")


def test_a_disk_that_is_added_or_taken_out_changes_the_vm_and_not_its_snapshots(lab: Lab, web: Remote) -> None:
    before = snapshot_of(web)
    spec = DiskSpec(key=2001, label="Hard disk 2", file=Path("/nowhere"), datastore_path="[ds1] web01/new.vmdk")
    lab.web.add_disk(spec, 2 * CAPACITY)
    assert disks_of(web.config)[2001].capacityInBytes == 2 * CAPACITY
    assert set(disks_of(before.config)) == {2000}
    both = snapshot_of(web, "both")
    lab.web.remove_disk(2001)
    assert set(disks_of(web.config)) == {2000}
    assert set(disks_of(both.config)) == {2000, 2001}
