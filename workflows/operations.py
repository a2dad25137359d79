"""Short workflows for what an operator asks of a source or a target: only the workers hold credentials."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError, TimeoutType  # noqa: A004

with workflow.unsafe.imports_passed_through():
    from activities.preflight import PreflightActivities
    from activities.reachability import ReachabilityActivities
    from activities.source import SourceActivities
    from activities.target import TargetActivities
    from workflows.calls import Policy, call
    from workflows.names import LOOK_QUEUE
    from xms.models import MigrationSpec
    from xms.orders.preflight import LookAtTarget, PreflightOrder, PreflightReport
    from xms.orders.source import (
        HostsReached,
        ListSources,
        ListVms,
        ReachHosts,
        SourceList,
        SourceQuery,
        SourceReport,
        VmList,
        VmQuery,
    )
    from xms.orders.target import CheckCutover, CheckEvidence, CheckTarget, EvidenceChecked, MigrationChecked
    from xms.orders.target_check import ListTargets, TargetList, TargetQuestion, TargetReport

SOON = timedelta(seconds=90)
"""Somebody waits at a terminal: the whole answer, with its retries, comes within this time or not at all."""

A_DATA_WORKER = timedelta(seconds=10)
"""It polls all the time: one that has not come by then does not run."""

JUDGED = timedelta(seconds=20)
"""Some thousand subjects are judged within a second; the rest is for a worker that has much to do."""

A_FEW_TRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3)

ASKED: Final = Policy(schedule_to_close_timeout=SOON, retry_policy=A_FEW_TRIES)
"""How everything is called that a person waits for."""

BY_A_DATA_WORKER: Final[Policy] = {**ASKED, "task_queue": LOOK_QUEUE, "schedule_to_start_timeout": A_DATA_WORKER}


@workflow.defn
class ListSourcesWorkflow:
    """The sources that the workers know."""

    @workflow.run
    async def run(self, question: ListSources) -> SourceList:
        """Answer from the configuration of one worker."""
        return await call(SourceActivities.list_sources, question, **ASKED)


@workflow.defn
class CheckSourceWorkflow:
    """What a source is, and what migrations from it lack."""

    @workflow.run
    async def run(self, question: SourceQuery) -> SourceReport:
        """Ask the source, and have a data worker try its hosts: it is the one who will read there."""
        report = await call(SourceActivities.check_source, question, **ASKED)
        if not report.hosts:
            return report
        try:
            tried: HostsReached = await call(
                ReachabilityActivities.reach_hosts,
                ReachHosts(source=report.source, hosts=report.hosts),
                **BY_A_DATA_WORKER,
            )
        except ActivityError as error:
            return report.model_copy(update={"hosts_not_tried": _why_not_tried(error)})
        return report.model_copy(update={"hosts": tried.hosts, "hosts_tried_by": tried.worker})


def _why_not_tried(error: ActivityError) -> str:
    cause = error.cause
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START:
        return f"no data worker came within {A_DATA_WORKER.total_seconds():.0f} s: does one run?"
    return f"the data worker failed: {cause}"


@workflow.defn
class ListTargetsWorkflow:
    """The targets that the workers know."""

    @workflow.run
    async def run(self, question: ListTargets) -> TargetList:
        """Answer from the configuration of one worker."""
        return await call(TargetActivities.list_targets, question, **ASKED)


@workflow.defn
class CheckTargetWorkflow:
    """What a target is, and what stands against migrations to it."""

    @workflow.run
    async def run(self, question: TargetQuestion) -> TargetReport:
        """Log in, and look at account, services and quotas."""
        return await call(TargetActivities.look_at_cloud, question, **ASKED)


@workflow.defn
class ListVmsWorkflow:
    """The VMs of a source."""

    @workflow.run
    async def run(self, question: ListVms) -> VmList:
        """Read the inventory."""
        return await call(SourceActivities.list_vms, question, **ASKED)


@workflow.defn
class CheckMigrationWorkflow:
    """Whether a migration could be submitted: the VM is there, and the target can take it."""

    @workflow.run
    async def run(self, spec: MigrationSpec) -> MigrationChecked:
        """Look, change nothing."""
        vm = await call(
            SourceActivities.inspect_vm,
            VmQuery(source=spec.source, vm=spec.vm),
            **ASKED,
        )
        target = await call(
            TargetActivities.check_target,
            CheckTarget(spec=spec, vm=vm),
            **ASKED,
        )
        return MigrationChecked(vm=vm, target=target)


@workflow.defn
class CheckCutoverWorkflow:
    """Whether a cutover of a job would pass its gates."""

    @workflow.run
    async def run(self, question: CheckCutover) -> MigrationChecked:
        """Look as a cutover's gates do, change nothing."""
        spec = question.spec
        query = VmQuery(source=spec.source, vm=spec.vm, moref=question.moref)
        vm = await call(SourceActivities.inspect_vm, query, **ASKED)
        check = CheckTarget(spec=spec, vm=vm, for_cutover=True, known=question.known)
        target = await call(TargetActivities.check_target, check, **ASKED)
        return MigrationChecked(vm=vm, target=target)


@workflow.defn
class CheckEvidenceWorkflow:
    """Whether a target could be seen running by the signs that somebody is about to order."""

    @workflow.run
    async def run(self, question: CheckEvidence) -> EvidenceChecked:
        """Answer from the configuration and the machine of one worker."""
        return await call(TargetActivities.check_evidence, question, **ASKED)


@workflow.defn
class PreflightWorkflow:
    """Whether VMs could be migrated, and what stands in the way."""

    @workflow.run
    async def run(self, question: PreflightOrder) -> PreflightReport:
        """Look at the source, at the target where one is given, and judge. Nothing is changed."""
        subjects = await call(
            PreflightActivities.gather_subjects,
            question,
            summary=question.source,
            **ASKED,
        )
        if question.target.anything:
            subjects = await call(
                PreflightActivities.look_at_target,
                LookAtTarget(wanted=question.target, subjects=subjects, job_id=question.job_id),
                summary=question.target.project or "",
                **ASKED,
            )
        return await call(
            PreflightActivities.judge_subjects,
            subjects,
            schedule_to_close_timeout=JUDGED,
            retry_policy=A_FEW_TRIES,
        )
