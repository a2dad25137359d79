"""How a predicted downtime, and a cutover that waits for its time, look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.table import Table

from cli.layout import columns
from xms import quantities, schedule
from xms.cutover import Prediction
from xms.models import Phase
from xms.status import JobStatus


def is_next(status: JobStatus, now: datetime) -> str:
    """What a list says of a scheduled cutover; empty where there is none."""
    order = status.cutover_ordered
    opening = schedule.opens_at(order) if order is not None else None
    if opening is None or status.phase is Phase.FAILED:
        return ""
    return "cutover now" if opening <= now else f"cutover in {quantities.duration((opening - now).total_seconds())}"


def advice(status: JobStatus) -> Iterator[str]:
    """What can be done about a cutover that has not begun."""
    order = status.cutover_ordered
    if order is None or not schedule.is_scheduled(order):
        yield f"cut over with: xms migration cutover {status.job_id}"
        return
    yield f"change it with: xms migration cutover {status.job_id} --window ..."
    yield f"take it back with: xms migration withdraw {status.job_id}"


def table(prediction: Prediction) -> Table:
    """The parts one below the other, each with what it is reckoned from."""
    grid = columns("PART", "PREDICTED", "RECKONED FROM", right=("PREDICTED",))
    grid.columns[-1].no_wrap = False
    for part in prediction.parts:
        grid.add_row(part.name, quantities.short_duration(part.seconds), part.basis)
    grid.add_row("downtime", quantities.short_duration(prediction.seconds), "all of them")
    return grid


def as_json(prediction: Prediction | None) -> dict[str, Any] | None:
    """The same for programs, with the sum."""
    if prediction is None:
        return None
    shown: dict[str, Any] = prediction.model_dump(mode="json")
    return shown | {"seconds": round(prediction.seconds, 1), "measured": prediction.measured}
