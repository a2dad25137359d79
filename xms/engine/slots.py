"""The memory that blocks are read into: lent to one stream after the other, never given up.

libnbd's binding (1.14) keeps a reference to what `aio_pread` was given, for ever: measured, one reference a call.
Memory that a stream brought along would stay when the stream is over, 37 MiB each time. So the process owns it, as much
as its streams need at the same time, and every view of it is made once.
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import Final

import nbd

VIEWS_KEPT: Final = 64
"""Of a slot, by their lengths."""


class Slot:
    """Memory for one block."""

    def __init__(self, size: int) -> None:
        self.size = size
        """bytes"""
        self.memory = memoryview(mmap.mmap(-1, size))
        self._buffers: dict[int, nbd.Buffer] = {}

    def buffer(self, length: int) -> nbd.Buffer:
        """The first `length` bytes as libnbd takes them."""
        buffer = self._buffers.get(length)
        if buffer is None:
            if len(self._buffers) == VIEWS_KEPT:
                self._buffers.clear()
            buffer = self._buffers[length] = nbd.Buffer.from_buffer(self.memory[:length])
        return buffer


_at_home: dict[int, deque[Slot]] = {}
"""By their size. Streams run in threads: a deque's `append` and `pop` need no lock."""


def borrow(size: int) -> Slot:
    """A slot of `size` bytes, with whatever a stream before left in it."""
    try:
        return _at_home[size].pop()
    except (KeyError, IndexError):
        return Slot(size)


def bring_back(slot: Slot) -> None:
    """Nobody reads into it or looks at it any more."""
    _at_home.setdefault(slot.size, deque()).append(slot)
