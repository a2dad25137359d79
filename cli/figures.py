"""The figures that are reckoned from a job's status: how far a sync is, how fast, and when it will be done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cli import comparing, prediction
from xms.cutover import Prediction
from xms.status import JobStatus


@dataclass(frozen=True)
class Progress:
    """How far a sync, or one stream of it, is. Bytes, and bytes a second."""

    planned: int
    read: int
    written: int
    rate: float

    @property
    def share(self) -> float:
        """From 0 to 1; a plan without bytes is done."""
        return min(1.0, self.read / self.planned) if self.planned else 1.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last seconds; None while nothing moves."""
        return (self.planned - self.read) / self.rate if self.rate > 0 else None


def sync_progress(status: JobStatus) -> Progress | None:
    """The sync that runs, all disks together; None when none copies."""
    if status.sync is None or not status.sync.planned:
        return None
    planned, done = status.sync.planned, status.sync.done
    # A disk that finished between the two questions to Temporal is in `done` and in `progress`: hence the bounds.
    return Progress(
        planned=planned,
        read=min(planned, done + sum(stream.bytes_read for stream in status.progress)),
        written=min(planned, done + sum(stream.bytes_written for stream in status.progress)),
        rate=sum(stream.rate for stream in status.progress),
    )


def disk_progress(status: JobStatus, key: int) -> Progress | None:
    """One disk's stream; None when it does not run."""
    for stream in status.progress:
        if stream.disk_key == key:
            return Progress(stream.planned, stream.bytes_read, stream.bytes_written, stream.rate)
    return None


def as_json(status: JobStatus, now: datetime) -> dict[str, Any]:
    """The status as JSON, with what a table shows beside it: the lag, and the figures of a sync that runs."""
    shown: dict[str, Any] = status.model_dump(mode="json")
    for disk in shown["disks"]:
        # Of use to the planner alone, and long.
        disk["baseline"].pop("unseeded", None)
    comparing.readable(shown)
    shown["prediction"] = prediction.as_json(status.prediction)
    for record in (shown["cutover"], *shown["earlier_cutovers"]):
        if record and record["prediction"]:
            record["prediction"] = prediction.as_json(Prediction.model_validate(record["prediction"]))
    lag = status.lag_seconds(now)
    progress = sync_progress(status)
    shown["lag_seconds"] = None if lag is None else round(lag, 1)
    shown["rate"] = round(progress.rate, 1) if progress else None
    shown["bytes_read"] = progress.read if progress else None
    shown["bytes_written"] = progress.written if progress else None
    left = progress.seconds_left if progress else None
    shown["eta_seconds"] = None if left is None else round(left, 1)
    return shown
