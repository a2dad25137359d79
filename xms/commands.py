"""Which command is allowed when, and what it changes in a job's record; the workflow's loop acts on it (xms.lifecycle).

Pure: a state, a command and the time in, the changed state and an answer out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from xms import evidence, quantities, schedule, verification
from xms.conversion import options
from xms.cutover import CutoverOrder, FinalizeOrder, Rehearse, RollBackOrder, WithdrawCutover
from xms.errors import BadInput, Refused
from xms.job import JobState
from xms.models import (
    Abandon,
    Command,
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
from xms.rehearsal import refuse_impossible_evidence

SHORTEST_CADENCE_SECONDS: Final = 60
MAY_HAVE_A_CUTOVER_AHEAD: Final = frozenset({Phase.READY, Phase.SYNCING, Phase.FAILED})
"""A scheduled one is kept by a job that fails, until its time is over."""

SMALLEST_RATE_LIMIT: Final = 64 << 10
"""Bytes a second. Below that, a stream would be held up for longer than its peers have patience with a connection."""


def refuse_unless_allowed(state: JobState, command: Command, now: datetime | None = None) -> None:
    """Check a command against the table, changing nothing.

    Args:
        state: the job.
        command: what somebody orders.
        now: the time; None: it is not known, and times in the past are not looked for.

    Raises:
        Refused: not in this phase; the text says what stands against it.
        BadInput: a value that cannot be.
    """
    if state.phase is Phase.COMPLETED and state.roll_back_until is not None:
        _refuse_after_completion(state, command)
        return
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
        case CutoverOrder() | WithdrawCutover() | Rehearse() | RollBackOrder() | FinalizeOrder():
            _refuse_around_cutover(state, command, now)
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


def _refuse_around_cutover(state: JobState, command: Command, now: datetime | None) -> None:
    if isinstance(command, CutoverOrder | Rehearse):
        evidence.refuse_unusable(command.evidence)
        options.refuse_unusable(command.conversion)
    match command:
        case CutoverOrder():
            schedule.refuse_unless_possible(command, now)
            _refuse_cutover(state)
        case WithdrawCutover() if state.cutover_not_begun is None or state.phase not in MAY_HAVE_A_CUTOVER_AHEAD:
            begun = state.phase is Phase.CUTTING_OVER
            raise Refused(
                f"job {state.job_id} has no cutover to withdraw",
                because="it has begun" if begun else "none is ordered",
                do=f"break it off with: xms migration abandon {state.job_id}" if begun else "",
            )
        case Rehearse():
            _refuse_rehearsal(state, command)
        case RollBackOrder() if state.phase is not Phase.FAILED or state.failed_in is not Phase.CUTTING_OVER:
            raise _refused(state, "be rolled back", do="nothing: no cutover of it is completed, or kept as it failed")
        case FinalizeOrder():
            raise _refused(state, "be finalized", do="wait until its cutover is completed")
        case _:
            pass


def _refuse_cutover(state: JobState) -> None:
    if state.phase not in {Phase.READY, Phase.SYNCING}:
        raise _refused(state, "cut over", do=_after_failure(state) or "wait until the job is Ready")
    if state.cutover_asked is not None and not schedule.is_scheduled(state.cutover_asked):
        raise Refused(
            f"a cutover of {state.job_id} is ordered already", because=f"by {state.cutover_asked.who or 'somebody'}"
        )


def _refuse_after_completion(state: JobState, command: Command) -> None:
    """A completed job that can still be rolled back takes two commands, and one of them once."""
    if not isinstance(command, RollBackOrder | FinalizeOrder):
        raise Refused(
            f"job {state.job_id} is {state.phase}",
            because="its target runs, and it only waits for a roll-back or for its end",
            do=f"xms migration finalize {state.job_id}, or: xms migration rollback {state.job_id}",
        )
    asked = state.roll_back_asked or state.finalize_asked
    if asked is not None:
        raise Refused(
            f"job {state.job_id} takes no other order now",
            because=f"{asked.who or 'somebody'} ordered its {'roll-back' if state.roll_back_asked else 'end'} already",
        )


def _refuse_rehearsal(state: JobState, order: Rehearse) -> None:
    refuse_impossible_evidence(order)
    if state.phase not in {Phase.READY, Phase.SYNCING}:
        raise _refused(state, "be rehearsed", do=_after_failure(state) or "wait until the job is Ready")
    if state.rehearsal_asked is not None or (state.rehearsal is not None and state.rehearsal.outcome == "running"):
        raise Refused(
            f"a rehearsal of {state.job_id} runs already",
            do=f"see how far it is with: xms migration show {state.job_id}",
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
    if state.cutover_asked is not None and not schedule.is_scheduled(state.cutover_asked):
        raise Refused(
            f"job {state.job_id} cannot be verified now",
            because=f"{state.cutover_asked.who or 'somebody'} ordered a cutover, which comes first",
        )


def _refused(state: JobState, verb: str, do: str) -> Refused:
    return Refused(f"job {state.job_id} cannot {verb} now", because=f"it is in phase {state.phase}", do=do)


def _after_failure(state: JobState) -> str:
    if state.phase is not Phase.FAILED:
        return ""
    if state.cutover is not None and state.cutover.kept:
        return f"take the cutover back with: xms migration rollback {state.job_id}"
    return f"mend the cause, then: xms migration retry {state.job_id}"


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
    refuse_unless_allowed(state, command, now)
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
        case CutoverOrder() | WithdrawCutover() | Rehearse() | RollBackOrder() | FinalizeOrder():
            return _record_around_cutover(state, command)
        case Verify():
            verification.begin(state, command.who, now)
            total = quantities.size(sum(disk.capacity for disk in state.disks))
            when = "after the sync that runs" if state.phase is Phase.SYNCING else "beginning now"
            return f"every byte of the replica is compared with the source, {total}, {when}"
        case Retry():
            state.retry_asked = True
            planned = schedule.in_words(state.cutover_not_begun) if state.cutover_not_begun else ""
            cutover = f"; its cutover is still ordered for {planned}" if planned else ""
            return f"the job goes on from {state.failed_in or Phase.INITIALIZING}{cutover}"
        case Abandon():
            state.abandon_asked = command
            volumes = "and its volumes are deleted" if command.delete_volumes else "and its volumes are kept"
            return f"the job ends, its snapshots are removed, {volumes}"
        case _:
            raise BadInput(f"{type(command).__name__} is no command of a job")


def _record_around_cutover(
    state: JobState, command: CutoverOrder | WithdrawCutover | Rehearse | RollBackOrder | FinalizeOrder
) -> str:
    match command:
        case CutoverOrder():
            return _order_cutover(state, command)
        case WithdrawCutover():
            state.cutover_asked = None
            return "the cutover is withdrawn; the job goes on with its syncs"
        case Rehearse():
            state.rehearsal_asked = command
            return "a rehearsal begins " + ("after the sync that runs" if state.phase is Phase.SYNCING else "now")
        case RollBackOrder():
            state.roll_back_asked = command
            return "the target is removed, and the source runs again as soon as it is gone"
        case FinalizeOrder():
            state.finalize_asked = command
            return "the cutover stands; the job ends"


def _order_cutover(state: JobState, order: CutoverOrder) -> str:
    before, state.cutover_asked = state.cutover_asked, order
    state.pass_not_before = None
    planned = schedule.in_words(order)
    if planned:
        text = f"cutover begins {planned}; until then it can be changed or withdrawn, and syncs go on"
    else:
        text = "cutover starts " + ("after the sync that runs" if state.phase is Phase.SYNCING else "now")
    return text if before is None else f"{text}; it replaces the one of {schedule.in_words(before)}"


def _catch_up(state: JobState, command: Resume, *, was_paused: bool) -> str:
    """Have a job sync that was paused: its delta has grown, and its change tracking may have been turned off meanwhile.

    The sync itself looks at change tracking and turns it on again where it was lost.
    """
    if not was_paused or state.phase not in {Phase.READY, Phase.FULL_SYNC}:
        return ""
    if state.cutover_asked is not None and not schedule.is_scheduled(state.cutover_asked):
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
