"""Stopping the source: gently, then hard where that is allowed, and never believed before vCenter says so."""

from __future__ import annotations

import threading
import time

import pytest

from tests.vsphere.conftest import AVcenter, CountingPulse
from xms.errors import Interrupted, PowerOffNotConfirmed, VmNotFound
from xms.orders.source import MarkMigrated, PowerOff
from xms.vsphere import power
from xms.vsphere.bindings import vim
from xms.vsphere.power import mark_migrated, power_off, power_on, unmark_migrated
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession


def an_order(vcenter: AVcenter, *, seconds: int = 0, hard: bool = True) -> PowerOff:
    return PowerOff(vm=vcenter.order, shutdown_timeout_seconds=seconds, hard_power_off=hard)


def annotation(session: VsphereSession) -> str:
    return str(read(session, session.virtual_machine("vm-101"), ["config.annotation"])["config.annotation"])


def test_a_guest_that_answers_is_shut_down(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    assert power_off(session, an_order(vcenter), pulse=pulse).how == "guest shut down"
    assert vcenter.web.power_state == "poweredOff"


def test_a_guest_that_takes_its_time_is_waited_for(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.stubborn = True
    timer = threading.Timer(1.0, vcenter.web.power_off)
    timer.start()
    assert power_off(session, an_order(vcenter, seconds=30), pulse=pulse).how == "guest shut down"
    timer.join()
    assert pulse.beats >= 2


def test_a_guest_that_does_not_stop_in_time_is_powered_off_hard(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.stubborn = True
    off = power_off(session, an_order(vcenter), pulse=pulse)
    assert (off.how, off.because) == ("powered off hard", "the guest did not shut down within 0 s")
    assert vcenter.web.power_state == "poweredOff"
    assert vcenter.web.shutdowns_asked == 1


def test_a_guest_without_tools_is_powered_off_hard(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.guest_answers = False
    off = power_off(session, an_order(vcenter), pulse=pulse)
    assert off.how == "powered off hard"
    assert "VMware Tools do not run in the guest (ToolsUnavailable" in off.because


def test_a_guest_that_stopped_its_tools_on_the_way_down_is_not_cut_off(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.guest_answers = False
    timer = threading.Timer(1.0, vcenter.web.power_off)
    timer.start()
    assert power_off(session, an_order(vcenter, seconds=300), pulse=pulse).how == "guest shut down"
    timer.join()


@pytest.mark.parametrize(("answers", "because"), [(True, "did not shut down within 0 s"), (False, "Tools do not run")])
def test_without_leave_to_power_off_hard_it_goes_on_running_and_a_person_is_needed(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, *, answers: bool, because: str
) -> None:
    vcenter.web.guest_answers, vcenter.web.stubborn = answers, True
    with pytest.raises(PowerOffNotConfirmed, match="web still runs") as refused:
        power_off(session, an_order(vcenter, hard=False), pulse=pulse)
    assert because in refused.value.because
    assert refused.value.needs_person
    assert vcenter.web.power_state == "poweredOn"


def test_a_vm_that_is_off_is_confirmed_as_such(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.power_off()
    assert power_off(session, an_order(vcenter), pulse=pulse).how == "was off"
    assert vcenter.web.shutdowns_asked == 0


def test_interrupted_and_asked_again_it_ends_off(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.stubborn = True
    with pytest.raises(Interrupted):
        power_off(session, an_order(vcenter, seconds=60), pulse=CountingPulse(stop_at=2, stop_with=Interrupted))
    vcenter.web.stubborn = False
    assert power_off(session, an_order(vcenter, seconds=60), pulse=pulse).how == "guest shut down"


def test_a_power_off_that_vcenter_accepts_but_does_not_do_is_not_believed(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcenter.web.stubborn = True
    monkeypatch.setattr(vcenter.web, "power_off", lambda: None)
    monkeypatch.setattr(power, "CONFIRMATION_SECONDS", 0.5)
    with pytest.raises(PowerOffNotConfirmed) as refused:
        power_off(session, an_order(vcenter, seconds=0), pulse=pulse)
    assert "does not say that it is off" in refused.value.because


def test_a_refused_power_off_tells_vcenters_reason(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise vim.fault.ResourceInUse(msg="a backup holds it")

    vcenter.web.stubborn = True
    monkeypatch.setattr(vcenter.web, "power_off", refuse)
    with pytest.raises(PowerOffNotConfirmed) as refused:
        power_off(session, an_order(vcenter, seconds=0), pulse=pulse)
    assert "ResourceInUse: a backup holds it" in refused.value.because


def test_a_suspended_vm_is_refused_and_keeps_its_memory(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.suspend()
    with pytest.raises(PowerOffNotConfirmed, match="is suspended"):
        power_off(session, an_order(vcenter), pulse=pulse)
    assert vcenter.web.power_state == "suspended"


def test_a_vm_that_is_suspended_while_its_guest_is_waited_for_keeps_its_memory(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.stubborn = True
    timer = threading.Timer(0.8, vcenter.web.suspend)
    timer.start()
    with pytest.raises(PowerOffNotConfirmed, match="is suspended"):
        power_off(session, an_order(vcenter, seconds=3), pulse=pulse)
    timer.join()
    assert vcenter.web.power_state == "suspended"


def test_a_guest_that_refuses_is_powered_off_hard_with_its_reason(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.fail("ShutdownGuest", lambda: vim.fault.InvalidState(msg="it is being installed"), times=1)
    off = power_off(session, an_order(vcenter), pulse=pulse)
    assert off.how == "powered off hard"
    assert "could not be asked to shut down (InvalidState: it is being installed)" in off.because


def moving() -> Exception:
    fault: Exception = vim.fault.TaskInProgress(task=vim.Task("task-1"), msg="a vMotion is under way")
    return fault


def test_a_vm_that_is_being_moved_to_another_host_is_asked_again_when_it_is_there(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.fail("ShutdownGuest", moving, times=2)
    assert power_off(session, an_order(vcenter, seconds=30), pulse=pulse).how == "guest shut down"
    vcenter.web.power_on()
    vcenter.web.stubborn = True
    vcenter.server.faults.fail("PowerOffVM_Task", moving, times=2)
    assert power_off(session, an_order(vcenter), pulse=pulse).how == "powered off hard"


def test_a_guest_in_standby_is_said_to_be(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcenter.web.stubborn = True
    monkeypatch.setattr(
        power,
        "read",
        lambda *asked: {"guest.guestState": "standby"} if asked[2] == ["guest.guestState"] else read(*asked),
    )
    assert "it is in standby" in power_off(session, an_order(vcenter), pulse=pulse).because


def test_a_vm_that_is_deleted_while_its_guest_is_waited_for_is_not_found(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.stubborn = True
    timer = threading.Timer(0.8, vcenter.server.delete_vm, ["web"])
    timer.start()
    with pytest.raises(VmNotFound):
        power_off(session, an_order(vcenter, seconds=30), pulse=pulse)
    timer.join()


def test_a_guest_that_went_off_while_nobody_looked_is_not_said_to_have_been_off_before(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.power_off()
    order = an_order(vcenter).model_copy(update={"was_running": True})
    assert power_off(session, order, pulse=pulse, waited=7.0).how == "went off unseen"
    assert power_off(session, order, pulse=pulse).how == "was off"


def test_a_later_attempt_gives_the_guest_what_is_left_of_its_time(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "REFUSAL_GRACE_SECONDS", 0.5)
    vcenter.web.stubborn = True
    began = time.monotonic()
    assert power_off(session, an_order(vcenter, seconds=300), pulse=pulse, waited=400.0).how == "powered off hard"
    assert time.monotonic() - began < 30


def test_a_vm_is_started_once(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    vcenter.web.power_off()
    assert not power_on(session, vcenter.order, pulse=pulse).was_on
    assert vcenter.web.power_state == "poweredOn"
    assert power_on(session, vcenter.order, pulse=pulse).was_on


def test_a_vm_that_somebody_else_started_meanwhile_runs(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.web.power_off()
    vcenter.server.faults.task_delay = 0.5
    timer = threading.Timer(0.2, vcenter.web.power_on)
    timer.start()
    assert not power_on(session, vcenter.order, pulse=pulse).was_on
    timer.join()


def test_the_power_of_a_vm_that_is_gone_cannot_be_changed(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    gone = vcenter.order.model_copy(update={"moref": "vm-999"})
    with pytest.raises(VmNotFound):
        power_on(session, gone, pulse=pulse)
    with pytest.raises(VmNotFound):
        power_off(session, PowerOff(vm=gone), pulse=pulse)


def test_the_mark_is_appended_once(vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse) -> None:
    vcenter.web.annotation = "owner: web team"
    mark = MarkMigrated(vm=vcenter.order, text="migrated by warm-lab-web to infra")
    mark_migrated(session, mark, pulse=pulse)
    mark_migrated(session, mark, pulse=pulse)
    assert annotation(session) == "owner: web team\nmigrated by warm-lab-web to infra"


def test_the_jobs_mark_is_taken_back_and_what_others_wrote_is_kept(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    mine = f"migrated by XMS job {vcenter.order.job_id} to server 1 in project infra"
    others = f"migrated by XMS job {vcenter.order.job_id}-2 to server 2 in project infra"
    vcenter.web.annotation = f"owner: web team\n{mine}\n{others}"
    unmark_migrated(session, vcenter.order, pulse=pulse)
    assert annotation(session) == f"owner: web team\n{others}"
    unmark_migrated(session, vcenter.order, pulse=pulse)
    assert annotation(session) == f"owner: web team\n{others}"


def test_a_mark_that_was_all_there_was_leaves_nothing(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    mark_migrated(
        session,
        MarkMigrated(vm=vcenter.order, text=f"migrated by XMS job {vcenter.order.job_id} to server 1"),
        pulse=pulse,
    )
    unmark_migrated(session, vcenter.order, pulse=pulse)
    assert vcenter.web.annotation == ""
