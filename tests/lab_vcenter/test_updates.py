"""Filters that are watched."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.lab_vcenter.client import PC, Remote, connected, filter_of, snapshot_of, vim, vm_named, vmodl, wait_for
from tests.lab_vcenter.conftest import Lab

QUICK = PC.WaitOptions(maxWaitSeconds=0)
PATIENT = PC.WaitOptions(maxWaitSeconds=10)


def changes(update_set: Remote) -> list[tuple[str, str, Any]]:
    return [
        (update.kind, change.name, change.val)
        for filter_update in update_set.filterSet
        for update in filter_update.objectSet
        for change in update.changeSet
    ]


def test_a_task_is_watched_from_running_to_success(lab: Lab, service: Remote, web: Remote) -> None:
    lab.server.faults.task_delay = 0.5
    task = web.PowerOn()
    collector = service.content.propertyCollector
    watch = collector.CreateFilter(filter_of([task], vim.Task, ["info.state", "info.error"]), partialUpdates=True)
    states: list[str] = []
    version = ""
    while not states or states[-1] not in {"success", "error"}:
        update_set = collector.WaitForUpdatesEx(version, PATIENT)
        version = update_set.version
        states += [value for _, name, value in changes(update_set) if name == "info.state"]
    assert states[-1] == "success"
    assert states[0] in {"queued", "running"}
    watch.DestroyPropertyFilter()
    assert collector.WaitForUpdatesEx(version, QUICK) is None


def test_only_what_changed_is_told_and_nothing_when_nothing_did(lab: Lab, service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["name", "runtime.powerState"]), partialUpdates=False)
    first = collector.WaitForUpdatesEx("", QUICK)
    assert sorted(changes(first)) == [("enter", "name", "web01"), ("enter", "runtime.powerState", "poweredOff")]
    assert collector.WaitForUpdatesEx(first.version, QUICK) is None
    lab.web.power_on()
    second = collector.WaitForUpdatesEx(first.version, PATIENT)
    assert changes(second) == [("modify", "runtime.powerState", "poweredOn")]


def test_an_answer_that_got_lost_is_given_again_for_the_version_before(lab: Lab, service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["runtime.powerState"]), partialUpdates=False)
    first = collector.WaitForUpdatesEx("", QUICK)
    lab.web.power_on()
    lost = collector.WaitForUpdatesEx(first.version, QUICK)
    again = collector.WaitForUpdatesEx(first.version, QUICK)
    assert changes(again) == changes(lost)


def test_a_version_that_was_never_told_is_refused(service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["name"]), partialUpdates=False)
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        collector.WaitForUpdatesEx("77", QUICK)


def test_a_snapshot_that_is_removed_leaves(service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    snapshot = snapshot_of(web)
    collector.CreateFilter(filter_of([snapshot], vim.vm.Snapshot, ["vm"]), partialUpdates=False)
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["snapshot"]), partialUpdates=False)
    first = collector.WaitForUpdatesEx("", QUICK)
    wait_for(snapshot.Remove(removeChildren=False))
    second = collector.WaitForUpdatesEx(first.version, PATIENT)
    kinds = {update.obj: update.kind for one in second.filterSet for update in one.objectSet}
    assert kinds == {snapshot: "leave", web: "modify"}
    assert [(change.name, change.op) for one in second.filterSet for u in one.objectSet for change in u.changeSet] == [
        ("snapshot", "remove")
    ]


def test_a_wait_ends_without_news_at_its_limit(service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["name"]), partialUpdates=False)
    first = collector.WaitForUpdatesEx("", QUICK)
    started = time.monotonic()
    assert collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=1)) is None
    assert 0.9 < time.monotonic() - started < 3


def test_a_wait_is_cancelled_from_another_thread(service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["name"]), partialUpdates=False)
    first = collector.WaitForUpdatesEx("", QUICK)
    timer = threading.Timer(0.3, collector.CancelWaitForUpdates)
    timer.start()
    with pytest.raises(vmodl.fault.RequestCanceled):
        collector.WaitForUpdatesEx(first.version, PATIENT)
    timer.join()


def test_collectors_do_not_see_each_others_filters(service: Remote, web: Remote) -> None:
    mine = service.content.propertyCollector.CreatePropertyCollector()
    mine.CreateFilter(filter_of([web], vim.VirtualMachine, ["name"]), partialUpdates=False)
    assert service.content.propertyCollector.WaitForUpdatesEx("", QUICK) is None
    assert mine.CheckForUpdates("") is not None
    mine.DestroyPropertyCollector()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        mine.CheckForUpdates("")


def test_a_filter_that_is_destroyed_twice_is_not_found(service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    watch = collector.CreateFilter(filter_of([web], vim.VirtualMachine, ["name"]), partialUpdates=False)
    watch.DestroyPropertyFilter()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        watch.DestroyPropertyFilter()


def test_a_filter_with_an_unknown_path_is_refused_when_it_is_made(service: Remote, web: Remote) -> None:
    with pytest.raises(vmodl.query.InvalidProperty):
        service.content.propertyCollector.CreateFilter(
            filter_of([web], vim.VirtualMachine, ["config.nonsense"]), partialUpdates=False
        )


def test_two_sessions_wait_at_once(lab: Lab, service: Remote) -> None:
    with connected(lab.server.port, lab.certificate) as other:
        results = []
        for client in (service, other):
            vm = vm_named(client, "web01")
            client.content.propertyCollector.CreateFilter(
                filter_of([vm], vim.VirtualMachine, ["runtime.powerState"]), partialUpdates=False
            )

        def watch(client: Remote) -> None:
            collector = client.content.propertyCollector
            first = collector.WaitForUpdatesEx("", QUICK)
            results.append(changes(collector.WaitForUpdatesEx(first.version, PATIENT)))

        threads = [threading.Thread(target=watch, args=(client,)) for client in (service, other)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        lab.web.power_on()
        for thread in threads:
            thread.join()
        assert results == [[("modify", "runtime.powerState", "poweredOn")]] * 2
