"""What is to be expected of a job's cutover, in words: predicted, rehearsed, ordered for later.

Each function is told how to tell a time: a terminal does it otherwise than the Web UI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from xms.cutover import Cutover, CutoverOrder, Prediction, Rehearsal
from xms.quantities import duration, short_duration

Tell: TypeAlias = Callable[[datetime], str]


def predicted(prediction: Prediction) -> str:
    """'2m 58s: shutdown 20.0s, final delta 30.0s, ...', and what of it is assumed and not measured."""
    parts = ", ".join(f"{part.name} {short_duration(part.seconds)}" for part in prediction.parts)
    assumed = [part.name for part in prediction.parts if not part.measured]
    guess = f" (assumed, not measured: {', '.join(assumed)})" if assumed else ""
    return f"{short_duration(prediction.seconds)}: {parts}{guess}" if parts else short_duration(prediction.seconds)


def rehearsed(last: Rehearsal | None, passed: Rehearsal | None, tell: Tell) -> str:
    """Whether a copy of the replica was converted and booted, when, and what came of it."""
    if last is None:
        return "not rehearsed"
    before = passed if passed is not None and passed.number != last.number else None
    earlier = f"; the last one that passed: {tell(before.ended_at or before.started_at)}" if before else ""
    if last.outcome == "running":
        return f"rehearsal {last.number} {_runs(last, tell)}{earlier}"
    text = f"rehearsed {tell(last.ended_at or last.started_at)}, {last.outcome}"
    if last.outcome != "passed":
        because = f" ({last.trouble.what})" if last.trouble else ""
        return f"{text}{because}{earlier}"
    measured = [
        f"{name} {short_duration(seconds)}"
        for name, seconds in (("conversion", last.conversion_seconds), ("boot", last.boot_seconds))
        if seconds is not None
    ]
    return ", ".join([text, *measured])


def _runs(rehearsal: Rehearsal, tell: Tell) -> str:
    if not rehearsal.steps:
        return "waits with its copies for the sync that runs"
    step = rehearsal.steps[-1]
    return f"runs since {tell(rehearsal.started_at)}: {step.name} since {tell(step.started_at)}"


def scheduled(order: CutoverOrder, tell: Tell) -> str:
    """When a cutover that was ordered begins, what holds it up, and who ordered it."""
    if order.window is not None:
        # The times are told on the clocks of whoever reads them.
        zone = f" (given in {order.window.zone})" if order.window.zone else ""
        when = f"between {tell(order.window.opens_at)} and {tell(order.window.closes_at)}{zone}"
    else:
        when = f"at {tell(order.at)}" if order.at is not None else "after the sync that runs"
    gates = [f"predicted downtime at most {duration(order.max_downtime_seconds)}"] if order.max_downtime_seconds else []
    if order.require_rehearsal_seconds:
        gates.append(f"rehearsed within {duration(order.require_rehearsal_seconds)}")
    only = f", only with {' and '.join(gates)}" if gates and not order.force else ""
    return f"{when}, ordered by {order.who or 'somebody'}{only}"


def earlier(records: Sequence[Cutover], tell: Tell) -> tuple[str, ...]:
    """Each cutover that was tried before the last one, in a line: when, by whom, and where it failed."""
    return tuple(_earlier(record, tell) for record in records)


def _earlier(record: Cutover, tell: Tell) -> str:
    text = f"{tell(record.ordered_at)} by {record.ordered_by or 'somebody'}"
    if record.downtime_ended_at is not None and record.downtime_started_at is not None:
        off = (record.downtime_ended_at - record.downtime_started_at).total_seconds()
        return f"{text}: completed with a downtime of {short_duration(off)}, rolled back"
    failed = f"failed at {record.failed_at}" if record.failed_at else "failed"
    if record.downtime_started_at is None:
        return f"{text}: {failed}, the source was not stopped"
    if record.source_on_at is None:
        return f"{text}: {failed}, rolled back"
    off = (record.source_on_at - record.downtime_started_at).total_seconds()
    return f"{text}: {failed}, rolled back, the source was off for {short_duration(off)}"
