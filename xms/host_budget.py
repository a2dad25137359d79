"""How the streams of all jobs share one ESXi host: who gets the next slot, and how many bytes it may have in flight.

An ESXi host serves disk reads (NFC) out of few buffers; what is asked beyond them waits there, with the reads of
everybody else. So jobs ask for a slot before each stream. Pure: requests and the time in, grants out. The workflow
`HostBudgetWorkflow` keeps one budget a source and host.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from xms.models import Model
from xms.orders.source import SnapshotTaken

SMALLEST_SHARE: Final = 1 << 20
"""One read. A host whose bytes do not suffice for so much a stream gets fewer streams."""

LARGEST_SHARE: Final = 16 << 20
"""What a stream makes use of; more would only cost the worker memory."""


class HostLimits(Model):
    """What a source's configuration allows on one of its ESXi hosts, over all jobs and workers."""

    source: str
    host: str = Field(description="the ESXi host's name")
    streams: int = Field(description="at a time, as configured")
    bytes_in_flight: int = Field(description="of all of them together")
    read_at: datetime = Field(description="when the configuration was read; of two, the newer one counts")

    @property
    def at_a_time(self) -> int:
        """Streams that may really read at a time: each has at least one read in flight."""
        return max(1, min(self.streams, self.bytes_in_flight // SMALLEST_SHARE))

    @property
    def share(self) -> int:
        """Bytes that each of them may have in flight."""
        return max(SMALLEST_SHARE, min(LARGEST_SHARE, self.bytes_in_flight // self.at_a_time))


def limits_of(source: str, snapshot: SnapshotTaken) -> HostLimits | None:
    """The limits that hold where a snapshot's disks are read; None: any number of streams."""
    if not snapshot.host or snapshot.host_streams is None:
        return None
    flight = snapshot.host_bytes_in_flight
    return HostLimits(
        source=source,
        host=snapshot.host,
        streams=snapshot.host_streams,
        bytes_in_flight=snapshot.host_streams * LARGEST_SHARE if flight is None else flight,
        read_at=snapshot.taken_at,
    )


class SlotRequest(Model):
    """One stream wants to read from a host. To ask again with the same id changes nothing."""

    id: str = Field(description="unique; the slot is given back by it")
    job_id: str
    run_id: str = Field(description="the job's run: a slot is its run's, and is taken back when that has ended")
    limits: HostLimits
    asked_at: datetime = Field(description="since when the job waits for it, UTC")
    urgent: bool = Field(default=False, description="the source is off, or about to be: before all that are not")


class SlotAnswer(Model):
    """What a budget says to a request: a slot, or that it waits."""

    id: str = Field(description="of the request")
    source: str
    host: str
    granted: bool = False
    bytes_in_flight: int = Field(default=0, description="that the stream may have asked for and not been answered")
    in_use: int = Field(default=0, description="slots, when the answer was given")
    streams: int = Field(default=0, description="slots that there are")


class SlotBack(Model):
    """A request is withdrawn, or its slot given back. One that is not known is none any more: that is a success."""

    id: str


class Slot(Model):
    """A slot in use."""

    request: SlotRequest
    since: datetime
    bytes_in_flight: int


class HostBudget(BaseModel):
    """Who reads from a host and who waits. Only the workflow that owns it changes it."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    limits: HostLimits
    held: tuple[Slot, ...] = ()
    waiting: tuple[SlotRequest, ...] = ()
    looked_at: datetime | None = Field(default=None, description="when it was last asked which of the jobs still run")

    @property
    def in_use(self) -> bool:
        """Whether anybody reads or waits."""
        return bool(self.held or self.waiting)

    def ask(self, request: SlotRequest) -> None:
        """Take a request in; the newest configuration counts from here on for everybody."""
        if request.limits.read_at >= self.limits.read_at:
            self.limits = request.limits
        known = {slot.request.id for slot in self.held} | {other.id for other in self.waiting}
        if request.id not in known:
            self.waiting = (*self.waiting, request)

    def take_back(self, request_id: str) -> None:
        """Forget a request, and free its slot if it has one."""
        self.held = tuple(slot for slot in self.held if slot.request.id != request_id)
        self.waiting = tuple(request for request in self.waiting if request.id != request_id)

    def grant(self, now: datetime) -> tuple[SlotRequest, ...]:
        """Give the free slots to those whose turn it is, and tell who got one."""
        granted = []
        while self.waiting and self._has_room:
            request = min(self.waiting, key=self._turn)
            slot = Slot(request=request, since=now, bytes_in_flight=self.limits.share)
            self.waiting = tuple(other for other in self.waiting if other.id != request.id)
            self.held = (*self.held, slot)
            granted.append(request)
        return tuple(granted)

    @property
    def _has_room(self) -> bool:
        # By both: slots that were given out under other limits have other shares.
        flying = sum(slot.bytes_in_flight for slot in self.held)
        return not self.held or (
            len(self.held) < self.limits.at_a_time and flying + self.limits.share <= self.limits.bytes_in_flight
        )

    def _turn(self, request: SlotRequest) -> tuple[bool, int, datetime, str]:
        """The least comes next: those in a hurry, then the job that has the fewest, then who has waited longest."""
        of_jobs = Counter(slot.request.job_id for slot in self.held)
        return (not request.urgent, of_jobs[request.job_id], request.asked_at, request.id)

    def answer(self, request_id: str) -> SlotAnswer | None:
        """How it stands with a request; None where there is none of that id."""
        fields = {"id": request_id, "source": self.limits.source, "host": self.limits.host}
        numbers = {"in_use": len(self.held), "streams": self.limits.at_a_time}
        for slot in self.held:
            if slot.request.id == request_id:
                flight = slot.bytes_in_flight
                return SlotAnswer(**fields, granted=True, bytes_in_flight=flight, **numbers)
        if any(request.id == request_id for request in self.waiting):
            return SlotAnswer(**fields, **numbers)
        return None

    @property
    def requests(self) -> tuple[SlotRequest, ...]:
        """Of those that read and of those that wait."""
        return (*(slot.request for slot in self.held), *self.waiting)

    def turns(self) -> tuple[SlotRequest, ...]:
        """Those that wait, as their turn would come if nothing changed."""
        return tuple(sorted(self.waiting, key=self._turn))
