"""The lifecycle without Temporal: random messages, outcomes and times against the design's table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ActivityError, ApplicationError, RetryState, TimeoutError, TimeoutType  # noqa: A004

from workflows.calls import explain, last_progress, to_the_end, unless
from workflows.itinerary import CutoverFailed
from workflows.warm_migration import WarmMigrationWorkflow
from xms.change_map import ByteRanges
from xms.commands import accept, refuse_unless_allowed
from xms.comparing import Comparing
from xms.cutover import (
    Cutover,
    CutoverOrder,
    FinalizeOrder,
    OnFailure,
    Rehearsal,
    Rehearse,
    RollBackOrder,
    SyncFigures,
    Window,
    WithdrawCutover,
)
from xms.errors import Refused
from xms.job import JobInput, JobState
from xms.lifecycle import CleanUp, Finish, GoOn, Report, RollBack, Wait, next_step
from xms.models import (
    Abandon,
    Baseline,
    Command,
    Disk,
    MigrationSpec,
    Pause,
    Phase,
    Resume,
    Retry,
    SetCadence,
    SetRateLimit,
    SyncNow,
    Trouble,
    Verify,
)

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
SPEC: Final = MigrationSpec(
    source="lab", vm="db", target_project="infra", instance_name="db", flavor="m1", volume_type="ssd"
)
COMMANDS: Final[tuple[Command, ...]] = (
    SyncNow(),
    Pause(),
    Resume(),
    SetCadence(cadence_seconds=None),
    SetCadence(cadence_seconds=900),
    SetCadence(cadence_seconds=5),
    SetRateLimit(rate_limit=50 << 20),
    SetRateLimit(rate_limit=65535),
    CutoverOrder(),
    CutoverOrder(power_on_source_after_failure=False),
    CutoverOrder(at=START + timedelta(minutes=20)),
    CutoverOrder(window=Window(opens_at=START + timedelta(minutes=10), closes_at=START + timedelta(minutes=30))),
    CutoverOrder(window=Window(opens_at=START, closes_at=START + timedelta(days=3))),
    CutoverOrder(at=START, window=Window(opens_at=START, closes_at=START + timedelta(days=3))),
    WithdrawCutover(),
    CutoverOrder(on_failure=OnFailure.KEEP_OFF),
    CutoverOrder(rollback_period_seconds=600),
    RollBackOrder(),
    FinalizeOrder(),
    Retry(),
    Verify(),
    Rehearse(),
    Abandon(),
)

ANYTIME: Final = set(Phase) - {Phase.COMPLETED, Phase.ABANDONED}
TABLE: Final = {
    (Phase.INITIALIZING, Phase.FULL_SYNC),
    (Phase.FULL_SYNC, Phase.READY),
    (Phase.READY, Phase.SYNCING),
    (Phase.SYNCING, Phase.READY),
    (Phase.READY, Phase.CUTTING_OVER),
    (Phase.CUTTING_OVER, Phase.COMPLETED),
    (Phase.CUTTING_OVER, Phase.READY),
    (Phase.COMPLETED, Phase.CUTTING_OVER),
    *((phase, Phase.FAILED) for phase in ANYTIME),
    *((phase, Phase.ABANDONED) for phase in ANYTIME),
    # retry goes on where it stood
    (Phase.FAILED, Phase.INITIALIZING),
    (Phase.FAILED, Phase.FULL_SYNC),
    (Phase.FAILED, Phase.READY),
    (Phase.FAILED, Phase.CUTTING_OVER),
}


def a_failure(kind: str, *, needs_person: bool = False) -> ActivityError:
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="",
        activity_id="",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    trouble = Trouble(kind=kind, what=f"{kind} happened", needs_person=needs_person)
    error.__cause__ = ApplicationError(kind, trouble.model_dump(), type=kind)
    return error


class Play:
    """The workflow's own class, with outcomes drawn instead of activities called."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.now = START
        self.commands_allowed = True
        self.changes: list[tuple[Phase, Phase]] = []
        self.both_may_run = False

    def maybe_say(self) -> None:
        if not self.commands_allowed:
            return
        if self.draw(st.booleans()):
            self.say(self.draw(st.sampled_from(COMMANDS)))
        elif self.draw(st.integers(0, 9)) == 9:
            # As `run` does when the workflow itself is cancelled, which nothing can refuse.
            if self.workflow.state.phase is Phase.COMPLETED:
                self.workflow.state.finalize_asked = FinalizeOrder(who="Temporal cancellation")
            else:
                self.workflow.state.abandon_asked = Abandon(who="Temporal cancellation")

    def say(self, command: Command) -> None:
        state = self.workflow.state
        before = state.model_dump()
        try:
            refuse_unless_allowed(state, command, self.now)
        except Refused:
            with pytest.raises(Refused):
                accept(state, command, self.now)
            assert state.model_dump() == before
        else:
            phase = state.phase
            accept(state, command, self.now)
            assert state.phase is phase

    def outcome(self, *outcomes: str) -> str:
        self.maybe_say()
        return str(self.draw(st.sampled_from(outcomes)))

    # --- what stands in for the parts of the workflow that call activities --------------------------------------------

    async def prepare(self, _spec: MigrationSpec, state: JobState) -> None:
        match self.outcome("done", "for now", "for a person"):
            case "for now":
                raise a_failure("SourceUnreachable")
            case "for a person":
                raise a_failure("TargetNotFound", needs_person=True)
        state.moref = "vm-1"
        state.disks = state.disks or (Disk(key=2000, label="Hard disk 1", capacity=1 << 30, volume_id="v"),)

    async def sync(self, state: JobState) -> None:
        match self.outcome("done", "cut short", "differs", "for now", "for a person", "nothing"):
            case "done":
                self.baseline(state, Baseline(change_id="u/2"))
                state.last_sync_at = self.now
                state.replica_of = self.now - timedelta(seconds=self.draw(st.integers(0, 9)))
                figures = SyncFigures(snapshot_at=state.replica_of, bytes=1 << 20, streaming_seconds=1, seconds=5)
                state.recent_syncs = (*state.recent_syncs, figures)[-12:]
                self.compared(state, differing=ByteRanges())
            case "differs":
                self.baseline(state, Baseline(change_id="u/2", unseeded="x", unseeded_bytes=5))
                self.compared(state, differing=ByteRanges([(4096, 4096)]))
            case "cut short":
                self.baseline(state, Baseline(change_id="u/1", unseeded="x", unseeded_bytes=5))
            case "for now":
                raise a_failure("TransportFailed")
            case "nothing":
                raise ApplicationError("nothing", type="NoProgress")
            case _:
                raise a_failure("SourceForbidden", needs_person=True)

    def compared(self, state: JobState, differing: ByteRanges) -> None:
        comparing = Comparing(SPEC, state, final=False)
        for disk in state.disks:
            comparing.take_in(disk.key, disk.capacity, ByteRanges.whole(disk.capacity), differing, self.now)
        comparing.end(self.now)

    def baseline(self, state: JobState, baseline: Baseline) -> None:
        state.disks = tuple(disk.model_copy(update={"baseline": baseline}) for disk in state.disks)

    async def walk(self, state: JobState) -> None:
        state.cutover = Cutover(ordered_at=self.now)
        match self.outcome("done", "before it is off", "after it is off"):
            case "before it is off":
                raise CutoverFailed("Ports", a_failure("TargetUnreachable"))
            case "after it is off":
                if state.abandon_asked is not None:
                    raise CutoverFailed("Ports", ApplicationError("abandoned"))
                state.source_is_off = True
                self.baseline(state, Baseline())
                raise CutoverFailed("Evidence", a_failure("BootFailed"))
        if state.abandon_asked is not None:
            raise CutoverFailed("Ports", ApplicationError("abandoned"))
        state.source_is_off = True

    async def roll_back(self, state: JobState) -> None:
        if self.outcome("done", "not now") == "not now":
            raise a_failure("TargetUnreachable")
        state.source_is_off = False

    def begin_rehearsal(self, state: JobState) -> None:
        """It waits for its copies, or has failed already."""
        state.rehearsal_asked = None
        self.rehearsal_is(state, "running")
        if self.draw(st.booleans()):
            state.rehearsal_waits = True
        else:
            self.rehearsal_is(state, "failed")

    async def copy_for_rehearsal(self, state: JobState) -> None:
        assert state.phase is Phase.READY
        assert state.seeded
        assert state.sync is None
        state.rehearsal_waits = False
        self.rehearsal_is(state, self.outcome("passed", "failed"))

    async def break_off_rehearsal(self, state: JobState) -> None:
        state.rehearsal_asked, state.rehearsal_waits = None, False
        if state.rehearsal is not None and state.rehearsal.outcome == "running":
            self.rehearsal_is(state, "broken off")

    def rehearsal_is(self, state: JobState, outcome: str) -> None:
        state.rehearsal = Rehearsal.model_validate({"number": 1, "started_at": self.now, "outcome": outcome})

    async def leftovers(self, state: JobState) -> None:
        if self.outcome("done", "not now") == "not now":
            raise a_failure("SourceUnreachable")
        state.clean_up_at = None

    async def keep_report(self, _spec: MigrationSpec, state: JobState) -> None:
        state.report_due = False

    async def activity(self, *_: object, **__: object) -> None:
        if self.outcome("done", "not now") == "not now":
            raise a_failure("SourceUnreachable")

    @contextmanager
    def staged(self) -> Iterator[WarmMigrationWorkflow]:
        play = self

        class Syncs:
            left_behind: Trouble | None = None
            given_up: Trouble | None = None

            def __init__(self, _spec: MigrationSpec, state: JobState, _reason: str) -> None:
                self.state = state

            async def run(self) -> None:
                if play.draw(st.integers(0, 4)) == 0:
                    self.left_behind = Trouble(kind="SnapshotFailed", what="it is still there")
                    self.state.clean_up_at = play.now + timedelta(minutes=15)
                await play.sync(self.state)

        async def straight(_stopped: object, work: Coroutine[Any, Any, None]) -> None:
            await work

        where = "workflows.warm_migration."
        with (
            patch("temporalio.workflow.now", lambda: play.now),
            patch("temporalio.workflow.execute_activity_method", self.activity),
            patch("temporalio.workflow.patched", lambda _change: True),
            patch(where + "Sync", Syncs),
            patch(where + "prepare", self.prepare),
            patch("workflows.cutting_over.walk", lambda run, _show: self.walk(run.state)),
            patch("workflows.cutting_over.roll_back", lambda run, _show: self.roll_back(run.state)),
            patch(where + "remove_leftovers", lambda _spec, state, _policy: self.leftovers(state)),
            patch(where + "keep_report", self.keep_report),
            patch(where + "unless", straight),
            patch.object(WarmMigrationWorkflow, "show", lambda _workflow: None),
            patch.object(WarmMigrationWorkflow, "begin_rehearsal", lambda job, _order: self.begin_rehearsal(job.state)),
            patch.object(WarmMigrationWorkflow, "copy_for_rehearsal", lambda job: self.copy_for_rehearsal(job.state)),
            patch.object(
                WarmMigrationWorkflow, "break_off_rehearsal", lambda job, _because: self.break_off_rehearsal(job.state)
            ),
            patch.object(JobState, "enter", self.recorded(JobState.enter)),
        ):
            self.workflow = WarmMigrationWorkflow(JobInput(**SPEC.model_dump()))
            yield self.workflow

    def recorded(self, enter: Callable[..., None]) -> Callable[..., None]:
        def enters(state: JobState, phase: Phase, now: datetime, doing: str = "") -> None:
            if phase is not state.phase:
                self.changes.append((state.phase, phase))
                if phase is Phase.ABANDONED:
                    assert not state.source_is_off
                if phase is Phase.READY:
                    assert not state.source_is_off
            enter(state, phase, now, doing)

        return enters

    async def advance(self) -> bool:
        """One decision, carried out; False where the job waits for somebody or is over."""
        self.now += timedelta(seconds=self.draw(st.integers(0, 120)))
        state = self.workflow.state
        step = next_step(state, self.now)
        if isinstance(step, Finish):
            return False
        if isinstance(step, Wait):
            if step.until is None:
                return False
            assert step.until > self.now
            self.now = step.until
            return True
        await self.workflow.do(step)
        return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_whatever_is_said_and_happens_only_the_tables_phase_changes_happen(data: st.DataObject) -> None:
    play = Play(data.draw)

    async def run() -> None:
        for _ in range(25):
            play.maybe_say()
            await play.advance()
        assert set(play.changes) <= TABLE

    with play.staged():
        asyncio.run(run())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_no_state_is_a_dead_end(data: st.DataObject) -> None:
    play = Play(data.draw)

    async def run(workflow: WarmMigrationWorkflow) -> None:
        for _ in range(data.draw(st.integers(0, 15))):
            play.maybe_say()
            await play.advance()
        # From here on all goes well, and the operator wants one thing only: the workload moved, or the job gone.
        play.commands_allowed = False
        play.draw = lambda strategy: 1 if strategy is not None and "integers" in repr(strategy) else good(strategy)
        wanted = data.draw(st.sampled_from([CutoverOrder(), Abandon()]))
        for _ in range(60):
            state = workflow.state
            if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
                return
            for command in (wanted, Retry(), Resume(), SyncNow()):
                if state.phase in {Phase.FULL_SYNC, Phase.FAILED, Phase.READY} and not isinstance(command, SyncNow):
                    play.say(command)
            await play.advance()
        raise AssertionError(workflow.state.model_dump())

    with play.staged() as workflow:
        asyncio.run(run(workflow))


