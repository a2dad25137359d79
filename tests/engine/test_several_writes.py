"""Several writes to a volume at the same time: past the page cache where it takes that, and through it elsewhere."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from tests.engine.rig import MIB, AllowingGuard, aligned, files_no_longer_than, stale
from xms.change_map import ByteRanges
from xms.engine import slots
from xms.engine.account import Account
from xms.engine.direct_io import ALIGNMENT, is_aligned
from xms.engine.native_aio import Ended, WritesUnderWay
from xms.engine.reader import Block
from xms.engine.slots import Slot
from xms.engine.write_behind import WriteBehind
from xms.engine.writer import BEGUN_AT_ONCE, Volume
from xms.errors import LeaseLost, WriteFailed

KIB = 1 << 10

Piece = tuple[int, memoryview]


@pytest.fixture(params=["past the cache", "through the cache"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "through the cache":
        monkeypatch.setattr("xms.engine.writer.open_for_writing", lambda _path: None)
    return str(request.param)


def odd_pieces(count: int) -> list[Piece]:
    """Here and there, in no order; every second one neither begins nor ends where pages do."""
    return [
        (number * 7 % count * 64 * KIB + number % 2, aligned(32 * KIB, number % 255 + 1)[number % 2 * 77 :])
        for number in range(count)
    ]


def applied(before: bytes, pieces: list[Piece]) -> bytes:
    after = bytearray(before)
    for offset, data in pieces:
        after[offset : offset + len(data)] = data
    return bytes(after)


def volume_of(path: Path, guard: AllowingGuard | None = None) -> Volume:
    return Volume(str(path), path.stat().st_size, guard or AllowingGuard(), lambda: None)


def all_done(volume: Volume, done: list[int]) -> list[int]:
    return done + volume.done(volume.under_way)


def test_what_begins_and_ends_with_a_page_goes_past_the_cache() -> None:
    data = aligned(2 * ALIGNMENT, 1)
    assert is_aligned(3 * ALIGNMENT, data)
    assert not is_aligned(512, data)
    assert not is_aligned(0, data[512:])
    assert not is_aligned(0, data[: 2 * ALIGNMENT - 512])
    assert not is_aligned(0, memoryview(bytes(ALIGNMENT)))


def test_several_writes_are_under_way_at_the_same_time(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", 16 * MIB)
    pieces = [(number * MIB, aligned(MIB, number + 1)) for number in range(BEGUN_AT_ONCE)]
    with volume_of(path) as volume:
        done = volume.begin(pieces)
        assert len(done) + volume.under_way == BEGUN_AT_ONCE
        assert volume.under_way, "this machine's files take writes past the cache"
        assert sorted(all_done(volume, done)) == [offset for offset, _ in pieces]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [0, 1, 2, BEGUN_AT_ONCE])
def test_pieces_are_written_and_counted_wherever_they_are(tmp_path: Path, count: int) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    pieces = odd_pieces(count)

    with volume_of(path) as volume:
        assert sorted(all_done(volume, volume.begin(pieces))) == sorted(offset for offset, _ in pieces)
        written = sorted(volume.take_written())

    assert written == sorted((offset, len(data)) for offset, data in pieces)
    assert path.read_bytes() == applied(b"\xa5" * 4 * MIB, pieces)


def test_what_is_under_way_is_not_counted_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    with volume_of(path) as volume:
        with monkeypatch.context() as patch:
            patch.setattr(WritesUnderWay, "ended", lambda _self, _at_least: [])
            assert volume.begin([(0, aligned(MIB, 1))]) == []
            assert (list(volume.take_written()), volume.under_way) == ([], 1)
        assert volume.done(1) == [0]
        assert list(volume.take_written()) == [(0, MIB)]


@pytest.mark.usefixtures("way")
def test_nothing_of_several_pieces_is_written_when_the_claim_is_lost(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)

    with volume_of(path, AllowingGuard(writes_allowed=0)) as volume:
        with pytest.raises(LeaseLost):
            volume.begin(odd_pieces(8))
        assert list(volume.take_written()) == []

    assert path.read_bytes() == b"\xa5" * 4 * MIB


def test_the_claim_is_looked_at_again_for_each_call(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    pieces = [(number * 64 * KIB, aligned(64 * KIB, number + 1)) for number in range(2 * BEGUN_AT_ONCE)]

    with volume_of(path, AllowingGuard(writes_allowed=1)) as volume:
        volume.begin(pieces[:BEGUN_AT_ONCE])
        with pytest.raises(LeaseLost):
            volume.begin(pieces[BEGUN_AT_ONCE:])

    assert path.read_bytes() == applied(b"\xa5" * 4 * MIB, pieces[:BEGUN_AT_ONCE])


@pytest.mark.usefixtures("way")
def test_a_write_that_fails_among_others_is_told_with_its_bytes(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", MIB)
    pieces = [(0, aligned(4096, 1)), (MIB - 8192, aligned(4096, 2)), (8192, aligned(4096, 3))]

    failure = f"refused bytes {MIB - 8192} to {MIB - 4097}; because File too large"
    with volume_of(path) as volume, files_no_longer_than(MIB // 2), pytest.raises(WriteFailed, match=failure):
        all_done(volume, volume.begin(pieces))


@pytest.mark.usefixtures("way")
def test_a_write_that_is_cut_short_is_finished_or_fails(tmp_path: Path) -> None:
    path = stale(tmp_path / "volume", MIB)
    pieces = [(0, aligned(4096, 1)), (MIB // 2 - 4096, aligned(8192, 2))]

    with volume_of(path) as volume:
        with (
            files_no_longer_than(MIB // 2),
            pytest.raises(WriteFailed, match=f"to {MIB // 2 + 4095}; because File too"),
        ):
            all_done(volume, volume.begin(pieces))
        assert sum(length for _, length in volume.take_written()) == 8192


def test_what_a_volume_does_not_take_past_the_cache_goes_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stale(tmp_path / "volume", MIB)
    really_ended = WritesUnderWay.ended

    def refused(self: WritesUnderWay, at_least: int) -> list[Ended]:
        return [each._replace(taken=0, error=errno.EINVAL) for each in really_ended(self, at_least)]

    monkeypatch.setattr(WritesUnderWay, "ended", refused)
    pieces = [(number * 64 * KIB, aligned(64 * KIB, number + 1)) for number in range(8)]
    guard = AllowingGuard()
    with volume_of(path, guard) as volume:
        all_done(volume, volume.begin(pieces))
        assert sorted(volume.take_written()) == [(0, 8 * 64 * KIB)]
    assert guard.checks == 1 + len(pieces)
    assert path.read_bytes() == applied(b"\xa5" * MIB, pieces)


def block(number: int) -> Block:
    slot = slots.borrow(MIB)
    slot.memory[:] = bytes([number + 1]) * MIB
    return Block(number * MIB, MIB, slot.memory, slot)


def test_a_buffer_is_given_back_when_the_kernel_is_done_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    may_end = threading.Event()
    really_ended = WritesUnderWay.ended

    def late(self: WritesUnderWay, at_least: int) -> list[Ended]:
        return really_ended(self, at_least) if may_end.wait(10 if at_least > 0 else 0) else []

    monkeypatch.setattr(WritesUnderWay, "ended", late)
    given_back: list[Slot] = []
    account = Account(ByteRanges.whole(4 * MIB), 0)
    with (
        volume_of(path) as volume,
        WriteBehind(volume, account, given_back.append, skip_zeroes=False, verify=False) as behind,
    ):
        for number in range(4):
            behind.write(block(number), lambda: None)
        behind.checkpoint(4 * MIB)
        time.sleep(0.3)
        assert (given_back, behind.bytes_written, account.settled_to) == ([], 0, 0)
        assert behind.is_busy
        may_end.set()
        while behind.wait(0.1):
            behind.raise_failure()
    assert (len(given_back), behind.bytes_written, account.settled_to) == (4, 4 * MIB, 4 * MIB)


@pytest.mark.parametrize("reason", ["given up", "a write failed"])
def test_what_is_under_way_is_waited_for_and_does_not_count_when_a_copy_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    path = stale(tmp_path / "volume", 4 * MIB)
    may_end = threading.Event()
    really_ended, really_let_go = WritesUnderWay.ended, Volume.let_go
    monkeypatch.setattr(
        WritesUnderWay, "ended", lambda self, most: really_ended(self, most) if may_end.is_set() else []
    )

    def let_go(self: Volume) -> None:
        may_end.set()
        really_let_go(self)

    monkeypatch.setattr(Volume, "let_go", let_go)
    given_back: list[Slot] = []
    account = Account(ByteRanges.whole(4 * MIB), 0)

    def ends_early(volume: Volume) -> None:
        with WriteBehind(volume, account, given_back.append, skip_zeroes=False, verify=False) as behind:
            for number in range(3):
                behind.write(block(number), lambda: None)
            while volume.under_way < 3:
                time.sleep(0.01)
            assert not given_back
            if reason == "given up":
                raise LeaseLost("taken by a test")
            monkeypatch.setattr(volume._guard, "check", lambda: volume._fail("is gone", OSError(errno.EIO, "EIO")))
            behind.write(block(3), lambda: None)
            while behind.wait(0.1):
                behind.raise_failure()
            behind.raise_failure()

    with volume_of(path) as volume:
        with pytest.raises(LeaseLost if reason == "given up" else WriteFailed):
            ends_early(volume)
        assert volume.under_way == 0
        assert list(volume.take_written()) == []
    assert len(given_back) == (3 if reason == "given up" else 4)
    assert account.settled_to == 0
    assert path.read_bytes()[: 3 * MIB] == b"".join(bytes([number + 1]) * MIB for number in range(3))
