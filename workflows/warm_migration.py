"""The lifecycle of one warm migration, from submit to a target instance that runs.

Read it from the top: one loop asks the table in `xms.lifecycle` what to do next and does it. Messages only change the
state (`workflows.commands`), a sync is `workflows.sync`, a cutover and the way back are
`workflows.cutting_over`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from activities.target import TargetActivities
    from workflows import volume_snapshots
    from workflows.calls import CLEAN_UP, CONTROL, call, explain, heed_cancellation, to_the_end, unless
    from workflows.commands import Commands
    from workflows.cutting_over import CutsOver
    from workflows.details import describe
    from workflows.host_slots import TakesSlots
    from workflows.names import KEEPS_REPORTS, LAST_SYNC, PAUSED, PHASE, PROJECT, SOURCE, VM
    from workflows.preparation import prepare
    from workflows.rehearsal_steps import REMOVAL
    from workflows.reporting import keep_report
    from workflows.sync import CLEAN_UP_AGAIN, Sync, remove_leftovers
    from xms import differences, schedule, verification
    from xms.cutover import FinalizeOrder
    from xms.job import JobInput, JobState
    from xms.lifecycle import (
        FAILURES_BEFORE_PARKING,
        BeginRehearsal,
        CleanUp,
        CopyForRehearsal,
        CutOver,
        DropCutover,
        DropRehearsal,
        End,
        Finalize,
        Finish,
        GoOn,
        Prepare,
        Report,
        RollBack,
        Step,
        Synchronize,
        Wait,
        full_sync_pause,
        next_step,
    )
    from xms.models import Abandon, Phase, Trouble
    from xms.orders.target import VolumesOrder
    from xms.rolling_back import begin_roll_back
    from xms.status import JobReport

HISTORY_LIMIT: Final = 8000
"""Events after which a run continues as new, where the server does not suggest it earlier (its own limit is 51,200)."""


@workflow.defn(name="WarmMigrationWorkflow")
class WarmMigrationWorkflow(Commands, TakesSlots, CutsOver):
    """Keeps one VM's volumes in step with it, until cutover moves the workload or an operator abandons it."""

    @workflow.init
    def __init__(self, job: JobInput) -> None:
        """Begin a job, or take it over from the run that continued as new."""
        self.spec = job.spec()
        self.state = job.carried or JobState.fresh(self.spec, workflow.now())
        self.shown: tuple[object, ...] = ()

    @workflow.run
    async def run(self, job: JobInput) -> JobReport:
        """Do what the table says until the job is over."""
        del job
        while True:
            self.show()
            try:
                step = next_step(self.state, workflow.now())
                if isinstance(step, Finish):
                    return self.report()
                await self.do(step)
            except asyncio.CancelledError:
                # Somebody cancelled the workflow itself: the job ends as by `abandon`, with its volumes kept, or as by
                # `finalize` where its target runs.
                if self.state.phase is Phase.COMPLETED:
                    self.state.finalize_asked = FinalizeOrder(who="Temporal cancellation")
                else:
                    self.state.abandon_asked = Abandon(who="Temporal cancellation")
            if self.should_continue_as_new():
                workflow.continue_as_new(JobInput(**self.spec.model_dump(), carried=self.state))

    async def do(self, step: Step) -> None:  # noqa: C901 - one case a decision
        """Carry one decision out."""
        match step:
            case Prepare():
                await self.prepare()
            case Synchronize(reason):
                await self.unless_abandoned(self.synchronize(reason))
            case CutOver(order):
                await self.cut_over(order)
            case DropCutover(because):
                self.drop_cutover(because)
            case BeginRehearsal() | CopyForRehearsal() | DropRehearsal():
                await self.unless_abandoned(self.rehearse_on(step))
            case RollBack():
                await to_the_end(self.go_back())
            case Finalize():
                await to_the_end(self.let_stand())
            case GoOn():
                self.go_on()
            case End(order):
                await to_the_end(self.end(order))
            case Report():
                await to_the_end(keep_report(self.spec, self.state))
            case CleanUp():
                await self.unless_abandoned(self.clean_up())
            case Wait(until):
                await self.wait(until)

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Initializing; a failure parks the job, since nothing can be replicated before it."""
        try:
            await self.unless_abandoned(prepare(self.spec, self.state))
        except (ActivityError, ApplicationError) as error:
            self.park(explain(error, f"{self.spec.vm} could not be prepared"))
            return
        if self.state.abandon_asked is None:
            self.enter(Phase.FULL_SYNC)

    async def synchronize(self, reason: str) -> None:
        """One sync, and what its outcome means for the job."""
        state = self.state
        if state.phase is Phase.READY:
            self.enter(Phase.SYNCING)
        state.sync_asked_by = None
        sync = Sync(self.spec, state, reason)
        try:
            await sync.run()
        except (ActivityError, ApplicationError) as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            self.sync_failed(explain(error, f"the sync of {self.spec.vm} failed"))
            return
        state.trouble = sync.left_behind or sync.given_up or differences.trouble(state)
        state.failures, state.not_before, state.verify_at = 0, None, None
        if sync.given_up:
            state.verify_at = workflow.now() + full_sync_pause(differences.SYNCS_BEFORE_A_REST)
        rests = sync.given_up or not (state.seeded or differences.goes_on_at_once(state))
        rest = full_sync_pause(differences.SYNCS_BEFORE_A_REST)
        state.pass_not_before = workflow.now() + rest if rests else None
        if state.seeded or state.phase is Phase.SYNCING:
            self.enter(Phase.READY)
        if not state.seeded and (sync.given_up or not differences.goes_on_at_once(state)):
            # Storage that spoils what is written to it is not written to all the time, and a datastore that was about
            # to fill is given a rest from snapshots.
            state.not_before = workflow.now() + self.rest()
        elif not state.seeded and state.sync_asked_by is None and not state.paused:
            # It was cut short with a rest, or found to differ: the next snapshot goes on with it at once.
            state.sync_asked_by = ""

    def rest(self) -> timedelta:
        """How long to wait before the next sync where one right after another does not help."""
        if self.state.phase is Phase.FULL_SYNC:
            return full_sync_pause(max(self.state.failures, differences.SYNCS_BEFORE_A_REST))
        return timedelta(seconds=self.state.cadence_seconds or 0)

    def sync_failed(self, trouble: Trouble) -> None:
        """Try again later, or wait for a person; the baselines are as of the last committed sync."""
        state = self.state
        state.trouble = trouble
        state.failures += 1
        state.note(workflow.now(), "sync failed", f"{trouble.what}: {trouble.because or trouble.kind}")
        full = state.phase is Phase.FULL_SYNC
        if trouble.needs_person or (full and state.failures >= FAILURES_BEFORE_PARKING):
            self.park(trouble)
        elif full:
            state.not_before = workflow.now() + full_sync_pause(state.failures)
        else:
            state.not_before = workflow.now() + timedelta(seconds=state.cadence_seconds or 0)
            self.enter(Phase.READY)
        state.pass_not_before = workflow.now() + full_sync_pause(max(1, state.failures))
        verification.sync_failed(state, workflow.now(), full_sync_pause(state.failures))

    def go_on(self) -> None:
        """Leave Failed."""
        state = self.state
        begin_roll_back(state, state.roll_back_asked)
        state.retry_asked, state.roll_back_asked = False, None
        state.trouble, state.failures, state.not_before, state.verify_at = None, 0, None, None
        self.enter(state.failed_in or Phase.INITIALIZING)
        state.failed_in = None

    async def end(self, order: Abandon) -> None:
        """Remove our snapshots and attachments; keep the volumes unless the operator says otherwise."""
        state = self.state
        await self.break_off_rehearsal("the job was abandoned")
        try:
            await self.remove_rehearsals(REMOVAL)
            if state.moref:
                vm = state.vm_order(self.spec)
                await call(SourceActivities.remove_snapshots, vm, **CLEAN_UP)
            kept = state.volume_ids
            volumes = (*kept, *(volume for volume in state.former_volumes if volume not in kept))
            if volumes:
                doomed = VolumesOrder(target=state.target_order(self.spec), volume_ids=volumes)
                await call(TargetActivities.release_volumes, doomed, **CLEAN_UP)
                await volume_snapshots.remove(self.spec, state)
                if order.delete_volumes:
                    await call(TargetActivities.delete_volumes, doomed, **CONTROL)
        except ActivityError as error:
            state.abandon_asked = None
            self.park(explain(error, f"{self.spec.vm} could not be abandoned cleanly"))
            return
        verification.end(state, workflow.now(), "the job was abandoned")
        state.note(
            workflow.now(), "abandoned", "volumes deleted" if order.delete_volumes else "volumes kept", order.who
        )
        self.enter(Phase.ABANDONED)

    async def wait(self, until: datetime | None) -> None:
        """Sleep until the time comes or somebody says something; without a time for ever, since Ready has no end."""
        heed_cancellation()
        before = self.said()
        timeout = None if until is None else max(timedelta(0), until - workflow.now())
        try:
            await workflow.wait_condition(
                # Signals that are refused change nothing, and make the history longer all the same.
                lambda: self.said() != before or self.should_continue_as_new(),
                timeout=timeout,
                timeout_summary=f"{self.spec.vm}: {self.waits_for(until)}",
            )
        except TimeoutError:
            return

    def waits_for(self, until: datetime | None) -> str:
        """What comes when a wait is over, for the timer's summary."""
        if self.state.phase is Phase.COMPLETED:
            return "end of the roll-back period"
        order = self.state.cutover_not_begun
        opening = schedule.opens_at(order) if order is not None else None
        return "cutover" if opening is not None and opening == until else "next sync"

    # --- around the steps ---------------------------------------------------------------------------------------------

    async def unless_abandoned(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, but break it off when the job is abandoned, or the workflow cancelled, meanwhile."""
        failure = await unless(lambda: self.state.abandon_asked is not None and not self.state.source_is_off, work)
        if failure is not None:
            self.state.note(workflow.now(), "broken off", explain(failure, "while it was broken off").what)

    async def clean_up(self) -> None:
        """Remove what a sync had to leave behind, or come back to it later."""
        try:
            await remove_leftovers(self.spec, self.state, CONTROL)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            self.state.clean_up_at = workflow.now() + CLEAN_UP_AGAIN
            if self.state.trouble is None:
                self.state.trouble = explain(error, f"what a sync of {self.spec.vm} left could not be removed")
            return
        self.state.note(workflow.now(), "cleaned up", "what a sync had to leave behind is removed")
        if self.state.phase is not Phase.FAILED:
            self.state.trouble = differences.trouble(self.state)

    def said(self) -> tuple[object, ...]:
        """What messages change, to be compared with what it was."""
        state = self.state
        return (
            state.paused,
            state.cadence_seconds,
            state.sync_asked_by,
            state.cutover_asked,
            state.retry_asked,
            state.abandon_asked,
            state.roll_back_asked,
            state.finalize_asked,
            state.rehearsal_asked,
            state.rehearsal_waits,
            state.verification is not None and state.verification.asked_at,
        )

    def enter(self, phase: Phase) -> None:
        """Change the phase, for everybody to see."""
        before = self.state.phase
        self.state.enter(phase, workflow.now())
        came_back = phase is Phase.READY and before is Phase.CUTTING_OVER
        if came_back or phase in {Phase.COMPLETED, Phase.FAILED, Phase.ABANDONED}:
            self.something_ended()
        self.show()

    def something_ended(self) -> None:
        """Have the report kept, as soon as nobody waits for the source."""
        self.state.report_due = workflow.patched(KEEPS_REPORTS)

    def park(self, trouble: Trouble) -> None:
        """Failed: wait for a person. The baselines stay, and `retry` goes on in the phase in which the job stood."""
        state = self.state
        state.trouble = trouble
        if state.phase is not Phase.FAILED:
            state.failed_in = Phase.READY if state.phase is Phase.SYNCING else state.phase
        order = state.cutover_not_begun
        if order is not None and schedule.is_scheduled(order):
            planned = f"ordered for {schedule.in_words(order)}; it does not begin while the job is Failed"
            state.note(workflow.now(), "cutover waits", planned)
        elif order is not None:
            # A retry, days later perhaps, must not stop the source as a side effect.
            state.note(workflow.now(), "cutover dropped", "the job failed before it began; order it again")
            state.cutover_asked = None
        state.note(workflow.now(), "failed", f"{trouble.what}: {trouble.because or trouble.kind}")
        self.enter(Phase.FAILED)

    def show(self) -> None:
        """Bring the search attributes and the current details up to the state; attributes on real changes only."""
        state = self.state
        workflow.set_current_details(describe(self.spec, state))
        attributes = (state.phase, state.paused, state.last_sync_at)
        if attributes == self.shown:
            return
        updates: list[SearchAttributeUpdate[Any]] = [PHASE.value_set(state.phase), PAUSED.value_set(state.paused)]
        if state.last_sync_at is not None:
            updates.append(LAST_SYNC.value_set(state.last_sync_at))
        if not self.shown:
            updates += [
                SOURCE.value_set(self.spec.source),
                VM.value_set(self.spec.vm),
                PROJECT.value_set(self.spec.target_project),
            ]
        self.shown = attributes
        workflow.upsert_search_attributes(updates)

    def should_continue_as_new(self) -> bool:
        """Between steps only, and never while a command is being answered, or a cutover or rehearsal is under way."""
        over = self.state.phase is Phase.COMPLETED and self.state.roll_back_until is None
        if over or self.state.phase in {Phase.CUTTING_OVER, Phase.ABANDONED} or self.is_rehearsed_now:
            return False
        info = workflow.info()
        long = info.is_continue_as_new_suggested() or info.get_current_history_length() >= HISTORY_LIMIT
        return long and workflow.all_handlers_finished()

    def report(self) -> JobReport:
        """How the job ended."""
        outcome = "completed" if self.state.phase is Phase.COMPLETED else "abandoned"
        return JobReport(
            job_id=self.state.job_id,
            outcome=outcome,
            status=self.state.status(self.spec),
            events=self.state.events,
            dropped=self.state.events_dropped,
        )