def good(strategy: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401 - whatever it draws
    """The first of the outcomes is the good one."""
    return "done" if "done" in repr(strategy) else False


async def test_a_job_does_not_continue_as_new_while_it_awaits_a_rehearsal() -> None:
    with Play(lambda _strategy: False).staged() as job:
        job.rehearsing = asyncio.create_task(asyncio.sleep(10))
        assert not job.should_continue_as_new()
        job.rehearsing.cancel()


@pytest.mark.parametrize("phase", [Phase.READY, Phase.FULL_SYNC, Phase.FAILED])
def test_what_was_left_behind_is_removed_at_rest_too(phase: Phase) -> None:
    state = JobState(job_id="j", since=START, phase=phase, paused=True, clean_up_at=START)
    assert next_step(state, START) == CleanUp()
    state.clean_up_at = START + timedelta(minutes=5)
    assert next_step(state, START) == Wait(START + timedelta(minutes=5))


def test_the_report_comes_before_the_next_sync_and_after_what_the_source_waits_for() -> None:
    state = JobState.fresh(SPEC, START)
    state.phase, state.report_due, state.sync_asked_by = Phase.READY, True, "ann"
    assert next_step(state, START) == Report()
    state.phase, state.failed_in = Phase.FAILED, Phase.CUTTING_OVER
    assert next_step(state, START) == Report()
    state.retry_asked = True
    assert next_step(state, START) == GoOn()
    state.phase = Phase.CUTTING_OVER
    assert next_step(state, START) == RollBack()
    state.phase = Phase.COMPLETED
    assert next_step(state, START) == Report()
    state.report_due = False
    assert next_step(state, START) == Finish()


def test_a_shorter_cadence_does_not_wait_for_the_next_try_of_the_longer_one() -> None:
    state = JobState(job_id="j", since=START, phase=Phase.READY, cadence_seconds=86_400, last_sync_at=START)
    state.not_before = START + timedelta(days=2)
    accept(state, SetCadence(cadence_seconds=900), START)
    assert state.next_sync_at == START + timedelta(seconds=900)


def test_the_last_checkpoint_of_a_worker_that_was_lost_is_read_from_its_heartbeat() -> None:
    error = a_failure("x")
    progress = {"disk_key": 2000, "planned": 10, "flushed_to": 7}
    error.__cause__ = TimeoutError("gone", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[progress])
    found = last_progress(error)
    assert found is not None
    assert found.flushed_to == 7
    error.__cause__ = TimeoutError("gone", type=TimeoutType.HEARTBEAT, last_heartbeat_details=["another version's"])
    assert last_progress(error) is None


def test_a_failure_with_details_of_another_kind_is_explained_and_does_not_end_the_workflow() -> None:
    with patch("temporalio.workflow.now", lambda: START):
        told = explain(ApplicationError("odd", {"no": "trouble"}, type="Odd"), "it failed")
    assert (told.kind, told.because) == ("Odd", "odd")


async def test_clean_up_goes_to_its_end_however_often_it_is_cancelled() -> None:
    ended = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        ended.append(True)

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_what_is_broken_off_tells_what_its_clean_up_failed_with() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise a_failure("SnapshotFailed") from None

    async def condition(there: Callable[[], bool]) -> None:
        while not there():  # noqa: ASYNC110 - what Temporal's own does is not to be had here
            await asyncio.sleep(0)

    with patch("temporalio.workflow.wait_condition", condition):
        asked = asyncio.get_running_loop().time() + 0.01
        failure = await unless(lambda: asyncio.get_running_loop().time() > asked, work())
    assert isinstance(failure, ActivityError)


def test_a_record_of_many_disks_stays_within_one_message() -> None:
    disks = tuple(Disk(key=2000 + number, label=f"Hard disk {number}", capacity=1 << 40) for number in range(60))
    state = JobState(job_id="j", since=START, disks=disks)
    assert state.unseeded_limit * len(disks) <= 1 << 20
    for number in range(500):
        state.note(state.since, "x" * 10, f"{number}" + "y" * 100_000, "w" * 5000)
    assert len(state.model_dump_json()) < 1 << 20


def test_a_rate_limit_is_shared_by_the_running_streams_and_changes_at_any_time() -> None:
    state = JobState.fresh(SPEC.model_copy(update={"rate_limit": 12 << 20}), START)
    assert state.rate_of_a_stream(streams=4) == 3 << 20
    assert state.rate_of_a_stream() == 12 << 20
    state.streaming = 3
    assert state.rate_of_a_stream() == 4 << 20
    assert "at most 1 MiB/s" in accept(state, SetRateLimit(rate_limit=1 << 20), START).text
    assert state.rate_of_a_stream() == (1 << 20) // 3
    accept(state, SetRateLimit(rate_limit=None), START)
    assert state.rate_of_a_stream() is None


def test_a_rate_limit_that_is_too_small_is_refused_with_the_allowed_ones() -> None:
    state = JobState.fresh(SPEC, START)
    with pytest.raises(Refused, match="65535") as refused:
        refuse_unless_allowed(state, SetRateLimit(rate_limit=65535))
    assert "none, or at least 65536" in str(refused.value)
    refuse_unless_allowed(state, SetRateLimit(rate_limit=65536))


def test_the_final_delta_is_not_held_back_by_the_rate_limit() -> None:
    state = JobState.fresh(SPEC.model_copy(update={"rate_limit": 1 << 20}), START)
    state.source_is_off = True
    assert state.rate_of_a_stream(streams=1) is None
    assert state.rate_of_a_stream() is None


@pytest.mark.parametrize(
    ("phase", "paused", "syncs"),
    [
        (Phase.READY, True, True),
        (Phase.FULL_SYNC, True, True),
        (Phase.READY, False, False),
        (Phase.SYNCING, True, False),
        (Phase.FAILED, True, False),
        (Phase.INITIALIZING, True, False),
    ],
)
def test_a_resume_of_a_paused_job_syncs_at_once_where_a_sync_may_begin(
    phase: Phase, *, paused: bool, syncs: bool
) -> None:
    state = JobState(job_id="warm-lab-db", since=START, phase=phase, paused=paused)
    receipt = accept(state, Resume(who="ann"), START, catches_up=True)
    assert not state.paused
    assert (state.sync_asked_by == "ann") == syncs
    assert ("a sync starts now" in receipt.text) == syncs


def test_a_resume_as_it_was_recorded_formerly_only_follows_the_cadence() -> None:
    state = JobState(job_id="warm-lab-db", since=START, phase=Phase.READY, paused=True)
    assert accept(state, Resume(), START).text == "resumed: syncs follow the cadence again"
    assert state.sync_asked_by is None
