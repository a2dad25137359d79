"""The lease on a volume, against a clock that the test owns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xms.errors import LeaseLost, TargetUnreachable, VolumeBusy
from xms.openstack.lease import TRUSTED_SHARE, Lease, LeaseRecord
from xms.pulse import Pulse, no_pulse

SECONDS = 20.0


class World:
    """One volume's record, the time, and what happens at which time."""

    def __init__(self) -> None:
        self.record = ""
        self.now = 1000.0
        self.answers_after = 0.0
        self.unreachable = False
        self.later: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now

    def rest(self, seconds: float, pulse: Pulse) -> None:
        pulse()
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        for at, happen in sorted(self.later, key=lambda event: event[0]):
            if at <= end:
                self.later.remove((at, happen))
                self.now = max(self.now, at)
                happen()
        self.now = max(self.now, end)

    def read(self) -> str:
        if self.unreachable:
            raise TargetUnreachable("no answer")
        return self.record

    def write(self, record: str) -> None:
        if self.unreachable:
            raise TargetUnreachable("no answer")
        self.now += self.answers_after
        self.record = record

    def lease(self, worker: str = "one") -> Lease:
        return Lease(self, volume="v", worker=worker, seconds=SECONDS, clock=self.clock)

    def held_by(self, worker: str) -> Lease:
        lease = self.lease(worker)
        lease.claim(no_pulse, rest=self.rest)
        return lease


@pytest.fixture
def world() -> World:
    return World()


def test_a_volume_that_nobody_had_is_claimed_at_once(world: World) -> None:
    lease = world.held_by("one")
    lease.check()
    assert world.now - 1000.0 < 1.0
    assert LeaseRecord.parse(world.record) == LeaseRecord("one", lease.token, 0)


def test_a_volume_that_was_given_back_is_claimed_at_once_and_its_last_holder_is_known(world: World) -> None:
    first = world.held_by("one")
    assert first.release()
    began = world.now
    second = world.held_by("two")
    assert world.now - began < 1.0
    assert second.previous == first.token


def test_a_live_holder_is_not_robbed(world: World) -> None:
    holder = world.held_by("one")
    world.later.append((world.now + SECONDS / 2, holder.renew))
    with pytest.raises(VolumeBusy, match="held by worker one"):
        world.held_by("two")
    holder.check()


def test_a_dead_holder_is_waited_out_and_then_replaced(world: World) -> None:
    dead = world.held_by("one")
    began = world.now
    second = world.held_by("two")
    assert world.now - began >= SECONDS
    second.check()
    with pytest.raises(LeaseLost):
        dead.check()


def test_a_restarted_worker_waits_out_its_own_earlier_record(world: World) -> None:
    world.held_by("one")
    began = world.now
    world.held_by("one")
    assert world.now - began >= SECONDS


def test_a_holder_that_slept_knows_without_asking_that_it_has_lost_the_volume(world: World) -> None:
    lease = world.held_by("one")
    world.pass_time(SECONDS * TRUSTED_SHARE + 0.1)
    world.unreachable = True
    with pytest.raises(LeaseLost, match="not renewed"):
        lease.check()


def test_a_lease_that_ran_out_is_never_revived(world: World) -> None:
    lease = world.held_by("one")
    world.pass_time(SECONDS * TRUSTED_SHARE + 0.1)
    with pytest.raises(LeaseLost):
        lease.renew()
    assert LeaseRecord.parse(world.record) == LeaseRecord("one", lease.token, 0)


def test_a_renewal_counts_from_its_start_not_from_its_answer(world: World) -> None:
    lease = world.held_by("one")
    world.answers_after = SECONDS / 2
    lease.renew()
    world.pass_time(SECONDS * TRUSTED_SHARE - SECONDS / 2 + 0.1)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_renewal_that_is_answered_too_late_is_a_loss(world: World) -> None:
    lease = world.held_by("one")
    world.pass_time(SECONDS * TRUSTED_SHARE - 1)
    world.answers_after = 2.0
    with pytest.raises(LeaseLost):
        lease.renew()


def test_a_record_of_another_is_a_loss_that_is_never_overwritten(world: World) -> None:
    lease = world.held_by("one")
    world.record = "two/another/5"
    with pytest.raises(LeaseLost, match="two/another/5"):
        lease.renew()
    assert not lease.release()
    assert world.record == "two/another/5"


def test_a_cloud_that_does_not_answer_is_no_loss_until_the_lease_is_over(world: World) -> None:
    lease = world.held_by("one")
    world.unreachable = True
    world.pass_time(SECONDS / 2)
    lease.keep()
    world.pass_time(SECONDS / 2)
    with pytest.raises(LeaseLost, match="not renewed"):
        lease.keep()


def test_a_renewal_whose_answer_was_lost_does_not_cost_the_lease(world: World) -> None:
    lease = world.held_by("one")
    world.record = f"one/{lease.token}/1"
    lease.renew()
    lease.check()


def test_keeping_asks_the_cloud_only_when_it_is_time_to(world: World) -> None:
    lease = world.held_by("one")
    before = world.record
    lease.keep()
    assert world.record == before
    world.pass_time(SECONDS / 3)
    lease.keep()
    assert world.record != before


def test_of_two_claimants_that_saw_a_free_volume_the_slower_one_keeps_out(world: World) -> None:
    first = world.lease("one")

    def the_other_writes_first(seconds: float, pulse: Pulse) -> None:
        world.record = "two/token/0"
        world.rest(seconds, pulse)

    with pytest.raises(VolumeBusy, match="quicker"):
        first.claim(no_pulse, rest=the_other_writes_first)
    with pytest.raises(LeaseLost):
        first.check()


def test_a_record_that_is_none_of_ours_is_nobodys() -> None:
    assert LeaseRecord.parse("") is None
    assert LeaseRecord.parse("nonsense") is None
    assert LeaseRecord.parse("a/b/c") is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.1, SECONDS * 1.5), st.floats(0, SECONDS), st.sampled_from(["renew", "check"])), max_size=8
    ),
    st.floats(0, SECONDS * 2),
)
def test_at_no_time_do_two_workers_believe_that_they_may_write(
    steps: list[tuple[float, float, str]], second_comes_at: float
) -> None:
    """The first worker sleeps, renews slowly or quickly; the second tries to claim throughout."""
    world = World()
    first = world.held_by("one")
    begin = world.now
    at = begin

    def act(verb: str, answer_after: float) -> Callable[[], None]:
        def happen() -> None:
            world.answers_after = answer_after
            try:
                getattr(first, verb)()
            except LeaseLost:
                pass
            finally:
                world.answers_after = 0.0

        return happen

    for pause, answer_after, verb in steps:
        at += pause
        world.later.append((at, act(verb, answer_after)))
    world.pass_time(second_comes_at)
    second = world.lease("two")
    try:
        second.claim(no_pulse, rest=world.rest)
    except VolumeBusy:
        return
    with pytest.raises(LeaseLost):
        first.check()
