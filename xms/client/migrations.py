"""Jobs as a program sees them: submit, command, look. Only Temporal is asked; credentials stay with the workers.

Workflows and messages are named here and not imported, so that a client needs neither pyVmomi nor openstacksdk; a
test compares the names with the workflows' own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from temporalio.client import (
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from workflows.names import DATA_QUEUE, PAUSED, PHASE, PROJECT, SOURCE, TASK_QUEUE, VM
from xms.client.connection import explained
from xms.client.failures import unwrap
from xms.client.listing import WORKFLOW, Listed, Listing, broken_off, listed, phase_of, search
from xms.client.live import with_live_figures
from xms.client.questions import Answer, Questions
from xms.cutover import CutoverOrder
from xms.errors import JobFinished, JobNotFound, NoWorker, OperationFailed, Refused
from xms.models import Command, MigrationSpec, Phase, Receipt, job_id
from xms.orders.conversion import ConversionLog, ReadConversionLog
from xms.orders.preflight import PreflightOrder, PreflightReport, TargetWanted
from xms.orders.target import CheckCutover, MigrationChecked
from xms.prediction import prediction_of
from xms.report.build import report_of
from xms.report.model import Report
from xms.status import Events, JobReport, JobStatus

Verb = Literal[
    "sync-now",
    "pause",
    "resume",
    "set-cadence",
    "set-rate-limit",
    "verify",
    "cutover",
    "withdraw-cutover",
    "rehearse",
    "rollback",
    "finalize",
    "retry",
    "abandon",
]

CALL: Final = timedelta(seconds=10)
"""For an answer of the server alone."""

ANSWER: Final = timedelta(seconds=15)
"""For an answer that a worker has to give: it may have to replay the job first."""

NO_POLLER: Final = "no poller seen"
"""Of what the server says to a query when no worker has asked for work lately, which is no fault of the workflow."""

LISTING: Final = timedelta(seconds=25)
"""For the answers of all jobs of a listing together."""

AT_A_TIME: Final = 16
"""Jobs that a listing asks at the same time."""


class Migrations(Questions):
    """The migrations of one Temporal namespace.

    Every method raises TemporalUnreachable, TemporalRefusedLogin or OperationFailed when Temporal itself is in the way.
    """

    # --- what is ordered ----------------------------------------------------------------------------------------------

    async def submit(self, spec: MigrationSpec) -> str:
        """Start the migration and give its job id. It waits in Temporal where no worker runs yet.

        Raises:
            Refused: this VM is being migrated already; the text names the job and its phase.
        """
        job = job_id(spec.source, spec.vm)
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(PHASE, Phase.INITIALIZING),
                SearchAttributePair(SOURCE, spec.source),
                SearchAttributePair(VM, spec.vm),
                SearchAttributePair(PROJECT, spec.target_project),
                SearchAttributePair(PAUSED, value=False),
            ]
        )
        async with explained(self.address):
            try:
                await self.client.start_workflow(
                    WORKFLOW,
                    spec,
                    id=job,
                    task_queue=TASK_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    static_summary=f"{spec.vm}: {spec.source} -> {spec.destination}",
                    search_attributes=attributes,
                    rpc_timeout=CALL,
                )
            except WorkflowAlreadyStartedError:
                raise await self._being_migrated(job, spec) from None
        return job

    async def _being_migrated(self, job: str, spec: MigrationSpec) -> Refused:
        phase = (await self._describe(job)).typed_search_attributes.get(PHASE) or "not known yet"
        return Refused(
            f"{spec.vm} of {spec.source} is being migrated already",
            because=f"job {job} is in phase {phase}",
            means="nothing was changed",
            do=f"see it with: xms migration show {job}",
        )

    async def command(self, job_id: str, verb: Verb, order: Command) -> Receipt:
        """Give a job an order and wait until it is accepted, or refused.

        Raises:
            JobNotFound: there is no such job.
            JobFinished: the job has ended.
            Refused: not in this phase, with the job's own words; BadInput for a value that cannot be.
            NoWorker: no worker takes it up; whether the order still arrives is not known.
        """
        await self._open_job(job_id, verb)
        await self._see_a_worker(f"job {job_id} cannot be told to {verb}", means="the job was told nothing")
        unknown = "whether the order still arrives is not known"
        async with self._answered(job_id, f"job {job_id} did not answer to {verb}", means=unknown):
            receipt: Receipt = await self._handle(job_id).execute_update(
                verb, order, result_type=Receipt, rpc_timeout=ANSWER
            )
        return receipt

    async def _open_job(self, job: str, verb: str) -> None:
        description = await self._describe(job)
        if description.status is not WorkflowExecutionStatus.RUNNING:
            raise self._finished(job, verb, description)

    def _finished(self, job: str, verb: str, description: WorkflowExecution) -> JobFinished:
        ended = f"{description.close_time:%Y-%m-%d %H:%M:%S} UTC" if description.close_time else "a time unknown"
        return JobFinished(
            f"job {job} takes no {verb} any more",
            because=f"it is {phase_of(description)} since {ended}",
            do=f"see how it ended with: xms migration show {job}",
        )

    # --- what is asked ------------------------------------------------------------------------------------------------

    async def status(self, job_id: str) -> JobStatus:
        """All that is known of a job now, with the live figures of its running streams.

        Raises:
            JobNotFound: there is no such job.
            NoWorker: the job runs, and no worker answers for it.
        """
        description = await self._describe(job_id)
        if description.status is not WorkflowExecutionStatus.COMPLETED:
            await self._see_a_worker(f"job {job_id} cannot be asked", means="the job itself is safe in Temporal")
        return await self._status_of(description)

    async def _status_of(self, description: WorkflowExecutionDescription) -> JobStatus:
        match description.status:
            case WorkflowExecutionStatus.COMPLETED:
                return (await self._report(description)).status
            case WorkflowExecutionStatus.RUNNING:
                answered = await self._ask(description, "status", JobStatus)
                live = await with_live_figures(answered, description, self.client.data_converter)
                return live.model_copy(update={"prediction": prediction_of(live, datetime.now(UTC))})
            case _:
                return broken_off(await self._ask(description, "status", JobStatus), description)

    async def events(self, job_id: str) -> Events:
        """The job's story, oldest first. The same errors as `status`."""
        description = await self._describe(job_id)
        if description.status is WorkflowExecutionStatus.COMPLETED:
            report = await self._report(description)
            return Events(events=report.events, dropped=report.dropped)
        await self._see_a_worker(f"job {job_id} cannot be asked", means="the job itself is safe in Temporal")
        return await self._ask(description, "events", Events)

    async def report(self, job_id: str) -> Report:
        """What became of a job, and how, in any phase. The same errors as `status`."""
        status = await self.status(job_id)
        return report_of(status, await self.events(job_id), datetime.now(UTC))

    async def list(
        self,
        *,
        phase: str | None = None,
        source: str | None = None,
        vm: str | None = None,
        project: str | None = None,
        active: bool = False,
        limit: int = 200,
    ) -> Listing:
        """The jobs that Temporal still knows, the last one of each VM: those that run first, each part by job id.

        Args:
            phase: only jobs in this phase.
            source: only jobs of this source.
            vm: only jobs of VMs of this name.
            project: only jobs of this target project.
            active: only jobs that have not ended.
            limit: at most so many.
        """
        filters = {PHASE.name: phase, SOURCE.name: source, VM.name: vm, PROJECT.name: project}
        found = await self._search(filters, active=active, limit=limit + 1)
        more = len(found) > limit
        found = sorted(found[:limit], key=lambda execution: (execution.close_time is not None, execution.id))
        try:
            await self._see_a_worker("the jobs cannot be asked for their figures")
        except NoWorker as silent:
            return Listing(jobs=tuple(map(listed, found)), more=more, silent=silent.trouble())
        return Listing(jobs=await self._ask_all(found), more=more)

    async def active_jobs(self, source: str, limit: int = 100) -> tuple[str, ...]:
        """The ids of the jobs of a source that have not ended, `limit` at most; no worker is asked."""
        return tuple(sorted(found.id for found in await self._search({SOURCE.name: source}, active=True, limit=limit)))

    async def _ask_all(self, found: Sequence[WorkflowExecution]) -> tuple[Listed, ...]:
        """Every job's own answer; where workers are gone or busy, what Temporal keeps of those that did not answer."""
        gate = asyncio.Semaphore(AT_A_TIME)
        asked = [asyncio.create_task(self._ask_one(execution, gate)) for execution in found]
        if asked:
            await asyncio.wait(asked, timeout=LISTING.total_seconds())
        silence = {"no_answer": f"the workers did not answer within {LISTING.total_seconds():.0f} s"}
        jobs = []
        for execution, task in zip(found, asked, strict=True):
            if task.done():
                jobs.append(task.result())
            else:
                task.cancel()
                jobs.append(listed(execution).model_copy(update=silence))
        return tuple(jobs)

    async def _search(self, filters: dict[str, str | None], *, active: bool, limit: int) -> Sequence[WorkflowExecution]:
        latest: dict[str, WorkflowExecution] = {}
        async with explained(self.address):
            async for execution in self.client.list_workflows(search(filters, active=active), rpc_timeout=CALL):
                # A VM that was migrated again has one entry a run; visibility gives the newest first.
                latest.setdefault(execution.id, execution)
                if len(latest) == limit:
                    break
        return list(latest.values())

    async def _ask_one(self, execution: WorkflowExecution, gate: asyncio.Semaphore) -> Listed:
        known = listed(execution)
        async with gate:
            try:
                run = None if execution.status is WorkflowExecutionStatus.RUNNING else execution.run_id
                status = await self._status_of(await self._describe(execution.id, run))
            except (NoWorker, OperationFailed, JobNotFound) as error:
                # One job that cannot answer must not hide the others: its line shows what Temporal keeps of it.
                return known.model_copy(update={"no_answer": error.because or error.what})
        return known.model_copy(
            update={
                "phase": status.phase,
                "paused": status.paused,
                "last_sync_at": status.last_sync_at,
                "status": status,
            }
        )

    async def conversion_log(self, job_id: str) -> ConversionLog:
        """The end of the log of the job's last conversion, the running one included, from the worker that has it.

        Raises:
            JobNotFound: there is no such job.
            Refused: no conversion of it has begun yet.
            NoWorker: the worker that has the log does not answer.
            ConversionLost: it has none any more.
        """
        status = await self.status(job_id)
        running = (status.conversion.worker_queue,) if status.conversion else ()
        cutovers = (*([status.cutover] if status.cutover else ()), *reversed(status.earlier_cutovers))
        queue = next((found for found in (*running, *(cutover.converted_by for cutover in cutovers)) if found), "")
        if not queue:
            raise Refused(
                f"job {job_id} has no log of a conversion", because="virt-v2v has not run for it yet", do="cut it over"
            )
        order = ReadConversionLog(job_id=job_id, worker_queue=queue)
        what = f"the log of the conversion of {job_id} could not be read"
        try:
            return await self._operation("ConversionLogWorkflow", order, ConversionLog, what)
        except NoWorker as silent:
            raise NoWorker(
                what,
                because=f"only worker {queue.removeprefix(f'{DATA_QUEUE}-')} has it, and it does not answer: "
                f"{silent.because}",
                means="the log is lost with that worker's data directory; the job's own trouble has its last lines",
                do=f"start that worker again, or see: xms migration show {job_id} --output json",
            ) from None

    # --- what the workers are asked -----------------------------------------------------------------------------------

    async def check(self, spec: MigrationSpec) -> MigrationChecked:
        """Whether this could be submitted: the source and the target are looked at, nothing is changed.

        Raises:
            Refused: this VM is being migrated already; the text names the job and its phase.
            NoWorker: no worker runs, or none finished in time.
            XmsError: what stands against it, in the class and the words of the worker.
        """
        await self._see_it_is_free(spec)
        what = f"the migration of {spec.vm} could not be checked"
        return await self._operation("CheckMigrationWorkflow", spec, MigrationChecked, what)

    async def check_cutover(self, status: JobStatus, order: CutoverOrder) -> MigrationChecked:
        """Whether a cutover would pass its gates now: the VM and the target are looked at, nothing is changed.

        Args:
            status: the job's.
            order: how the cutover would be ordered.

        Raises:
            NoWorker: no worker runs, or none finished in time.
            XmsError: what stands against it, in the class and the words of the worker.
        """
        question = CheckCutover(spec=status.spec.remapped(order.network_map), moref=status.moref, known=status.nics)
        what = f"the cutover of {status.spec.vm} could not be checked"
        return await self._operation("CheckCutoverWorkflow", question, MigrationChecked, what)

    async def preflight_of(self, spec: MigrationSpec) -> PreflightReport:
        """The preflight of a migration as it would be submitted; the report has this one VM.

        Raises:
            Refused: this VM is being migrated already; the text names the job and its phase.
            VmNotFound: the source has no such VM.
            NoWorker, XmsError: as of `check`. What stands against the migration is no error but in the report.
        """
        await self._see_it_is_free(spec)
        job = job_id(spec.source, spec.vm)
        order = PreflightOrder(
            source=spec.source, vms=(spec.vm,), patterns=False, target=TargetWanted.of(spec), job_id=job
        )
        return await self._preflight(order, f"the preflight of {spec.vm} could not be made")

    async def _see_it_is_free(self, spec: MigrationSpec) -> None:
        job = job_id(spec.source, spec.vm)
        try:
            if (await self._describe(job)).status is WorkflowExecutionStatus.RUNNING:
                raise await self._being_migrated(job, spec)
        except JobNotFound:
            pass  # which is what a submit wants

    # --- around the calls ---------------------------------------------------------------------------------------------

    def _handle(self, job: str, run: str | None = None) -> WorkflowHandle[object, JobReport]:
        return self.client.get_workflow_handle(job, run_id=run, result_type=JobReport)

    async def _describe(self, job: str, run: str | None = None) -> WorkflowExecutionDescription:
        async with explained(self.address):
            try:
                description = await self._handle(job, run).describe(rpc_timeout=CALL)
            except RPCError as error:
                if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                    raise
                raise self._unknown(job) from None
        if description.workflow_type != WORKFLOW:
            raise self._unknown(job)
        return description

    def _unknown(self, job: str) -> JobNotFound:
        return JobNotFound(
            f"there is no job '{job}'",
            because=f"namespace '{self.client.namespace}' at {self.address} has no migration of that id",
            do="see the jobs with: xms migration list",
        )

    async def _report(self, ended: WorkflowExecution) -> JobReport:
        async with explained(self.address):
            return await self._handle(ended.id, ended.run_id).result(rpc_timeout=CALL)

    async def _ask(self, execution: WorkflowExecution, query: str, answer: type[Answer]) -> Answer:
        # A job that runs may continue as new meanwhile: its run is not named then.
        run = None if execution.status is WorkflowExecutionStatus.RUNNING else execution.run_id
        safe = "the job itself is safe in Temporal"
        async with self._answered(execution.id, f"job {execution.id} did not answer", means=safe):
            result: Answer = await self._handle(execution.id, run).query(query, result_type=answer, rpc_timeout=ANSWER)
        return result

    @asynccontextmanager
    async def _answered(self, job: str, what: str, *, means: str) -> AsyncIterator[None]:
        """What can go wrong between asking a job and its answer."""
        try:
            async with explained(self.address):
                try:
                    yield
                except (WorkflowUpdateFailedError, WorkflowQueryFailedError) as failure:
                    raise unwrap(failure, what) from failure
                except WorkflowUpdateRPCTimeoutOrCancelledError:
                    raise _no_answer(what, job, means) from None
                except RPCError as error:
                    if error.status in {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                        raise _no_answer(what, job, means) from None
                    if error.status is RPCStatusCode.FAILED_PRECONDITION and NO_POLLER in error.message:
                        raise _no_answer(what, job, means) from None
                    if error.status is RPCStatusCode.FAILED_PRECONDITION:
                        # Workers are there, and every try to go on with the job fails in the workflow's code.
                        raise OperationFailed(
                            what,
                            because=f"the workers cannot go on with it: {error.message}",
                            means="the job stands still, and goes on when the workers are mended",
                            do="see the log of the workers",
                        ) from None
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                    # It ended between being looked at and being asked.
                    raise self._finished(job, "order", await self._describe(job)) from None
        except NoWorker:
            # The reason may be plain by now.
            await self._see_a_worker(what, means)
            raise


def _no_answer(what: str, job: str, means: str) -> NoWorker:
    return NoWorker(
        what,
        because=f"no worker answered for it within {ANSWER.total_seconds():.0f} s",
        means=means,
        do=f"see that the workers run, then: xms migration events {job}",
    )
