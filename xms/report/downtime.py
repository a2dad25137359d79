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
"""What each step counts as, as in a prediction. All that is left of the downtime is the product's own share."""

BESIDE_THE_WORK: Final = frozenset({"final delta"})
"""Parts of a prediction that have more in them than work: a sync's snapshot, change maps and claims."""


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
    parts = _parts(record, began, ended_at, ended_by)
    return Downtime(
        began_at=began,
        ended_at=ended_at,
        ended_by=ended_by,
        seconds=(ended_at - began).total_seconds(),
        parts=parts,
        overhead_seconds=sum(_overhead(part) for part in parts),
    )


def _parts(record: Cutover, began: datetime, ended_at: datetime, ended_by: EndOfDowntime) -> tuple[DowntimePart, ...]:
    took: dict[PartName, float] = {}
    worked: dict[PartName, float] = {}
    for step in record.steps:
        name = PARTS.get(step.name)
        if name is not None and step.ended_at is not None and began <= step.started_at < ended_at:
            whole, work = _whole(step), _work(step)
            took[name] = took.get(name, 0.0) + (whole if name in BESIDE_THE_WORK else work)
            if step.work_seconds is not None:
                worked[name] = work
    failed_at = next((step.ended_at for step in record.steps if step.name == record.failed_at), None)
    if ended_by is EndOfDowntime.SOURCE and failed_at is not None:
        took["roll-back"] = max(0.0, (ended_at - max(failed_at, began)).total_seconds())
    rest = (ended_at - began).total_seconds() - sum(took.values())
    took["own share"] = max(0.0, rest)
    parts = record.prediction.parts if record.prediction else ()
    predicted: dict[str, float] = {part.name: part.seconds for part in parts}
    return tuple(
        DowntimePart(name=name, seconds=seconds, work_seconds=worked.get(name), predicted_seconds=predicted.get(name))
        for name, seconds in took.items()
    )


def _overhead(part: DowntimePart) -> float:
    if part.name == "own share":
        return part.seconds
    return 0.0 if part.work_seconds is None else part.seconds - part.work_seconds


def _whole(step: StepRecord) -> float:
    return 0.0 if step.ended_at is None else max(0.0, (step.ended_at - step.started_at).total_seconds())


def _work(step: StepRecord) -> float:
    """What a step's own work took, without what the product did around it."""
    whole = _whole(step)
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
