"""Whether a cutover may stop its source: what is predicted, held against what its order and its window allow.

Pure. Asked at the opening of a window, at the gates, after each warm pass, and last before the source is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from xms import prediction, schedule
from xms.cutover import CutoverOrder, Prediction
from xms.prediction import Job
from xms.quantities import short_duration

LEAST_GAIN: Final = 0.1
"""A warm pass has to make the predicted final delta shorter by this share, or passes have done what they can."""

MOST_PASSES: Final = 10
"""A delta that still shrinks after so many is told to the operator as it is."""


class Verdict(StrEnum):
    """What follows from a prediction."""

    GO = "go"
    AGAIN = "another warm pass"
    NO = "no go"


@dataclass(frozen=True)
class Finding:
    """A verdict and why."""

    verdict: Verdict
    because: str
    prediction: Prediction | None = None
    forced: bool = False
    """It goes on although the prediction does not fit."""

    late: bool = False
    """It is the window that does not suffice, and not the allowed downtime."""


@dataclass(frozen=True)
class _Limit:
    """One thing that a prediction has to fit."""

    needed: float
    at_best: float
    """With as many warm passes as help."""

    allowed: float
    words: str
    at_best_words: str
    late: bool = False


def at_opening(job: Job, order: CutoverOrder, now: datetime) -> Finding:
    """Before any warm pass: no go only where none could help, else a warm pass, which comes in every cutover."""
    return _judge(job, order, now, warm_pass=True)


def after_pass(
    job: Job, order: CutoverOrder, now: datetime, *, earlier: Prediction | None = None, passes: int = 1
) -> Finding:
    """After a warm pass.

    Args:
        job: its record.
        order: the cutover's.
        now: the time.
        earlier: the prediction after the pass before this one.
        passes: how many there were.
    """
    return _judge(job, order, now, warm_pass=False, earlier=earlier, passes=passes)


def before_the_source_is_stopped(job: Job, order: CutoverOrder, now: datetime) -> Finding:
    """The last question: no further pass follows."""
    found = _judge(job, order, now, warm_pass=False)
    return replace(found, verdict=Verdict.NO) if found.verdict is Verdict.AGAIN else found


def _judge(
    job: Job,
    order: CutoverOrder,
    now: datetime,
    *,
    warm_pass: bool,
    earlier: Prediction | None = None,
    passes: int = 0,
) -> Finding:
    predicted = prediction.predict(job, order, now, warm_pass=warm_pass)
    best = prediction.shortest(job, order, now)
    closes = schedule.closes_at(order)
    if closes is not None and now >= closes:
        return Finding(Verdict.NO, "the window has closed", predicted, late=True)
    if predicted is None or best is None:
        # The warm pass that comes makes the first complete replica, and figures with it.
        return Finding(Verdict.AGAIN if warm_pass else Verdict.GO, "nothing is measured yet", predicted)
    ahead = prediction.seconds_to_the_shutdown(job) + (prediction.pass_seconds(job, now) if warm_pass else 0.0)
    limits = _limits(order, predicted, best, ahead, None if closes is None else (closes - now).total_seconds())
    broken = [limit for limit in limits if limit.needed > limit.allowed]
    if not broken:
        return Finding(Verdict.GO, "; ".join(limit.words for limit in limits), predicted)
    hopeless = [limit for limit in broken if limit.at_best > limit.allowed]
    if order.force:
        return Finding(Verdict.GO, f"{broken[0].words}: forced", predicted, forced=True)
    if hopeless:
        words = f"{hopeless[0].words}; {hopeless[0].at_best_words}"
        return Finding(Verdict.NO, words, predicted, late=hopeless[0].late)
    if passes >= MOST_PASSES or (earlier is not None and not _shrinks(earlier, predicted)):
        words = f"{broken[0].words}, and warm passes do not make it shorter any more"
        return Finding(Verdict.NO, words, predicted, late=broken[0].late)
    return Finding(Verdict.AGAIN, broken[0].words, predicted)


def _limits(
    order: CutoverOrder, predicted: Prediction, best: Prediction, ahead: float, left: float | None
) -> list[_Limit]:
    found = []
    if (allowed := order.max_downtime_seconds) is not None:
        found.append(
            _Limit(
                needed=predicted.seconds,
                at_best=best.seconds,
                allowed=float(allowed),
                words=f"predicted downtime {_told(predicted)}, allowed {short_duration(allowed)}",
                at_best_words=f"with warm passes {short_duration(best.seconds)} at best",
            )
        )
    if left is not None:
        needed = ahead + predicted.seconds
        found.append(
            _Limit(
                needed=needed,
                at_best=best.seconds,
                allowed=left,
                words=f"the target would run in {short_duration(needed)} (downtime {_told(predicted)}), "
                f"the window closes in {short_duration(left)}",
                at_best_words=f"the downtime alone takes {short_duration(best.seconds)} at best",
                late=True,
            )
        )
    return found


def _told(predicted: Prediction) -> str:
    assumed = [part.name for part in predicted.parts if not part.measured]
    text = short_duration(predicted.seconds)
    return f"{text} ({', '.join(assumed)} only assumed)" if assumed else text


def _shrinks(earlier: Prediction, later: Prediction) -> bool:
    before, now = (
        next(part.seconds for part in found.parts if part.name == "final delta") for found in (earlier, later)
    )
    return now <= before * (1 - LEAST_GAIN)
