"""Change tracking: turned on for good, and asked so that nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from lab.esxi.memory import GRAIN
from tests.vsphere.conftest import AVcenter, CountingPulse
from xms.errors import (
    ChangeTrackingBroken,
    ChangeTrackingReset,
    ChangeTrackingUnavailable,
    Interrupted,
    SnapshotLost,
    SourceFault,
    VmUnsupported,
)
from xms.orders.source import SnapshotTaken, VmOrder
from xms.vsphere import change_tracking
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.inventory import find_vm
from xms.vsphere.session import VsphereSession
from xms.vsphere.snapshots import remove_snapshots, take_snapshot


def snapshots_made(vcenter: AVcenter) -> int:
    return vcenter.web._made


def a_query(vcenter: AVcenter, taken: SnapshotTaken, number: int = 0) -> ChangeQuery:
    return ChangeQuery(vm=vcenter.order, snapshot=taken.moref, disk=taken.disks[number])


# --- turning it on ----------------------------------------------------------------------------------------------------


def test_on_a_running_vm_it_takes_effect_by_a_snapshot_that_is_removed(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    assert enable_change_tracking(session, vcenter.order, pulse=pulse).turned_on_now
    vm = find_vm(session, "web")
    assert vm.change_tracking_enabled
    assert all(disk.change_id for disk in vm.disks)
    assert snapshots_made(vcenter) == 1
    assert vm.snapshots == ()


def test_a_vm_that_is_off_needs_no_snapshot(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    vcenter.web.power_off()
    assert enable_change_tracking(session, vcenter.order, pulse=pulse).turned_on_now
    assert snapshots_made(vcenter) == 0
    assert all(disk.change_id for disk in find_vm(session, "web").disks)


def test_where_it_is_on_nothing_is_done(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    enable_change_tracking(session, vcenter.order, pulse=pulse)
    vcenter.web.create_snapshot()
    assert not enable_change_tracking(session, vcenter.order, pulse=pulse).turned_on_now
    assert snapshots_made(vcenter) == 2


def test_turned_on_but_without_effect_it_is_made_effective(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.set_change_tracking(True)
    assert enable_change_tracking(session, vcenter.order, pulse=pulse).turned_on_now
    assert all(disk.change_id for disk in find_vm(session, "web").disks)


@pytest.mark.parametrize("beat", range(1, 9))
def test_killed_anywhere_and_run_again_it_is_on_and_no_snapshot_is_left(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, beat: int
) -> None:
    vcenter.server.faults.task_delay = 0.15
    try:
        enable_change_tracking(session, vcenter.order, pulse=CountingPulse(stop_at=beat, stop_with=Interrupted))
    except Interrupted:
        enable_change_tracking(session, vcenter.order, pulse=pulse)
        remove_snapshots(session, vcenter.order, pulse=pulse)
    vm = find_vm(session, "web")
    assert vm.snapshots == ()
    assert all(disk.change_id for disk in vm.disks)


def test_it_is_not_turned_on_under_snapshots_of_others(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.create_snapshot()
    with pytest.raises(VmUnsupported, match="while it has snapshots") as refused:
        enable_change_tracking(session, vcenter.order, pulse=pulse)
    assert "'Snapshot 1'" in refused.value.because
    assert not find_vm(session, "web").change_tracking_enabled


def test_a_snapshot_that_a_crash_of_ours_left_does_not_stand_in_the_way(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    take_snapshot(session, vcenter.order, pulse=pulse)
    assert enable_change_tracking(session, vcenter.order, pulse=pulse).turned_on_now


def test_a_disk_without_a_change_id_at_the_end_is_an_error(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = vcenter.web.change_id

    def all_but_the_second(disk_key: int, sequence: int | None) -> str | None:
        return None if disk_key == 2001 else tracked(disk_key, sequence)

    monkeypatch.setattr(vcenter.web, "change_id", all_but_the_second)
    with pytest.raises(ChangeTrackingUnavailable, match="did not take effect") as failed:
        enable_change_tracking(session, vcenter.order, pulse=pulse)
    assert "Hard disk 2" in failed.value.because
    assert "Hard disk 1" not in failed.value.because
    assert find_vm(session, "web").snapshots == ()


@pytest.mark.parametrize(
    ("state", "kind", "told"),
    [
        ({"config.version": "vmx-04"}, VmUnsupported, "vmx-04"),
        ({"config.version": ""}, VmUnsupported, "unknown version"),
        ({"config.version": "vmx-19", "capability.changeTrackingSupported": False}, ChangeTrackingUnavailable, "host"),
    ],
)
def test_a_vm_that_cannot_be_tracked_is_refused(state: dict[str, object], kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        change_tracking._refuse_unfit(state, vm="web")


# --- asking it --------------------------------------------------------------------------------------------------------


@pytest.fixture
def first(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> SnapshotTaken:
    enable_change_tracking(session, vcenter.order, pulse=pulse)
    return take_snapshot(session, vcenter.order, pulse=pulse)


def test_exactly_what_changed_between_two_snapshots_is_told(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    vcenter.web.write(2000, 5 * GRAIN + 10, b"x")
    vcenter.web.write(2001, 9 * GRAIN, b"x")
    second = take_snapshot(session, vcenter.order, pulse=pulse)
    vcenter.web.write(2000, 7 * GRAIN, b"x")
    since = str(first.disks[0].change_id)
    assert list(query_changes(session, a_query(vcenter, second), since=since, pulse=pulse)) == [(5 * GRAIN, GRAIN)]


def test_more_areas_than_a_page_holds_are_all_told(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    for grain in range(0, 9000, 2):
        vcenter.web.write(2000, grain * GRAIN, b"x")
    second = take_snapshot(session, vcenter.order, pulse=pulse)
    since = str(first.disks[0].change_id)
    told = list(query_changes(session, a_query(vcenter, second), since=since, pulse=pulse))
    assert told == [(grain * GRAIN, GRAIN) for grain in range(0, 9000, 2)]


def test_an_empty_page_is_not_the_end_of_the_change_map(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    vcenter.server.faults.empty_pages = True
    vcenter.server.faults.page_size = 1
    grains = (0, 100, 102, 5000, (1 << 30) // GRAIN - 1)
    for grain in grains:
        vcenter.web.write(2000, grain * GRAIN, b"x")
    second = take_snapshot(session, vcenter.order, pulse=pulse)
    since = str(first.disks[0].change_id)
    told = list(query_changes(session, a_query(vcenter, second), since=since, pulse=pulse))
    assert told == [(grain * GRAIN, GRAIN) for grain in grains]


def test_the_allocated_areas_are_told(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    vcenter.web.write(2000, 3 * GRAIN, b"x" * 2 * GRAIN)
    told = list(query_changes(session, a_query(vcenter, first), since=ALLOCATED, pulse=pulse))
    assert told == [(3 * GRAIN, 2 * GRAIN)]


def test_where_the_allocated_areas_are_refused_change_tracking_counts_as_broken(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    vcenter.server.faults.refuse_allocated_map = True
    with pytest.raises(ChangeTrackingBroken, match="Hard disk 1 of web") as failed:
        list(query_changes(session, a_query(vcenter, first), since=ALLOCATED, pulse=pulse))
    assert "Error caused by file /vmfs/volumes/" in failed.value.because


def test_a_change_id_of_another_epoch_is_a_reset(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    vcenter.web.reset_change_tracking()
    second = take_snapshot(session, vcenter.order, pulse=pulse)
    with pytest.raises(ChangeTrackingReset, match="began anew"):
        list(query_changes(session, a_query(vcenter, second), since=str(first.disks[0].change_id), pulse=pulse))


def test_a_change_id_that_vsphere_does_not_know_is_a_reset(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    since = str(first.disks[0].change_id)
    vcenter.web.reset_change_tracking()
    second = take_snapshot(session, vcenter.order, pulse=pulse)
    disk = second.disks[0].model_copy(update={"change_id": since})
    query = ChangeQuery(vm=vcenter.order, snapshot=second.moref, disk=disk)
    with pytest.raises(ChangeTrackingReset) as failed:
        list(query_changes(session, query, since=since, pulse=pulse))
    assert "InvalidArgument" in failed.value.because


def test_a_change_id_younger_than_the_snapshots_is_a_reset(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    epoch = str(first.disks[0].change_id).rpartition("/")[0]
    with pytest.raises(ChangeTrackingReset, match="began anew") as failed:
        list(query_changes(session, a_query(vcenter, first), since=f"{epoch}/999", pulse=pulse))
    assert "went back" in failed.value.because


def test_a_snapshot_without_a_change_id_tells_nothing(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    with pytest.raises(ChangeTrackingBroken, match="cannot tell"):
        list(query_changes(session, a_query(vcenter, taken), since="52 aa-bb/1", pulse=pulse))


def test_a_snapshot_that_is_gone_is_lost(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    remove_snapshots(session, vcenter.order, pulse=pulse)
    with pytest.raises(SnapshotLost):
        list(query_changes(session, a_query(vcenter, first), since=ALLOCATED, pulse=pulse))


def test_a_disk_that_vsphere_does_not_track_counts_as_broken(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, first: SnapshotTaken
) -> None:
    disk = first.disks[0].model_copy(update={"key": 2999})
    query = ChangeQuery(vm=vcenter.order, snapshot=first.moref, disk=disk)
    with pytest.raises(ChangeTrackingBroken, match="cannot tell"):
        list(query_changes(session, query, since=ALLOCATED, pulse=pulse))


# --- answers that the stand-in does not give --------------------------------------------------------------------------


Page = tuple[int, int, list[tuple[int, int]]]


@dataclass
class Scripted:
    """A session whose VM answers QueryChangedDiskAreas from a script, and keeps what it was asked."""

    answer: Callable[[int], object]
    name: str = "scripted"
    asked: list[int] = field(default_factory=list)

    def virtual_machine(self, _moref: str) -> Scripted:
        return self

    def snapshot(self, moref: str) -> str:
        return moref

    def QueryChangedDiskAreas(self, *, startOffset: int, **_: object) -> object:  # noqa: N802, N803 - pyVmomi's names
        self.asked.append(startOffset)
        return self.answer(startOffset)


@pytest.fixture
def the_snapshot_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_tracking, "_refuse_lost_snapshot", lambda *_: None)
    monkeypatch.setattr(change_tracking, "TRY_AGAIN_SECONDS", 0.0)


def a_page(start: int, length: int, areas: list[tuple[int, int]]) -> object:
    info: Any = vim.VirtualMachine.DiskChangeInfo
    return info(
        startOffset=start,
        length=length,
        changedArea=[info.DiskChangeExtent(start=at, length=size) for at, size in areas],
    )


def ask(scripted: Scripted, capacity: int) -> list[tuple[int, int]]:
    disk = {"key": 2000, "label": "Hard disk 1", "capacity": capacity, "path": "[ds1] a.vmdk", "change_id": "e/2"}
    taken = SnapshotTaken.model_validate(
        {"moref": "snapshot-101-1", "name": "n", "taken_at": "2026-01-01T00:00:00Z", "disks": [disk]}
    )
    order = VmOrder(job_id="job", source="lab", moref="vm-101", vm="web")
    session = cast("VsphereSession", scripted)
    return list(
        query_changes(
            session,
            ChangeQuery(vm=order, snapshot=taken.moref, disk=taken.disks[0]),
            since="e/1",
            pulse=CountingPulse(),
        )
    )


def test_nothing_is_asked_at_or_beyond_the_capacity() -> None:
    scripted = Scripted(lambda start: a_page(start, 500, []))
    assert ask(scripted, 1000) == []
    assert scripted.asked == [0, 500]


def test_areas_are_cut_to_the_capacity() -> None:
    scripted = Scripted(lambda start: a_page(start, 1024, [(900, 200), (1024, 64)]))
    assert ask(scripted, 1000) == [(900, 100)]


@pytest.mark.parametrize(
    "page",
    [
        (0, 0, []),
        (0, 0, [(0, 64)]),
        (64, 936, [(64, 64)]),
        (0, 1000, [(0, 0)]),
        (0, 1000, [(64, -64)]),
        (0, 1000, [(-64, 64)]),
    ],
)
def test_an_answer_that_cannot_be_right_is_not_believed(page: Page) -> None:
    with pytest.raises(ChangeTrackingBroken, match="cannot tell"):
        ask(Scripted(lambda _: a_page(*page)), 1000)


def refusing(fault: Exception) -> Callable[[int], object]:
    def refuse(_start: int) -> object:
        raise fault

    return refuse


@pytest.mark.usefixtures("the_snapshot_is_there")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (vmodl.fault.InvalidArgument(invalidProperty="changeId"), ChangeTrackingReset),
        (vmodl.fault.InvalidArgument(invalidProperty="deviceKey"), ChangeTrackingBroken),
        (vmodl.fault.InvalidArgument(msg="A specified parameter was not correct: deviceKey"), ChangeTrackingBroken),
        (vmodl.fault.InvalidArgument(msg="A specified parameter was not correct: changeId"), ChangeTrackingReset),
        (vim.fault.FileFault(file="[ds1] a.vmdk", msg="Error caused by file"), ChangeTrackingBroken),
        (vmodl.fault.NotSupported(), ChangeTrackingBroken),
        (vmodl.fault.SystemError(reason="?"), ChangeTrackingBroken),
        (vim.fault.InvalidState(), SourceFault),
        (vmodl.fault.HostCommunication(), SourceFault),
    ],
)
def test_faults_are_told_apart(fault: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask(Scripted(refusing(fault)), 1000)


def test_a_general_error_of_vcenter_is_asked_about_again_before_a_disk_is_copied_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_tracking, "TRY_AGAIN_SECONDS", 0.0)
    errors = [vmodl.fault.SystemError(reason="?")] * 2

    def answer(start: int) -> object:
        if errors:
            raise errors.pop()
        return a_page(start, 1000, [(0, 64)])

    assert ask(Scripted(answer), 1000) == [(0, 64)]
