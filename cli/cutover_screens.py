"""What a cutover looks like on a terminal: its steps, its downtime, what it came to, what is expected of the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.layout import INDENT, TROUBLE_STYLE, WIDE, columns, facts
from xms import outlook, quantities
from xms.models import Phase
from xms.quantities import ABSENT
from xms.report.words import outcome_words
from xms.visible import one_line

if TYPE_CHECKING:
    from xms.cutover import Cutover
    from xms.status import JobStatus

HEADERS: Final = ("CUTOVER STEP", "BEGAN", "TOOK", "OUTCOME", "BYTES", "FOUND")

AHEAD: Final = frozenset({Phase.FULL_SYNC, Phase.READY, Phase.SYNCING, Phase.FAILED})
"""Phases in which a cutover may still come."""


@dataclass(frozen=True)
class StepLine:
    """One step as a screen shows it."""

    name: str
    began_at: datetime
    seconds: float | None
    """None: it runs"""
    outcome: str
    failed: bool
    bytes: int | None
    found: str

    @property
    def cells(self) -> tuple[Text, ...]:
        """What stands in the columns, but for what it found."""
        took = ABSENT if self.seconds is None else quantities.short_duration(self.seconds)
        return (
            Text(self.name),
            Text(f"{self.began_at.astimezone():%H:%M:%S}"),
            Text(took),
            Text(self.outcome, style=TROUBLE_STYLE if self.failed else ""),
            Text(ABSENT if self.bytes is None else quantities.size(self.bytes)),
        )


def steps(lines: Sequence[StepLine], width: int) -> RenderableType:
    """The steps, one a line; on a narrow terminal what a step found stands below it."""
    headers = HEADERS if width >= WIDE else HEADERS[:-1]
    cells = [line.cells for line in lines]
    if width >= WIDE:
        table = columns(*headers, right=("TOOK", "BYTES"))
        table.columns[-1].no_wrap = False
        for line, row in zip(lines, cells, strict=True):
            table.add_row(*row, one_line(line.found))
        return Padding(table, INDENT, expand=False)
    return Group(*_narrow(headers, cells, lines))


def _narrow(
    headers: Sequence[str], cells: Sequence[Sequence[Text]], lines: Sequence[StepLine]
) -> Iterator[RenderableType]:
    """Lines made by hand, since a cell of a table cannot reach over the columns beside it."""
    titles = [Text(header) for header in headers]
    widths = [max(title.cell_len, *(row[n].cell_len for row in cells)) for n, title in enumerate(titles)]
    yield _narrow_line(titles, widths)
    for line, row in zip(lines, cells, strict=True):
        yield _narrow_line(row, widths)
        if line.found:
            yield Padding(Text(one_line(line.found), overflow="fold"), (0, 0, 0, 4), expand=False)


def _narrow_line(row: Sequence[Text], widths: Sequence[int]) -> Text:
    text = Text("  ", no_wrap=True, overflow="ignore")
    for cell, wide, header in zip(row, widths, HEADERS, strict=False):
        gap = Text(" " * (wide - cell.cell_len))
        text += gap + cell if header in {"TOOK", "BYTES"} else cell + gap
        text += Text("  ")
    text.rstrip()
    return text


def step_lines(record: Cutover, *, found: bool) -> list[StepLine]:
    """The steps of a record; `found` says whether what each came to is told, too."""
    return [
        StepLine(
            name=step.name,
            began_at=step.started_at,
            seconds=None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds(),
            outcome=outcome_words(step.outcome, failed=step.name == record.failed_at),
            failed=step.outcome == "failed" or step.name == record.failed_at,
            bytes=step.bytes,
            found=step.found if found else "",
        )
        for step in record.steps
    ]


def cutover(record: Cutover, phase: Phase, width: int, *, found: bool = True) -> Iterator[RenderableType]:
    """The last cutover, step by step, its downtime beside what was predicted, and what it came to.

    Args:
        record: the cutover.
        phase: the job's.
        width: columns of the terminal.
        found: tell what each step came to; without it the screen is short.
    """
    if record.steps:
        yield steps(step_lines(record, found=found), width)
    labelled = [("downtime", Text(text)) for text in _downtime(record, phase)]
    if record.prediction:
        seconds = quantities.short_duration(record.prediction.seconds)
        labelled.append(("predicted", Text(outlook.predicted(record.prediction) if found else seconds)))
    if record.evidence:
        labelled.append(("evidence", Text(one_line(record.evidence))))
    if record.server_id:
        labelled.append(("server", Text(record.server_id)))
    if found and record.verified_bytes:
        labelled.append(("verified", Text(f"{quantities.size(record.verified_bytes)} read back and compared")))
    if record.rolled_back_at is not None:
        by = f" by {record.rolled_back_by}" if record.rolled_back_by else ""
        failed = f" after {record.failed_at} failed" if record.failed_at else ""
        labelled.append(("undone", Text(f"{quantities.moment(record.rolled_back_at)}{by}{failed}")))
    if labelled:
        yield facts(labelled)


def _downtime(record: Cutover, phase: Phase) -> Iterator[str]:
    if record.downtime_started_at is None:
        return
    how = f" ({record.power_off})" if record.power_off else ""
    began = f"{record.downtime_started_at.astimezone():%H:%M:%S}"
    ended_at = record.downtime_ended_at or record.source_on_at
    if ended_at is not None:
        until = "" if record.downtime_ended_at else ", until the source ran again"
        seconds = (ended_at - record.downtime_started_at).total_seconds()
        yield f"{quantities.short_duration(seconds)}{how}{until}"
    elif phase in {Phase.CUTTING_OVER, Phase.FAILED}:
        yield f"since {began}{how}"
    else:
        yield f"from {began}{how}, and the source stays off"


def ahead(status: JobStatus, now: datetime) -> list[tuple[str, Text]]:
    """What is expected: a cutover that is ordered, its prediction, rehearsals, how long a roll-back is possible."""
    tell = partial(short_time, now=now)
    lines: list[tuple[str, Text]] = []
    if status.cutover_ordered is not None:
        lines.append(("cutover", Text(outlook.scheduled(status.cutover_ordered, tell))))
        if status.phase is Phase.FAILED:
            lines.append(("", Text("it does not begin while the job is Failed")))
    if status.phase in AHEAD:
        if status.prediction is not None:
            lines.append(("predicted", Text(f"downtime of {outlook.predicted(status.prediction)}")))
        lines.append(("rehearsal", Text(outlook.rehearsed(status.rehearsal, status.rehearsed, tell))))
    if status.rehearsal is not None:
        lines += [("left", Text(sentence, style=TROUBLE_STYLE)) for sentence in status.rehearsal.left]
    if status.roll_back_until is not None:
        lines.append(("roll-back", Text(f"possible until {quantities.moment(status.roll_back_until)}")))
    return lines


def earlier(status: JobStatus, now: datetime) -> list[tuple[str, Text]]:
    """The cutovers before the last one, a line each."""
    tell = partial(short_time, now=now)
    lines = [Text(line) for line in outlook.earlier(status.earlier_cutovers, tell)]
    return [("earlier" if place == 0 else "", line) for place, line in enumerate(lines)]


def short_time(when: datetime, now: datetime) -> str:
    """01:15 today, Nov 20 01:15 in another day, 2025-11-20 01:15 in another year; local."""
    local, today = when.astimezone(), now.astimezone()
    clock = f"{local:%H:%M}"
    return clock if local.date() == today.date() else f"{quantities.short_moment(when, now)} {clock}"
