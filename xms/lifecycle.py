"""The lifecycle as a table: what a job does next, and which command is allowed when.

Pure: a state and the time in, a decision out. The workflow only carries the decisions out.

| phase | next |
|---|---|
| Initializing | prepare |
| Full Sync | sync, until nothing is unseeded; after a failure again, later and later |
| Ready | cut over, in its time; rehearse; go on with a verification, sync when asked or due, else wait |
| Ready, a cutover being scheduled | one more sync shortly before; drop the order when it cannot begin in its time |
| Failed | wait for retry or abandon; retry goes on where it stood; a scheduled cutover is dropped after its time |
| Failed, with a rehearsal that waits for its copies | give the rehearsal up |
| any that waits | from time to time, remove what could not be removed after a sync |
| any in which something ended | keep the report, unless somebody waits for the source |
| Completed | wait for roll-back or finalize until the roll-back period is over; else finish |
| Abandoned | finish |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from xms import go_no_go, schedule, verification
from xms.cutover import CutoverOrder, Rehearse
from xms.go_no_go import Verdict
from xms.job import JobState
from xms.models import Abandon, Phase
from xms.schedule import Stand

FAILURES_BEFORE_PARKING: Final = 10
"""A full sync that failed this often in a row waits for a person; an incremental one goes on with the cadence."""


@dataclass(frozen=True)
class Prepare:
    """Check both sides, turn change tracking on, make the volumes."""


@dataclass(frozen=True)
class Synchronize:
    """Run one sync."""

    reason: str


@dataclass(frozen=True)
class CutOver:
    """Move the workload."""

    order: CutoverOrder


@dataclass(frozen=True)
class DropCutover:
    """Let a scheduled cutover go that cannot begin in its time."""

    because: str


@dataclass(frozen=True)
class BeginRehearsal:
    """Start a rehearsal, which runs beside the job."""

    order: Rehearse


@dataclass(frozen=True)
class CopyForRehearsal:
    """Copy the volumes while no sync runs."""


@dataclass(frozen=True)
class DropRehearsal:
    """The rehearsal that waits for copies cannot have them."""


@dataclass(frozen=True)
class GoOn:
    """Leave Failed for the phase in which the job stood."""


@dataclass(frozen=True)
class RollBack:
    """Take a completed cutover back, or take up a roll-back that was not finished or not wanted at once."""


@dataclass(frozen=True)
class Finalize:
    """The completed cutover stands: remove what a roll-back would need."""


@dataclass(frozen=True)
class End:
    """Clean up and end the job on the operator's word."""

    order: Abandon


@dataclass(frozen=True)
class CleanUp:
    """Try once more to remove the snapshot or the attachments that a sync had to leave behind."""


@dataclass(frozen=True)
class Report:
    """Something ended: keep the report as the job stands now."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until`, or before somebody says something."""

    until: datetime | None


@dataclass(frozen=True)
class Finish:
    """The job is over."""


Step = (
    Prepare
    | Synchronize
    | CutOver
    | DropCutover
    | BeginRehearsal
    | CopyForRehearsal
    | DropRehearsal
    | GoOn
    | RollBack
    | Finalize
    | End
    | CleanUp
    | Report
    | Wait
    | Finish
)


def next_step(state: JobState, now: datetime) -> Step:
    """What the job does now."""
    step = _work(state, now)
    # The source may be off, and somebody waits for what these do about it.
    return Report() if state.report_due and not isinstance(step, RollBack | GoOn | CutOver) else step


def _work(state: JobState, now: datetime) -> Step:
    if state.phase is Phase.COMPLETED:
        return _completed(state, now)
    if state.phase is Phase.ABANDONED:
        return Finish()
    if state.abandon_asked and not state.source_is_off:
        return End(state.abandon_asked)
    step = _of_phase(state, now)
    if not isinstance(step, Wait) or state.clean_up_at is None:
        return step
    if now >= state.clean_up_at:
        return CleanUp()
    return Wait(state.clean_up_at if step.until is None else min(step.until, state.clean_up_at))


