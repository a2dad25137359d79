"""Each documented fault of each call, through the real client: what comes of it, and what the operator is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.vcenter.switches import ALWAYS, FaultSwitches
from tests.vsphere import fault_cases
from tests.vsphere.conftest import AVcenter, CountingPulse, a_vcenter
from tests.vsphere.fault_cases import CASES, Case, Outcome
from xms.errors import XmsError
from xms.models import Baseline
from xms.orders.source import DiskPlan, PlanDisk, PoweredOff, PowerOff, SnapshotTaken
from xms.planning import plan_disk
from xms.vsphere import change_tracking, power
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.inventory import find_vm
from xms.vsphere.power import power_off, power_on
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.snapshots import remove_snapshots, take_snapshot

PULSE = CountingPulse()

TOLERATED = (Outcome.AGAIN, Outcome.CLEANED_LATER, Outcome.NEXT_SYNC)
"""Outcomes that need nobody."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AVcenter, VsphereSession]]:
    directory: Path = tmp_path_factory.mktemp("vcenter")
    with a_vcenter(directory) as vcenter, connect("lab", vcenter.config) as session:
        yield vcenter, session


@pytest.fixture
def at(shared: tuple[AVcenter, VsphereSession]) -> Iterator[At]:
    at = At(*shared)
    yield at
    at.restore()


class At:
    """A VM with a fault about to come, and what is done with it."""

    def __init__(self, vcenter: AVcenter, session: VsphereSession) -> None:
        self.vcenter, self.session = vcenter, session
        self.switches: FaultSwitches = vcenter.server.faults

    def restore(self) -> None:
        machine = self.vcenter.web
        for case in CASES:
            self.switches.fail(case.call, case.make, times=0, in_task=case.at == "task")
        self.switches.consolidation_needed.clear()
        machine.stubborn = False
        if machine.power_state == "poweredOff":
            machine.power_on()
        remove_snapshots(self.session, self.vcenter.order, pulse=PULSE)

    def switch_on(self, case: Case) -> None:
        self.switches.fail(case.call, case.make, times=case.times, in_task=case.at == "task")

    # --- what is done, with the fault switched on at the right moment ---------------------------------------------

    def query(self, case: Case) -> DiskPlan:
        order = self.vcenter.order
        enable_change_tracking(self.session, order, pulse=PULSE)
        taken = take_snapshot(self.session, order, pulse=PULSE)
        allocated = case.outcome is Outcome.WHOLE
        plan = PlanDisk(
            vm=order,
            snapshot=taken.moref,
            disk=taken.disks[0],
            baseline=Baseline(change_id=None if allocated else taken.disks[0].change_id),
            replica_capacity=taken.disks[0].capacity,
            volume_is_zeroed=allocated,
        )
        query = ChangeQuery(vm=order, snapshot=taken.moref, disk=taken.disks[0])
        self.switch_on(case)
        return plan_disk(
            plan,
            allocated=lambda: query_changes(self.session, query, since=ALLOCATED, pulse=PULSE),
            changed=lambda since: query_changes(self.session, query, since=since, pulse=PULSE),
        )

    def create(self, case: Case) -> SnapshotTaken:
        self.switch_on(case)
        return take_snapshot(self.session, self.vcenter.order, pulse=PULSE)

    def remove(self, case: Case) -> int:
        take_snapshot(self.session, self.vcenter.order, pulse=PULSE)
        self.switch_on(case)
        return remove_snapshots(self.session, self.vcenter.order, pulse=PULSE)

    def consolidate(self, case: Case) -> int:
        self.switches.consolidation_needed.add("web")
        self.switch_on(case)
        return remove_snapshots(self.session, self.vcenter.order, pulse=PULSE)

    def reconfigure(self, case: Case) -> bool:
        self.vcenter.web.set_change_tracking(False)
        self.switch_on(case)
        return enable_change_tracking(self.session, self.vcenter.order, pulse=PULSE).turned_on_now

    def stop(self, case: Case) -> PoweredOff:
        self.vcenter.web.stubborn = case.call == fault_cases.POWER_OFF or case.outcome is Outcome.HARD
        self.switch_on(case)
        order = PowerOff(vm=self.vcenter.order, shutdown_timeout_seconds=0)
        return power_off(self.session, order, pulse=PULSE)

    def start(self, case: Case) -> bool:
        self.vcenter.web.power_off()
        self.switch_on(case)
        return power_on(self.session, self.vcenter.order, pulse=PULSE).was_on


ACTIONS: dict[str, Callable[[At, Case], object]] = {
    fault_cases.QUERY: At.query,
    fault_cases.CREATE: At.create,
    fault_cases.REMOVE: At.remove,
    fault_cases.CONSOLIDATE: At.consolidate,
    fault_cases.RECONFIGURE: At.reconfigure,
    fault_cases.SHUT_DOWN: At.stop,
    fault_cases.POWER_OFF: At.stop,
    fault_cases.POWER_ON: At.start,
}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_tracking, "TRY_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(power, "CONFIRMATION_SECONDS", 5.0)
    monkeypatch.setattr(power, "POLL_SECONDS", 0.01)


@pytest.mark.parametrize("case", [case for case in CASES if case.error], ids=lambda case: case.name)
def test_a_fault_that_stops_the_work_tells_what_it_means_and_what_to_do(at: At, case: Case) -> None:
    assert case.error is not None
    with pytest.raises(case.error) as caught:
        ACTIONS[case.call](at, case)
    error: XmsError = caught.value
    assert type(error) is case.error
    assert case.fault.partition(" ")[0] in error.because
    assert "as the test wants it" in error.because
    assert error.means == case.means
    assert error.do == case.do.format(source="lab", vm="web")
    assert error.needs_person == (case.outcome not in TOLERATED)
    assert error.retryable == (case.outcome in TOLERATED and case.outcome is not Outcome.NEXT_SYNC)


@pytest.mark.parametrize("case", [case for case in CASES if not case.error], ids=lambda case: case.name)
def test_a_fault_that_stops_nothing_has_the_outcome_of_its_case(at: At, case: Case) -> None:
    found = ACTIONS[case.call](at, case)
    match case.outcome:
        case Outcome.RESEED:
            assert isinstance(found, DiskPlan)
            assert found.bytes == 1 << 30
            assert case.fault.partition(" ")[0] in found.reseed_reason
        case Outcome.WHOLE:
            assert isinstance(found, DiskPlan)
            assert (found.bytes, found.reseed_reason) == (1 << 30, "")
        case Outcome.UNQUIESCED:
            assert isinstance(found, SnapshotTaken)
            assert not found.quiesced
            assert f"could not freeze its file systems ({case.fault}: as the test wants it)" in found.consistency
            assert find_vm(at.session, "web").snapshots == (found.name,)
        case Outcome.HARD:
            assert isinstance(found, PoweredOff)
            assert (found.how, case.fault in found.because) == ("powered off hard", True)
            assert at.vcenter.web.power_state == "poweredOff"
        case _:
            assert case.outcome in {Outcome.DONE, Outcome.LOGGED_IN, Outcome.AGAIN}
            assert not isinstance(found, DiskPlan) or not found.reseed_reason


def test_every_case_is_there_once() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_case_without_an_error_that_is_not_for_ever_says_how_often_it_comes() -> None:
    once = {Outcome.LOGGED_IN, Outcome.UNQUIESCED}
    assert all(case.times is not ALWAYS for case in CASES if case.outcome in once)
