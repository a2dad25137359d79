"""Compares ranges of a volume with a source disk, byte by byte, and changes neither."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from xms.change_map import ByteRanges
from xms.engine.ending import Ending, never
from xms.engine.extents import LARGEST_READ
from xms.engine.guard import Guard
from xms.engine.progress import Rate
from xms.engine.reader import BYTES_IN_FLIGHT, Block, Reader
from xms.engine.throttle import Throttle
from xms.engine.writer import ZEROES, ReadBack, Volume
from xms.errors import BadInput, Interrupted, TransportFailed
from xms.models import DiskProgress
from xms.pulse import Pulse

BEAT_SECONDS: Final = 0.25

GRAIN: Final = 4096
"""Bytes to which a difference is told: file systems write no less."""

MOST_DIFFERING: Final = 1 << 13
"""Ranges that are told apart. Where more differ, the nearest are told as one: a disk that is wholly another one must
not need gigabytes of memory, and to copy too much of it mends it as well."""

HEARTBEAT_LIMIT: Final = 16 << 10
"""Characters of a heartbeat that may be spent on what differs."""


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where the two are not equal."""

    compared: ByteRanges
    differing: ByteRanges
    """to the grain, within what was asked for; a superset where very many ranges differ"""
    seconds: float
    """of this attempt"""


NOT_COMPARED: Final = Comparison(ByteRanges(), ByteRanges(), 0.0)


def compare_ranges(  # noqa: PLR0913 - as copy_ranges
    *,
    uri: str,
    path: str,
    capacity: int,
    ranges: ByteRanges,
    guard: Guard,
    pulse: Pulse,
    report: DiskProgress,
    give_up_at: datetime | None,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    throttle: Throttle | None = None,
    give_up: Callable[[], str] = never,
) -> Comparison:
    """Compare `ranges` of the volume, read from its medium and not from a cache, with the source.

    What the source says to be zero is not read there, but on the volume it is.

    Args:
        uri: NBD URI of the source's export.
        path: the volume; it is opened as for writing, so that nobody else writes meanwhile, and only read.
        capacity: bytes of the source disk.
        ranges: what to compare.
        guard: the claim on the volume, which is kept.
        pulse: called at least every half second with the progress.
        report: what the progress says beside the numbers. Its `compared_to` and `differing` are those of an earlier
            attempt at the same ranges, volume and snapshot: the comparison goes on there, and forgets nothing of it.
        give_up_at: UTC; end at that time with what is compared by then. None: never.
        bytes_in_flight: most bytes that are asked for and not answered yet.
        throttle: limits the reading of the source.
        give_up: as for `copy_ranges`.

    Raises:
        Interrupted: the pulse said so; its last detail has all that was found.
        TransportFailed: the export is lost, or a range of it cannot be read; the same of the last detail.
        WriteFailed: the volume cannot be read.
        LeaseLost: the claim is lost.
        VolumeTooSmall: the volume holds less than the disk.
        VolumeBusy: another stream of this machine has the volume.
        BadInput: the ranges reach beyond the disk.
    """
    if ranges.end > capacity:
        raise BadInput(
            "the ranges to compare reach beyond the disk",
            because=f"their last byte is {ranges.end - 1}, the disk has {capacity} bytes",
            means="nothing was compared",
        )
    started = time.monotonic()
    work = _Comparing(ranges, guard, pulse, report, Ending(give_up_at, give_up))
    with (
        Volume(path, capacity, guard, work.tick) as volume,
        Reader(uri, capacity, work.tick, bytes_in_flight=bytes_in_flight) as reader,
        volume.reading_back() as read,
    ):
        work.run(reader, read, throttle or Throttle())
    return Comparison(ranges.below(work.compared_to), work.differing & ranges, time.monotonic() - started)


class _Comparing:
    """One attempt at a comparison."""

    def __init__(self, ranges: ByteRanges, guard: Guard, pulse: Pulse, report: DiskProgress, ending: Ending) -> None:
        self._ranges = ranges
        self._guard = guard
        self._pulse = pulse
        self._report = report.model_copy(update={"to_compare": ranges.total})
        self._ending = ending
        self._reader: Reader | None = None
        self._went_on_from = report.compared_to
        self._compared_before = self._compared = ranges.below(report.compared_to).total
        self._rate = Rate()
        self._next_beat = 0.0
        self.differing = ByteRanges.decode(report.differing)
        self._told: tuple[ByteRanges, str] = (self.differing, report.differing)
        """what differs, and the same as the heartbeat has it"""

    @property
    def compared_to(self) -> int:
        """All that is to be compared below this offset is compared, and what differs there is known."""
        return max(self._went_on_from, self._reader.finished_to if self._reader else 0)

    def run(self, reader: Reader, read: ReadBack, throttle: Throttle) -> None:
        """Go through all that is left."""
        self._reader = reader
        try:
            self._beat()
            self._look_at_the_clock()
            for block in reader.blocks(self._ranges.from_offset(self._went_on_from), use_allocation=True):
                self._compare(block, read)
                if block.slot is not None:
                    reader.give_back(block.slot)
                if block.data is not None:
                    throttle.passed(block.length, self.tick)
                self.tick()
        except (Interrupted, TransportFailed):
            # An activity's pulse passes the detail on before it raises Interrupted once more.
            self._beat()
            raise
        self._beat()

    def tick(self) -> None:
        """Called all the time, from every wait: shows life, and keeps the claim."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        self._guard.renew()
        self._beat()
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        if self._reader and self._ending.come():
            self._reader.stop()

    def _beat(self) -> None:
        if self._told[0] is not self.differing:
            self._told = (self.differing, self.differing.encode(HEARTBEAT_LIMIT))
        numbers = {
            "compared": self._compared,
            "compared_to": self.compared_to,
            "differing": self._told[1],
            "rate": self._rate.at(self._compared - self._compared_before),
        }
        self._pulse(self._report.model_copy(update=numbers))

    def _compare(self, block: Block, read: ReadBack) -> None:
        for start in range(0, block.length, LARGEST_READ):
            length = min(LARGEST_READ, block.length - start)
            source = ZEROES[:length] if block.data is None else block.data[start : start + length]
            # Two memoryviews are compared element by element, a hundred times slower than bytes are.
            expected, found = bytes(source), bytes(read(block.offset + start, length))
            if expected != found:
                differing = self.differing | ByteRanges(_differences(block.offset + start, expected, found))
                self.differing = _of_few_ranges(differing)
            self._compared += length
            self.tick()


def _differences(offset: int, expected: bytes, found: bytes) -> Iterator[tuple[int, int]]:
    """Where the two differ; at every multiple of the grain a new range begins."""
    at = 0
    while at < len(expected):
        end = min(len(expected), at + GRAIN - (offset + at) % GRAIN)
        if expected[at:end] != found[at:end]:
            yield offset + at, end - at
        at = end


def _of_few_ranges(differing: ByteRanges) -> ByteRanges:
    gap = 2 * GRAIN
    while len(differing) > MOST_DIFFERING:
        differing = differing.coalesced(gap)
        gap *= 2
    return differing