def _completed(state: JobState, now: datetime) -> Step:
    if state.roll_back_until is None:
        return Finish()
    if state.roll_back_asked is not None:
        return RollBack()
    if state.finalize_asked is not None or now >= state.roll_back_until:
        return Finalize()
    return Wait(state.roll_back_until)


def _of_phase(state: JobState, now: datetime) -> Step:
    match state.phase:
        case Phase.INITIALIZING:
            return Prepare()
        case Phase.FAILED if state.rehearsal_waits:
            return DropRehearsal()
        case Phase.FAILED:
            return GoOn() if state.retry_asked or state.roll_back_asked else _failed(state, now)
        case Phase.CUTTING_OVER:
            return RollBack()
        case Phase.FULL_SYNC:
            return _full_sync(state, now)
        case _:
            return _ready(state, now)


def _full_sync(state: JobState, now: datetime) -> Step:
    if state.sync_asked_by is not None:
        return Synchronize("full")
    if state.paused:
        return Wait(None)
    if state.not_before is not None and now < state.not_before:
        return Wait(state.not_before)
    return Synchronize("full")


def _failed(state: JobState, now: datetime) -> Step:
    order = state.cutover_not_begun
    if order is None:
        return Wait(None)
    if schedule.stand(order, now) is Stand.OVER:
        return DropCutover("the job needed somebody at that time")
    return Wait(schedule.latest_start(order))


def _cutover(state: JobState, order: CutoverOrder, now: datetime) -> Step | None:
    """What an ordered cutover asks for now; None: its time has not come."""
    match schedule.stand(order, now):
        case Stand.OPEN:
            found = go_no_go.at_opening(state, order, now)
            hopeless = order.window is not None and found.verdict is Verdict.NO
            return DropCutover(found.because) if hopeless else CutOver(order)
        case Stand.OVER:
            return DropCutover("the job was not ready to begin it before")
        case Stand.AHEAD:
            rests = state.pass_not_before is not None and now < state.pass_not_before
            return Synchronize("before the cutover") if schedule.is_due(state, order, now) and not rests else None


def _wake_for(state: JobState, order: CutoverOrder, now: datetime) -> datetime | None:
    """When to look at a scheduled cutover again."""
    times = (schedule.sync_at(state, order), schedule.opens_at(order), state.pass_not_before)
    return min((time for time in times if time is not None and time > now), default=None)


def _ready(state: JobState, now: datetime) -> Step:
    order = state.cutover_asked
    if order is not None and (step := _cutover(state, order, now)) is not None:
        return step
    if (rehearsal := _rehearsal(state)) is not None:
        return rehearsal
    wake = None if order is None else _wake_for(state, order, now)
    # Neither a pause nor the cadence holds up a verification, since somebody asked for it; a cutover near by does: its
    # snapshots may live for an hour.
    opens_soon = order is not None and now >= (schedule.sync_at(state, order) or now)
    verify_at = (state.verify_at or now) if verification.runs(state) and not opens_soon else None
    if verify_at is not None and now >= verify_at:
        return Synchronize("verification")
    if state.sync_asked_by is not None:
        return Synchronize("asked for")
    due = state.next_sync_at
    if due is not None and now >= due:
        return Synchronize("cadence")
    return Wait(min((time for time in (due, verify_at, wake) if time is not None), default=None))


def _rehearsal(state: JobState) -> Step | None:
    """Before the next sync: it would make the copy younger by seconds, and may take hours."""
    if state.rehearsal_asked is not None:
        return BeginRehearsal(state.rehearsal_asked)
    if not state.rehearsal_waits:
        return None
    if state.seeded:
        return CopyForRehearsal()
    # A sync that was asked for completes the replica; without one it may stay as it is for days.
    return None if state.sync_asked_by is not None else DropRehearsal()


def full_sync_pause(failures: int) -> timedelta:
    """How long to wait before the next try of a full sync that failed so often: 30 s, doubling, at most 15 minutes."""
    return timedelta(seconds=min(900, 30 * 2 ** min(failures - 1, 10)))
