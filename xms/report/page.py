"""The report as one HTML page that needs nothing else: to keep, to print, to send.

The page brings its own policy: no script, no other server, no style but its own. What others wrote (names, consoles,
messages) is escaped by the template engine, and made visible where a character would control something.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from xms.cutover import Rehearsal
from xms.quantities import ABSENT, counted, moment_utc, short_duration, size
from xms.report.model import AttemptOutcome, DowntimePart, JobOutcome, PredictionReport, Report, StepReport
from xms.report.timeline import timeline
from xms.report.words import error_words, ordered, outcome_words, rate
from xms.visible import visible

BARS: Final = 300
"""Width of the longest bar of the downtime's parts, in units of its SVG."""

KINDS: Final[Mapping[str, str]] = {
    JobOutcome.COMPLETED: "completed",
    JobOutcome.FAILED: "failed",
    AttemptOutcome.COMPLETED: "completed",
    AttemptOutcome.NOT_ROLLED_BACK: "failed",
    "passed": "completed",
    "failed": "failed",
}
"""Outcomes that have a colour of their own."""


def page(report: Report) -> str:
    """The whole page."""
    template, style = _template()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(
        report=report,
        figures=tuple(_figures(report)),
        timelines={attempt.number: timeline(attempt, report.made_at) for attempt in report.attempts},
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=digest,
    )


@cache
def _template() -> tuple[Template, str]:
    loader = PackageLoader("xms.report", "")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bar": _bar,
        "basis": _basis,
        "bytes": _bytes,
        "clock": _clock,
        "error": error_words,
        "kind": lambda outcome: KINDS.get(outcome, "other"),
        "longest": _longest,
        "moment": moment_utc,
        "outcome": lambda step: outcome_words(step.outcome, failed=step.failed),
        "rate": rate,
        "seconds": _seconds,
        "steps": _steps,
        "wishes": ordered,
    }
    style, _, _ = loader.get_source(environment, "page.css")
    return environment.get_template("page.html.jinja"), style


def _shown(value: object) -> object:
    """What the template puts in, before it is escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _figures(report: Report) -> Iterator[tuple[str, str, str]]:
    """The figures at the top of the page: name, figure, remark."""
    last = report.last_attempt
    if last is not None and last.downtime is not None:
        came = last.downtime
        if came.seconds is None:
            yield "Downtime", "not ended", f"since {moment_utc(came.began_at)}"
        else:
            yield "Downtime", short_duration(came.seconds), f"until {came.ended_by}"
        if came.overhead_seconds is not None:
            yield "Overhead", short_duration(came.overhead_seconds), "neither shutdown, copying, conversion nor boot"
    if last is not None and last.prediction is not None:
        made = last.prediction
        error = "" if made.error_percent is None else error_words(made.error_percent)
        yield "Predicted", short_duration(made.seconds), error
    if last is not None and last.verified_bytes:
        yield "Verified", size(last.verified_bytes), "of the final delta"
    copied = report.replica.bytes_full + report.replica.bytes_incremental
    yield "Copied", size(copied), f"in full and in {counted(report.replica.sync_count, 'incremental sync')}"


def _bytes(count: int | None) -> str:
    return ABSENT if count is None else size(count)


def _seconds(seconds: float | None) -> str:
    return ABSENT if seconds is None else short_duration(seconds)


def _clock(when: datetime) -> str:
    return f"{when.astimezone(UTC):%H:%M:%S}"


def _basis(made: PredictionReport | None) -> dict[str, str]:
    return {part.name: part.basis for part in made.parts} if made else {}


def _longest(parts: Sequence[DowntimePart]) -> float:
    return max(seconds for part in parts for seconds in (part.seconds, part.predicted_seconds or 0.0))


def _bar(seconds: float, longest: float) -> float:
    return round(BARS * max(0.0, seconds) / longest, 1) if longest > 0 else 0.0


def _steps(rehearsal: Rehearsal) -> tuple[StepReport, ...]:
    return tuple(
        StepReport(
            name=step.name,
            began_at=step.started_at,
            seconds=None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds(),
            outcome=step.outcome,
            failed=step.outcome == "failed",
            bytes=step.bytes,
            found=step.found,
        )
        for step in rehearsal.steps
    )
