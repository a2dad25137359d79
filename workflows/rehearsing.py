"""The job's side of a rehearsal: it makes the copies between two syncs, and awaits the rest beside its loop.

The rest is a workflow of its own (`workflows.rehearsal`). While it runs the job syncs as ever, but does not continue as
new, since it is the one that awaits it. A cutover and the job's end break it off, and wait until all of it is removed:
the quota and the conversion's slot are needed, and nothing of it may outlive the job.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final, Literal

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from activities.rehearsal import RehearsalActivities
    from workflows.calls import CONTROL, Policy, call, explain, heed_cancellation, refusal, to_the_end
    from workflows.names import REHEARSAL_PROGRESS
    from workflows.rehearsal import RehearsalWorkflow
    from workflows.rehearsal_steps import COPIES, REMOVAL, remove_all
    from xms import rehearsal
    from xms.cutover import Rehearsal, Rehearse, StepRecord
    from xms.errors import OperationFailed, Refused
    from xms.job import JobState
    from xms.lifecycle import BeginRehearsal, CopyForRehearsal, DropRehearsal
    from xms.models import Disk, MigrationSpec, Trouble
    from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, RehearsalInput, VolumesCloned
    from xms.orders.target import TargetOrder

AT_MOST: Final = timedelta(hours=24)
"""For the rehearsal's workflow, the removal included: it ends earlier by its own times, so this is for its faults."""

Outcome = Literal["failed", "broken off"]
"""Of a rehearsal that has no record of its workflow's."""

QUESTION: Final[Policy] = {**CONTROL, "schedule_to_close_timeout": timedelta(minutes=10)}


