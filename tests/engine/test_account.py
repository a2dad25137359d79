"""What was flushed is held against what was planned, as two accounts that know nothing of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.rig import MIB, RecordingPulse, Serve, a_disk, copy, stale
from xms.change_map import ByteRanges
from xms.engine.account import Account
from xms.engine.extents import pieces
from xms.engine.writer import Volume
from xms.errors import VerificationFailed

PLAN = ByteRanges([(0, 10), (20, 10), (40, 10)])


def test_what_is_flushed_as_planned_is_settled() -> None:
    account = Account(PLAN, 0)
    account.add(20, 10)
    account.add(0, 10)
    account.settle(30)
    account.add(40, 5)
    account.settle(45)
    account.add(45, 5)
    account.settle(50)
    assert (account.settled_to, account.flushed_bytes) == (50, 30)


def test_what_earlier_attempts_settled_is_not_asked_for() -> None:
    account = Account(PLAN, 25)
    account.add(25, 5)
    account.settle(40)
    assert account.flushed_bytes == 5


def test_what_was_not_flushed_settles_nothing_and_is_named() -> None:
    account = Account(PLAN, 0)
    account.add(0, 10)
    account.add(20, 4)
    with pytest.raises(VerificationFailed) as failed:
        account.settle(40)
    assert failed.value.because == "not flushed: bytes 24 to 29"
    assert account.settled_to == 0


@pytest.mark.parametrize("beside", [(10, 5), (60, 1), (15, 10)])
def test_what_was_not_planned_settles_nothing(beside: tuple[int, int]) -> None:
    account = Account(PLAN, 0)
    for offset, length in [*PLAN, beside]:
        account.add(offset, length)
    with pytest.raises(VerificationFailed, match="not what was planned") as failed:
        account.settle(50)
    assert "not planned: bytes" in failed.value.because


plans = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20)), min_size=1, max_size=8).map(ByteRanges)


@given(plan=plans, lost=st.integers(0, 220), checkpoints=st.lists(st.integers(0, 230), max_size=4).map(sorted))
def test_no_lost_byte_is_ever_settled(plan: ByteRanges, lost: int, checkpoints: list[int]) -> None:
    account = Account(plan, 0)
    try:
        for end in [*checkpoints, plan.end]:
            for offset, length in plan.from_offset(account.settled_to).below(end) - ByteRanges([(lost, 1)]):
                account.add(offset, length)
            account.settle(end)
    except VerificationFailed:
        assert plan & ByteRanges([(lost, 1)])
        assert account.settled_to <= lost
    else:
        assert not plan & ByteRanges([(lost, 1)])
        assert account.flushed_bytes == plan.total


def test_a_block_that_a_reader_forgets_is_found(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: Any) -> Iterator[Any]:  # noqa: ANN401 - passed on
        for piece in pieces(*arguments):
            if piece.offset != 3 * MIB:
                yield piece

    monkeypatch.setattr("xms.engine.reader.pieces", forgetful)
    pulse = RecordingPulse()
    with pytest.raises(VerificationFailed) as failed:
        copy(serve("file", a_disk(tmp_path / "source", 8 * MIB)), stale(tmp_path / "volume", 8 * MIB), pulse=pulse)
    assert f"not flushed: bytes {3 * MIB} to {4 * MIB - 1}" in failed.value.because
    assert pulse.last.flushed_to == 0


def test_a_block_that_is_written_to_another_place_is_found(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_begin = Volume.begin

    def astray(self: Volume, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        done = really_begin(self, [(offset + (offset == 3 * MIB), data) for offset, data in pieces])
        return [offset - (offset == 3 * MIB + 1) for offset in done]

    monkeypatch.setattr(Volume, "begin", astray)
    with pytest.raises(VerificationFailed) as failed:
        copy(serve("file", a_disk(tmp_path / "source", 8 * MIB)), stale(tmp_path / "volume", 8 * MIB))
    assert f"not flushed: bytes {3 * MIB} to {3 * MIB}" in failed.value.because
