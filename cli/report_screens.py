"""The report of a migration as a terminal shows it, 80 columns and more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.cutover_screens import StepLine, steps
from cli.layout import INDENT, TROUBLE_STYLE, WIDE, columns, facts, whole
from xms import quantities
from xms.cutover import Rehearsal, SyncFigures
from xms.models import Event, Trouble
from xms.quantities import ABSENT, moment, short_duration, size
from xms.report.model import (
    AttemptOutcome,
    AttemptReport,
    Downtime,
    JobOutcome,
    PortReport,
    PredictionReport,
    Replica,
    Report,
)
from xms.report.words import error_words, ordered, outcome_words, rate
from xms.visible import all_visible, one_line

OUTCOME_STYLES: Final[dict[str, str]] = {
    JobOutcome.COMPLETED: "bold green",
    JobOutcome.FAILED: "bold red",
    AttemptOutcome.COMPLETED: "bold green",
    AttemptOutcome.NOT_ROLLED_BACK: "bold red",
}

Labelled = list[tuple[str, Text]]


def report(told: Report, width: int) -> RenderableType:
    """All of it: what came of the job, each cutover with the last one first, rehearsals, the replica, the story."""
    return Group(*_report(all_visible(told), width))


def _report(told: Report, width: int) -> Iterator[RenderableType]:
    left = Text(one_line(f"{told.vm}: {told.source} -> {told.destination}"), style="bold")
    right = Text(told.outcome, style=OUTCOME_STYLES.get(told.outcome, ""))
    gap = min(width, WIDE) - left.cell_len - right.cell_len
    yield left + (Text(" " * gap) if gap >= 2 else Text("\n")) + right  # noqa: PLR2004 - a visible gap
    yield Padding(Text(told.headline), INDENT, expand=False)
    yield whole("job", told.job_id)
    lines: Labelled = [("submitted", Text(f"by {told.requested_by}"))] if told.requested_by else []
    lines.append(("phase", Text(f"{told.phase}, since {moment(told.since)}")))
    if told.roll_back_until is not None:
        lines.append(("roll-back", Text(f"possible until {moment(told.roll_back_until)}")))
    lines.append(("made", Text(moment(told.made_at))))
    yield facts([*lines, *_trouble(told.other_trouble)])
    for attempt in reversed(told.attempts):
        yield from _attempt(attempt, width)
    for rehearsal in reversed(told.rehearsals):
        yield from _rehearsal(rehearsal, width)
    yield from _replica(told.replica)
    if told.ports:
        yield from _title("Ports")
        yield facts([(port.label, Text(_port(port))) for port in told.ports])
    yield from _events(told.events, told.events_dropped)


def _title(text: str, style: str = "") -> Iterator[RenderableType]:
    yield Text("")
    yield Text(text, style=style or "bold")


def _port(port: PortReport) -> str:
    subnet = f"/{port.subnet}" if port.subnet else ""
    return ", ".join((f"{port.source_network} -> {port.network}{subnet}", *port.addresses, port.mac))


# --- a cutover --------------------------------------------------------------------------------------------------------


def _attempt(attempt: AttemptReport, width: int) -> Iterator[RenderableType]:
    yield from _title(f"Cutover {attempt.number}: {attempt.outcome}", OUTCOME_STYLES.get(attempt.outcome, ""))
    yield facts(list(_asked(attempt)))
    if attempt.steps:
        yield steps(
            [
                StepLine(
                    name=step.name,
                    began_at=step.began_at,
                    seconds=step.seconds,
                    outcome=outcome_words(step.outcome, failed=step.failed),
                    failed=step.failed,
                    bytes=step.bytes,
                    found=step.found,
                )
                for step in attempt.steps
            ],
            width,
        )
    if attempt.downtime is not None:
        yield facts([("downtime", Text(_downtime(attempt.downtime)))])
    if attempt.prediction is not None:
        yield facts([("predicted", Text(_prediction(attempt.prediction)))])
    if attempt.downtime is not None and attempt.downtime.parts:
        yield Padding(_parts(attempt.downtime), (0, 0, 0, 13), expand=False)
    if attempt.downtime is not None and attempt.downtime.overhead_seconds is not None:
        overhead = short_duration(attempt.downtime.overhead_seconds)
        yield facts([("overhead", Text(f"{overhead}: neither shutdown, copying, conversion nor boot"))])
    if came := list(_came(attempt)):
        yield facts(came)


def _asked(attempt: AttemptReport) -> Iterator[tuple[str, Text]]:
    yield "ordered", Text(f"by {attempt.ordered_by or 'somebody'}, {moment(attempt.ordered_at)}")
    wishes = ordered(attempt.order) if attempt.order else ()
    if wishes:
        yield "asked for", Text("; ".join(wishes))
    for place, decision in enumerate(attempt.decisions):
        because = f": {decision.because}" if decision.because else ""
        text = f"{decision.what}{because}"
        yield "decided" if place == 0 else "", Text(f"{_clock(decision.at)}  {text}")


def _downtime(came: Downtime) -> str:
    if came.seconds is None or came.ended_at is None:
        return f"since {moment(came.began_at)}, {came.ended_by}"
    times = f"from {_clock(came.began_at)} to {_clock(came.ended_at)}"
    return f"{short_duration(came.seconds)}, {times}, until {came.ended_by}"


def _prediction(made: PredictionReport) -> str:
    off = f", {error_words(made.error_percent)}" if made.error_percent is not None else ""
    return f"{short_duration(made.seconds)} at {_clock(made.made_at)}{off}"


def _parts(came: Downtime) -> RenderableType:
    table = columns("PART", "CAME", "OF IT WORK", "PREDICTED", right=("CAME", "OF IT WORK", "PREDICTED"))
    for part in came.parts:
        work, predicted = (
            ABSENT if seconds is None else short_duration(seconds)
            for seconds in (part.work_seconds, part.predicted_seconds)
        )
        table.add_row(part.name, short_duration(part.seconds), work, predicted)
    return table


def _came(attempt: AttemptReport) -> Iterator[tuple[str, Text]]:
    if attempt.power_off:
        yield "power off", Text(attempt.power_off)
    if attempt.verified_bytes:
        yield "verified", Text(f"{size(attempt.verified_bytes)} of the final delta, read back and compared")
    if attempt.evidence:
        yield "evidence", Text(attempt.evidence)
    if attempt.server_id:
        yield "server", Text(attempt.server_id)
    if attempt.failed_at:
        yield "failed at", Text(attempt.failed_at, style=TROUBLE_STYLE)
    yield from _trouble(attempt.trouble)
    if attempt.source_on_at is not None:
        yield "source", Text(f"runs again since {moment(attempt.source_on_at)}")
    if attempt.rolled_back_at is not None:
        by = f" by {attempt.rolled_back_by}" if attempt.rolled_back_by else ""
        yield "undone", Text(f"{moment(attempt.rolled_back_at)}{by}")
    for place, what in enumerate(attempt.left):
        yield "left" if place == 0 else "", Text(what, style=TROUBLE_STYLE)


def _trouble(found: Trouble | None) -> Iterator[tuple[str, Text]]:
    if found is None:
        return
    yield "needs you" if found.needs_person else "trouble", Text(found.what, style=TROUBLE_STYLE)
    for label, text in (("because", found.because), ("means", found.means), ("do", found.do)):
        if text:
            yield label, Text(text)
    if found.log_tail:
        yield "its log", Text(found.log_tail)


# --- what came before it ----------------------------------------------------------------------------------------------


def _rehearsal(found: Rehearsal, width: int) -> Iterator[RenderableType]:
    yield from _title(f"Rehearsal {found.number}: {found.outcome}")
    lines: Labelled = [("ordered", Text(f"by {found.asked_by or 'somebody'}, {moment(found.started_at)}"))]
    if found.replica_of is not None:
        lines.append(("copy of", Text(f"the source as of {moment(found.replica_of)}")))
    yield facts(lines)
    if found.steps:
        yield steps(
            [
                StepLine(
                    name=step.name,
                    began_at=step.started_at,
                    seconds=None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds(),
                    outcome=step.outcome,
                    failed=step.outcome == "failed",
                    bytes=step.bytes,
                    found=step.found,
                )
                for step in found.steps
            ],
            width,
        )
    came: Labelled = [
        (label, Text(short_duration(seconds)))
        for label, seconds in (("converted", found.conversion_seconds), ("booted", found.boot_seconds))
        if seconds is not None
    ]
    if found.evidence:
        came.append(("evidence", Text(found.evidence)))
    came += _trouble(found.trouble)
    came += [("left" if place == 0 else "", Text(what)) for place, what in enumerate(found.left)]
    if came:
        yield facts(came)


def _replica(replica: Replica) -> Iterator[RenderableType]:
    yield from _title("Replica")
    yield facts(
        [
            ("Last Sync", Text(moment(replica.last_sync_at))),
            ("copied", Text(f"{size(replica.bytes_full)} in full, {size(replica.bytes_incremental)} of changes")),
            ("syncs", Text(f"{replica.sync_count} incremental")),
        ]
    )
    found = replica.verification
    if found is not None:
        verdict = f"{size(found.differing_bytes)} DIFFERED" if found.differing_bytes else "all of that is equal"
        standing = f"asked for by {found.asked_by or 'somebody'}, {moment(found.asked_at)}"
        cut = f", ended early: {found.ended_because}" if found.ended_because else ""
        style = TROUBLE_STYLE if found.differing_bytes else ""
        text = f"{size(found.compared_bytes)} of {size(found.bytes)} compared, {verdict}; {standing}{cut}"
        yield facts([("verified", Text(text, style=style))])
    if replica.disks:
        table = columns("DISK", "SIZE", "FULL", "CHANGES", "VOLUME", right=("SIZE", "FULL", "CHANGES"))
        for disk in replica.disks:
            table.add_row(
                disk.label,
                size(disk.capacity),
                size(disk.bytes_full),
                size(disk.bytes_incremental),
                disk.volume_id or ABSENT,
            )
        yield Padding(table, INDENT, expand=False)
    if replica.recent_syncs:
        yield Padding(_syncs(replica.recent_syncs), INDENT, expand=False)


def _syncs(figures: Sequence[SyncFigures]) -> RenderableType:
    table = columns("SNAPSHOT", "BYTES", "COPYING", "ALL", "RATE", "KIND", right=("BYTES", "COPYING", "ALL", "RATE"))
    for sync in figures:
        kind = "final delta" if sync.final else "full" if sync.full else "incremental"
        table.add_row(
            moment(sync.snapshot_at),
            size(sync.bytes),
            short_duration(sync.streaming_seconds),
            short_duration(sync.seconds),
            rate(sync),
            kind,
        )
    return table


def _events(events: Sequence[Event], dropped: int) -> Iterator[RenderableType]:
    yield from _title("Story")
    if dropped:
        yield Padding(Text(f"{quantities.counted(dropped, 'older event')} not kept"), INDENT, expand=False)
    day = None
    for event in events:
        local = event.at.astimezone()
        if local.date() != day:
            day = local.date()
            yield Padding(Text(f"{local:%Y-%m-%d}"), INDENT, expand=False)
        who = f" ({event.who})" if event.who else ""
        yield facts([(_clock(event.at), Text(one_line(f"{event.kind}: {event.text}{who}"), style=_style(event)))])


def _style(event: Event) -> str:
    return TROUBLE_STYLE if "failed" in event.kind else ""


def _clock(when: datetime) -> str:
    return f"{when.astimezone():%H:%M:%S}"
