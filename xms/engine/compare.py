"""Compares ranges of a volume with a source disk, byte by byte, and changes neither."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from xms.change_map import ByteRanges
from xms.engine.extents import LARGEST_READ
from xms.engine.guard import Guard
from xms.engine.progress import Rate
from xms.engine.reader import BYTES_IN_FLIGHT, Block, Reader
from xms.engine.throttle import Throttle
from xms.engine.writer import ZEROES, ReadBack, Volume
from xms.errors import BadInput
from xms.models import DiskProgress
from xms.pulse import Pulse

BEAT_SECONDS: Final = 0.25

GRAIN: Final = 4096
"""Bytes to which a difference is told: file systems write no less."""


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where the two are not equal."""

    compared: ByteRanges
    differing: ByteRanges
    seconds: float


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
        report: what the progress says beside the numbers.
        give_up_at: UTC; end at that time with what is compared by then. None: never.
        bytes_in_flight: most bytes that are asked for and not answered yet.
        throttle: limits the reading of the source.

    Raises:
        Interrupted: the pulse said so.
        TransportFailed: the export is lost, or a range of it cannot be read.
        WriteFailed: the volume cannot be read.
        LeaseLost: the claim is lost.
        BadInput: the ranges reach beyond the disk.
    """
    if ranges.end > capacity:
        raise BadInput(
            "the ranges to compare reach beyond the disk",
            because=f"their last byte is {ranges.end - 1}, the disk has {capacity} bytes",
        )
    started = time.monotonic()
    work = _Comparing(ranges, guard, pulse, report, give_up_at)
    with (
        Volume(path, capacity, guard, work.tick) as volume,
        Reader(uri, capacity, work.tick, bytes_in_flight=bytes_in_flight) as reader,
        volume.reading_back() as read,
    ):
        work.run(reader, read, throttle or Throttle())
        compared = ranges.below(reader.finished_to)
    return Comparison(compared, ByteRanges(work.differing), time.monotonic() - started)


class _Comparing:
    """One comparison."""

    def __init__(
        self, ranges: ByteRanges, guard: Guard, pulse: Pulse, report: DiskProgress, give_up_at: datetime | None
    ) -> None:
        self._ranges = ranges
        self._guard = guard
        self._pulse = pulse
        self._report = report.model_copy(update={"to_compare": ranges.total})
        self._give_up_at = give_up_at
        self._reader: Reader | None = None
        self._compared = 0
        self._rate = Rate()
        self._next_beat = 0.0
        self.differing: list[tuple[int, int]] = []

    def run(self, reader: Reader, read: ReadBack, throttle: Throttle) -> None:
        """Go through all of it."""
        self._reader = reader
        self.tick()
        for block in reader.blocks(self._ranges, use_allocation=True):
            self._compare(block, read)
            if block.slot is not None:
                reader.give_back(block.slot)
            if block.data is not None:
                throttle.passed(block.length, self.tick)
            self.tick()
        self._next_beat = 0.0
        self.tick()

    def tick(self) -> None:
        """Called all the time, from every wait: shows life, and keeps the claim."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        self._guard.renew()
        self._pulse(self._report.model_copy(update={"compared": self._compared, "rate": self._rate.at(self._compared)}))
        if self._reader and self._give_up_at and datetime.now(UTC) >= self._give_up_at:
            self._reader.stop()

    def _compare(self, block: Block, read: ReadBack) -> None:
        for start in range(0, block.length, LARGEST_READ):
            length = min(LARGEST_READ, block.length - start)
            source = ZEROES[:length] if block.data is None else block.data[start : start + length]
            # Two memoryviews are compared element by element, a hundred times slower than bytes are.
            expected, found = bytes(source), bytes(read(block.offset + start, length))
            if expected != found:
                self.differing += _differences(block.offset + start, expected, found)
            self._compared += length
            self.tick()


def _differences(offset: int, expected: bytes, found: bytes) -> list[tuple[int, int]]:
    return [
        (offset + at, min(GRAIN, len(expected) - at))
        for at in range(0, len(expected), GRAIN)
        if expected[at : at + GRAIN] != found[at : at + GRAIN]
    ]
