"""How long nobody could use the workload, and what that time went to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from xms.cutover import Cutover, Prediction, StepRecord
from xms.report.model import Downtime, DowntimePart, EndOfDowntime, PartName, PredictionReport

PARTS: Final[Mapping[str, PartName]] = {
    "Power Off Source": "shutdown",
    "Final Delta": "final delta",
    "Guest Fixes": "conversion",
    "Boot Target": "boot",
    "Evidence": "boot",
}
"""What each step's own work counts as. All that is left of the downtime is the product's own share."""


def downtime(record: Cutover) -> Downtime | None:
    """The downtime of one cutover, with its parts where its end is known; None where the source was not stopped."""
    began = record.downtime_started_at
    if began is None:
        return None
    if record.downtime_ended_at is not None:
        ended_at, ended_by = record.downtime_ended_at, EndOfDowntime.TARGET
    elif record.source_on_at is not None:
        ended_at, ended_by = record.source_on_at, EndOfDowntime.SOURCE
    else:
        return Downtime(began_at=began, ended_by=EndOfDowntime.NOTHING)
    return Downtime(
        began_at=began,
        ended_at=ended_at,
        ended_by=ended_by,
        seconds=(ended_at - began).total_seconds(),
        parts=_parts(record, began, ended_at, ended_by),
    )


def _parts(record: Cutover, began: datetime, ended_at: datetime, ended_by: EndOfDowntime) -> tuple[DowntimePart, ...]:
    took: dict[PartName, float] = {}
    for step in record.steps:
        name = PARTS.get(step.name)
        if name is not None and step.ended_at is not None and began <= step.started_at < ended_at:
            took[name] = took.get(name, 0.0) + _work(step)
    failed_at = next((step.ended_at for step in record.steps if step.name == record.failed_at), None)
    if ended_by is EndOfDowntime.SOURCE and failed_at is not None:
        took["roll-back"] = max(0.0, (ended_at - max(failed_at, began)).total_seconds())
    rest = (ended_at - began).total_seconds() - sum(took.values())
    took["own share"] = max(0.0, rest)
    parts = record.prediction.parts if record.prediction else ()
    predicted: dict[str, float] = {part.name: part.seconds for part in parts}
    return tuple(
        DowntimePart(name=name, seconds=seconds, predicted_seconds=predicted.get(name))
        for name, seconds in took.items()
    )


def _work(step: StepRecord) -> float:
    """What a step's own work took: what the product did around it is its own share."""
    whole = 0.0 if step.ended_at is None else max(0.0, (step.ended_at - step.started_at).total_seconds())
    return whole if step.work_seconds is None else min(whole, max(0.0, step.work_seconds))


def compared(prediction: Prediction | None, came: Downtime | None) -> PredictionReport | None:
    """The prediction, and its error where the downtime ended as predicted: with the target seen running."""
    if prediction is None:
        return None
    error = None
    if came is not None and came.ended_by is EndOfDowntime.TARGET and came.seconds:
        error = round((prediction.seconds - came.seconds) / came.seconds * 100, 1)
    return PredictionReport(
        made_at=prediction.made_at, seconds=prediction.seconds, parts=prediction.parts, error_percent=error
    )
