"""Disks served over NBD, volumes, guards and pulses for the engine's tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xms.change_map import ByteRanges
from xms.engine.copy import CopyResult, copy_ranges
from xms.errors import Interrupted, LeaseLost
from xms.models import DiskProgress, Model

MIB = 1 << 20


@dataclass
class Served:
    """An export that a test may break."""

    uri: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start nbdkit on a private socket: serve("file", path), serve("--filter=delay", "file", path, "rdelay=1")."""
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="engine-"))
    started: list[Served] = []

    def start(*words: str | Path) -> Served:
        socket = directory / f"{len(started)}.sock"
        command = ["nbdkit", "--foreground", "--exit-with-parent", "--readonly", "--unix", str(socket), *map(str, words)]
        served = Served(f"nbd+unix:///?socket={socket}", subprocess.Popen(command))
        started.append(served)
        give_up_at = time.monotonic() + 20
        while not socket.exists():
            assert served.process.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        return served

    yield start
    for served in started:
        served.stop()
    shutil.rmtree(directory)


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
        return max(later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False))


def copy(  # noqa: PLR0913 - the call's arguments, with defaults
    source: Served,
    volume: Path,
    ranges: ByteRanges | None = None,
    *,
    capacity: int | None = None,
    start_at: int = 0,
    skip_zeroes: bool = False,
    guard: AllowingGuard | None = None,
    pulse: RecordingPulse | None = None,
    give_up_at: object = None,
    verify: bool = False,
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
        give_up_at=give_up_at,  # type: ignore[arg-type]
        verify=verify,
    )
