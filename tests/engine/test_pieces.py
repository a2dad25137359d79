"""How plans are cut into pieces, and what is made of the source's knowledge of zeroes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xms.change_map import ByteRanges
from xms.engine.extents import LARGEST_QUESTION, LARGEST_READ, LARGEST_ZERO, SMALLEST_ZERO, pieces
from xms.engine.progress import Rate

KIB = 1 << 10
MIB = 1 << 20

plans = st.lists(st.tuples(st.integers(0, 600 * MIB), st.integers(1, 300 * MIB)), max_size=5).map(ByteRanges)


class Disk:
    """Answers like a server: from the asked offset on, sometimes less, sometimes more than was asked for."""

    def __init__(self, zeroes: ByteRanges, stop_after: int) -> None:
        self.zeroes = zeroes
        self.stop_after = stop_after
        self.questions: list[tuple[int, int]] = []

    def ask(self, offset: int, length: int) -> list[int]:
        self.questions.append((offset, length))
        told = []
        window = ByteRanges([(offset, length)])
        parts = [(start, size, 3) for start, size in window & self.zeroes]
        # Every other stretch of data is called a hole whose content is unknown.
        parts += [(start, size, number % 2) for number, (start, size) in enumerate(window - self.zeroes)]
        for _, size, flags in sorted(parts)[: self.stop_after]:
            told += [size, flags]
        if len(parts) <= self.stop_after:
            told[-2] += 12345
        return told


@given(plans, plans, st.integers(1, 4))
def test_the_pieces_are_the_plan_and_only_zeroes_are_called_zeroes(
    plan: ByteRanges, zeroes: ByteRanges, stop_after: int
) -> None:
    disk = Disk(zeroes, stop_after)

    cut = list(pieces(plan, disk.ask))

    assert [piece.offset for piece in cut] == sorted(piece.offset for piece in cut)
    assert sum(piece.length for piece in cut) == plan.total
    assert ByteRanges((piece.offset, piece.length) for piece in cut) == plan
    assert not ByteRanges((piece.offset, piece.length) for piece in cut if piece.is_zero) - zeroes
    for piece in cut:
        largest = LARGEST_ZERO if piece.is_zero else LARGEST_READ
        assert piece.offset // largest == (piece.offset + piece.length - 1) // largest
    assert all(length <= LARGEST_QUESTION for _, length in disk.questions)
    assert all(not ByteRanges([question]) - plan for question in disk.questions)


def test_known_zeroes_are_left_out_of_the_reads() -> None:
    disk = Disk(ByteRanges([(10 * MIB, 500 * MIB)]), stop_after=9)

    read = ByteRanges((p.offset, p.length) for p in pieces(ByteRanges.whole(600 * MIB), disk.ask) if not p.is_zero)

    assert read == ByteRanges([(0, 10 * MIB), (510 * MIB, 90 * MIB)])


def test_small_holes_are_read_over() -> None:
    small = SMALLEST_ZERO // 2
    disk = Disk(ByteRanges((offset, small) for offset in range(0, 4 * MIB, 2 * small)), stop_after=1000)

    cut = list(pieces(ByteRanges.whole(4 * MIB), disk.ask))

    assert [(piece.length, piece.is_zero) for piece in cut] == [(MIB, False)] * 4


def test_small_ranges_are_read_without_a_question() -> None:
    disk = Disk(ByteRanges(), stop_after=1)
    plan = ByteRanges((offset, 64 * KIB) for offset in range(0, 100 * MIB, MIB))

    assert len(list(pieces(plan, disk.ask))) == 100
    assert disk.questions == []


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = 0.0
    rate = Rate(clock=lambda: now)

    for second in range(1, 31):
        now = float(second)
        measured = rate.at(second * 100)
    assert measured == 100

    for second in range(31, 61):
        now = float(second)
        measured = rate.at(3000)
    assert measured == 0


def test_the_rate_is_zero_before_any_time_has_passed() -> None:
    assert Rate(clock=lambda: 1.0).at(100) == 0
