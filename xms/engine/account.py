"""The account of what is on the volume, kept apart from the plan and held against it.

The plan is cut, asked for and handed on by the reader. What came of it is said here by the volume alone, range by
range, after each flush. Before a checkpoint counts, both have to be the same set: a piece that was lost between the
two, or written to another place, is found there, and not at the target's first boot.
"""

from __future__ import annotations

from typing import Final

from xms.change_map import ByteRanges
from xms.engine.range_list import RangeList
from xms.errors import VerificationFailed

NAMED: Final = 3
"""Ranges that an error names."""


class Account:
    """What was flushed, of a plan.

    Args:
        plan: what has to be copied.
        settled_to: byte offset: everything below it was settled by earlier attempts.
    """

    def __init__(self, plan: ByteRanges, settled_to: int) -> None:
        self._plan = plan
        self.settled_to = settled_to
        """byte offset: the plan below it is flushed"""
        self.flushed_bytes = 0
        """settled by this attempt"""
        self._open = ByteRanges()
        """flushed, and not settled yet"""
        self._loose = RangeList()

    def add(self, offset: int, length: int) -> None:
        """Count in what a flush has made durable, or what the volume is known to hold anyway."""
        self._loose.add(offset, length)

    def settle(self, end: int) -> None:
        """Make sure that exactly the plan below the byte offset `end` is flushed, and nothing beside the plan.

        Raises:
            VerificationFailed: one of the two accounts has what the other has not; nothing more is settled.
        """
        self._open |= ByteRanges(self._loose)
        self._loose = RangeList()
        rest = self._plan.from_offset(self.settled_to)
        due = rest.below(end)
        lacking = due - self._open
        stray = self._open - rest.below(self._open.end)
        if lacking or stray:
            raise VerificationFailed(
                "what was flushed on the volume is not what was planned",
                because="; ".join(
                    [f"not flushed: {named(lacking)}"] * bool(lacking) + [f"not planned: {named(stray)}"] * bool(stray)
                ),
                means="nothing of the sync counts beyond its last checkpoint",
                do="report it: this is a fault of XMS, not of the storage",
            )
        self.flushed_bytes += due.total
        self._open = self._open.from_offset(end)
        self.settled_to = max(self.settled_to, end)


def named(ranges: ByteRanges) -> str:
    """The first few ranges, for people."""
    shown = [f"bytes {offset} to {offset + length - 1}" for offset, length in list(ranges)[:NAMED]]
    more = len(ranges) - len(shown)
    return ", ".join(shown) + (f" and {more} more ranges" if more else "")
