"""Writes that the kernel carries on with by itself: its own asynchronous I/O, io_submit(2).

Several are begun in one call, since Python's lock changes hands for each call: two threads that pass it to and fro for
each 64 KiB lose a tenth of their time (measured). Only with O_DIRECT are they under way when the call returns.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

MOST: Final = 32
"""Writes under way."""


class Ended(NamedTuple):
    """A write that is not under way any more."""

    offset: int
    data: memoryview
    """what was to be written"""
    taken: int
    """bytes of it; fewer say nothing about the reason"""
    error: int
    """errno; 0 where it did not fail"""


class _Numbers(NamedTuple):
    """Of the system calls: the C library has no functions for them."""

    setup: int
    submit: int
    getevents: int


_NUMBERS: Final = {"x86_64": _Numbers(206, 209, 208), "aarch64": _Numbers(0, 2, 4)}
"""By `platform.machine()`. Elsewhere it is not offered."""

_WRITE: Final = 1  # IOCB_CMD_PWRITE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Request(ctypes.Structure):
    """`struct iocb` of linux/aio_abi.h, as it is on little-endian machines."""

    _fields_ = (
        ("number", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("operation", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("event_flags", ctypes.c_uint32),
        ("event_descriptor", ctypes.c_uint32),
    )


class _Outcome(ctypes.Structure):
    """`struct io_event` of the same."""

    _fields_ = (
        ("number", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("second_result", ctypes.c_int64),
    )


class _Kernel(NamedTuple):
    """The kernel's part: its calls, and a context for `MOST` writes."""

    numbers: _Numbers
    context: ctypes.c_ulong


_at_home: Final = deque[_Kernel]()
"""Lent to one after the other and never given up: io_destroy(2) waits for 30 ms, a hundredth of a short copy."""


def _borrow() -> _Kernel | None:
    """None where the machine does not offer it."""
    if _at_home:
        return _at_home.pop()
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        return None
    context = ctypes.c_ulong(0)
    if _libc.syscall(numbers.setup, MOST, ctypes.byref(context)):
        # A sandbox forbids it, or the machine's fs.aio-max-nr is used up.
        log.info("no asynchronous writes: %s", os.strerror(ctypes.get_errno()))
        return None
    return _Kernel(numbers, context)


class WritesUnderWay:
    """Up to `MOST` writes to a descriptor at the same time. For one thread.

    To be closed before the descriptor: it waits for what is under way then.

    Args:
        descriptor: of a file or block device, open for writing.
    """

    def __init__(self, descriptor: int) -> None:
        self._kernel = _borrow()
        self._requests = (_Request * MOST)()
        self._pointers = (ctypes.c_void_p * MOST)()
        self._outcomes = (_Outcome * MOST)()
        for number, request in enumerate(self._requests):
            request.number, request.operation, request.descriptor = number, _WRITE, descriptor
        self._free = list(range(MOST))
        self._under_way: dict[int, tuple[int, memoryview]] = {}

    @property
    def is_offered(self) -> bool:
        """Whether anything can be begun at all."""
        return self._kernel is not None

    @property
    def room(self) -> int:
        """How many more can be begun."""
        return len(self._free)

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def close(self) -> None:
        """Wait for what is under way, however long it takes: the memory is the kernel's meanwhile."""
        if self._kernel is None:
            return
        self.ended(self.count)
        _at_home.append(self._kernel)
        self._kernel = None

    def begin(self, pieces: Sequence[tuple[int, memoryview]]) -> int:
        """Begin to write pieces, each an offset and bytes in writable memory, which must not change meanwhile.

        Returns:
            How many, from the first one on: fewer where there is no room, or the kernel does not take them.
        """
        if self._kernel is None:
            return 0
        numbers = self._free[: len(pieces)]
        for place, (number, (offset, data)) in enumerate(zip(numbers, pieces, strict=False)):
            request = self._requests[number]
            request.address = address_of(data)
            request.length = len(data)
            request.offset = offset
            self._pointers[place] = ctypes.addressof(request)
        begun: int = _libc.syscall(self._kernel.numbers.submit, self._kernel.context, len(numbers), self._pointers)
        begun = max(0, begun)
        del self._free[:begun]
        self._under_way.update(zip(numbers[:begun], pieces, strict=False))
        return begun

    def ended(self, at_least: int) -> list[Ended]:
        """Wait until so many of those under way have ended, and tell of all that have.

        Raises:
            OSError: the kernel cannot be asked.
        """
        if self._kernel is None or not self._under_way:
            return []
        wanted = min(at_least, self.count)
        ended = self._events(max(0, wanted), self._kernel)
        while len(ended) < wanted:
            # A signal cut the waiting short.
            ended += self._events(wanted - len(ended), self._kernel)
        return ended

    def _events(self, wanted: int, kernel: _Kernel) -> list[Ended]:
        got = _libc.syscall(kernel.numbers.getevents, kernel.context, wanted, MOST, self._outcomes, None)
        if got < 0 and ctypes.get_errno() != errno.EINTR:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return [self._end(outcome) for outcome in self._outcomes[: max(0, got)]]

    def _end(self, outcome: _Outcome) -> Ended:
        offset, data = self._under_way.pop(outcome.number)
        self._free.append(outcome.number)
        return Ended(offset, data, max(0, outcome.result), max(0, -outcome.result))


def address_of(data: memoryview) -> int:
    """Where in memory it is; it has to be writable."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data))
