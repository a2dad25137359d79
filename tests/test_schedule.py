"""A cutover that is ordered for a time: when it begins, what comes before it, and what becomes of it otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xms import schedule
from xms.commands import accept, refuse_unless_allowed
from xms.cutover import CutoverOrder, SyncFigures, Window, WithdrawCutover
from xms.errors import BadInput, Refused
from xms.job import JobState
from xms.lifecycle import CutOver, DropCutover, GoOn, Synchronize, Wait, next_step
from xms.models import Baseline, Disk, Phase, Resume, Retry, SyncNow, Verify
from xms.schedule import LATEST, SHORTEST_LEAD, Stand

NOW: Final = datetime(2026, 11, 29, 20, tzinfo=UTC)
OPENS: Final = NOW + timedelta(hours=5)
CLOSES: Final = NOW + timedelta(hours=8)
NIGHT: Final = CutoverOrder(who="ann", window=Window(opens_at=OPENS, closes_at=CLOSES, zone="Europe/Berlin"))
AT: Final = CutoverOrder(who="ann", at=OPENS)
MIB: Final = 1 << 20


def a_job(**more: Any) -> JobState:  # noqa: ANN401 - fields
    state = JobState(job_id="warm-lab-db", since=NOW, phase=Phase.READY, **more)
    state.disks = (Disk(key=2000, label="Hard disk 1", capacity=100 << 30, baseline=Baseline(change_id="52/1")),)
    state.recent_syncs = tuple(
        SyncFigures(
            snapshot_at=NOW - timedelta(minutes=minutes), bytes=60 * MIB, streaming_seconds=1.0, seconds=10.0, full=full
        )
        for minutes, full in ((45, True), (30, False), (15, False), (0, False))
    )
    return synced(state, NOW)


def a_scheduled_job(order: CutoverOrder = NIGHT, **more: Any) -> JobState:  # noqa: ANN401 - fields
    state = a_job(**more)
    accept(state, order, NOW)
    return state


def synced(state: JobState, at: datetime) -> JobState:
    state.last_sync_at = at + timedelta(seconds=state.recent_syncs[-1].streaming_seconds)
    return state


# --- long before, and shortly before ----------------------------------------------------------------------------------


def test_until_its_time_the_job_stays_ready_and_syncs_by_its_cadence() -> None:
    state = a_scheduled_job(cadence_seconds=900)
    assert next_step(state, NOW) == Wait(NOW + timedelta(seconds=901))
    assert next_step(state, NOW + timedelta(seconds=901)) == Synchronize("cadence")


@pytest.mark.parametrize("order", [NIGHT, AT])
@pytest.mark.parametrize("more", [{"cadence_seconds": None}, {"cadence_seconds": 900, "paused": True}])
def test_one_sync_comes_before_the_opening_also_in_a_job_that_is_manual_or_paused(
    order: CutoverOrder, more: dict[str, Any]
) -> None:
    state = a_scheduled_job(order, **more)
    begins = OPENS - SHORTEST_LEAD
    assert next_step(state, NOW) == Wait(begins)
    assert next_step(state, begins) == Synchronize("before the cutover")
    assert next_step(synced(state, begins), begins + timedelta(seconds=10)) == Wait(OPENS)
    assert isinstance(next_step(state, OPENS), CutOver)


def test_a_job_that_is_far_behind_begins_earlier_and_catches_up_once_more() -> None:
    state = a_scheduled_job()
    state.recent_syncs = tuple(
        sync.model_copy(update={"bytes": 2000 * MIB, "streaming_seconds": 20.0, "seconds": 30.0})
        for sync in state.recent_syncs
    )
    early = schedule.sync_at(state, NIGHT)
    assert early is not None
    assert OPENS - timedelta(hours=1) < early < OPENS - SHORTEST_LEAD
    assert next_step(state, early) == Synchronize("before the cutover")
    caught_up = synced(state, early)
    later = early + timedelta(minutes=4)
    assert next_step(caught_up, later) == Wait(OPENS - SHORTEST_LEAD)
    assert next_step(caught_up, OPENS - SHORTEST_LEAD) == Synchronize("before the cutover")


def test_a_sync_before_the_opening_that_failed_is_tried_again_after_a_rest() -> None:
    state = a_scheduled_job()
    failed_at = OPENS - timedelta(minutes=4)
    state.pass_not_before = failed_at + timedelta(seconds=30)
    assert next_step(state, failed_at) == Wait(failed_at + timedelta(seconds=30))
    assert next_step(state, failed_at + timedelta(seconds=30)) == Synchronize("before the cutover")


def test_no_verification_begins_when_the_opening_is_near_and_one_goes_on_long_before_it() -> None:
    state = a_scheduled_job()
    accept(state, Verify(who="bob"), NOW)
    assert next_step(state, NOW) == Synchronize("verification")
    near = synced(state, OPENS - SHORTEST_LEAD)
    assert next_step(near, OPENS - timedelta(minutes=4)) == Wait(OPENS)


def test_a_resume_of_a_job_whose_cutover_is_scheduled_catches_up() -> None:
    state = a_scheduled_job(paused=True)
    assert "a sync starts now" in accept(state, Resume(who="ann"), NOW, catches_up=True).text


# --- the opening ------------------------------------------------------------------------------------------------------


def test_a_window_that_is_too_short_for_what_is_predicted_is_not_begun() -> None:
    order = CutoverOrder(window=Window(opens_at=OPENS, closes_at=OPENS + timedelta(minutes=2)))
    step = next_step(synced(a_scheduled_job(order), OPENS), OPENS)
    assert isinstance(step, DropCutover)
    assert "the window closes in 2m" in step.because


def test_what_is_forced_begins_in_its_window_and_never_after_it() -> None:
    order = CutoverOrder(force=True, window=Window(opens_at=OPENS, closes_at=OPENS + timedelta(minutes=2)))
    state = synced(a_scheduled_job(order), OPENS)
    assert next_step(state, OPENS) == CutOver(order)
    assert isinstance(next_step(state, OPENS + timedelta(minutes=2)), DropCutover)


def test_a_job_that_syncs_at_the_opening_begins_when_the_sync_is_over() -> None:
    state = synced(a_scheduled_job(), OPENS)
    assert next_step(state, OPENS + timedelta(minutes=30)) == CutOver(NIGHT)


@pytest.mark.parametrize(("order", "over"), [(NIGHT, CLOSES), (AT, OPENS + LATEST)])
def test_a_job_that_comes_too_late_drops_the_order(order: CutoverOrder, over: datetime) -> None:
    state = a_scheduled_job(order)
    assert isinstance(next_step(state, over), DropCutover)


@pytest.mark.parametrize(("order", "over"), [(NIGHT, CLOSES), (AT, OPENS + LATEST)])
def test_a_job_that_failed_keeps_the_order_until_its_time_is_over(order: CutoverOrder, over: datetime) -> None:
    state = a_scheduled_job(order)
    state.enter(Phase.FAILED, NOW)
    state.failed_in = Phase.READY
    assert state.cutover_not_begun == order
    assert next_step(state, OPENS) == Wait(over)
    assert isinstance(next_step(state, over), DropCutover)
    assert "its cutover is still ordered for 2026-11-30 01:00 UTC" in accept(state, Retry(), NOW).text
    assert next_step(state, over) == GoOn()


def test_a_cutover_that_is_kept_as_it_failed_is_not_one_that_waits_for_its_time() -> None:
    state = a_scheduled_job()
    state.enter(Phase.FAILED, NOW)
    state.failed_in = Phase.CUTTING_OVER
    assert state.cutover_not_begun is None
    assert next_step(state, CLOSES) == Wait(None)


# --- changed and withdrawn --------------------------------------------------------------------------------------------


def test_a_scheduled_cutover_can_be_changed_and_withdrawn_until_it_begins() -> None:
    state = a_scheduled_job()
    receipt = accept(state, AT, NOW)
    assert receipt.text == (
        "cutover begins 2026-11-30 01:00 UTC; until then it can be changed or withdrawn, and syncs go on; "
        "it replaces the one of 2026-11-30 01:00 UTC, until 04:00"
    )
    assert "replaces the one of" in accept(state, CutoverOrder(who="bob"), NOW).text
    with pytest.raises(Refused, match="is ordered already"):
        accept(state, NIGHT, NOW)
    accept(state, WithdrawCutover(), NOW)
    assert state.cutover_asked is None
    with pytest.raises(Refused, match="no cutover to withdraw"):
        refuse_unless_allowed(state, WithdrawCutover())


def test_one_that_has_begun_can_be_neither_changed_nor_withdrawn() -> None:
    state = a_scheduled_job()
    state.enter(Phase.CUTTING_OVER, OPENS)
    for command in (NIGHT, WithdrawCutover()):
        with pytest.raises(Refused):
            refuse_unless_allowed(state, command)


def test_a_sync_may_be_asked_for_while_a_cutover_is_scheduled() -> None:
    state = a_scheduled_job()
    accept(state, SyncNow(who="bob"), NOW)
    assert next_step(state, NOW) == Synchronize("asked for")


@pytest.mark.parametrize(
    ("order", "because"),
    [
        (CutoverOrder(at=NOW - timedelta(hours=2)), "2026-11-29 18:00 UTC is past"),
        (CutoverOrder(window=Window(opens_at=NOW - timedelta(hours=2), closes_at=NOW)), "is over since"),
        (CutoverOrder(window=Window(opens_at=CLOSES, closes_at=OPENS)), "windows of a minute and more"),
        (CutoverOrder(at=OPENS, window=NIGHT.window), "give one"),
    ],
)
def test_times_that_cannot_be_are_refused_by_the_job_too(order: CutoverOrder, because: str) -> None:
    with pytest.raises(BadInput) as refused:
        refuse_unless_allowed(a_job(), order, NOW)
    assert because in str(refused.value)


def test_a_time_without_a_zone_that_a_program_sends_is_utc() -> None:
    order = CutoverOrder.model_validate_json('{"at": "2026-11-30T01:00:00"}')
    assert order.at == OPENS
    other = CutoverOrder.model_validate_json('{"at": "2026-11-30T02:00:00+01:00"}')
    assert other.at == OPENS
    assert "2026-11-30T01:00:00Z" in other.model_dump_json()


# --- whatever the time is ---------------------------------------------------------------------------------------------

MINUTES = st.integers(-600, 3000).map(lambda minutes: timedelta(minutes=minutes))


@st.composite
def scheduled_jobs(draw: st.DrawFn) -> JobState:
    opens = NOW + draw(MINUTES)
    order, length = CutoverOrder(at=opens), draw(st.none() | st.integers(1, 600))
    if length is not None:
        order = CutoverOrder(window=Window(opens_at=opens, closes_at=opens + timedelta(minutes=length)))
    state = a_job(paused=draw(st.booleans()), cadence_seconds=draw(st.none() | st.integers(60, 100_000)))
    state.cutover_asked, state.failed_in = order, Phase.READY
    state.phase = draw(st.sampled_from([Phase.READY, Phase.FAILED]))
    synced(state, NOW - timedelta(minutes=draw(st.integers(0, 3000))))
    rest = draw(st.none() | MINUTES)
    state.pass_not_before = None if rest is None else NOW + rest
    return state


@settings(deadline=None, max_examples=300)
@given(scheduled_jobs(), MINUTES)
def test_every_case_has_an_outcome_and_no_wait_outlives_the_orders_time(state: JobState, elapsed: timedelta) -> None:
    order, now = state.cutover_asked, NOW + elapsed
    assert order is not None
    opens, latest = schedule.opens_at(order), schedule.latest_start(order)
    assert opens is not None
    assert latest is not None
    match next_step(state, now):
        case CutOver():
            assert state.phase is Phase.READY
            assert schedule.stand(order, now) is Stand.OPEN
        case DropCutover(because):
            assert because
            assert schedule.stand(order, now) is not Stand.AHEAD
        case Wait(until):
            assert until is not None
            assert now < until <= (latest if state.phase is Phase.FAILED else opens)
        case Synchronize():
            assert state.phase is Phase.READY
            assert schedule.stand(order, now) is Stand.AHEAD
        case other:
            raise AssertionError(other)
