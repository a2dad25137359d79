"""Ranges cut into pieces for transfer, zeroes told from data where the source knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from xms.change_map import ByteRanges

MIB: Final = 1 << 20

LARGEST_READ: Final = MIB
"""Requests of 1 MiB, 16 of them in flight, were the fastest that were measured."""

LARGEST_ZERO: Final = 32 * MIB
"""A device that cannot zero by itself is written to: more at once would hold up the heartbeat."""

LARGEST_QUESTION: Final = 256 * MIB
"""A source may answer with an extent a sector: so much of it fits into some tens of MiB of memory."""

SMALLEST_ZERO: Final = 64 << 10
"""Reading over a smaller hole is cheaper than the additional request that leaving it out takes."""

STATE_ZERO: Final = 2
"""NBD protocol, base:allocation: the extent reads as zeroes."""

AskStatus = Callable[[int, int], list[int]]
"""(offset, length) -> length, flags, length, flags, ... as base:allocation has them."""


class Piece(NamedTuple):
    """Bytes that are transferred at once."""

    offset: int
    length: int
    is_zero: bool


def pieces(ranges: ByteRanges, ask: AskStatus | None) -> Iterator[Piece]:
    """Yield all of `ranges`, ascending; data in pieces of at most 1 MiB that do not cross a multiple of 1 MiB.

    Args:
        ranges: what to transfer.
        ask: the source's knowledge of zeroes, asked lazily; None: everything is data. Ranges below 1 MiB are not
            asked for: the answer takes as long as the bytes themselves.
    """
    for offset, length in ranges:
        if ask is None or length < LARGEST_READ:
            yield from _cut(offset, length, is_zero=False)
        else:
            for part in _told(offset, length, ask):
                yield from _cut(*part[:2], is_zero=part.is_zero)


def _cut(offset: int, length: int, *, is_zero: bool) -> Iterator[Piece]:
    step = LARGEST_ZERO if is_zero else LARGEST_READ
    end = offset + length
    while offset < end:
        size = min(end - offset, step - offset % step)
        yield Piece(offset, size, is_zero)
        offset += size


def _told(offset: int, length: int, ask: AskStatus) -> Iterator[Piece]:
    end = offset + length
    while offset < end:
        window = min(end - offset, LARGEST_QUESTION)
        for piece in _merged(offset, window, ask(offset, window)):
            yield piece
            offset = piece.offset + piece.length


def _merged(offset: int, length: int, told: list[int]) -> Iterator[Piece]:
    """What was told of the window, neighbours of a kind joined, small holes counted as data. It may end early."""
    end = offset + length
    current: Piece | None = None
    for size, flags in zip(told[0::2], told[1::2], strict=True):
        size = min(size, end - offset)  # noqa: PLW2901 - an answer may reach behind the question
        if not size:
            break
        is_zero = bool(flags & STATE_ZERO) and size >= SMALLEST_ZERO
        if current and current.is_zero == is_zero:
            current = current._replace(length=current.length + size)
        else:
            if current:
                yield current
            current = Piece(offset, size, is_zero)
        offset += size
    if current:
        yield current
