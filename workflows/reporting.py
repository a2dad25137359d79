"""Keeps a job's report as a file when something ended in it: Temporal forgets a job after its retention time."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.reports import ReportActivities
    from workflows.calls import Policy, call, explain
    from xms.job import JobState
    from xms.models import MigrationSpec
    from xms.orders.report import KeepReport

SOON: Final = Policy(
    start_to_close_timeout=timedelta(seconds=10),
    schedule_to_close_timeout=timedelta(seconds=20),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
)
"""Two small files. A retry of the job may wait behind it, and the record stays in Temporal: no reason to insist."""


async def keep_report(spec: MigrationSpec, state: JobState) -> None:
    """Have it written as the job stands, by whichever control worker takes it; where that fails, the story says so."""
    state.report_due = False
    try:
        kept = await call(ReportActivities.keep_report, _order(spec, state), **SOON)
    except ActivityError as error:
        trouble = explain(error, f"the report of {spec.vm} was not kept")
        state.note(workflow.now(), "report not kept", trouble.because or trouble.what)
        return
    state.note(workflow.now(), "report kept", f"on {kept.worker}: {kept.file}")


def _order(spec: MigrationSpec, state: JobState) -> KeepReport:
    """Without the ranges that are unseeded: a report has their sum, and they may be a megabyte."""
    disks = tuple(
        disk.model_copy(update={"baseline": disk.baseline.model_copy(update={"unseeded": ""})}) for disk in state.disks
    )
    status = state.status(spec).model_copy(update={"disks": disks})
    return KeepReport(status=status, story=state.story(), submitted_at=state.submitted_at or state.since)
