"""The rolling scrub: which part of a disk a sync compares with its snapshot, so that in time all of it is compared."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Final

from xms.change_map import ByteRanges

GRAIN: Final = 1 << 20
"""Bytes at whose multiples a window starts and ends; none is smaller, but for the end of a disk."""


def window(capacity: int, start: int, percent: float) -> ByteRanges:
    """What one sync compares: the share of the disk from `start` on, no further than to the disk's end.

    Args:
        capacity: bytes of the disk.
        start: where the last window ended; behind the disk's end it means its beginning.
        percent: share of the disk, 0 to 100; with 0 nothing is compared.
    """
    if percent <= 0:
        return ByteRanges()
    start -= start % GRAIN
    if start >= capacity:
        start = 0
    share = ceil(Fraction(percent) * capacity / 100)
    length = max(GRAIN, share + -share % GRAIN)
    return ByteRanges([(start, min(length, capacity - start))])


def goes_on_at(capacity: int, swept: ByteRanges, compared: ByteRanges, start: int) -> int:
    """Where the next sync's window starts: where this one's comparison ended, or again at the disk's beginning.

    Args:
        capacity: bytes of the disk.
        swept: the window of this sync.
        compared: what was compared of it, and of other ranges.
        start: where the window was asked to start; it stays where nothing of the window was compared.
    """
    for offset, _ in swept:
        end = unbroken_to(compared, offset)
        if end > offset:
            return end if end < capacity else 0
    return start


def unbroken_to(compared: ByteRanges, start: int) -> int:
    """The offset to which every byte from `start` on was compared; `start` itself where nothing was."""
    for offset, length in compared.from_offset(start):
        return offset + length if offset == start else start
    return start
