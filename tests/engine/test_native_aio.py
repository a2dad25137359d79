"""Several writes in one call, and one by one where that is not offered."""

from __future__ import annotations

import os
import platform
import resource
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.engine.rig import AllowingGuard, stale
from xms.engine.native_aio import WritesAtOnce
from xms.engine.writer import WRITES_AT_ONCE, Volume
from xms.errors import LeaseLost, WriteFailed

KIB = 1 << 10
MIB = 1 << 20


def a_piece(number: int, length: int) -> memoryview:
    return memoryview(bytearray([number % 255 + 1]) * length)


def some_pieces(count: int) -> list[tuple[int, memoryview]]:
    """Here and there, of odd lengths, in no order."""
    return [(number * 7 % count * 64 * KIB + number, a_piece(number, 3001 + 500 * number)) for number in range(count)]


def applied(before: bytes, pieces: list[tuple[int, memoryview]]) -> bytes:
    after = bytearray(before)
    for offset, data in pieces:
        after[offset : offset + len(data)] = data
    return bytes(after)


def volume_of(path: Path, guard: AllowingGuard | None = None) -> Volume:
    return Volume(str(path), path.stat().st_size, guard or AllowingGuard(), lambda: None)


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


@pytest.fixture(params=["in one call", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "one by one":
        monkeypatch.setattr(platform, "machine", lambda: "a machine without")
    return str(request.param)


def test_the_machine_that_this_runs_on_offers_it(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", MIB)
    pieces = some_pieces(8)
    fd = os.open(path, os.O_RDWR)
    try:
        with closing(WritesAtOnce(fd, 8)) as at_once:
            assert at_once.write(pieces) == [len(data) for _, data in pieces]
            assert at_once.write(pieces[:3]) == [len(data) for _, data in pieces[:3]]
    finally:
        os.close(fd)
    assert path.read_bytes() == applied(b"\xa5" * MIB, pieces)


def test_what_cannot_be_asked_for_is_told_as_not_taken(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", MIB)
    fd = os.open(path, os.O_RDONLY)
    try:
        with closing(WritesAtOnce(fd, 8)) as at_once:
            assert at_once.write(some_pieces(8)) == [0] * 8
        assert at_once.write(some_pieces(8)) == [0] * 8, "closed"
    finally:
        os.close(fd)
    assert path.read_bytes() == b"\xa5" * MIB


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [0, 1, 2, WRITES_AT_ONCE, 2 * WRITES_AT_ONCE + 1])
def test_pieces_are_written_and_counted_wherever_they_are(tmp_path: Path, count: int) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    pieces = some_pieces(count)

    with volume_of(path) as volume:
        volume.write_together(pieces)
        written = sorted(volume.take_written())

    assert written == sorted((offset, len(data)) for offset, data in pieces)
    assert path.read_bytes() == applied(b"\xa5" * 4 * MIB, pieces)


@pytest.mark.usefixtures("way")
def test_nothing_of_several_pieces_is_written_when_the_claim_is_lost(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)

    with volume_of(path, AllowingGuard(writes_allowed=0)) as volume:
        with pytest.raises(LeaseLost):
            volume.write_together(some_pieces(8))
        assert list(volume.take_written()) == []

    assert path.read_bytes() == b"\xa5" * 4 * MIB


def test_the_claim_is_looked_at_again_for_each_call(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    pieces = some_pieces(2 * WRITES_AT_ONCE)

    with volume_of(path, AllowingGuard(writes_allowed=1)) as volume, pytest.raises(LeaseLost):
        volume.write_together(pieces)

    assert path.read_bytes() == applied(b"\xa5" * 4 * MIB, pieces[:WRITES_AT_ONCE])


@pytest.mark.usefixtures("way")
def test_a_write_that_fails_among_others_is_a_failure_of_all(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", MIB)
    pieces = [(0, a_piece(1, 4096)), (MIB - 8192, a_piece(2, 4096)), (8192, a_piece(3, 4096))]

    with volume_of(path) as volume, files_no_longer_than(MIB // 2), pytest.raises(WriteFailed, match="File too large"):
        volume.write_together(pieces)


@pytest.mark.usefixtures("way")
def test_a_write_that_is_cut_short_is_finished_or_fails(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", MIB)
    pieces = [(0, a_piece(1, 4096)), (MIB // 2 - 4096, a_piece(2, 8192))]

    with volume_of(path) as volume:
        with (
            files_no_longer_than(MIB // 2),
            pytest.raises(WriteFailed, match=f"to {MIB // 2 + 4095}; because File too"),
        ):
            volume.write_together(pieces)
        assert sum(length for _, length in volume.take_written()) == 8192
