"""What a copy makes of a volume, and what it leaves alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.rig import (
    MIB,
    AllowingGuard,
    RecordingPulse,
    Serve,
    Served,
    a_disk,
    allocated,
    copy,
    overlaid,
    stale,
)
from xms.change_map import ByteRanges
from xms.engine import writer
from xms.errors import BadInput, LeaseLost, TransportFailed, VerificationFailed, VolumeBusy, VolumeTooSmall, WriteFailed


@pytest.mark.parametrize("filters", [(), ("--filter=noextents",)])
def test_the_replica_equals_the_source_whatever_was_there_before(
    serve: Serve, tmp_path: Path, filters: tuple[str, ...]
) -> None:
    size = 24 * MIB + 1536
    source = a_disk(tmp_path / "source", size, [(0, 700), (5 * MIB + 100, 3 * MIB), (size - 900, 900)])
    volume = stale(tmp_path / "volume", size)
    pulse = RecordingPulse()

    result = copy(serve(*filters, "file", source), volume, pulse=pulse)

    assert volume.read_bytes() == source.read_bytes()
    assert (result.bytes_read, result.bytes_written) == (size, size)
    assert not result.remaining
    assert not result.cut_short
    assert pulse.last.flushed_to == size
    assert pulse.last.planned == size
    assert (pulse.last.disk_key, pulse.last.worker) == (2000, "w1")


def test_zeroes_free_the_space_of_stale_data(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 64 * MIB, [(8 * MIB, MIB)])
    volume = stale(tmp_path / "volume", 64 * MIB)

    copy(serve("file", source), volume)

    assert volume.read_bytes() == source.read_bytes()
    assert allocated(volume) < 2 * MIB


def test_zeroes_are_sent_where_the_volume_cannot_zero_by_itself(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_PUNCH_HOLE", 0x4000)
    monkeypatch.setattr(writer, "_ZERO_RANGE", 0x4000)
    source = a_disk(tmp_path / "source", 8 * MIB, [(MIB, 5000)])
    volume = stale(tmp_path / "volume", 8 * MIB)

    copy(serve("file", source), volume)

    assert volume.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("zeroes", "holes"), [(writer.SMALLEST_ZERO - 4096, 0), (writer.SMALLEST_ZERO, 1)])
def test_a_hole_is_made_only_where_that_is_worth_a_turn_of_the_journal(tmp_path: Path, zeroes: int, holes: int) -> None:
    volume = stale(tmp_path / "volume", MIB)
    before = allocated(volume)

    with writer.Volume(str(volume), MIB, AllowingGuard(), lambda: None) as opened:
        opened.write_zeroes(4096, zeroes)
        assert list(opened.take_written()) == [(4096, zeroes)]

    assert volume.read_bytes() == b"\xa5" * 4096 + bytes(zeroes) + b"\xa5" * (MIB - 4096 - zeroes)
    assert before - allocated(volume) == holes * zeroes


@pytest.mark.parametrize("told", [(), ("--filter=noextents",)])
def test_zeroes_are_not_written_to_a_volume_that_holds_them(
    serve: Serve, tmp_path: Path, told: tuple[str, ...]
) -> None:
    source = a_disk(tmp_path / "source", 64 * MIB, [(8 * MIB, MIB)])
    volume = a_disk(tmp_path / "volume", 64 * MIB, [])
    guard = AllowingGuard()

    result = copy(serve(*told, "file", source), volume, skip_zeroes=True, guard=guard)

    assert volume.read_bytes() == source.read_bytes()
    assert allocated(volume) <= 2 * MIB
    assert guard.checks == 1
    assert result.bytes_written == 64 * MIB


def test_not_one_byte_outside_of_the_ranges_is_touched(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 16 * MIB, [(0, 3 * MIB), (9 * MIB, 2 * MIB)])
    volume = stale(tmp_path / "volume", 20 * MIB)
    ranges = ByteRanges([(1, 1), (MIB - 7, 14), (2 * MIB + 13, 9 * MIB), (16 * MIB - 1, 1)])

    copy(serve("file", source), volume, ranges, capacity=16 * MIB)

    assert volume.read_bytes() == overlaid(b"\xa5" * 20 * MIB, source.read_bytes(), ranges)


class Bench:
    """One export and one volume for many examples: the disk is written anew between them."""

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


some_ranges = st.lists(st.tuples(st.integers(0, 4 * MIB - 1), st.integers(0, 2 * MIB)), max_size=6).map(
    lambda pairs: ByteRanges(pairs).below(4 * MIB)
)


@settings(max_examples=60, deadline=None)
@given(data=some_ranges, ranges=some_ranges, start_at=st.integers(0, 4 * MIB), verify=st.booleans())
def test_any_plan_over_any_disk_gives_the_right_volume(
    bench: Bench, data: ByteRanges, ranges: ByteRanges, start_at: int, *, verify: bool
) -> None:
    with bench.source.open("r+b") as file:
        os.truncate(file.fileno(), 0)
        os.truncate(file.fileno(), 4 * MIB)
        for offset, length in data:
            os.pwrite(file.fileno(), os.urandom(length), offset)
    stale(bench.volume, 4 * MIB)

    result = copy(bench.served, bench.volume, ranges, start_at=start_at, verify=verify)

    copied = ranges.from_offset(start_at)
    assert bench.volume.read_bytes() == overlaid(b"\xa5" * 4 * MIB, bench.source.read_bytes(), copied)
    assert result.bytes_read == result.bytes_written == result.flushed_bytes == ranges.total
    assert not result.remaining
    assert result.verified == verify


def test_a_volume_smaller_than_the_disk_is_refused_untouched(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    volume = stale(tmp_path / "volume", 2 * MIB - 1)

    with pytest.raises(VolumeTooSmall, match="2097151 bytes"):
        copy(serve("file", source), volume, capacity=2 * MIB)

    assert volume.read_bytes() == b"\xa5" * (2 * MIB - 1)


def test_an_export_of_another_size_is_refused(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    volume = stale(tmp_path / "volume", 3 * MIB)

    with pytest.raises(TransportFailed, match="2097152 bytes"):
        copy(serve("file", source), volume)

    assert volume.read_bytes() == b"\xa5" * 3 * MIB


def test_a_plan_beyond_the_disk_is_refused(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", MIB)
    volume = stale(tmp_path / "volume", 2 * MIB)

    with pytest.raises(BadInput, match="beyond the disk"):
        copy(serve("file", source), volume, ByteRanges([(0, MIB + 1)]), capacity=MIB)


def test_a_volume_that_is_not_there_is_not_made(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", MIB)

    with pytest.raises(WriteFailed, match="No such file"):
        copy(serve("file", source), tmp_path / "missing", capacity=MIB)

    assert not (tmp_path / "missing").exists()


def test_what_is_neither_a_file_nor_a_device_is_no_volume(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", MIB)

    with pytest.raises(WriteFailed, match="neither a file nor a block device"):
        copy(serve("file", source), Path("/dev/null"), capacity=MIB)


def test_two_streams_of_one_machine_never_have_the_same_volume(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_SECONDS", 0.3)
    source = a_disk(tmp_path / "source", MIB)
    volume = stale(tmp_path / "volume", MIB)

    with volume.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(VolumeBusy):
            copy(serve("file", source), volume)

    assert volume.read_bytes() == b"\xa5" * MIB


def test_a_writer_that_lost_its_claim_writes_nothing_more(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 32 * MIB)
    volume = stale(tmp_path / "volume", 32 * MIB)
    guard = AllowingGuard(writes_allowed=5)

    with pytest.raises(LeaseLost):
        copy(serve("file", source), volume, guard=guard)

    after = volume.read_bytes()
    written = [start for start in range(0, 32 * MIB, MIB) if after[start : start + MIB] != b"\xa5" * MIB]
    assert len(written) == 5
    assert guard.checks == 6


def test_zeroes_are_writes_for_the_guard_too(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 8 * MIB, [])
    volume = stale(tmp_path / "volume", 8 * MIB)

    with pytest.raises(LeaseLost):
        copy(serve("file", source), volume, guard=AllowingGuard(writes_allowed=0))

    assert volume.read_bytes() == b"\xa5" * 8 * MIB


def test_verification_passes_over_a_good_volume_and_reads_all_of_it(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 8 * MIB + 512, [(100, 3 * MIB)])
    volume = stale(tmp_path / "volume", 8 * MIB + 512)

    result = copy(serve("file", source), volume, verify=True)

    assert result.verified
    assert volume.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("at", [0, 3 * MIB - 1, 5 * MIB, 8 * MIB + 511])
def test_verification_finds_one_flipped_bit(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    size = 8 * MIB + 512
    source = a_disk(tmp_path / "source", size, [(100, 3 * MIB)])
    volume = stale(tmp_path / "volume", size)

    really_flush = os.fsync

    def flush_and_flip(fd: int) -> None:
        really_flush(fd)
        byte = os.pread(fd, 1, at)[0]
        os.pwrite(fd, bytes([byte ^ 0x10]), at)
        really_flush(fd)

    monkeypatch.setattr(os, "fsync", flush_and_flip)
    pulse = RecordingPulse()

    with pytest.raises(VerificationFailed) as failed:
        copy(serve("file", source), volume, verify=True, pulse=pulse)

    piece = at - at % MIB
    assert f"bytes {piece} to {min(piece + MIB, size) - 1}" in failed.value.because
    assert pulse.last.flushed_to == 0


def test_a_copy_that_reaches_its_time_ends_cleanly_with_a_rest(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 48 * MIB)
    volume = stale(tmp_path / "volume", 48 * MIB)
    slow = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")

    result = copy(slow, volume, give_up_at=datetime.now(UTC) + timedelta(seconds=1))

    assert result.cut_short
    assert not result.verified
    assert 0 < result.remaining.total < 48 * MIB
    ((watermark, _),) = result.remaining
    assert result.bytes_written == watermark
    assert volume.read_bytes() == source.read_bytes()[:watermark] + b"\xa5" * (48 * MIB - watermark)
    assert copy(serve("file", source), volume, result.remaining).remaining == ByteRanges()
    assert volume.read_bytes() == source.read_bytes()


def test_a_copy_that_is_asked_to_give_up_ends_cleanly_with_a_rest_and_says_why(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 48 * MIB)
    volume = stale(tmp_path / "volume", 48 * MIB)
    slow = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")
    pulse = RecordingPulse()

    result = copy(
        slow, volume, pulse=pulse, give_up=lambda: "no room" if pulse.seen and pulse.last.bytes_read > MIB else ""
    )

    assert result.cut_short == "no room"
    assert 0 < result.remaining.total < 48 * MIB
    ((watermark, _),) = result.remaining
    assert volume.read_bytes() == source.read_bytes()[:watermark] + b"\xa5" * (48 * MIB - watermark)


def test_a_copy_that_is_done_when_it_is_asked_to_give_up_lacks_nothing(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    volume = stale(tmp_path / "volume", 2 * MIB)

    result = copy(serve("file", source), volume, start_at=2 * MIB, give_up=lambda: "no room")

    assert (result.cut_short, result.remaining) == ("", ByteRanges())


def test_a_copy_whose_time_has_come_before_it_began_leaves_everything(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    volume = stale(tmp_path / "volume", 2 * MIB)

    result = copy(serve("file", source), volume, give_up_at=datetime.now(UTC) - timedelta(seconds=1))

    assert result.remaining == ByteRanges.whole(2 * MIB)
    assert volume.read_bytes() == b"\xa5" * 2 * MIB


@pytest.fixture
def block_device(tmp_path: Path) -> Iterator[Path]:
    """A loop device of 24 MiB full of stale data."""
    backing = stale(tmp_path / "backing", 24 * MIB)
    attached = subprocess.run(
        ["losetup", "--find", "--show", str(backing)], check=False, capture_output=True, text=True
    )
    if attached.returncode:
        pytest.skip(f"no loop device here: {attached.stderr.strip()}")
    device = Path(attached.stdout.strip())
    yield device
    subprocess.run(["losetup", "--detach", str(device)], check=True)


def test_a_block_device_is_written_like_a_file(serve: Serve, tmp_path: Path, block_device: Path) -> None:
    source = a_disk(tmp_path / "source", 20 * MIB, [(0, 700), (9 * MIB + 100, 3 * MIB)])
    ranges = ByteRanges([(1, 6 * MIB), (7 * MIB + 513, 12 * MIB)])

    result = copy(serve("file", source), block_device, ranges, capacity=20 * MIB, verify=True)
    again = copy(serve("file", source), block_device, ranges, capacity=20 * MIB)

    assert result.verified
    assert not again.remaining
    with block_device.open("rb") as device:
        assert device.read() == overlaid(b"\xa5" * 24 * MIB, source.read_bytes(), ranges)
