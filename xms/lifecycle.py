"""The lifecycle as a table: what a job does next, and which command is allowed when.

Pure: a state and the time in, a decision out. The workflow only carries the decisions out.

| phase | next |
|---|---|
| Initializing | prepare |
| Full Sync | sync, until nothing is unseeded; after a failure again, later and later |
| Ready | cut over, go on with a verification, sync when asked or due, else wait |
| Failed | wait for retry or abandon; retry goes on where it stood |
| any that waits | from time to time, remove what could not be removed after a sync |
| Completed, Abandoned | finish |
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from xms import quantities, verification
from xms.errors import BadInput, Refused
from xms.job import JobState
from xms.models import (
    Abandon,
    Command,
    CutoverOrder,
    Pause,
    Phase,
    Receipt,
    Resume,
    Retry,
    SetCadence,
    SetRateLimit,
    SyncNow,
    Verify,
)

SHORTEST_CADENCE_SECONDS: Final = 60
SMALLEST_RATE_LIMIT: Final = 64 << 10
"""Bytes a second. Below that, a stream would be held up for longer than its peers have patience with a connection."""

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
class GoOn:
    """Leave Failed for the phase in which the job stood."""


@dataclass(frozen=True)
class RollBack:
    """Take up a roll-back that could not be finished."""


@dataclass(frozen=True)
class End:
    """Clean up and end the job on the operator's word."""

    order: Abandon


@dataclass(frozen=True)
class CleanUp:
    """Try once more to remove the snapshot or the attachments that a sync had to leave behind."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until`, or before somebody says something."""

    until: datetime | None


@dataclass(frozen=True)
class Finish:
    """The job is over."""


Step = Prepare | Synchronize | CutOver | GoOn | RollBack | End | CleanUp | Wait | Finish


def next_step(state: JobState, now: datetime) -> Step:
    """What the job does now."""
    if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
        return Finish()
    if state.abandon_asked and not state.source_is_off:
        return End(state.abandon_asked)
    step = _of_phase(state, now)
    if not isinstance(step, Wait) or state.clean_up_at is None:
        return step
    if now >= state.clean_up_at:
        return CleanUp()
    return Wait(state.clean_up_at if step.until is None else min(step.until, state.clean_up_at))


def _of_phase(state: JobState, now: datetime) -> Step:
    match state.phase:
        case Phase.INITIALIZING:
            return Prepare()
        case Phase.FAILED:
            return GoOn() if state.retry_asked else Wait(None)
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


def _ready(state: JobState, now: datetime) -> Step:
    if state.cutover_asked is not None:
        return CutOver(state.cutover_asked)
    # Neither a pause nor the cadence holds up a verification, since somebody asked for it.
    verify_at = (state.verify_at or now) if verification.runs(state) else None
    if verify_at is not None and now >= verify_at:
        return Synchronize("verification")
    if state.sync_asked_by is not None:
        return Synchronize("asked for")
    due = state.next_sync_at
    if due is not None and now >= due:
        return Synchronize("cadence")
    return Wait(min((time for time in (due, verify_at) if time is not None), default=None))


def full_sync_pause(failures: int) -> timedelta:
    """How long to wait before the next try of a full sync that failed so often: 30 s, doubling, at most 15 minutes."""
    return timedelta(seconds=min(900, 30 * 2 ** min(failures - 1, 10)))


def refuse_unless_allowed(state: JobState, command: Command) -> None:
    """Check a command against the table, changing nothing.

    Raises:
        Refused: not in this phase; the text says what stands against it.
        BadInput: a value that cannot be.
    """
    if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
        raise Refused(f"job {state.job_id} is {state.phase}", because="nothing is left to do with it")
    match command:
        case SetCadence(cadence_seconds=int(seconds)) if seconds < SHORTEST_CADENCE_SECONDS:
            raise BadInput(
                f"a cadence of {seconds} s is too short", because="allowed: manual, or any duration of at least 60 s"
            )
        case SetRateLimit(rate_limit=int(limit)) if limit < SMALLEST_RATE_LIMIT:
            raise BadInput(
                f"a rate limit of {limit} bytes a second is too small",
                because=f"allowed: none, or at least {SMALLEST_RATE_LIMIT} (64 KiB) a second",
            )
        case SyncNow() if state.phase in {Phase.CUTTING_OVER, Phase.FAILED}:
            raise _refused(state, "sync", do=_after_failure(state))
        case CutoverOrder():
            _refuse_cutover(state)
        case Verify():
            _refuse_verification(state)
        case Retry() if state.phase is not Phase.FAILED:
            raise _refused(state, "retry", do="nothing: only a Failed job waits for a retry")
        case Abandon() if state.source_is_off:
            raise _refused(
                state,
                "abandon",
                do=_after_failure(state) + "; it ends the roll-back, after which the job can be abandoned"
                if state.phase is Phase.FAILED
                else "wait for the cutover's end: the source is off already",
            )
        case _:
            pass


