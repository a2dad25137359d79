"""Tasks, and the snapshots that they make and remove."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab_vcenter.client import Remote, snapshot_of, vim, vmodl, wait_for
from tests.lab_vcenter.conftest import Lab


def start_snapshot(vm: Remote, name: str = "xms-job") -> Remote:
    return vm.CreateSnapshot(name=name, description="", memory=False, quiesce=False)


def read_for_ever(snapshot: Remote) -> None:
    while True:
        _ = snapshot.config


def test_a_task_tells_what_it_is_and_is_kept_as_recent(service: Remote, web: Remote) -> None:
    task = start_snapshot(web)
    wait_for(task)
    info = task.info
    assert (info.state, info.progress, info.descriptionId) == ("success", 100, "VirtualMachine.createSnapshot")
    assert (info.entity, info.entityName, info.reason.userName) == (web, "web01", "xms@lab")
    assert info.queueTime <= info.startTime <= info.completeTime
    assert list(web.recentTask) == [task]
    assert task in service.content.taskManager.recentTask


def test_a_delayed_task_shows_progress_while_it_runs(lab: Lab, web: Remote) -> None:
    lab.server.faults.task_delay = 0.8
    task = start_snapshot(web)
    seen = set()
    while task.info.state in {"queued", "running"}:
        seen.add(task.info.progress)
    assert len(seen - {None, 0, 100}) >= 2


def test_a_snapshot_is_named_numbered_and_dated(web: Remote) -> None:
    snapshot = snapshot_of(web, "xms-warm-lab-web01")
    (node,) = web.snapshot.rootSnapshotList
    assert snapshot._moId == "snapshot-101-1"
    assert (node.name, node.snapshot, node.vm, node.id) == ("xms-warm-lab-web01", snapshot, web, 1)
    assert abs(node.createTime - datetime.now(UTC)) < timedelta(seconds=30)
    assert node.state == "poweredOff"
    assert web.snapshot.currentSnapshot == snapshot


def test_snapshots_are_a_chain_and_the_foreign_ones_stay(web: Remote) -> None:
    foreign, ours = snapshot_of(web, "before the upgrade"), snapshot_of(web)
    (root,) = web.snapshot.rootSnapshotList
    assert [root.name, root.childSnapshotList[0].name] == ["before the upgrade", "xms-job"]
    assert list(foreign.childSnapshot) == [ours]
    wait_for(ours.Remove(removeChildren=False))
    (root,) = web.snapshot.rootSnapshotList
    assert (root.snapshot, list(root.childSnapshotList)) == (foreign, [])
    assert web.snapshot.currentSnapshot == foreign


def test_a_snapshot_made_on_the_host_itself_is_seen(lab: Lab, web: Remote) -> None:
    lab.web.create_snapshot()
    assert web.snapshot.rootSnapshotList[0].name == "Snapshot 1"
    lab.web.remove_snapshot(1)
    assert web.snapshot is None


def test_removing_with_children_removes_what_came_after(web: Remote) -> None:
    oldest, middle, _ = (snapshot_of(web, name) for name in ("a", "b", "c"))
    wait_for(middle.Remove(removeChildren=True))
    assert web.snapshot.currentSnapshot == oldest
    assert list(oldest.childSnapshot) == []


def test_all_snapshots_are_removed_at_once(lab: Lab, web: Remote) -> None:
    for name in "abc":
        snapshot_of(web, name)
    wait_for(web.RemoveAllSnapshots())
    assert web.snapshot is None
    assert lab.web.snapshots == ()


def test_a_removed_snapshot_is_not_found(web: Remote) -> None:
    snapshot = snapshot_of(web)
    wait_for(snapshot.Remove(removeChildren=False))
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        snapshot.Remove(removeChildren=False)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = snapshot.config


def test_a_busy_vm_takes_no_second_task_and_another_vm_does(lab: Lab, web: Remote, database: Remote) -> None:
    lab.web.may_finish_snapshot = threading.Event()
    running = start_snapshot(web)
    try:
        with pytest.raises(vim.fault.TaskInProgress) as caught:
            start_snapshot(web, "another")
        assert caught.value.task == running
        wait_for(start_snapshot(database))
    finally:
        lab.web.may_finish_snapshot.set()
    assert wait_for(running) == web.snapshot.currentSnapshot
    wait_for(start_snapshot(web, "another"))


def test_a_refused_snapshot_is_an_error_of_its_task_and_leaves_nothing(lab: Lab, web: Remote) -> None:
    lab.server.faults.refuse_snapshots = True
    with pytest.raises(vim.fault.SnapshotFault, match="while saving the snapshot"):
        wait_for(start_snapshot(web))
    assert web.snapshot is None
    lab.server.faults.refuse_snapshots = False
    assert snapshot_of(web)


def test_a_host_that_breaks_is_an_error_of_the_task(
    lab: Lab, web: Remote, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> int:
        raise OSError("no space left on the datastore")

    monkeypatch.setattr(lab.web, "create_snapshot", break_down)
    with pytest.raises(vmodl.fault.SystemError, match="no space left"):
        wait_for(start_snapshot(web))
    assert "VirtualMachine.createSnapshot" in caplog.text


def test_the_chain_ends_at_its_limit(lab: Lab, web: Remote) -> None:
    for _ in range(32):
        lab.web.create_snapshot()
    with pytest.raises(vim.fault.TooManySnapshotLevels):
        wait_for(start_snapshot(web))


def test_a_snapshot_without_a_name_is_refused(web: Remote) -> None:
    with pytest.raises(vmodl.fault.InvalidArgument):
        start_snapshot(web, "")


def test_a_task_cannot_be_cancelled(web: Remote) -> None:
    with pytest.raises(vmodl.fault.NotSupported):
        start_snapshot(web).Cancel()


def test_a_snapshot_is_seen_only_when_its_task_is_done_and_then_by_its_name(lab: Lab, web: Remote) -> None:
    lab.web.may_finish_snapshot = threading.Event()
    running = start_snapshot(web, "ours")
    try:
        while not lab.web.snapshots:
            time.sleep(0.01)
        unseen = web.snapshot
    finally:
        lab.web.may_finish_snapshot.set()
    assert unseen is None
    wait_for(running)
    assert web.snapshot.rootSnapshotList[0].name == "ours"


def test_reading_a_snapshot_while_it_is_removed_never_breaks_the_server(lab: Lab, web: Remote) -> None:
    for _ in range(10):
        snapshot = snapshot_of(web)
        task = snapshot.Remove(removeChildren=False)
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            read_for_ever(snapshot)
        wait_for(task)
    assert lab.web.snapshots == ()
