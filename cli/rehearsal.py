"""What a rehearsal looks like on screens: how far one is, and the report of one."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from cli.layout import TROUBLE_STYLE, columns
from xms import quantities
from xms.cutover import Rehearsal
from xms.quantities import ABSENT
from xms.status import JobStatus


def running(status: JobStatus) -> str:
    """The step of the rehearsal that runs; empty where none does."""
    record = status.rehearsal
    if record is None or record.outcome != "running":
        return ""
    return f"rehearsal {record.number}: {record.steps[-1].name if record.steps else 'waits to copy'}"


def report(record: Rehearsal) -> Iterator[RenderableType]:
    """Each step with its time, the evidence or what it failed with, and what was left."""
    table = columns("REHEARSAL STEP", "BEGAN", "TOOK", "OUTCOME", right=("TOOK",))
    for step in record.steps:
        took = ABSENT
        if step.ended_at is not None:
            took = quantities.short_duration((step.ended_at - step.started_at).total_seconds())
        style = TROUBLE_STYLE if step.outcome == "failed" else ""
        table.add_row(step.name, f"{step.started_at.astimezone():%H:%M:%S}", took, Text(step.outcome, style=style))
    yield table
    if record.replica_of is not None:
        yield Text(f"of the replica as of {quantities.moment(record.replica_of)}")
    if record.evidence:
        yield Text(f"evidence: {record.evidence}")
    for sentence in record.left:
        yield Text(f"left: {sentence}", style=TROUBLE_STYLE)
