"""Snapshots of a sync: made anew, found by name after a crash, removed, and nobody else's touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.vsphere.conftest import AVcenter, CountingPulse
from xms.errors import (
    Interrupted,
    SnapshotFailed,
    SnapshotRefused,
    SourceForbidden,
    VmNotFound,
    VmUnsupported,
)
from xms.vsphere import snapshots
from xms.vsphere.bindings import vim
from xms.vsphere.change_tracking import enable_change_tracking
from xms.vsphere.inventory import find_vm
from xms.vsphere.properties import read
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


def test_disks_are_consolidated_before_a_new_snapshot_too(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.consolidation_needed.add("web")
    take_snapshot(session, vcenter.order, pulse=pulse)
    assert not vcenter.server.faults.consolidation_needed


def test_a_consolidation_that_failed_after_a_removal_is_caught_up_with(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    take_snapshot(session, vcenter.order, pulse=pulse)
    faults = vcenter.server.faults
    faults.consolidation_needed.add("web")
    faults.fail("ConsolidateVMDisks_Task", lambda: vim.fault.FileLocked(file="[ds1] web/web.vmdk"), in_task=True)
    with pytest.raises(SnapshotFailed, match="could not be consolidated"):
        remove_snapshots(session, vcenter.order, pulse=pulse)
    assert names(session) == ()
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 0
    assert not faults.consolidation_needed


def test_a_snapshot_that_vsphere_refuses_is_tried_again_later(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.refuse_snapshots = True
    with pytest.raises(SnapshotFailed, match="no snapshot of web") as failed:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert failed.value.retryable
    assert "SnapshotFault" in failed.value.because


def test_file_systems_are_frozen_where_the_tools_run_only_and_the_snapshot_says_which_and_why(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert (taken.quiesced, taken.consistency) == (True, "quiesced")
    assert not take_snapshot(session, vcenter.order, pulse=pulse, freeze=False).quiesced
    vcenter.web.guest_answers = False
    without = take_snapshot(session, vcenter.order, pulse=pulse)
    assert (without.quiesced, without.consistency[:41]) == (False, "not quiesced: VMware Tools do not run in ")
    vcenter.web.suspend()
    assert "the VM is suspended" in take_snapshot(session, vcenter.order, pulse=pulse).consistency
    vcenter.web.power_off()
    assert "the VM is off" in take_snapshot(session, vcenter.order, pulse=pulse).consistency


def test_a_snapshot_that_vsphere_did_not_quiesce_although_it_was_asked_to_is_not_called_quiesced(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = vcenter.web.create_snapshot

    def tools_stop() -> int:
        vcenter.web.guest_answers = False
        return create()

    record = vcenter.server._center.inventory.machines[0]._record
    monkeypatch.setattr(vcenter.web, "create_snapshot", tools_stop)
    monkeypatch.setattr(
        vcenter.server._center.inventory.machines[0],
        "_record",
        lambda *names, **more: record(*names, **{**more, "quiesced": False}),
    )
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert not taken.quiesced
    assert "vSphere says that the file systems were not frozen" in taken.consistency


def test_a_guest_that_cannot_freeze_is_snapshotted_as_it_is_and_the_reason_told(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.quiesce_fault = lambda: vim.fault.ApplicationQuiesceFault(msg="the guest's writer timed out")
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert not taken.quiesced
    assert "ApplicationQuiesceFault: the guest's writer timed out" in taken.consistency
    assert names(session) == ("xms-warm-lab-web",)


def test_a_chain_at_its_limit_tells_what_to_do(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    for _ in range(32):
        vcenter.web.create_snapshot()
    with pytest.raises(SnapshotRefused) as failed:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert "TooManySnapshotLevels" in failed.value.because
    assert "remove snapshots" in failed.value.do


def tasks(session: VsphereSession) -> list[str]:
    """What was done to the VM, in order."""
    recent = read(session, session.virtual_machine("vm-101"), ["recentTask"])["recentTask"]
    return [read(session, task, ["info"])["info"].descriptionId.rpartition(".")[2] for task in recent]


def test_a_creation_that_a_dead_attempt_began_is_waited_for_and_neither_doubled_nor_left_behind(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.task_delay = 0.5
    with pytest.raises(Interrupted):
        take_snapshot(session, vcenter.order, pulse=CountingPulse(stop_at=1, stop_with=Interrupted))
    assert names(session) == ()
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert taken.leftovers_removed == 1
    assert names(session) == ("xms-warm-lab-web",)
    assert tasks(session) == ["createSnapshot", "remove", "createSnapshot"]


def test_a_creation_that_a_dead_attempt_began_is_removed_by_the_clean_up_that_finds_it_running(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.task_delay = 0.5
    with pytest.raises(Interrupted):
        take_snapshot(session, vcenter.order, pulse=CountingPulse(stop_at=1, stop_with=Interrupted))
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 1
    assert names(session) == ()


def test_a_removal_that_a_dead_attempt_began_is_waited_for_and_not_repeated(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    take_snapshot(session, vcenter.order, pulse=pulse)
    vcenter.server.faults.task_delay = 0.5
    with pytest.raises(Interrupted):
        remove_snapshots(session, vcenter.order, pulse=CountingPulse(stop_at=1, stop_with=Interrupted))
    assert names(session) == ("xms-warm-lab-web",)
    assert remove_snapshots(session, vcenter.order, pulse=pulse) == 0
    assert names(session) == ()
    assert tasks(session) == ["createSnapshot", "remove"]


def test_the_name_of_a_snapshot_carries_the_job(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    taken = take_snapshot(session, vcenter.order, pulse=pulse)
    assert taken.name == f"xms-{vcenter.order.job_id}"


def test_a_snapshot_without_a_privilege_is_not_tried_again_and_names_the_privilege(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vm = session.virtual_machine("vm-101")
    vcenter.server.faults.fail(
        "CreateSnapshot_Task",
        lambda: vim.fault.NoPermission(object=vm, privilegeId="VirtualMachine.State.CreateSnapshot"),
        times=None,
    )
    with pytest.raises(SourceForbidden, match="could be made") as refused:
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert "VirtualMachine.State.CreateSnapshot" in refused.value.do


def test_snapshots_that_the_account_may_not_see_are_not_taken_for_none(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    make_snapshot(session, snapshot_name("warm-lab-web"), pulse)
    vcenter.server.faults.hidden_properties.add("VirtualMachine.snapshot")
    with pytest.raises(SourceForbidden, match=r"lacks System\.Read"):
        remove_snapshots(session, vcenter.order, pulse=pulse)
    with pytest.raises(SourceForbidden, match=r"lacks System\.Read"):
        take_snapshot(session, vcenter.order, pulse=pulse)
    assert len(vcenter.web.snapshots) == 1


def test_a_host_whose_name_the_account_may_not_see_is_told_by_its_reference(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.hidden_properties.add("HostSystem.name")
    assert take_snapshot(session, vcenter.order, pulse=pulse).host == "host-8"


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
