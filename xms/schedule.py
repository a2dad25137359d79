"""When a cutover that was ordered for a time may begin, and when the job makes itself ready for it.

Pure: an order, a job and the time in. An order without a time begins as soon as it can; the rules here let it.

| the time | what |
|---|---|
| long before | syncs by the cadence, as ever |
| shortly before | one more sync, also in a job that is paused or manual, so that the opening finds a small delta |
| open | the cutover begins, where the prediction lets it (`xms.go_no_go`) |
| over | it is not started: the order is dropped, and told |
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from xms import prediction
from xms.cutover import CutoverOrder
from xms.errors import BadInput
from xms.prediction import Job

LATEST: Final = timedelta(hours=1)
"""After the time of an order without a window: a job that could not begin by then, because no worker ran or a sync
took long, does not stop its VM in the middle of the day."""

SHORTEST_LEAD: Final = timedelta(minutes=5)
"""Before the opening: the last sync before it begins no later."""

LEAD: Final = 1.5
"""Times what the sync is predicted to take: it shall be over at the opening."""

SHORTEST_WINDOW: Final = timedelta(minutes=1)


class Stand(Enum):
    """Where an order stands at some time."""

    AHEAD = auto()
    OPEN = auto()
    OVER = auto()


def is_scheduled(order: CutoverOrder) -> bool:
    """Whether it was ordered for a time."""
    return order.at is not None or order.window is not None


def opens_at(order: CutoverOrder) -> datetime | None:
    """Not before (UTC); None: at once."""
    return order.window.opens_at if order.window is not None else order.at


def closes_at(order: CutoverOrder) -> datetime | None:
    """The target has to run by then (UTC); None: whenever."""
    return None if order.window is None else order.window.closes_at


def latest_start(order: CutoverOrder) -> datetime | None:
    """When it begins no more (UTC); None: it may begin at any time."""
    if order.window is not None:
        return order.window.closes_at
    return None if order.at is None else order.at + LATEST


def stand(order: CutoverOrder, now: datetime) -> Stand:
    """Where the order stands."""
    opening, latest = opens_at(order), latest_start(order)
    if opening is not None and now < opening:
        return Stand.AHEAD
    return Stand.OVER if latest is not None and now >= latest else Stand.OPEN


def sync_at(job: Job, order: CutoverOrder) -> datetime | None:
    """When the last sync before the opening begins; None: the order has no opening.

    A job that is far behind begins earlier, and once more when it has caught up, so that the opening finds it so.
    """
    opening = opens_at(order)
    if opening is None:
        return None
    lead = max(SHORTEST_LEAD, timedelta(seconds=min(LEAD * prediction.pass_seconds(job, opening), 30 * 86_400.0)))
    return opening - lead


def is_due(job: Job, order: CutoverOrder, now: datetime) -> bool:
    """Whether that sync is to begin now, or should have begun already."""
    begins, synced = sync_at(job, order), prediction.synced_from(job)
    return begins is not None and now >= begins and (synced is None or synced < begins)


def refuse_unless_possible(order: CutoverOrder, now: datetime | None) -> None:
    """Check an order's times.

    Args:
        order: as it was given.
        now: the time; None: it is not known, and the past is not looked for.

    Raises:
        BadInput: they cannot be.
    """
    window = order.window
    if order.at is not None and window is not None:
        raise BadInput(
            "a cutover is ordered for a time and for a window", because="a window has its own beginning", do="give one"
        )
    if window is not None and window.closes_at - window.opens_at < SHORTEST_WINDOW:
        raise BadInput(
            f"the window closes at {_told(window.closes_at)}, and opens at {_told(window.opens_at)}",
            because="allowed: windows of a minute and more",
        )
    if now is None:
        return
    if window is not None and window.closes_at <= now:
        raise BadInput(f"the window is over since {_told(window.closes_at)}", because=f"it is {_told(now)}")
    if order.at is not None and order.at <= now - LATEST:
        raise BadInput(f"{_told(order.at)} is past", because=f"it is {_told(now)}")


def in_words(order: CutoverOrder) -> str:
    """When it begins, in UTC: '2026-11-30 01:00 UTC, by 04:00'; empty for an order without a time."""
    opening, closing = opens_at(order), closes_at(order)
    if opening is None:
        return ""
    if closing is None:
        return _told(opening)
    same_day = closing.date() == opening.date()
    return f"{_told(opening)}, until {f'{closing:%H:%M}' if same_day else _told(closing)}"


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if not at.second else f"{at:%Y-%m-%d %H:%M:%S} UTC"
