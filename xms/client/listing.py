"""What Temporal itself knows of jobs, without asking them: its search attributes and how their workflows ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import Field
from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from workflows.names import LAST_SYNC, PAUSED, PHASE, PROJECT, SOURCE, VM
from xms.models import Model, Phase, Trouble
from xms.status import JobStatus

WORKFLOW: Final = "WarmMigrationWorkflow"


class Listed(Model):
    """One job of a listing; without `status` where the job could not answer: the rest is what Temporal keeps of it."""

    job_id: str
    source: str = ""
    vm: str = ""
    project: str = ""
    phase: str = Field(description="a Phase, or Temporal's word for a workflow that ended by other means")
    paused: bool = False
    last_sync_at: datetime | None = None
    ended_at: datetime | None = None
    status: JobStatus | None = None
    no_answer: str = Field(default="", description="why there is no status, where the job was asked in vain")


class Listing(Model):
    """What a search for jobs found."""

    jobs: tuple[Listed, ...] = ()
    more: bool = Field(default=False, description="there are more than were asked for")
    silent: Trouble | None = Field(
        default=None, description="why jobs could not be asked; they are shown without figures"
    )


def search(filters: Mapping[str, str | None], *, active: bool) -> str:
    """The visibility query for jobs whose search attributes have these values; None filters nothing."""
    clauses = [f"WorkflowType = '{WORKFLOW}'"]
    clauses.append("ExecutionStatus = 'Running'" if active else "ExecutionStatus != 'ContinuedAsNew'")
    clauses += [f"{name} = {quoted(value)}" for name, value in filters.items() if value is not None]
    return " AND ".join(clauses)


def quoted(value: str) -> str:
    """A string in a visibility query."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def phase_of(execution: WorkflowExecution) -> str:
    """The phase that Temporal keeps, or its own word for an end that the job itself did not come to."""
    ended_well = {WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.COMPLETED}
    if execution.status is not None and execution.status not in ended_well:
        return execution.status.name.replace("_", " ").title()
    return execution.typed_search_attributes.get(PHASE) or "Initializing"


def listed(execution: WorkflowExecution) -> Listed:
    """The line of a job by what Temporal keeps of it."""
    attributes = execution.typed_search_attributes
    return Listed(
        job_id=execution.id,
        source=attributes.get(SOURCE) or "",
        vm=attributes.get(VM) or "",
        project=attributes.get(PROJECT) or "",
        phase=phase_of(execution),
        paused=bool(attributes.get(PAUSED)),
        last_sync_at=attributes.get(LAST_SYNC),
        ended_at=execution.close_time,
    )


def broken_off(status: JobStatus, description: WorkflowExecution) -> JobStatus:
    """The last state of a job whose workflow was ended by other means than its own."""
    how = phase_of(description).lower()
    trouble = Trouble(
        kind="BrokenOff",
        what=f"job {status.job_id} is no longer carried on",
        because=f"its workflow is {how} in Temporal, which none of its own commands does",
        means="its volumes are kept; a snapshot of a sync that ran may still be there",
        do="submit the migration again: it takes the volumes over and removes the snapshot",
        needs_person=True,
        at=description.close_time,
    )
    ended_at = description.close_time or status.since
    return status.model_copy(
        update={"phase": Phase.FAILED, "since": ended_at, "trouble": trouble, "sync": None, "next_sync_at": None}
    )
