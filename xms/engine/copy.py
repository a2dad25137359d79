"""Copies ranges of a source disk to the same offsets of a volume, so that it may die at any moment and go on later.

The one thing that counts is the watermark: all of the plan below it is on the volume AND flushed. It moves only after
a flush that succeeded; an attempt that dies loses what it did since its last checkpoint and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from xms.change_map import ByteRanges
from xms.engine.digest import Digest
from xms.engine.extents import pieces
from xms.engine.guard import Guard
from xms.engine.progress import Rate
from xms.engine.reader import BYTES_IN_FLIGHT, Reader
from xms.engine.throttle import Throttle
from xms.engine.writer import ZEROES, Volume
from xms.errors import BadInput, Interrupted, TransportFailed, VerificationFailed
from xms.models import DiskProgress
from xms.pulse import Pulse

CHECKPOINT_SECONDS: Final = 5.0
"""What a killed worker may have to do again; a flush of the bounded write-back takes a small part of it."""

BEAT_SECONDS: Final = 0.25


@dataclass(frozen=True)
class CopyResult:
    """What is on the volume and flushed, and what is not. Bytes are those of the plan, known zeroes included."""

    bytes_read: int
    """of the whole plan, earlier attempts included"""
    bytes_written: int
    """the same; zeroes that were skipped because the volume holds them count as written"""
    remaining: ByteRanges
    seconds: float
    """of this attempt"""
    verified: bool
    """everything of the plan was read back from the volume and is what was read from the source"""
    cut_short: str
    """why something remains; empty where nothing does"""


def copy_ranges(  # noqa: PLR0913 - each is a decision of its own, and all have to be named
    *,
    uri: str,
    path: str,
    capacity: int,
    ranges: ByteRanges,
    start_at: int,
    skip_zeroes: bool,
    guard: Guard,
    pulse: Pulse,
    report: DiskProgress,
    give_up_at: datetime | None,
    verify: bool,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    throttle: Throttle | None = None,
) -> CopyResult:
    """Make the volume equal to the source within `ranges`, and touch nothing outside of them.

    Args:
        uri: NBD URI of the source's export.
        path: the volume: a block device or a file, which is neither created nor truncated.
        capacity: bytes of the source disk; the export has to have exactly as many, the volume at least.
        ranges: the plan.
        start_at: the watermark of an earlier attempt at the same plan and snapshot: it goes on there. 0 begins.
        skip_zeroes: the volume is known to hold zeroes wherever it was not written by this plan.
        guard: the claim on the volume, asked before each write.
        pulse: called at least every half second, whatever the source does, with the progress.
        report: what the progress says beside the numbers: the disk's key and the worker.
        give_up_at: UTC; end cleanly at that time, with what remains. None: never.
        verify: read everything back from the volume, past its cache, and compare. The source's allocation is not
            trusted then, and the plan is copied from its beginning whatever `start_at` is: a digest of what an earlier
            attempt read is not to be had, and to read again is most of the work.
        bytes_in_flight: most bytes that are asked for and not answered yet.
        throttle: limits the reading of the source.

    Raises:
        Interrupted: the pulse said so; its last detail has the exact watermark.
        TransportFailed: the export is lost or a range of it cannot be read; the last detail has the exact watermark.
        LeaseLost: the claim is lost; nothing was written after that was known.
        WriteFailed: the volume refused a write or a flush.
        VolumeTooSmall: the volume holds less than the disk.
        VolumeBusy: another stream of this machine has the volume.
        VerificationFailed: the volume does not give back what was written.
        BadInput: the plan reaches beyond the disk.
    """
    if ranges.end > capacity:
        raise BadInput(
            "the plan reaches beyond the disk",
            because=f"its last byte is {ranges.end - 1}, the disk has {capacity} bytes",
            means="nothing was written",
        )
    copy = _Copy(ranges, 0 if verify else start_at, guard, pulse, report, give_up_at, throttle or Throttle())
    started = time.monotonic()
    with (
        Volume(path, capacity, guard, copy.tick) as volume,
        Reader(uri, capacity, copy.tick, bytes_in_flight=bytes_in_flight) as reader,
    ):
        cut_short = copy.run(volume, reader, skip_zeroes=skip_zeroes, verify=verify)
    return CopyResult(
        bytes_read=copy.bytes_read,
        bytes_written=copy.bytes_written,
        remaining=ranges.from_offset(copy.watermark),
        seconds=time.monotonic() - started,
        verified=verify and not cut_short,
        cut_short=cut_short,
    )


class _Copy:
    """One attempt at a plan."""

    def __init__(
        self,
        ranges: ByteRanges,
        start_at: int,
        guard: Guard,
        pulse: Pulse,
        report: DiskProgress,
        give_up_at: datetime | None,
        throttle: Throttle,
    ) -> None:
        self._ranges = ranges
        self._guard = guard
        self._pulse = pulse
        self._give_up_at = give_up_at
        self._throttle = throttle
        self._report = report.model_copy(update={"planned": ranges.total})
        self._volume: Volume | None = None
        self._reader: Reader | None = None
        self._next_beat = 0.0
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        self.watermark = start_at
        self._done_before = ranges.below(start_at).total
        self.bytes_read = self.bytes_written = self._done_before
        self._rate = Rate()

    def run(self, volume: Volume, reader: Reader, *, skip_zeroes: bool, verify: bool) -> str:
        """Copy, flush, verify; returns why it ended early, if it did."""
        self._volume, self._reader = volume, reader
        digest = Digest() if verify else None
        try:
            self._beat()
            self._look_at_the_clock()
            self._transfer(volume, reader, digest, skip_zeroes=skip_zeroes)
        except (Interrupted, TransportFailed):
            self._checkpoint()
            # An activity's pulse passes the detail on before it raises Interrupted once more.
            self._beat()
            raise
        self._checkpoint()
        self._beat()
        if self._ranges.end > self.watermark:
            return "the snapshot reached its greatest age"
        if digest:
            self._verify(volume, digest)
        return ""

    def tick(self) -> None:
        """Called all the time, from every wait: shows life, keeps the claim, and makes the checkpoints."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        self._guard.renew()
        if now >= self._next_checkpoint:
            self._checkpoint()
        self._beat()
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        if self._reader and self._give_up_at and datetime.now(UTC) >= self._give_up_at:
            self._reader.stop()

    def _transfer(self, volume: Volume, reader: Reader, digest: Digest | None, *, skip_zeroes: bool) -> None:
        rest = self._ranges.from_offset(self.watermark)
        for block in reader.blocks(rest, use_allocation=digest is None):
            self.bytes_read += block.length
            if block.data is not None:
                volume.write(block.offset, block.data)
            elif not skip_zeroes:
                volume.write_zeroes(block.offset, block.length)
            if digest:
                digest.add(block.offset, ZEROES[: block.length] if block.data is None else block.data)
            self.bytes_written += block.length
            if block.data is not None:
                self._throttle.passed(block.length, self.tick)
            self.tick()

    def _checkpoint(self) -> None:
        """Flush, and only then say so."""
        if self._volume and self._reader:
            finished_to = self._reader.finished_to
            self._volume.flush()
            self._guard.renew()
            self.watermark = max(self.watermark, finished_to)
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS

    def _beat(self) -> None:
        done_now = self.bytes_written - self._done_before
        numbers = {
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "flushed_to": self.watermark,
            "rate": self._rate.at(done_now),
        }
        self._pulse(self._report.model_copy(update=numbers))

    def _verify(self, volume: Volume, source: Digest) -> None:
        replica = Digest()
        with volume.reading_back() as read:
            for piece in pieces(self._ranges, None):
                replica.add(piece.offset, read(piece.offset, piece.length))
                self.tick()
        if replica != source:
            raise VerificationFailed(
                "the volume does not hold what was read from the source",
                because=f"the digests of {self._ranges.total} bytes differ: "
                f"{source.hexdigest()} was read, {replica.hexdigest()} came back",
                means="the sync is not committed",
                do="look at the storage behind the volume",
            )
