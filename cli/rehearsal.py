"""What a rehearsal looks like on screens: whether the job is rehearsed, how far one is, and the report of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from xms import quantities
from xms.cutover import Rehearsal
from xms.quantities import ABSENT
from xms.status import JobStatus

TROUBLE_STYLE: Final = "red"


def facts(status: JobStatus, now: datetime) -> list[tuple[str, Text]]:
    """Whether the job is rehearsed, and what came of the last rehearsal where that is something else."""
    passed, last = status.rehearsed, status.rehearsal
    found = [("rehearsed", Text(passed_words(passed, now) if passed else "no"))]
    if last is None or (passed is not None and last.number == passed.number):
        return found
    found.append(("rehearsal", Text(words(last, now), style="" if last.outcome == "running" else TROUBLE_STYLE)))
    found += [("left", Text(sentence, style=TROUBLE_STYLE)) for sentence in last.left]
    return found


def running(status: JobStatus) -> str:
    """The step of the rehearsal that runs; empty where none does."""
    record = status.rehearsal
    if record is None or record.outcome != "running":
        return ""
    return f"rehearsal {record.number}: {record.steps[-1].name if record.steps else 'waits to copy'}"


def words(record: Rehearsal, now: datetime) -> str:
    """Where one that runs is, or how one ended, in a sentence."""
    if record.outcome == "passed":
        return f"number {record.number} {passed_words(record, now)}"
    if record.outcome == "running":
        step = record.steps[-1] if record.steps else None
        if step is None:
            return f"number {record.number} runs: the copies wait for the sync that runs"
        since = quantities.short_duration((now - step.started_at).total_seconds())
        return f"number {record.number} runs: {step.name}, for {since}"
    when = quantities.short_moment(record.ended_at, now)
    because = f": {record.trouble.what}" if record.trouble else ""
    return f"number {record.number} {record.outcome} ({when}){because}"


def passed_words(record: Rehearsal, now: datetime) -> str:
    """When it passed, and what it measured."""
    times = [
        f"{name} {quantities.short_duration(seconds)}"
        for name, seconds in (("conversion", record.conversion_seconds), ("boot", record.boot_seconds))
        if seconds is not None
    ]
    when = quantities.short_moment(record.ended_at, now)
    return f"passed {when}" + (f": {', '.join(times)}" if times else "")


def report(record: Rehearsal) -> Iterator[RenderableType]:
    """Each step with its time, the evidence or what it failed with, and what was left."""
    from cli.layout import columns

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
