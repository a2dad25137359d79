"""What the engine's tests are made of: exports that can be broken, guards and pulses that can say no."""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from xms.change_map import ByteRanges
from xms.engine.copy import CopyResult, copy_ranges
from xms.engine.ending import never
from xms.engine.throttle import Throttle
from xms.errors import Interrupted, LeaseLost
from xms.models import DiskProgress, Model

MIB = 1 << 20

LEASE_SECONDS = 3.0
"""of the writers that are processes: short for the test's sake, long enough for a busy machine"""


@dataclass
class Served:
    """An export that a test may break and bring back."""

    socket: Path
    words: tuple[str | Path, ...]

    def __post_init__(self) -> None:
        self.start()

    @property
    def uri(self) -> str:
        return f"nbd+unix:///?socket={self.socket}"

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        command = ["nbdkit", "--foreground", "--exit-with-parent", "--readonly", "--unix", str(self.socket)]
        self.process = subprocess.Popen([*command, *map(str, self.words)])
        give_up_at = time.monotonic() + 20
        while not self.socket.exists():
            assert self.process.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Serve = Callable[..., Served]


def aligned(size: int, byte: int) -> memoryview:
    """Memory as O_DIRECT wants it, full of a byte."""
    memory = memoryview(mmap.mmap(-1, size))
    memory[:] = bytes([byte]) * size
    return memory


@contextmanager
def files_no_longer_than(length: int) -> Iterator[None]:
    """For this process: a write beyond it fails, one across it is cut short (setrlimit(2), RLIMIT_FSIZE)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@dataclass
class AllowingGuard:
    """A claim that can be taken away by a test."""

    writes_allowed: int | None = None
    checks: int = 0
    renewals: int = 0

    def check(self) -> None:
        self.checks += 1
        if self.writes_allowed is not None and self.checks > self.writes_allowed:
            raise LeaseLost("taken by a test")

    def renew(self) -> None:
        self.renewals += 1


@dataclass
class RecordingPulse:
    """Keeps every progress, and interrupts when a test says so, as an activity's pulse does: after passing it on."""

    stop_when: Callable[[DiskProgress], bool] = lambda _progress: False
    seen: list[DiskProgress] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    stopping: bool = False

    def __call__(self, detail: Model | None = None) -> None:
        assert isinstance(detail, DiskProgress)
        self.seen.append(detail)
        self.times.append(time.monotonic())
        self.stopping = self.stopping or self.stop_when(detail)
        if self.stopping:
            raise Interrupted("by a test")

    @property
    def last(self) -> DiskProgress:
        return self.seen[-1]

    def longest_silence(self) -> float:
        return max(later - earlier for earlier, later in pairwise(self.times))


class HasUri(Protocol):
    """An export, wherever it comes from."""

    @property
    def uri(self) -> str: ...


def copy(  # noqa: PLR0913 - the call's arguments, with defaults
    source: HasUri,
    volume: Path,
    ranges: ByteRanges | None = None,
    *,
    capacity: int | None = None,
    start_at: int = 0,
    skip_zeroes: bool = False,
    guard: AllowingGuard | None = None,
    pulse: RecordingPulse | None = None,
    give_up_at: datetime | None = None,
    verify: bool = False,
    give_up: Callable[[], str] = never,
    throttle: Throttle | None = None,
) -> CopyResult:
    size = volume.stat().st_size if capacity is None else capacity
    return copy_ranges(
        uri=source.uri,
        path=str(volume),
        capacity=size,
        ranges=ByteRanges.whole(size) if ranges is None else ranges,
        start_at=start_at,
        skip_zeroes=skip_zeroes,
        guard=guard or AllowingGuard(),
        pulse=pulse or RecordingPulse(),
        report=DiskProgress(disk_key=2000, planned=0, worker="w1"),
        give_up_at=give_up_at,
        verify=verify,
        give_up=give_up,
        throttle=throttle,
    )


def a_disk(path: Path, size: int, data: list[tuple[int, int]] | None = None, *, seed: int = 1) -> Path:
    """A sparse file with random bytes in the ranges of `data`; everywhere where that is None."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in [(0, size)] if data is None else data:
            file.seek(offset)
            file.write(chance.randbytes(length))
    return path


def stale(path: Path, size: int) -> Path:
    """A volume full of what must be overwritten, or must not be touched."""
    path.write_bytes(b"\xa5" * size)
    return path


def overlaid(before: bytes, source: bytes, ranges: ByteRanges) -> bytes:
    """What the volume has to hold after a copy."""
    expected = bytearray(before)
    for offset, length in ranges:
        expected[offset : offset + length] = source[offset : offset + length]
    return bytes(expected)


def allocated(path: Path) -> int:
    """Bytes that a file takes on its disk."""
    os.sync()
    return path.stat().st_blocks * 512
