"""What a comparison of the replica looks like: how far it is, and what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from rich.text import Text

from xms import quantities
from xms.change_map import ByteRanges
from xms.models import DiskVerification, Verification
from xms.status import JobStatus

RANGES_SHOWN: Final = 5
"""Differing ranges of a disk that a screen names; JSON has all of them."""


@dataclass(frozen=True)
class Compared:
    """How far a comparison is. Bytes, and bytes a second."""

    done: int
    total: int
    rate: float

    @property
    def words(self) -> str:
        """Bytes compared of those to compare, the rate, and the time left."""
        text = f"compared {quantities.size(self.done)} of {quantities.size(self.total)}"
        if self.rate <= 0:
            return text
        left = quantities.duration((self.total - self.done) / self.rate)
        return f"{text}, {quantities.rate(self.rate)}, ETA {left}"


def is_running(status: JobStatus) -> bool:
    """Whether a verification was asked for and has not ended."""
    return status.verification is not None and status.verification.ended_at is None


def compared(status: JobStatus) -> Compared | None:
    """The comparison that goes on, a whole verification or the scrub of the sync that runs; None where none does."""
    streams = [stream for stream in status.progress if stream.to_compare] if status.sync else []
    rate = sum(stream.rate for stream in streams)
    now = sum(stream.compared for stream in streams)
    if status.verification is not None and is_running(status):
        total = sum(disk.capacity for disk in status.verification.disks)
        before = sum(disk.compared for disk in status.verification.disks)
        # A disk that finished between the two questions to Temporal is in both: hence the bound.
        return Compared(min(total, before + now), total, rate)
    if not streams:
        return None
    return Compared(now, sum(stream.to_compare for stream in streams), rate)


def report(found: Verification) -> Iterator[str]:
    """The last verification: its standing, and each disk with what differed."""
    yield f"asked for by {found.asked_by or 'somebody'}, {quantities.moment(found.asked_at)}; {_standing(found)}"
    for disk in found.disks:
        yield f"{disk.label}: {_disk(disk)}"


def _standing(found: Verification) -> str:
    snapshots = f"{found.snapshots} snapshot{'s' * (found.snapshots != 1)}"
    if found.ended_at is None:
        return f"running, {snapshots} so far"
    ended = f"ended {quantities.moment(found.ended_at)} after {snapshots}"
    return f"{ended}, incomplete: {found.ended_because}" if found.ended_because else ended


def _disk(disk: DiskVerification) -> str:
    text = f"compared {quantities.size(disk.compared)} of {quantities.size(disk.capacity)}, "
    if not disk.differing:
        return text + ("equal" if disk.compared >= disk.capacity else "equal so far")
    ranges = ByteRanges.decode(disk.differing)
    named = ", ".join(f"{offset}+{length}" for offset, length in islice(ranges, RANGES_SHOWN))
    more = f" and {len(ranges) - RANGES_SHOWN} more" if len(ranges) > RANGES_SHOWN else ""
    count = f"{len(ranges)} range{'s' * (len(ranges) != 1)}"
    return text + f"{quantities.size(disk.differing_bytes)} DIFFERED in {count}: {named}{more}"


def differs(found: Verification) -> bool:
    """Whether it found anything that was not equal."""
    return any(disk.differing for disk in found.disks)


def facts(found: Verification, trouble_style: str) -> list[tuple[str, Text]]:
    """The report as labelled lines of a screen."""
    first, *others = report(found)
    lines = [("verified" if found.ended_at else "verifying", Text(first))]
    return lines + [("", Text(line, style=trouble_style if "DIFFERED" in line else "")) for line in others]


def as_ranges(text: str) -> list[dict[str, int]]:
    """Encoded ranges as JSON has them: offset and length in bytes."""
    return [{"offset": offset, "length": length} for offset, length in ByteRanges.decode(text)]


def readable(shown: dict[str, Any]) -> None:
    """Give ranges in the JSON of a status by offset and length, and leave out what is of use to the planner alone."""
    for disk in shown["disks"]:
        disk.pop("differed", None)
    for stream in shown["progress"]:
        stream["differing"] = as_ranges(stream["differing"])
    for disk in (shown["verification"] or {}).get("disks", ()):
        disk["differing"] = as_ranges(disk["differing"])
