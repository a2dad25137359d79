"""Writes that the kernel carries on with by itself, as it tells of them."""

from __future__ import annotations

import errno
import os
import platform
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.engine.rig import MIB, aligned, files_no_longer_than, stale
from xms.engine import native_aio
from xms.engine.native_aio import MOST, Ended, WritesUnderWay

KIB = 1 << 10

Piece = tuple[int, memoryview]


def some_pieces(count: int, size: int = 4 * KIB) -> list[Piece]:
    """Here and there, in no order."""
    return [(number * 7 % count * 2 * size, aligned(size, number % 255 + 1)) for number in range(count)]


@contextmanager
def writes_to(path: Path, flags: int = os.O_RDWR | os.O_DIRECT) -> Iterator[WritesUnderWay]:
    descriptor = os.open(path, flags)
    try:
        with closing(WritesUnderWay(descriptor)) as writes:
            yield writes
    finally:
        os.close(descriptor)


def test_pieces_are_begun_together_and_each_is_told_when_it_has_ended(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", MIB)
    pieces = some_pieces(8)
    with writes_to(path) as writes:
        assert writes.is_offered
        assert writes.begin(pieces) == 8
        assert (writes.count, writes.room) == (8, MOST - 8)
        ended = writes.ended(8)
        assert (writes.count, writes.room) == (0, MOST)
    assert sorted((each.offset, each.taken, each.error) for each in ended) == sorted(
        (offset, 4 * KIB, 0) for offset, _ in pieces
    )
    content = path.read_bytes()
    assert all(content[offset : offset + 4 * KIB] == data for offset, data in pieces)


def test_no_more_are_begun_than_there_is_room_for(tmp_path: Path) -> None:
    with writes_to(stale(tmp_path / "file", MIB)) as writes:
        pieces = some_pieces(MOST + 3)
        assert writes.begin(pieces) == MOST
        assert writes.begin(pieces[MOST:]) == 0
        freed = len(writes.ended(1))
        assert freed >= 1
        assert writes.begin(pieces[MOST:]) == min(3, freed)


def test_who_asks_for_none_does_not_wait_and_who_asks_for_too_many_gets_all(tmp_path: Path) -> None:
    with writes_to(stale(tmp_path / "file", MIB)) as writes:
        assert writes.ended(0) == []
        assert writes.ended(5) == []
        writes.begin(some_pieces(3))
        assert len(writes.ended(0)) + len(writes.ended(99)) == 3


def test_a_signal_that_cuts_the_waiting_short_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_asked = WritesUnderWay._events
    asked: list[int] = []

    def cut_short(self: WritesUnderWay, wanted: int, kernel: native_aio._Kernel) -> list[Ended]:
        asked.append(wanted)
        return really_asked(self, wanted, kernel) if len(asked) > 1 else []

    monkeypatch.setattr(WritesUnderWay, "_events", cut_short)
    with writes_to(stale(tmp_path / "file", MIB)) as writes:
        writes.begin(some_pieces(3))
        assert len(writes.ended(3)) == 3
    assert asked == [3, 3]


def test_a_failed_write_is_told_with_its_reason_and_the_others_are_not_its_business(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", MIB)
    pieces = [(0, aligned(4 * KIB, 1)), (MIB // 2, aligned(4 * KIB, 2)), (8 * KIB, aligned(4 * KIB, 3))]
    with writes_to(path) as writes, files_no_longer_than(MIB // 2):
        writes.begin(pieces)
        ended = {each.offset: each for each in writes.ended(3)}
    assert (ended[MIB // 2].taken, ended[MIB // 2].error) == (0, errno.EFBIG)
    assert ended[0].taken == ended[8 * KIB].taken == 4 * KIB


def test_what_the_kernel_does_not_take_was_not_begun(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", MIB)
    with writes_to(path, os.O_RDONLY) as writes:
        assert writes.begin(some_pieces(8)) == 0
        assert writes.ended(8) == []
    assert path.read_bytes() == b"\xa5" * MIB


def test_it_is_closed_when_nothing_is_under_way_any_more(tmp_path: Path) -> None:
    path = stale(tmp_path / "file", 64 * MIB)
    pieces = some_pieces(16, MIB)
    with writes_to(path) as writes:
        assert writes.begin(pieces) == 16
    assert writes.count == 0
    assert writes.begin(pieces) == 0, "closed"
    content = path.read_bytes()
    assert all(content[offset : offset + MIB] == data for offset, data in pieces)


def test_the_kernels_part_is_lent_to_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_aio, "_at_home", deque())
    path = stale(tmp_path / "file", MIB)
    for _ in range(3):
        with writes_to(path) as writes, writes_to(path) as beside:
            assert writes.begin(some_pieces(3)) == beside.begin(some_pieces(3)) == 3
    assert len(native_aio._at_home) == 2


def test_a_machine_without_it_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_aio, "_at_home", deque())
    monkeypatch.setattr(platform, "machine", lambda: "a machine without")
    with writes_to(stale(tmp_path / "file", MIB)) as writes:
        assert not writes.is_offered
        assert writes.begin(some_pieces(3)) == 0
        assert writes.ended(3) == []