def _refuse_cutover(state: JobState) -> None:
    if state.phase not in {Phase.READY, Phase.SYNCING}:
        raise _refused(state, "cut over", do=_after_failure(state) or "wait until the job is Ready")
    if state.cutover_asked is not None:
        raise Refused(
            f"a cutover of {state.job_id} is ordered already", because=f"by {state.cutover_asked.who or 'somebody'}"
        )


def _refuse_verification(state: JobState) -> None:
    if state.phase not in {Phase.READY, Phase.SYNCING}:
        raise _refused(state, "be verified", do=_after_failure(state) or "wait until the job is Ready")
    if state.verification is not None and verification.runs(state):
        asked = state.verification
        raise Refused(
            f"a verification of {state.job_id} runs already",
            because=f"{asked.asked_by or 'somebody'} asked for it at {asked.asked_at:%Y-%m-%d %H:%M:%S} UTC",
            do=f"see how far it is with: xms migration show {state.job_id}",
        )
    if state.cutover_asked is not None:
        raise Refused(
            f"job {state.job_id} cannot be verified now",
            because=f"{state.cutover_asked.who or 'somebody'} ordered a cutover, which comes first",
        )


def _refused(state: JobState, verb: str, do: str) -> Refused:
    return Refused(f"job {state.job_id} cannot {verb} now", because=f"it is in phase {state.phase}", do=do)


def _after_failure(state: JobState) -> str:
    return f"mend the cause, then: xms migration retry {state.job_id}" if state.phase is Phase.FAILED else ""


def accept(state: JobState, command: Command, now: datetime, *, catches_up: bool = False) -> Receipt:
    """Record a command; the workflow's loop acts on it.

    Args:
        state: the job.
        command: what somebody orders.
        now: the time.
        catches_up: a job that was paused syncs as soon as it is resumed. False replays what resumes did formerly.

    Raises:
        Refused: as `refuse_unless_allowed` says.
    """
    refuse_unless_allowed(state, command)
    was_paused = state.paused
    text = _record(state, command, now)
    if isinstance(command, Resume) and catches_up:
        text = _catch_up(state, command, was_paused=was_paused) or text
    state.note(now, "command", text, command.who)
    return Receipt(text=text)


def _record(state: JobState, command: Command, now: datetime) -> str:
    match command:
        case SyncNow():
            state.sync_asked_by = command.who
            busy = state.phase in {Phase.SYNCING, Phase.FULL_SYNC, Phase.INITIALIZING}
            return "another sync follows the one that runs" if busy else "a sync starts now"
        case Pause():
            state.paused = True
            return "paused: no sync starts by itself; one that runs is finished"
        case Resume():
            state.paused = False
            return "resumed: syncs follow the cadence again"
        case SetCadence() | SetRateLimit():
            return _set(state, command)
        case CutoverOrder():
            state.cutover_asked = command
            return "cutover starts " + ("after the sync that runs" if state.phase is Phase.SYNCING else "now")
        case Verify():
            verification.begin(state, command.who, now)
            total = quantities.size(sum(disk.capacity for disk in state.disks))
            when = "after the sync that runs" if state.phase is Phase.SYNCING else "beginning now"
            return f"every byte of the replica is compared with the source, {total}, {when}"
        case Retry():
            state.retry_asked = True
            return f"the job goes on from {state.failed_in or Phase.INITIALIZING}"
        case Abandon():
            state.abandon_asked = command
            volumes = "and its volumes are deleted" if command.delete_volumes else "and its volumes are kept"
            return f"the job ends, its snapshots are removed, {volumes}"
        case _:
            raise BadInput(f"{type(command).__name__} is no command of a job")


def _catch_up(state: JobState, command: Resume, *, was_paused: bool) -> str:
    """Have a job sync that was paused: its delta has grown, and its change tracking may have been turned off meanwhile.

    The sync itself looks at change tracking and turns it on again where it was lost.
    """
    if not was_paused or state.phase not in {Phase.READY, Phase.FULL_SYNC} or state.cutover_asked is not None:
        return ""
    if state.sync_asked_by is None:
        state.sync_asked_by = command.who
    return "resumed: a sync starts now, and checks change tracking; syncs follow the cadence again"


def _set(state: JobState, command: SetCadence | SetRateLimit) -> str:
    if isinstance(command, SetCadence):
        state.cadence_seconds = command.cadence_seconds
        if state.phase is Phase.READY:
            # It was reckoned by the old cadence, which may have been a day.
            state.not_before = None
        return f"the cadence is {quantities.cadence(command.cadence_seconds)}, reckoned from the last sync"
    state.rate_limit = command.rate_limit
    if command.rate_limit is None:
        return "no rate limit any more; streams that run are free within 5 seconds"
    limit = quantities.rate(command.rate_limit)
    return f"at most {limit} for all streams together; those that run follow within 5 seconds"
