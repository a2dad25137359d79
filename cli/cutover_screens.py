"""What a cutover looks like on a terminal: its steps, its downtime, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.layout import INDENT, TROUBLE_STYLE, columns, facts
from xms import quantities
from xms.cutover import Cutover
from xms.models import Phase
from xms.quantities import ABSENT


def cutover(record: Cutover, phase: Phase) -> Iterator[RenderableType]:
    """The last cutover, step by step, and its downtime; of one that was not begun, why."""
    if not record.steps:
        if record.trouble:
            yield facts([("cutover", Text(f"{record.trouble.what}: {record.trouble.because}"))])
        return
    table = columns("CUTOVER STEP", "BEGAN", "TOOK", "OUTCOME", right=("TOOK",))
    for step in record.steps:
        took = (
            ABSENT
            if step.ended_at is None
            else quantities.short_duration((step.ended_at - step.started_at).total_seconds())
        )
        style = TROUBLE_STYLE if step.outcome == "failed" else ""
        table.add_row(step.name, f"{step.started_at.astimezone():%H:%M:%S}", took, Text(step.outcome, style=style))
    yield Padding(table, INDENT, expand=False)
    labelled = [("downtime", Text(text)) for text in _downtime(record, phase)]
    if record.evidence:
        labelled.append(("evidence", Text(record.evidence)))
    if record.server_id:
        labelled.append(("server", Text(record.server_id)))
    if labelled:
        yield facts(labelled)


def _downtime(record: Cutover, phase: Phase) -> Iterator[str]:
    if record.downtime_started_at is None:
        return
    how = f" ({record.power_off})" if record.power_off else ""
    began = f"{record.downtime_started_at.astimezone():%H:%M:%S}"
    if record.downtime_ended_at is None and phase in {Phase.CUTTING_OVER, Phase.FAILED}:
        yield f"since {began}{how}"
    elif record.downtime_ended_at is None:
        yield f"from {began}{how} until the roll-back"
    else:
        seconds = (record.downtime_ended_at - record.downtime_started_at).total_seconds()
        yield f"{quantities.short_duration(seconds)}{how}"