class Rehearses:
    """A job that can be rehearsed."""

    spec: MigrationSpec
    state: JobState

    rehearsing: asyncio.Task[None] | None = None
    """Beside the job's loop, while a rehearsal runs."""

    rehearsal_order: Rehearse = Rehearse()
    """Of the one that runs."""

    rehearsal_stopped: bool = False
    """Whether the one that runs was told to stop."""

    copied: VolumesCloned | ActivityError | None = None
    """What came of the copies that it waits for."""

    def show(self) -> None:
        """Bring the current details up to the state."""
        raise NotImplementedError

    @workflow.signal(name=REHEARSAL_PROGRESS, description="How far the job's rehearsal is; its workflow says so")
    def rehearsal_progress(self, record: Rehearsal) -> None:
        """Take over how far it is, unless it is none of this run's or has ended."""
        known = self.state.rehearsal
        if known is not None and known.outcome == "running" and known.started_at == record.started_at:
            self.state.rehearsal = record.model_copy(update={"outcome": "running"})
            self.show()

    @property
    def is_rehearsed_now(self) -> bool:
        """Whether a rehearsal runs."""
        return self.rehearsing is not None and not self.rehearsing.done()

    async def rehearse_on(self, step: BeginRehearsal | CopyForRehearsal | DropRehearsal) -> None:
        """The loop's part of a rehearsal."""
        match step:
            case BeginRehearsal(order):
                self.begin_rehearsal(order)
            case CopyForRehearsal():
                await self.copy_for_rehearsal()
            case DropRehearsal():
                self.state.rehearsal_waits = False

    def begin_rehearsal(self, order: Rehearse) -> None:
        """Start what runs beside the loop. Nothing is awaited: the job goes on."""
        state = self.state
        number = (state.rehearsal.number if state.rehearsal else 0) + 1
        state.rehearsal_asked = None
        state.rehearsal = Rehearsal(number=number, asked_by=order.who, started_at=workflow.now())
        self.rehearsal_order, self.rehearsal_stopped, self.copied = order, False, None
        state.rehearsal_waits = False
        state.note(workflow.now(), "rehearsal", f"number {number} begins", order.who)
        self.rehearsing = asyncio.create_task(self._rehearse(order, state.rehearsal))

    async def copy_for_rehearsal(self) -> None:
        """Between two syncs: nobody writes to the volumes until the copies are made, since the loop waits here."""
        state = self.state
        state.doing = "copying the volumes for the rehearsal"
        self.show()
        self._record_copies("running")
        try:
            self.copied = await call(RehearsalActivities.clone_volumes, self._clone_order(), **self._clone_policy())
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            self.copied = error
        finally:
            state.rehearsal_waits, state.doing = False, ""
        self._record_copies("done" if isinstance(self.copied, VolumesCloned) else "failed")

    async def break_off_rehearsal(self, because: str) -> None:
        """Stop a rehearsal that runs, and wait until all of it is removed; one that has not begun is dropped."""
        state = self.state
        if state.rehearsal_asked is not None:
            state.rehearsal_asked = None
            state.note(workflow.now(), "rehearsal dropped", because)
        task = self.rehearsing
        if task is None or task.done():
            return
        if not self.rehearsal_stopped:
            # Once: its removal is not to be told so again.
            state.note(workflow.now(), "rehearsal", f"is broken off: {because}")
            self.rehearsal_stopped = task.cancel()
        state.doing = "removing the rehearsal"
        self.show()
        await workflow.wait_condition(task.done)
        state.doing = ""

    async def remove_rehearsals(self, policy: Policy) -> None:
        """At the job's end: what a killed worker's late call, or a terminated rehearsal, may have left."""
        if self.state.rehearsal is None:
            return
        for text in await remove_all(self._rehearsals_target(), policy):
            self.state.note(workflow.now(), "rehearsal left", text)

    # --- beside the loop ----------------------------------------------------------------------------------------------

    async def _rehearse(self, order: Rehearse, begun: Rehearsal) -> None:
        """All of one rehearsal. It is cancelled by `break_off_rehearsal` alone, and once."""
        begun = begun.model_copy(update={"replica_of": self.state.replica_of})
        handed_over = False
        try:
            await self._make_room()
            disks = await self._copies()
            begun = self.state.rehearsal or begun
            heed_cancellation()
            child = await workflow.start_child_workflow(
                RehearsalWorkflow.run,
                self._input(order, begun, disks),
                id=self._rehearsals_target().job_id,
                execution_timeout=AT_MOST,
                cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                static_summary=f"{self.spec.vm}: rehearsal {begun.number}",
            )
            handed_over = True
            done = await child
        except asyncio.CancelledError:
            done = self._ended(begun, "broken off", None)
            handed_over = False
        except FailureError as error:
            done = self._ended(begun, *self._outcome_of(error, handed_over=handed_over))
            handed_over = False
        if not handed_over:
            await to_the_end(self._remove(done))
            done = self.state.rehearsal or done
        rehearsal.take_in(self.state, done, workflow.now())
        self._tell(done)
        self.show()

    async def _make_room(self) -> None:
        """Remove what an earlier rehearsal left, and see that the quotas cover another one, before anything is made."""
        state, target = self.state, self._rehearsals_target()
        if left := await remove_all(target, QUESTION):
            raise refusal(
                Refused,
                f"{self.spec.vm} cannot be rehearsed",
                because="; ".join(left),
                means="nothing was made; the job goes on",
                do="remove it, then order the rehearsal again",
            )
        check = CheckRehearsal(target=target, spec=self.spec, disks=state.disks, nics=state.nics)
        await call(RehearsalActivities.check_rehearsal, check, **QUESTION)

    async def _copies(self) -> tuple[Disk, ...]:
        """Have the loop make them when no sync runs."""
        heed_cancellation()
        self.state.rehearsal_waits = True
        await workflow.wait_condition(lambda: self.copied is not None or not self.state.rehearsal_waits)
        if isinstance(self.copied, VolumesCloned):
            return self.copied.disks
        if isinstance(self.copied, ActivityError):
            raise self.copied
        raise refusal(
            Refused,
            f"{self.spec.vm} was not rehearsed",
            because="its replica could not be copied: the job waits for a person, or its replica is incomplete",
            means="nothing is left of the rehearsal",
            do=f"see: xms migration show {self.state.job_id}",
        )

    async def _remove(self, done: Rehearsal) -> None:
        left = await remove_all(self._rehearsals_target(), REMOVAL)
        self.state.rehearsal = done.model_copy(update={"left": left, "ended_at": workflow.now()})

    def _outcome_of(self, error: FailureError, *, handed_over: bool) -> tuple[Outcome, Trouble | None]:
        if self.rehearsal_stopped and is_cancelled_exception(error):
            return "broken off", None
        if handed_over:
            # It never fails by itself: it was terminated, or took more than a day.
            return "broken off", Trouble(
                kind=OperationFailed.__name__,
                what=f"the rehearsal of {self.spec.vm} was broken off",
                because=f"its workflow did not end by itself: {error.cause or error}",
                means="the source and the replica were not touched",
                do=f"order it again: xms migration rehearse {self.state.job_id}",
                at=workflow.now(),
            )
        if isinstance(error, ActivityError | ApplicationError):
            return "failed", explain(error, f"{self.spec.vm} was not rehearsed")
        return "failed", Trouble(
            kind=OperationFailed.__name__,
            what=f"{self.spec.vm} was not rehearsed",
            because=f"its workflow did not start: {error}",
            means="the source and the replica were not touched",
            do="wait until an earlier rehearsal has ended, then order it again",
            at=workflow.now(),
        )

    def _ended(self, begun: Rehearsal, outcome: Outcome, trouble: Trouble | None) -> Rehearsal:
        known, now = self.state.rehearsal or begun, workflow.now()
        steps = tuple(
            step.model_copy(update={"outcome": "failed", "ended_at": now}) if step.outcome == "running" else step
            for step in known.steps
        )
        return known.model_copy(update={"outcome": outcome, "trouble": trouble, "ended_at": now, "steps": steps})

    def _tell(self, done: Rehearsal) -> None:
        """The job's story says how it ended."""
        text = f"number {done.number}"
        if done.outcome == "passed":
            text += f": {done.evidence}" if done.evidence else ""
        elif done.trouble is not None:
            text += f": {done.trouble.what}: {done.trouble.because or done.trouble.kind}"
        self.state.note(workflow.now(), f"rehearsal {done.outcome}", text)
        for sentence in done.left:
            self.state.note(workflow.now(), "rehearsal left", sentence)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def _rehearsals_target(self) -> TargetOrder:
        order = self.state.target_order(self.spec)
        return order.model_copy(update={"job_id": rehearsal.rehearsal_id(self.state.job_id)})

    def _clone_order(self) -> CloneVolumes:
        state = self.state
        return CloneVolumes(
            target=self._rehearsals_target(),
            of_job=state.job_id,
            disks=state.disks,
            token=str(workflow.uuid4()),
            instance_name=rehearsal.instance_name(self.spec.instance_name),
            source=self.spec.source,
            vm=state.vm_name or self.spec.vm,
            timeout_seconds=self.rehearsal_order.syncs_wait_seconds,
        )

    def _clone_policy(self) -> Policy:
        """Back ends that cannot copy say so at once: a few tries, and not for longer than syncs may wait."""
        longest = timedelta(seconds=self.rehearsal_order.syncs_wait_seconds)
        return {
            **CONTROL,
            "start_to_close_timeout": longest + timedelta(minutes=1),
            "schedule_to_close_timeout": longest + timedelta(minutes=2),
            "retry_policy": RetryPolicy(
                initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15), maximum_attempts=4
            ),
        }

    def _record_copies(self, outcome: str) -> None:
        now = workflow.now()
        if self.state.rehearsal is None:
            return
        began = next((step.started_at for step in self.state.rehearsal.steps if step.name == COPIES), now)
        step = StepRecord(
            name=COPIES, started_at=began, ended_at=None if outcome == "running" else now, outcome=outcome
        )
        self.state.rehearsal = self.state.rehearsal.model_copy(
            update={"steps": (step,), "replica_of": self.state.replica_of}
        )

    def _input(self, order: Rehearse, begun: Rehearsal, disks: tuple[Disk, ...]) -> RehearsalInput:
        state = self.state
        return RehearsalInput(
            spec=self.spec,
            job_id=state.job_id,
            order=order,
            record=begun,
            disks=disks,
            nics=state.nics,
            moref=state.moref,
            vm_name=state.vm_name,
            firmware=state.firmware,
            secure_boot=state.secure_boot,
            cpus=state.cpus,
            memory=state.memory,
            started_at=begun.started_at,
        )
