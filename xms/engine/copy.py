"""Copies ranges of a source disk to the same offsets of a volume, so that it may die at any moment and go on later.

The one thing that counts is the watermark: all of the plan below it is on the volume AND flushed, the volume's own
account says the same as the plan, and where that is wanted it was read back. It moves at checkpoints only; an attempt
that dies loses what it did since its last one and nothing else.

Three threads: this one reads and shows life, `write_behind` writes, `checkpoints` flushes and settles. Blocks go from
one to the other in a queue.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from xms.change_map import ByteRanges
from xms.engine.account import Account
from xms.engine.ending import TOO_OLD, Ending, never
from xms.engine.guard import Guard
from xms.engine.progress import Rate
from xms.engine.reader import BYTES_IN_FLIGHT, Reader
from xms.engine.throttle import Throttle
from xms.engine.write_behind import BYTES_BEHIND, WriteBehind
from xms.engine.writer import Volume
from xms.errors import BadInput, Interrupted, TransportFailed
from xms.models import DiskProgress
from xms.pulse import Pulse

CHECKPOINT_SECONDS: Final = 3.0
"""A killed worker may have to do so much again, and what came while its last checkpoint was made and told: 5 s in all,
since a flush of the bounded write-back takes well under a second and a heartbeat is at most one second old."""

BEAT_SECONDS: Final = 0.25

DRAIN_SECONDS: Final = 1.0
"""For what was asked for when the work was told to stop: what arrives in that time need not be read again."""


@dataclass(frozen=True)
class CopyResult:
    """What is on the volume and flushed, and what is not. Bytes are those of the plan, known zeroes included."""

    bytes_read: int
    """of the whole plan, earlier attempts included"""
    bytes_written: int
    """the same; zeroes that were skipped because the volume holds them count as written"""
    flushed_bytes: int
    """the same, by the volume's own account: what was flushed, or is known to be there"""
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
    give_up: Callable[[], str] = never,
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
        verify: at each checkpoint read back from the volume, past its cache, what was written since the last one, and
            compare it with what was read. The source's allocation is not trusted then.
        bytes_in_flight: most bytes that are asked for and not answered yet.
        throttle: limits the reading of the source.
        give_up: asked all the time; says why the copy has to end cleanly now, as at `give_up_at`. Empty: it need not.

    Raises:
        Interrupted: the pulse said so; its last detail has the exact watermark.
        TransportFailed: the export is lost or a range of it cannot be read; the last detail has the exact watermark.
        LeaseLost: the claim is lost; nothing was written after that was known.
        WriteFailed: the volume refused a write or a flush.
        VolumeTooSmall: the volume holds less than the disk.
        VolumeBusy: another stream of this machine has the volume.
        VerificationFailed: the volume does not give back what was written, or what was flushed is not what was
            planned; the text names the ranges.
        BadInput: the plan reaches beyond the disk.
    """
    if ranges.end > capacity:
        raise BadInput(
            "the plan reaches beyond the disk",
            because=f"its last byte is {ranges.end - 1}, the disk has {capacity} bytes",
            means="nothing was written",
        )
    copy = _Copy(ranges, start_at, guard, pulse, report, Ending(give_up_at, give_up), throttle or Throttle())
    started = time.monotonic()
    with (
        Volume(path, capacity, guard, copy.tick) as volume,
        Reader(uri, capacity, copy.tick, bytes_in_flight=bytes_in_flight, bytes_behind=BYTES_BEHIND) as reader,
        WriteBehind(volume, copy.account, reader.give_back, skip_zeroes=skip_zeroes, verify=verify) as behind,
    ):
        cut_short = copy.run(reader, behind, use_allocation=not verify)
    return CopyResult(
        bytes_read=copy.bytes_read,
        bytes_written=copy.bytes_written,
        flushed_bytes=copy.flushed_bytes,
        remaining=ranges.from_offset(copy.account.settled_to),
        seconds=time.monotonic() - started,
        verified=verify and not cut_short,
        cut_short=cut_short,
    )


class _Copy:
    """One attempt at a plan: the thread that reads, shows life, and orders the checkpoints."""

    def __init__(
        self,
        ranges: ByteRanges,
        start_at: int,
        guard: Guard,
        pulse: Pulse,
        report: DiskProgress,
        ending: Ending,
        throttle: Throttle,
    ) -> None:
        self._ranges = ranges
        self._guard = guard
        self._pulse = pulse
        self._ending = ending
        self._throttle = throttle
        self._report = report.model_copy(update={"planned": ranges.total})
        self._reader: Reader | None = None
        self._behind: WriteBehind | None = None
        self._next_beat = 0.0
        self._stopped: Interrupted | None = None
        self._drained_at = math.inf
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        self._done_before = ranges.below(start_at).total
        self.account = Account(ranges, start_at)
        self.bytes_read = self._done_before
        self._rate = Rate()

    @property
    def bytes_written(self) -> int:
        """Of the plan, earlier attempts included."""
        return self._done_before + (self._behind.bytes_written if self._behind else 0)

    @property
    def flushed_bytes(self) -> int:
        """The same, as the account has it."""
        return self._done_before + self.account.flushed_bytes

    def run(self, reader: Reader, behind: WriteBehind, *, use_allocation: bool) -> str:
        """Copy, flush, settle; returns why it ended early, if it did."""
        self._reader, self._behind = reader, behind
        try:
            self._beat()
            self._look_at_the_clock()
            rest = self._ranges.from_offset(self.account.settled_to)
            for block in reader.blocks(rest, use_allocation=use_allocation):
                self.bytes_read += block.length
                behind.write(block, self.tick)
                if block.data is not None:
                    self._throttle.passed(block.length, self.tick)
                self.tick()
            if self._stopped:
                raise self._stopped
        except (Interrupted, TransportFailed):
            self._last_checkpoint(reader, behind)
            # An activity's pulse passes the detail on before it raises Interrupted once more.
            self._beat()
            raise
        self._last_checkpoint(reader, behind)
        self._beat()
        return (self._ending.reason or TOO_OLD) if self._ranges.end > self.account.settled_to else ""

    def tick(self) -> None:
        """Called all the time, from every wait: shows life, keeps the claim, and orders the checkpoints."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        self._guard.renew()
        if self._reader and self._behind:
            self._behind.raise_failure()
            self._behind.hand_over()
            if now >= self._next_checkpoint:
                self._next_checkpoint = now + CHECKPOINT_SECONDS
                self._behind.checkpoint(self._reader.finished_to)
        try:
            self._beat()
        except Interrupted as stop:
            self._drain(stop, now)
        self._look_at_the_clock()

    def _drain(self, stop: Interrupted, now: float) -> None:
        """Ask for nothing more, and let what is under way arrive, for a moment."""
        if self._reader is None or now >= self._drained_at:
            raise stop
        if self._stopped is None:
            self._stopped, self._drained_at = stop, now + DRAIN_SECONDS
            self._reader.stop()

    def _look_at_the_clock(self) -> None:
        if self._reader and self._ending.come():
            self._reader.stop()

    def _last_checkpoint(self, reader: Reader, behind: WriteBehind) -> None:
        """Have all that was read written, flushed and settled, and wait for it, whatever the pulse says."""
        behind.checkpoint(reader.finished_to)
        while behind.wait(BEAT_SECONDS):
            self._guard.renew()
            behind.raise_failure()
            with contextlib.suppress(Interrupted):
                self._beat()
        behind.raise_failure()
        self._guard.renew()

    def _beat(self) -> None:
        numbers = {
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "flushed_to": self.account.settled_to,
            "verified": self._behind is not None and self._behind.verifies,
            "rate": self._rate.at(self.bytes_written - self._done_before),
        }
        self._pulse(self._report.model_copy(update=numbers))
