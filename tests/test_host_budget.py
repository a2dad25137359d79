"""The rules of a host's budget, without Temporal: random requests, returns and changes of the configuration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.host_budget import describe
from xms.host_budget import LARGEST_SHARE, HostBudget, HostLimits, SlotRequest, limits_of
from xms.orders.source import SnapshotTaken

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIB = 1 << 20


def limits(streams: int = 3, mib: int = 48, read_at: datetime = NOON) -> HostLimits:
    return HostLimits(source="lab", host="esx-01", streams=streams, bytes_in_flight=mib * MIB, read_at=read_at)


def a_request(
    name: str, job: str = "a", seconds: int = 0, *, urgent: bool = False, of: HostLimits | None = None
) -> SlotRequest:
    asked_at = NOON + timedelta(seconds=seconds)
    return SlotRequest(id=name, job_id=job, run_id="r", limits=of or limits(), asked_at=asked_at, urgent=urgent)


def ask(budget: HostBudget, *requests: SlotRequest) -> None:
    """With the configuration as the budget has it."""
    for request in requests:
        budget.ask(request.model_copy(update={"limits": budget.limits}))


def granted(budget: HostBudget) -> list[str]:
    return [request.id for request in budget.grant(NOON)]


@pytest.mark.parametrize(
    ("streams", "mib", "at_a_time", "share"),
    [
        (3, 48, 3, 16 * MIB),
        (3, 50, 3, 16 * MIB),
        (3, 10, 3, 10 * MIB // 3),
        (1, 48, 1, 16 * MIB),
        (5, 2, 2, MIB),
        (1, 1, 1, MIB),
    ],
)
def test_the_bytes_are_divided_and_no_stream_has_less_than_one_read(
    streams: int, mib: int, at_a_time: int, share: int
) -> None:
    found = limits(streams, mib)
    assert (found.at_a_time, found.share) == (at_a_time, share)
    assert found.at_a_time * found.share <= mib * MIB


def test_a_snapshot_without_a_host_or_a_limit_asks_nobody() -> None:
    taken = SnapshotTaken(moref="s", name="s", taken_at=NOON, host="esx-01")
    assert limits_of("lab", taken) is None
    assert limits_of("lab", taken.model_copy(update={"host": "", "host_streams": 2})) is None
    only_streams = limits_of("lab", taken.model_copy(update={"host_streams": 2}))
    assert only_streams is not None
    assert (only_streams.at_a_time, only_streams.share) == (2, LARGEST_SHARE)


def test_those_in_a_hurry_come_first_then_who_holds_the_fewest_then_who_has_waited_longest() -> None:
    budget = HostBudget(limits=limits(streams=2))
    ask(budget, a_request("a1", "a", 0), a_request("a2", "a", 0), a_request("b1", "b", 9))
    assert granted(budget) == ["a1", "b1"]
    ask(budget, a_request("c1", "c", 5), a_request("d1", "d", 4), a_request("e1", "e", 8, urgent=True))
    assert [request.id for request in budget.turns()] == ["e1", "d1", "c1", "a2"]
    budget.take_back("b1")
    assert granted(budget) == ["e1"]
    budget.take_back("e1")
    assert granted(budget) == ["d1"]
    budget.take_back("a1")
    assert granted(budget) == ["a2"]


def test_asked_twice_is_asked_once() -> None:
    budget = HostBudget(limits=limits(streams=1))
    ask(budget, a_request("a1"), a_request("a1"))
    assert granted(budget) == ["a1"]
    ask(budget, a_request("a1"))
    assert granted(budget) == []
    answer = budget.answer("a1")
    assert answer is not None
    assert (answer.granted, answer.bytes_in_flight, answer.in_use, answer.streams) == (True, 16 * MIB, 1, 1)
    budget.take_back("a1")
    budget.take_back("a1")
    assert budget.answer("a1") is None
    assert not budget.in_use


def test_the_newest_configuration_counts_and_an_older_one_that_comes_later_does_not() -> None:
    budget = HostBudget(limits=limits(streams=1))
    ask(budget, a_request("a1"), a_request("b1", "b"))
    assert granted(budget) == ["a1"]
    budget.ask(a_request("c1", "c", 1, of=limits(streams=3, read_at=NOON + timedelta(hours=1))))
    assert granted(budget) == ["b1", "c1"]
    budget.ask(a_request("d1", "d", 2))
    assert budget.limits.streams == 3
    assert granted(budget) == []


def test_the_details_of_a_long_queue_fit_into_a_workflows_details() -> None:
    budget = HostBudget(limits=limits(streams=60, mib=960))
    for number in range(500):
        ask(budget, a_request(str(number), f"warm-prod-vcenter-{'x' * 80}-{number}", number, urgent=True))
    budget.grant(NOON)
    text = describe(budget)
    assert "60 of 60 streams in use" in text
    assert "**Waiting**: 440" in text
    assert len(text.encode()) < 20_000


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 30), st.integers(0, 4)),
        st.tuples(st.just("back"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("configure"), st.integers(1, 5), st.integers(1, 64)),
    ),
    max_size=60,
)


@given(CHANGES)
def test_whatever_happens_no_grant_goes_beyond_the_limits_and_everybody_gets_a_turn(
    changes: list[tuple[str, int, int]],
) -> None:
    newest = limits()
    budget = HostBudget(limits=newest)
    for step, (what, number, other) in enumerate(changes):
        if what == "ask":
            budget.ask(a_request(str(number), f"job-{other}", step, urgent=number % 7 == 0, of=newest))
        elif what == "back":
            budget.take_back(str(number))
        else:
            newest = limits(number, other, NOON + timedelta(seconds=step))
        if budget.grant(NOON):
            assert len(budget.held) <= budget.limits.at_a_time
            assert sum(slot.bytes_in_flight for slot in budget.held) <= budget.limits.bytes_in_flight
    for _ in range(100):
        if not budget.in_use:
            break
        assert budget.held
        budget.take_back(budget.held[0].request.id)
        budget.grant(NOON)
    assert not budget.in_use
