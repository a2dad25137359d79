"""How a job is cut over, and comes back from it: what failed, what was dropped, and what was taken back after its end.

The steps themselves are `workflows.cutover`, in the order of `workflows.itinerary`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows import volume_snapshots
    from workflows.calls import explain, to_the_end
    from workflows.cutover import CutoverRun
    from workflows.itinerary import CutoverFailed, open_record, roll_back, walk
    from workflows.rehearsal_steps import REMOVAL
    from workflows.rehearsing import Rehearses
    from xms import go_no_go, schedule, verification
    from xms.cutover import CutoverOrder, Decision, FinalizeOrder
    from xms.errors import WindowMissed
    from xms.models import Phase, Trouble
    from xms.rolling_back import begin_roll_back, keeps_as_it_failed, kept_as_it_failed, rolled_back


class CutsOver(Rehearses):
    """The cutover of a job, its roll-back, and the time in which a completed one can be taken back."""

    def park(self, trouble: Trouble) -> None:
        """Failed: wait for a person."""
        raise NotImplementedError

    def enter(self, phase: Phase) -> None:
        """Change the phase, for everybody to see."""
        raise NotImplementedError

    def something_ended(self) -> None:
        """Have the report kept."""
        raise NotImplementedError

    async def unless_abandoned(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, but break it off when the job is abandoned meanwhile."""
        raise NotImplementedError

    async def cut_over(self, order: CutoverOrder) -> None:
        """Walk the itinerary; after a failure walk it back, so that the source runs again and the job is Ready."""
        state = self.state
        if self.is_rehearsed_now or state.rehearsal_asked is not None:
            because = f"the cutover that {order.who or 'somebody'} ordered comes first"
            await self.unless_abandoned(self.break_off_rehearsal(because))
            if state.abandon_asked is not None or state.cutover_asked != order:
                # It was withdrawn, or is another one by now.
                return
        self.enter(Phase.CUTTING_OVER)
        state.trouble, state.source_is_off = None, False
        verification.end(state, workflow.now(), f"the cutover that {order.who or 'somebody'} ordered comes first")
        run = CutoverRun(self.spec, state, order)
        state.note(workflow.now(), "cutover", "begins", order.who)
        try:
            await walk(run, self.show)
        except CutoverFailed as failure:
            trouble = explain(failure.cause, f"cutover of {self.spec.vm} failed at {failure.step}")
            state.note(workflow.now(), "cutover failed", f"at {failure.step}: {trouble.because or trouble.what}")
            if state.cutover is not None:
                state.cutover = state.cutover.model_copy(update={"trouble": trouble})
            if not is_cancelled_exception(failure.cause) and keeps_as_it_failed(state, order, trouble):
                self.park(kept_as_it_failed(state, self.spec, trouble))
                return
            await to_the_end(self.roll_back(order))
            if is_cancelled_exception(failure.cause):
                raise asyncio.CancelledError from None
            return
        await to_the_end(self.remove_rehearsals(REMOVAL))
        self.complete(order)

    def complete(self, order: CutoverOrder) -> None:
        """The target runs. For the roll-back period, and as long as something has to be removed, the job goes on."""
        state = self.state
        state.cutover_asked = None
        state.note(workflow.now(), "completed", f"the target runs: {state.cutover.evidence if state.cutover else ''}")
        if state.cutover is not None:
            state.cutover = state.cutover.model_copy(update={"completed_at": workflow.now()})
        if order.rollback_period_seconds or state.snapshots_of_volumes:
            state.roll_back_until = workflow.now() + timedelta(seconds=order.rollback_period_seconds)
        self.enter(Phase.COMPLETED)

    def drop_cutover(self, because: str) -> None:
        """Let a scheduled cutover go that cannot begin in its time; the job goes on as if it had not been ordered."""
        state, order = self.state, self.state.cutover_asked
        if order is None:
            return
        state.cutover_asked = None
        trouble = WindowMissed(
            f"the cutover of {self.spec.vm} was not begun",
            because=f"ordered for {schedule.in_words(order)}: {because}",
            means="the source was not touched, and the job goes on with its syncs",
            do="order it for another time, or allow a longer window",
        ).trouble()
        trouble = trouble.model_copy(update={"at": workflow.now()})
        open_record(state, order)
        decision = Decision(at=workflow.now(), what="does not begin", because=trouble.because)
        predicted = go_no_go.at_opening(state, order, workflow.now()).prediction
        if state.cutover is not None:
            update = {"decisions": (decision,), "prediction": predicted, "trouble": trouble}
            state.cutover = state.cutover.model_copy(update=update)
        if state.phase is not Phase.FAILED:
            state.trouble = trouble
        state.note(workflow.now(), "cutover dropped", trouble.because, order.who)
        self.something_ended()

    async def go_back(self) -> None:
        """Roll back what failed, or what is completed."""
        if self.state.phase is Phase.COMPLETED:
            await self.take_back()
        else:
            await self.roll_back(self.state.cutover_asked or CutoverOrder())

    async def roll_back(self, order: CutoverOrder) -> None:
        """Undo what was begun. What cannot be undone now waits for a person in Failed; `retry` takes it up again."""
        state = self.state
        try:
            await roll_back(CutoverRun(self.spec, state, order), self.show)
        except ActivityError as error:
            trouble = explain(error, f"roll-back of {self.spec.vm}'s cutover is not finished")
            source = "the source is still off" if state.source_is_off else "the source is no longer held off"
            means = "; ".join(part for part in (trouble.means, source) if part)
            self.park(trouble.model_copy(update={"means": means}))
            return
        rolled_back(state, workflow.now())
        self.enter(Phase.READY)

    async def take_back(self) -> None:
        """Roll a completed cutover back: the target is removed, and the source runs again as it was at the cutover."""
        state = self.state
        order, state.roll_back_asked = state.roll_back_asked, None
        try:
            await CutoverRun(self.spec, state, CutoverOrder()).see_source_is_there()
        except ActivityError as error:
            state.trouble = explain(error, f"{self.spec.vm} is not rolled back")
            text = f"{state.trouble.because or state.trouble.what}; the target goes on running"
            state.note(workflow.now(), "roll-back refused", text)
            return
        begin_roll_back(state, order)
        state.roll_back_until = None
        self.enter(Phase.CUTTING_OVER)
        await self.roll_back((state.cutover.order if state.cutover else None) or CutoverOrder())

    async def let_stand(self) -> None:
        """The cutover stands. Nobody can roll it back from here on, and what that would have needed is removed."""
        state = self.state
        state.finalize_asked = state.finalize_asked or FinalizeOrder()
        state.doing = "removing what a roll-back would need"
        await volume_snapshots.remove(self.spec, state)
        state.doing, state.roll_back_until = "", None
        text = "the cutover stands" if state.finalize_asked.who else "the roll-back period is over: the cutover stands"
        state.note(workflow.now(), "finalized", text, state.finalize_asked.who)
        self.something_ended()
