"""Where the steps of a cutover stand in its picture: geometry alone, in units of an SVG.

What comes before the downtime may take hours, and the downtime minutes: each gets a scale of its own, beside the
other, so that the minutes can be seen. The picture says so under its axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from xms.quantities import duration, short_duration
from xms.report.model import AttemptReport, StepReport

WIDTH: Final = 960.0
LABELS: Final = 150.0
"""Room for the names of the steps, at the left."""

TIMES: Final = 120.0
"""Room for what the last bar took, at the right."""

ROW: Final = 26.0
TOP: Final = 30.0
BOTTOM: Final = 44.0
SMALLEST: Final = 2.0
"""Width of a bar that took next to no time."""

BEFORE: Final = 0.28
"""Share of the width that belongs to the time before the downtime, where there is one."""

TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400, 604_800)
"""Seconds between two ticks of the axis."""

XOf: TypeAlias = Callable[[datetime], float]
"""Where a time is in the picture."""

TICK_ROOM: Final = 76.0
"""Width that a tick needs at least for its words."""


@dataclass(frozen=True)
class Bar:
    """One step."""

    name: str
    y: float
    x: float
    width: float
    took: str
    kind: str
    """'done', 'failed', 'undone' or 'running'"""
    undone_x: float | None
    """where the roll-back had undone it"""


@dataclass(frozen=True)
class Tick:
    """One mark of the axis."""

    x: float
    words: str


@dataclass(frozen=True)
class Band:
    """The downtime."""

    x: float
    width: float
    words: str


@dataclass(frozen=True)
class Timeline:
    """The picture."""

    width: float
    height: float
    axis_y: float
    left: float
    right: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    downtime: Band | None
    two_scales: bool
    """whether the time before the downtime has a scale of its own"""

    @property
    def has_undone(self) -> bool:
        """Whether the roll-back undid a step."""
        return any(bar.undone_x is not None for bar in self.bars)


@dataclass(frozen=True)
class _Scale:
    """A stretch of time on a stretch of the picture."""

    begins: datetime
    seconds: float
    x: float
    width: float

    def at(self, when: datetime) -> float:
        share = (when - self.begins).total_seconds() / self.seconds if self.seconds > 0 else 0.0
        return self.x + self.width * min(1.0, max(0.0, share))

    def ticks(self, *, relative: bool) -> Iterator[Tick]:
        """The beginning, and round times after it as far as there is room for words."""
        yield Tick(self.x, "source off" if relative else f"{self.begins:%H:%M:%S}")
        most = max(1, int(self.width / TICK_ROOM))
        every = next((step for step in TICKS if self.seconds <= step * most), TICKS[-1])
        for place in range(1, min(most, int(self.seconds // every)) + 1):
            x = self.x + self.width * place * every / self.seconds
            # Words of the first scale must not run into the second one's.
            if x - self.x >= TICK_ROOM and (relative or x <= self.x + self.width - TICK_ROOM):
                yield Tick(round(x, 1), f"+{duration(place * every)}")


def timeline(attempt: AttemptReport, until: datetime) -> Timeline | None:
    """The picture of a cutover; None where no step of it has begun.

    Args:
        attempt: the cutover.
        until: UTC; the end of what still runs.
    """
    if not attempt.steps:
        return None
    begins = attempt.steps[0].began_at
    ends = max(_ends(attempt, until), begins)
    stops = attempt.downtime.began_at if attempt.downtime else None
    left, right = LABELS, WIDTH - TIMES
    scales = _scales(begins, stops, ends, left, right)

    def x_of(when: datetime) -> float:
        scale = scales[-1] if when >= scales[-1].begins else scales[0]
        return round(scale.at(when), 1)

    bars = tuple(_bar(place, step, x_of, until) for place, step in enumerate(attempt.steps))
    axis_y = TOP + ROW * len(bars) + 4
    return Timeline(
        width=WIDTH,
        height=axis_y + BOTTOM,
        axis_y=axis_y,
        left=left,
        right=right,
        bars=bars,
        ticks=tuple(tick for scale in scales for tick in scale.ticks(relative=scale.begins == stops)),
        downtime=_band(attempt, x_of, right),
        two_scales=len(scales) > 1,
    )


def _ends(attempt: AttemptReport, until: datetime) -> datetime:
    moments = [moment for step in attempt.steps for moment in (step.began_at, step.ended_at, step.undone_at) if moment]
    if any(step.ended_at is None for step in attempt.steps):
        moments.append(until)
    if attempt.downtime and attempt.downtime.ended_at:
        moments.append(attempt.downtime.ended_at)
    return max(moments)


def _scales(begins: datetime, stops: datetime | None, ends: datetime, left: float, right: float) -> tuple[_Scale, ...]:
    width = right - left
    if stops is None or not begins < stops < ends:
        return (_Scale(begins, (ends - begins).total_seconds(), left, width),)
    before = width * BEFORE
    return (
        _Scale(begins, (stops - begins).total_seconds(), left, before),
        _Scale(stops, (ends - stops).total_seconds(), left + before, width - before),
    )


def _bar(place: int, step: StepReport, x_of: XOf, until: datetime) -> Bar:
    x = x_of(step.began_at)
    kind = "failed" if step.failed else "undone" if step.outcome == "undone" else "done"
    return Bar(
        name=step.name,
        y=TOP + ROW * place,
        x=x,
        width=round(max(SMALLEST, x_of(step.ended_at or until) - x), 1),
        took="runs" if step.seconds is None else short_duration(step.seconds),
        kind="running" if step.seconds is None else kind,
        undone_x=None if step.undone_at is None else x_of(step.undone_at),
    )


def _band(attempt: AttemptReport, x_of: XOf, right: float) -> Band | None:
    came = attempt.downtime
    if came is None:
        return None
    x = x_of(came.began_at)
    end = right if came.ended_at is None else x_of(came.ended_at)
    words = "source off" if came.seconds is None else f"downtime {short_duration(came.seconds)}"
    return Band(x=x, width=round(max(SMALLEST, end - x), 1), words=words)
