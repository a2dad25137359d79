"""Where the time of a downtime went, by the job's history: what each activity took, and what the product added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from xms.status import JobStatus

NOT_OURS: Final = {
    "power_off": "shutdown",
    "stream_disk": "copying",
    "convert": "conversion",
    "boot_server": "boot",
    "see_running": "boot",
}
"""The activities whose time is the guest's, the copy's, virt-v2v's or the cloud's, and what it is called."""


@dataclass(frozen=True)
class Span:
    """One activity, from its order to its answer.

    Attributes:
        began, ended: seconds since the downtime began.
    """

    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Downtime:
    """A downtime, taken apart."""

    seconds: float
    spans: tuple[Span, ...]

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of each part; "own share" is what is left of the downtime without the others."""
        parts = dict.fromkeys(NOT_OURS.values(), 0.0)
        for name in parts:
            parts[name] = covered(span for span in self.spans if NOT_OURS.get(span.name) == name)
        parts["own share"] = self.seconds - covered(span for span in self.spans if span.name in NOT_OURS)
        return parts

    def told(self) -> str:
        """For a person: the parts, and the product's own calls in the order in which they were made."""
        lines = [f"downtime {self.seconds:.1f} s"]
        lines += [f"  {name:<12} {seconds:7.2f} s" for name, seconds in self.parts.items()]
        lines += [f"    at {span.began:7.2f}  {span.name:<20} {span.seconds:6.2f} s" for span in self.spans]
        return "\n".join(lines)


def covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of them ran."""
    total, end = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.began):
        total += max(0.0, span.ended - max(end, span.began))
        end = max(end, span.ended)
    return total


def taken_apart(history: WorkflowHistory, status: JobStatus) -> Downtime:
    """The downtime of a completed cutover."""
    cutover = status.cutover
    assert cutover is not None
    assert cutover.downtime_started_at is not None
    assert cutover.downtime_ended_at is not None
    began, ended = cutover.downtime_started_at, cutover.downtime_ended_at
    spans = [span for span in _spans(history.events, began) if span.ended > 0 and span.began < _seconds(began, ended)]
    return Downtime(_seconds(began, ended), tuple(spans))


def _spans(events: Sequence[HistoryEvent], zero: datetime) -> Iterable[Span]:
    ordered = {event.event_id: event for event in events if event.HasField("activity_task_scheduled_event_attributes")}
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            order = ordered[event.activity_task_completed_event_attributes.scheduled_event_id]
            name = order.activity_task_scheduled_event_attributes.activity_type.name
            yield Span(name, _seconds(zero, _time(order)), _seconds(zero, _time(event)))


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
