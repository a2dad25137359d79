"""What a comparison of a volume with its source finds, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.rig import MIB, AllowingGuard, RecordingPulse, Serve, Served, a_disk
from xms.change_map import ByteRanges
from xms.engine import compare
from xms.engine.compare import GRAIN, Comparison, compare_ranges
from xms.engine.ending import never
from xms.errors import BadInput, Interrupted, LeaseLost, TransportFailed, VolumeTooSmall, WriteFailed
from xms.models import DiskProgress

SIZE = 40 * MIB + 4096 + 512
"""No multiple of 4096."""

DATA = [(0, 3 * MIB), (9 * MIB, 2 * MIB), (SIZE - 700, 700)]


def compared(  # noqa: PLR0913 - the call's arguments, with defaults
    source: Served,
    volume: Path,
    ranges: ByteRanges | None = None,
    *,
    capacity: int | None = None,
    guard: AllowingGuard | None = None,
    pulse: RecordingPulse | None = None,
    give_up_at: datetime | None = None,
    report: DiskProgress | None = None,
    give_up: Callable[[], str] = never,
) -> Comparison:
    size = volume.stat().st_size if capacity is None else capacity
    return compare_ranges(
        uri=source.uri,
        path=str(volume),
        capacity=size,
        ranges=ByteRanges.whole(size) if ranges is None else ranges,
        guard=guard or AllowingGuard(),
        pulse=pulse or RecordingPulse(),
        report=report or DiskProgress(disk_key=2000, planned=0, worker="w1"),
        give_up_at=give_up_at,
        give_up=give_up,
    )


def flip(volume: Path, *places: int) -> None:
    with volume.open("r+b") as file:
        for at in places:
            byte = os.pread(file.fileno(), 1, at)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 0x10]), at)
        os.fsync(file.fileno())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return a_disk(tmp_path / "source", SIZE, DATA)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return a_disk(tmp_path / "volume", SIZE, DATA)


@pytest.mark.parametrize("filters", [(), ("--filter=noextents",)])
def test_equal_disks_are_found_equal_and_neither_is_touched(
    serve: Serve, source: Path, volume: Path, filters: tuple[str, ...]
) -> None:
    before, pulse, guard = volume.read_bytes(), RecordingPulse(), AllowingGuard()

    found = compared(serve(*filters, "file", source), volume, pulse=pulse, guard=guard)

    assert found.compared == ByteRanges.whole(SIZE)
    assert not found.differing
    assert volume.read_bytes() == before
    assert (pulse.last.to_compare, pulse.last.compared, pulse.last.compared_to) == (SIZE, SIZE, SIZE)
    assert pulse.last.differing == ""
    assert guard.checks == 0
    assert guard.renewals


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(0, id="first byte"),
        pytest.param(3 * MIB - 1, id="end of data"),
        pytest.param(3 * MIB, id="hole of the source"),
        pytest.param(30 * MIB + 5000, id="where neither has anything"),
        pytest.param(SIZE - 1, id="last byte"),
        pytest.param(SIZE - 513, id="last whole block"),
    ],
)
@pytest.mark.parametrize("filters", [(), ("--filter=noextents",)])
def test_one_flipped_byte_is_found_wherever_it_is(
    serve: Serve, source: Path, volume: Path, at: int, filters: tuple[str, ...]
) -> None:
    flip(volume, at)

    found = compared(serve(*filters, "file", source), volume)

    start = at - at % GRAIN
    assert found.differing == ByteRanges([(start, min(GRAIN, SIZE - start))])
    assert found.compared == ByteRanges.whole(SIZE)


def test_a_difference_is_told_only_where_it_was_asked_for(serve: Serve, source: Path, volume: Path) -> None:
    flip(volume, 0, 5000, 5 * MIB, 20 * MIB)
    ranges = ByteRanges([(4999, 2), (20 * MIB - 100, 101), (30 * MIB, 17)])

    found = compared(serve("file", source), volume, ranges)

    assert found.compared == ranges
    assert found.differing == ByteRanges([(4999, 2), (20 * MIB, 1)])


class Bench:
    """One export and one volume for many examples: both are written anew between them."""

    def __init__(self, directory: Path) -> None:
        self.source = a_disk(directory / "source", 4 * MIB, [])
        self.volume = directory / "volume"
        self.served = Served(directory / "sock", ("file", self.source))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="engine-"))
    made = Bench(directory)
    yield made
    made.served.kill()
    shutil.rmtree(directory)


positions = st.lists(st.integers(0, 4 * MIB - 1), max_size=8, unique=True)
asked = st.lists(st.tuples(st.integers(0, 4 * MIB - 1), st.integers(0, 2 * MIB)), max_size=5).map(
    lambda pairs: ByteRanges(pairs).below(4 * MIB)
)


@settings(max_examples=60, deadline=None)
@given(data=asked, flipped=positions, ranges=asked, start_at=st.integers(0, 4 * MIB))
def test_whatever_is_flipped_is_found_and_nothing_else(
    bench: Bench,
    data: ByteRanges,
    flipped: list[int],
    ranges: ByteRanges,
    start_at: int,
) -> None:
    with bench.source.open("r+b") as file:
        os.truncate(file.fileno(), 0)
        os.truncate(file.fileno(), 4 * MIB)
        for offset, length in data:
            os.pwrite(file.fileno(), os.urandom(length), offset)
    bench.volume.write_bytes(bench.source.read_bytes())
    flip(bench.volume, *flipped)
    earlier = DiskProgress(disk_key=2000, planned=0, compared_to=start_at)

    found = compared(bench.served, bench.volume, ranges, report=earlier)

    assert found.differing == _grains_with(flipped, ranges.from_offset(start_at))
    assert found.compared == ranges


def _grains_with(flipped: list[int], ranges: ByteRanges) -> ByteRanges:
    """The parts of `ranges`, cut at multiples of the grain, that hold a flipped byte."""
    hit = [at for at in flipped if ranges & ByteRanges([(at, 1)])]
    found = ByteRanges()
    for at in hit:
        grain = ByteRanges([(at - at % GRAIN, GRAIN)]) & ranges
        found |= ByteRanges((start, length) for start, length in grain if start <= at < start + length)
    return found


def test_the_volume_is_read_past_the_page_cache(
    serve: Serve, source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    really_open = os.open

    def noted(path: str, flags: int, *more: int) -> int:
        opened.append(flags)
        return really_open(path, flags, *more)

    monkeypatch.setattr(os, "open", noted)
    compared(serve("file", source), volume)

    writing_flushing_reading = [bool(flags & os.O_DIRECT) for flags in opened]
    assert writing_flushing_reading == [False, False, True]


def test_where_no_direct_reads_are_taken_the_cache_is_dropped_first(
    serve: Serve, source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[tuple[int, int, int]] = []
    really_open, really_advise = os.open, os.posix_fadvise

    def refusing(path: str, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return really_open(path, flags, *more)

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        advised.append((offset, length, advice))
        really_advise(fd, offset, length, advice)

    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    flip(volume, 7)
    found = compared(serve("file", source), volume)

    assert (0, 0, os.POSIX_FADV_DONTNEED) in advised
    assert found.differing == ByteRanges([(0, GRAIN)])


def test_a_comparison_whose_time_comes_tells_what_it_got_to(serve: Serve, tmp_path: Path) -> None:
    source, volume = a_disk(tmp_path / "s", 48 * MIB), a_disk(tmp_path / "v", 48 * MIB)
    flip(volume, 10, 48 * MIB - 1)
    slow = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")

    found = compared(slow, volume, give_up_at=datetime.now(UTC) + timedelta(seconds=1))

    ((start, length),) = found.compared
    assert start == 0
    assert 0 < length < 48 * MIB
    assert found.differing == ByteRanges([(0, GRAIN)])
    rest = ByteRanges.whole(48 * MIB) - found.compared
    assert compared(serve("file", source), volume, rest).differing == ByteRanges([(48 * MIB - GRAIN, GRAIN)])


def test_a_comparison_that_is_asked_to_give_up_before_it_began_compares_nothing(
    serve: Serve, source: Path, volume: Path
) -> None:
    flip(volume, 0)
    found = compared(serve("file", source), volume, give_up=lambda: "no room")
    assert (found.compared, found.differing) == (ByteRanges(), ByteRanges())


def test_a_comparison_whose_time_has_come_before_it_began_compares_nothing(
    serve: Serve, source: Path, volume: Path
) -> None:
    flip(volume, 0)
    found = compared(serve("file", source), volume, give_up_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (found.compared, found.differing) == (ByteRanges(), ByteRanges())


def test_an_interrupted_comparison_tells_what_it_found_and_goes_on_there(serve: Serve, tmp_path: Path) -> None:
    source, volume = a_disk(tmp_path / "s", 48 * MIB), a_disk(tmp_path / "v", 48 * MIB)
    flip(volume, 10, 48 * MIB - 1)
    slow = serve("--filter=rate", "file", source, "rate=256M", "burstiness=0.1")
    pulse = RecordingPulse(stop_when=lambda progress: progress.compared_to > 4 * MIB)

    with pytest.raises(Interrupted):
        compared(slow, volume, pulse=pulse)

    told = pulse.last
    assert ByteRanges.decode(told.differing) == ByteRanges([(0, GRAIN)])
    assert 4 * MIB < told.compared_to < 48 * MIB
    # Mended meanwhile: what is told of it afterwards is remembered, not found again.
    flip(volume, 10)
    again = RecordingPulse()
    found = compared(serve("file", source), volume, report=told, pulse=again)
    assert found.compared == ByteRanges.whole(48 * MIB)
    assert found.differing == ByteRanges([(0, GRAIN), (48 * MIB - GRAIN, GRAIN)])
    assert again.seen[0].compared >= told.compared_to
    assert again.last.compared == 48 * MIB


def test_at_no_moment_does_the_progress_claim_more_than_was_compared(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "BEAT_SECONDS", 0.0)
    source, volume = a_disk(tmp_path / "s", 24 * MIB), a_disk(tmp_path / "v", 24 * MIB)
    wrong = list(range(0, 24 * MIB, MIB))
    flip(volume, *wrong)
    pulse = RecordingPulse()

    compared(serve("--filter=delay", "file", source, "delay-read=2ms"), volume, pulse=pulse)

    seen = {(progress.compared_to, progress.differing) for progress in pulse.seen}
    assert len(seen) > 10
    for compared_to, differing in seen:
        expected = ByteRanges((at, GRAIN) for at in wrong).below(compared_to)
        assert not expected - ByteRanges.decode(differing)


def test_a_lost_claim_ends_it(serve: Serve, source: Path, volume: Path) -> None:
    class Lost(AllowingGuard):
        def renew(self) -> None:
            raise LeaseLost("taken by a test")

    with pytest.raises(LeaseLost):
        compared(serve("file", source), volume, guard=Lost())


def test_a_lost_export_ends_it_with_what_was_found(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xms.engine.reader.RECONNECT_SECONDS", 0.3)
    source, volume = a_disk(tmp_path / "s", 48 * MIB), a_disk(tmp_path / "v", 48 * MIB)
    flip(volume, 10)
    slow = serve("--filter=rate", "file", source, "rate=256M", "burstiness=0.1")

    def broken(progress: DiskProgress) -> bool:
        if progress.compared_to > 4 * MIB:
            slow.kill()
        return False

    pulse = RecordingPulse(stop_when=broken)
    with pytest.raises(TransportFailed):
        compared(slow, volume, pulse=pulse)
    assert ByteRanges.decode(pulse.last.differing) == ByteRanges([(0, GRAIN)])


def test_ranges_beyond_the_disk_and_a_volume_that_is_too_small_are_refused(
    serve: Serve, source: Path, volume: Path
) -> None:
    with pytest.raises(BadInput, match="beyond the disk"):
        compared(serve("file", source), volume, ByteRanges([(0, SIZE + 1)]))
    os.truncate(volume, SIZE - 1)
    with pytest.raises(VolumeTooSmall):
        compared(serve("file", source), volume, capacity=SIZE)


def test_a_volume_that_cannot_be_read_is_a_failure_and_no_difference(
    serve: Serve, source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", refused)
    with pytest.raises(WriteFailed, match="does not give back"):
        compared(serve("file", source), volume)


@pytest.mark.parametrize("slow", [("delay-read=700ms",), ("delay-extents=700ms",)])
def test_a_slow_source_does_not_silence_the_heartbeat(
    serve: Serve, source: Path, volume: Path, slow: tuple[str, ...]
) -> None:
    pulse, guard = RecordingPulse(), AllowingGuard()

    compared(serve("--filter=delay", "file", source, *slow), volume, pulse=pulse, guard=guard)

    assert len(pulse.seen) > 3
    assert pulse.longest_silence() < 0.6
    assert guard.renewals > 2


def test_a_large_hole_of_a_slow_volume_does_not_silence_the_heartbeat(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, volume = a_disk(tmp_path / "s", 32 * MIB, []), a_disk(tmp_path / "v", 32 * MIB, [])
    really_read = os.preadv

    def slowly(fd: int, buffers: list[memoryview], offset: int) -> int:
        time.sleep(0.05)
        return really_read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", slowly)
    pulse = RecordingPulse()

    compared(serve("file", source), volume, pulse=pulse)

    assert pulse.longest_silence() < 0.6


def test_what_differs_everywhere_is_told_in_few_ranges_and_nothing_of_it_is_left_out(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MOST_DIFFERING", 64)
    source = a_disk(tmp_path / "s", 8 * MIB, [])
    volume = tmp_path / "v"
    volume.write_bytes((bytes(GRAIN) + b"\xa5" * GRAIN) * (8 * MIB // (2 * GRAIN)))
    asked_for = ByteRanges([(0, 3 * MIB), (4 * MIB, 4 * MIB - 100)])

    found = compared(serve("file", source), volume, asked_for)

    wrong = ByteRanges((at + GRAIN, GRAIN) for at in range(0, 8 * MIB, 2 * GRAIN)) & asked_for
    assert len(found.differing) <= 64
    assert not wrong - found.differing
    assert not found.differing - asked_for


MEASURED = """
import resource, sys
from xms.change_map import ByteRanges
from xms.engine.ending import never
from xms.engine.compare import compare_ranges
from xms.models import DiskProgress

class Guard:
    def check(self): pass
    def renew(self): pass

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = compare_ranges(uri=sys.argv[1], path=sys.argv[2], capacity=int(sys.argv[3]), guard=Guard(),
    ranges=ByteRanges.whole(int(sys.argv[3])), pulse=lambda detail=None: None, give_up_at=None,
    report=DiskProgress(disk_key=1, planned=0))
assert found.differing.total >= int(sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_what_differs(serve: Serve, tmp_path: Path) -> None:
    size = 512 * MIB
    source = a_disk(tmp_path / "source", size, [])
    volume = tmp_path / "volume"
    with volume.open("wb") as file:
        for _ in range(size // MIB):
            file.write((bytes(GRAIN) + b"\xa5" * GRAIN) * (MIB // (2 * GRAIN)))

    measured = subprocess.run(
        [sys.executable, "-c", MEASURED, serve("file", source).uri, str(volume), str(size), str(size // 2)],
        check=True,
        capture_output=True,
        text=True,
    )

    assert int(measured.stdout) < 48 << 10
