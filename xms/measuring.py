"""What a cutover's steps took, kept for the predictions of the next one. Those of one that failed later count, too."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from xms.cutover import StepRecord
from xms.job import JobState

POWER_OFF: Final = "Power Off Source"
CONVERSION: Final = "Guest Fixes"
FINALIZE: Final = "Finalize"
BOOT: Final = "Boot Target"
EVIDENCE: Final = "Evidence"


def take_in(state: JobState, step: str, now: datetime) -> None:
    """Remember what a step took that is done."""
    cutover = state.cutover
    if cutover is None:
        return
    records = {record.name: record for record in cutover.steps}
    known = state.measured
    changes: dict[str, object] = {}
    match step:
        case "Power Off Source" if cutover.power_off != "was off":
            changes = {"shutdown": _took(records[POWER_OFF])}
        case "Guest Fixes" if cutover.order is None or not cutover.order.conversion.skip:
            changes = {"conversion": _work(records[CONVERSION]), "conversion_at": now}
        case "Finalize" if CONVERSION in records:
            around = _took(records[CONVERSION]) - _work(records[CONVERSION])
            changes = {"own": max(0.0, around) + _took(records[FINALIZE])}
        case "Evidence" if BOOT in records:
            changes = {"boot": _took(records[BOOT]) + _took(records[EVIDENCE]), "boot_at": now}
        case _:
            return
    state.measured = known.model_copy(update={**changes, "at": now, "by": "cutover"})


def _took(record: StepRecord) -> float:
    return 0.0 if record.ended_at is None else max(0.0, (record.ended_at - record.started_at).total_seconds())


def _work(record: StepRecord) -> float:
    return _took(record) if record.work_seconds is None else min(record.work_seconds, _took(record))
