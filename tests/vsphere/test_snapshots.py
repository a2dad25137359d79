"""Snapshots of a sync: made anew, found by name after a crash, removed, and nobody else's touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.vsphere.conftest import AVcenter, CountingPulse
from xms.errors import Interrupted, SnapshotFailed, VmNotFound, VmUnsupported
from xms.vsphere import snapshots
from xms.vsphere.bindings import vim
from xms.vsphere.change_tracking import enable_change_tracking
from xms.vsphere.inventory import find_vm
from xms.vsphere.session import VsphereSession
from xms.vsphere.snapshots import refuse_disks_without_snapshots, remove_snapshots, snapshot_name, take_snapshot
from xms.vsphere.tasks import wait_for_task


def make_snapshot(session: VsphereSession, name: str, pulse: CountingPulse) -> None:
    vm = session.virtual_machine("vm-101")
    wait_for_task(session, vm.CreateSnapshot(name=name, description="", memory=False, quiesce=False), pulse=pulse)


def names(session: VsphereSession) -> tuple[str, ...]:
    return find_vm(session, "web").snapshots


def test_a_snapshot_freezes_every_disk_with_its_own_change_id(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    enable_change_tracking(session, vcenter.order, pulse=pulse)
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    sequence = vcenter.web.snapshots[-1]
    assert (taken.moref, taken.name) == (f"snapshot-101-{sequence}", "xms-warm-lab-web")
    assert abs(taken.taken_at - datetime.now(UTC)) < timedelta(seconds=10)
    assert [(disk.key, disk.label, disk.capacity, disk.path, disk.change_id) for disk in taken.disks] == [
        (2000, "Hard disk 1", 1 << 30, "[ds1] web/web.vmdk", vcenter.web.change_id(2000, sequence)),
        (2001, "Hard disk 2", 1 << 30, "[ds1] web/web_1.vmdk", vcenter.web.change_id(2001, sequence)),
    ]
    assert all(disk.change_id for disk in taken.disks)


def test_what_a_crash_left_is_removed_before_the_next_snapshot(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    for _ in range(3):
        make_snapshot(session, snapshot_name("warm-lab-web"), pulse)
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert taken.leftovers_removed == 3
    assert names(session) == ("xms-warm-lab-web",)


def test_snapshots_of_others_are_never_touched(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    others = ("before upgrade", "xms-warm-lab-web-2", "xms-warm-lab-we")
    make_snapshot(session, others[0], pulse)
    make_snapshot(session, "xms-warm-lab-web", pulse)
    make_snapshot(session, others[1], pulse)
    make_snapshot(session, others[2], pulse)
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert taken.disks[0].path == "[ds1] web/web-000004.vmdk"
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 1
    assert names(session) == others


def test_removing_what_is_not_there_is_a_success(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 0


def test_the_snapshots_of_a_vm_that_is_gone_are_gone(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    order = vcenter.order.model_copy(update={"moref": "vm-999"})
    assert remove_snapshots(session, order, pulse=pulse) == 0
    with pytest.raises(VmNotFound):
        take_snapshot(session, order, pulse=pulse)


def test_disks_are_consolidated_where_the_removal_left_that_undone(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    take_snapshot(session, vcenter.order, pulse=pulse)
    vcenter.server.faults.consolidation_needed.add("web")
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 1
    assert not vcenter.server.faults.consolidation_needed


def test_a_snapshot_that_vsphere_refuses_is_tried_again_later(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.refuse_snapshots = True
    with pytest.raises(SnapshotFailed, match="no snapshot of web") as failed:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert failed.value.retryable
    assert "SnapshotFault" in failed.value.because


def test_file_systems_are_frozen_where_the_tools_run_only(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    assert take_snapshot(session, vcenter.order, pulse=pulse).quiesced
    assert not take_snapshot(session, vcenter.order, pulse=pulse, freeze=False).quiesced
    vcenter.web.guest_answers = False
    assert not take_snapshot(session, vcenter.order, pulse=pulse).quiesced


def test_a_guest_that_cannot_freeze_is_snapshotted_as_it_is(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = vcenter.server._center.inventory.machines[0]
    plain = machine.create_snapshot

    def refuse_quiesced(name: str, description: str, *, memory: bool, quiesce: bool) -> object:
        made = plain(name, description, memory=memory, quiesce=quiesce)
        if quiesce:
            raise vim.fault.ApplicationQuiesceFault(msg="the guest's writer timed out")
        return made

    monkeypatch.setattr(machine, "create_snapshot", refuse_quiesced)
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert not taken.quiesced
    assert names(session) == ("xms-warm-lab-web",)


def test_a_chain_at_its_limit_tells_what_to_do(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    for _ in range(32):
        vcenter.web.create_snapshot()
    with pytest.raises(SnapshotFailed) as failed:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert "TooManySnapshotLevels" in failed.value.because
    assert "remove snapshots" in failed.value.do


def test_a_task_that_a_dead_attempt_began_is_waited_for(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.task_delay = 0.5
    with pytest.raises(Interrupted):
        take_snapshot(session, vcenter.order, pulse=CountingPulse(stop_at=1, stop_with=Interrupted))
    assert names(session) == ()
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert taken.leftovers_removed == 1
    assert names(session) == ("xms-warm-lab-web",)


def test_waiting_for_a_task_shows_life(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    vcenter.server.faults.task_delay = 1.0
    take_snapshot(session, vcenter.order, pulse=pulse)
    assert pulse.beats >= 3


def test_other_work_on_the_vm_is_waited_for(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    vcenter.server.faults.task_delay = 0.5
    session.virtual_machine("vm-101").Reconfigure(vim.vm.ConfigSpec(annotation="busy"))
    take_snapshot(session, vcenter.order, pulse=pulse)
    assert vcenter.web.annotation == "busy"


def test_other_work_that_begins_in_between_makes_the_snapshot_fail_for_now(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "wait_for_other_tasks", lambda *_, **__: None)
    vcenter.server.faults.task_delay = 0.5
    session.virtual_machine("vm-101").Reconfigure(vim.vm.ConfigSpec(annotation="busy"))
    with pytest.raises(SnapshotFailed) as failed:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert "TaskInProgress" in failed.value.because
    assert failed.value.retryable


def a_disk(**backing: str) -> object:
    kind = vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo
    if "compatibilityMode" not in backing:
        kind = vim.vm.device.VirtualDisk.FlatVer2BackingInfo
    return vim.vm.device.VirtualDisk(
        key=2000,
        deviceInfo=vim.Description(label="Hard disk 1", summary=""),
        backing=kind(fileName="[ds1] web/web.vmdk", **backing),
    )


@pytest.mark.parametrize(
    ("backing", "reason"),
    [
        ({"diskMode": "independent_persistent"}, "in mode independent_persistent"),
        ({"diskMode": "persistent", "compatibilityMode": "physicalMode"}, "a raw device mapping in physical mode"),
        ({"diskMode": "persistent", "sharing": "sharingMultiWriter"}, "shared with other writers"),
    ],
)
def test_a_disk_that_snapshots_leave_out_is_refused(backing: dict[str, str], reason: str) -> None:
    with pytest.raises(VmUnsupported, match="disks that no snapshot holds") as refused:
        refuse_disks_without_snapshots([a_disk(**backing)], vm="web")
    assert refused.value.because == f"Hard disk 1 is {reason}"


def test_a_virtual_raw_device_mapping_is_a_disk_like_any_other() -> None:
    refuse_disks_without_snapshots([a_disk(diskMode="persistent", compatibilityMode="virtualMode")], vm="web")
