"""The itinerary of a cutover: named steps, each with what undoes it, walked forwards, and back after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.calls import refusal, to_the_end, unless
    from workflows.cutover import CutoverRun
    from workflows.names import SOURCE_FIRST
    from xms import measuring
    from xms.cutover import Cutover, CutoverOrder, StepRecord
    from xms.errors import Refused
    from xms.job import CUTOVERS_KEPT, JobState


class CutoverFailed(Exception):
    """A step failed; the steps before it have to be undone."""

    def __init__(self, step: str, cause: BaseException) -> None:
        super().__init__(step)
        self.step = step
        self.cause = cause


@dataclass(frozen=True)
class Step:
    """One step of the itinerary."""

    name: str
    run: Callable[[CutoverRun], Coroutine[Any, Any, None]]
    undo: Callable[[CutoverRun], Coroutine[Any, Any, None]] | None = None
    downtime_starts: bool = False
    downtime_ends: bool = False
    keeps_source_off: bool = False
    """As long as it is not undone, the target may run, so the source may not."""


ITINERARY: Final = (
    Step("Gates", CutoverRun.check_gates),
    Step("Warm Pass", CutoverRun.warm_pass),
    Step("Ports", CutoverRun.make_ports, undo=CutoverRun.remove_ports),
    Step("Reserve Stream", CutoverRun.reserve_stream, undo=CutoverRun.give_stream_back),
    Step("Power Off Source", CutoverRun.power_off, undo=CutoverRun.power_on, downtime_starts=True),
    Step("Final Delta", CutoverRun.final_delta),
    Step("Guest Fixes", CutoverRun.convert, undo=CutoverRun.forget_conversion),
    Step("Finalize", CutoverRun.finalize),
    Step("Boot Target", CutoverRun.boot, undo=CutoverRun.remove_server, keeps_source_off=True),
    Step("Evidence", CutoverRun.see_running, downtime_ends=True),
    Step("Finishing Touches", CutoverRun.complete, undo=CutoverRun.take_mark_back),
)


def open_record(state: JobState, order: CutoverOrder) -> None:
    """Begin the record of a cutover; the one before it is kept with the earlier ones."""
    if state.cutover is not None:
        state.earlier_cutovers = (*state.earlier_cutovers, state.cutover)[-CUTOVERS_KEPT:]
    number = state.cutover.number + 1 if state.cutover else 1
    state.cutover = Cutover(number=number, ordered_by=order.who, ordered_at=workflow.now(), order=order)


async def walk(run: CutoverRun, show: Callable[[], None]) -> None:
    """Run the itinerary, timing each step.

    Raises:
        CutoverFailed: a step failed; `roll_back` undoes it and what came before it.
    """
    state = run.state
    open_record(state, run.order)
    for step in ITINERARY:
        state.doing = step.name
        _begin(state, step)
        show()
        try:
            await _run(run, step)
        except (Exception, asyncio.CancelledError) as error:
            _end(state, step, "failed")
            if state.cutover is not None:
                state.cutover = state.cutover.model_copy(update={"failed_at": step.name})
            raise CutoverFailed(step.name, error) from error
        _end(state, step, "done")
        measuring.take_in(state, step.name, workflow.now())


async def _run(run: CutoverRun, step: Step) -> None:
    """One step; until the source is stopped, `abandon` breaks it off, and until the target runs, a cancellation."""
    state = run.state
    if state.cutover is not None and state.cutover.downtime_ended_at is not None:
        # The target works by now, and to take it away would cost what it has written.
        with suppress(asyncio.CancelledError):
            await to_the_end(step.run(run))
        return
    if not (step.downtime_starts or state.source_is_off):
        await unless(lambda: state.abandon_asked is not None, step.run(run))
    if state.abandon_asked is not None and not state.source_is_off:
        raise refusal(Refused, "the job was abandoned before the source was stopped")
    if step.downtime_starts or state.source_is_off:
        # Nothing is awaited between the question above and the mark that `power_off` sets: no `abandon` comes between.
        await step.run(run)


async def roll_back(run: CutoverRun, show: Callable[[], None]) -> None:
    """Undo every step that was begun: the source runs as soon as the target cannot, and the rest is cleaned up then.

    Raises:
        ActivityError: an undo failed after all its retries. The steps that are still to be undone keep their outcome,
            so that the walk can be taken up again; the source is not powered on while the target may run.
    """
    state = run.state
    for step in undo_order():
        record = _recorded(state, step)
        if step.undo is None or record is None or record.outcome == "undone":
            continue
        state.doing = f"rolling back: {step.name}"
        show()
        await step.undo(run)
        _end(state, step, "undone")


def undo_order() -> tuple[Step, ...]:
    """Backwards, but what does not keep the source from running comes after its power-on: people wait for that."""
    backwards = tuple(reversed(ITINERARY))
    if not workflow.patched(SOURCE_FIRST):
        return backwards
    return tuple(sorted(backwards, key=lambda step: (not step.keeps_source_off, not step.downtime_starts)))


def _recorded(state: JobState, step: Step) -> StepRecord | None:
    records = state.cutover.steps if state.cutover else ()
    return next((record for record in records if record.name == step.name), None)


def _begin(state: JobState, step: Step) -> None:
    if state.cutover is None:
        return
    now = workflow.now()
    changes: dict[str, object] = {"steps": (*state.cutover.steps, StepRecord(name=step.name, started_at=now))}
    if step.downtime_starts:
        changes["downtime_started_at"] = now
    state.cutover = state.cutover.model_copy(update=changes)


def _end(state: JobState, step: Step, outcome: str) -> None:
    if state.cutover is None:
        return
    now = workflow.now()
    ended: dict[str, object] = {"outcome": outcome} | ({"undone_at": now} if outcome == "undone" else {})
    steps = tuple(
        record.model_copy(update={**ended, "ended_at": record.ended_at or now}) if record.name == step.name else record
        for record in state.cutover.steps
    )
    changes: dict[str, object] = {"steps": steps}
    if step.downtime_ends and outcome == "done":
        changes["downtime_ended_at"] = now
    state.cutover = state.cutover.model_copy(update=changes)
