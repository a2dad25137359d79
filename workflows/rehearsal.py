"""One rehearsal of a cutover, beside the job and its syncs: the copies are converted and booted, and all is removed.

A workflow of its own, so that the job's history does not grow with it, and so that it outlives a job that is
terminated: it is told to stop then, and cleans up. It ends with a record and never fails: what went wrong stands there.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.calls import explain, heed_cancellation, to_the_end
    from workflows.names import REHEARSAL_PROGRESS
    from workflows.rehearsal_steps import REHEARSAL, REMOVAL, REMOVAL_STEP, RehearsalRun, Step, remove_all
    from xms.cutover import Rehearsal, StepRecord
    from xms.models import Trouble
    from xms.orders.rehearsal import RehearsalInput

LONGEST: Final = timedelta(hours=8)
"""For all steps before the removal. A conversion that is tried to its last attempt takes longer than anybody waits."""


@workflow.defn(name="RehearsalWorkflow")
class RehearsalWorkflow:
    """Converts and boots a copy of a replica in an isolated network, and removes all of it."""

    @workflow.init
    def __init__(self, order: RehearsalInput) -> None:
        """Begin with what the job has done already."""
        self.order = order
        self.record = order.record
        self.steps = RehearsalRun(order)

    @workflow.run
    async def run(self, order: RehearsalInput) -> Rehearsal:
        """Walk the itinerary, and remove everything, also where a step failed or the rehearsal is broken off."""
        del order
        walking = asyncio.create_task(self.walk())
        try:
            await workflow.wait_condition(walking.done, timeout=LONGEST, timeout_summary="the rehearsal is given up")
        except TimeoutError:
            await self.stop(walking)
            self.failed(self.too_long())
        except asyncio.CancelledError:
            await self.stop(walking)
            self.record = self.record.model_copy(update={"outcome": "broken off"})
        await self.to_the_end()
        return self.record

    async def walk(self) -> None:
        """One step after the other; the first that fails ends the walk."""
        for step in REHEARSAL:
            heed_cancellation()
            await self.begin(step.name)
            try:
                await step.run(self.steps)
            except (ActivityError, ApplicationError) as error:
                self.end(step.name, "failed")
                if is_cancelled_exception(error):
                    raise asyncio.CancelledError from error
                self.failed(explain(error, f"the rehearsal of {self.steps.vm.vm} failed at {step.name}"))
                return
            except asyncio.CancelledError:
                self.end(step.name, "failed")
                raise
            self.end(step.name, "done")
        self.record = self.record.model_copy(
            update={
                "outcome": "passed",
                "conversion_seconds": self.took(REHEARSAL[1]),
                "boot_seconds": self.took(REHEARSAL[3]) + self.took(REHEARSAL[4]),
                "evidence": self.steps.state.cutover.evidence if self.steps.state.cutover else "",
            }
        )

    async def stop(self, walking: asyncio.Task[None]) -> None:
        """Break the walk off, and wait until its last call has ended: what that makes is removed after it."""
        walking.cancel()

        async def ended() -> None:
            await workflow.wait_condition(walking.done)

        # However often somebody says that it is to stop.
        try:
            await to_the_end(ended())
        except asyncio.CancelledError:
            return

    async def to_the_end(self) -> None:
        """Remove everything, however often this workflow is told to stop meanwhile."""
        try:
            await to_the_end(self.remove())
        except asyncio.CancelledError:
            return

    async def remove(self) -> None:
        """Nothing of the rehearsal stays: neither on a worker nor in the cloud."""
        await self.begin(REMOVAL_STEP)
        left: tuple[str, ...] = ()
        try:
            await self.steps.discard_overlays()
        except ActivityError as error:
            trouble = explain(error, "the conversion's files could not be removed from the worker")
            left = (": ".join(part for part in (trouble.what, trouble.because) if part),)
        left += await remove_all(self.steps.target, REMOVAL)
        self.end(REMOVAL_STEP, "failed" if left else "done")
        self.record = self.record.model_copy(update={"left": left, "ended_at": workflow.now()})

    # --- the record ---------------------------------------------------------------------------------------------------

    async def begin(self, name: str) -> None:
        """A step begins, for the job's status to show."""
        record = StepRecord(name=name, started_at=workflow.now())
        self.record = self.record.model_copy(update={"steps": (*self.record.steps, record)})
        parent = workflow.info().parent
        if parent is None:
            return
        job = workflow.get_external_workflow_handle(parent.workflow_id, run_id=parent.run_id)
        try:
            await job.signal(REHEARSAL_PROGRESS, self.record)
        except FailureError as error:
            # The job may be over, or terminated: nobody is left to be told.
            workflow.logger.info("the job was not told of step %s: %s", name, error)

    def end(self, name: str, outcome: str) -> None:
        """A step ended."""
        now = workflow.now()
        self.record = self.record.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(update={"outcome": outcome, "ended_at": now}) if step.name == name else step
                    for step in self.record.steps
                )
            }
        )

    def failed(self, trouble: Trouble) -> None:
        """It did not pass."""
        self.record = self.record.model_copy(update={"outcome": "failed", "trouble": trouble})

    def took(self, step: Step) -> float:
        """Seconds that a step took."""
        found = next(record for record in self.record.steps if record.name == step.name)
        return 0.0 if found.ended_at is None else (found.ended_at - found.started_at).total_seconds()

    def too_long(self) -> Trouble:
        """Why it was given up."""
        return Trouble(
            kind="WaitedTooLong",
            what=f"the rehearsal of {self.steps.vm.vm} was given up",
            because=f"it did not end within {LONGEST.total_seconds() / 3600:.0f} hours",
            means="the source and the replica were not touched",
            do="see what the step waited for, then order it again",
            at=workflow.now(),
        )
