"""Several writes to a file in one call: the kernel's own asynchronous I/O, io_submit(2).

Not the asynchrony is wanted: without O_DIRECT every write is done when the call returns. But Python's lock changes
hands once for all of them; two threads that pass it to and fro for each 64 KiB lose a tenth of their time (measured).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
from collections.abc import Sequence
from typing import Final, NamedTuple

log = logging.getLogger(__name__)


class _Numbers(NamedTuple):
    """Of the system calls: the C library has no functions for them."""

    setup: int
    destroy: int
    submit: int
    getevents: int


_NUMBERS: Final = {"x86_64": _Numbers(206, 207, 209, 208), "aarch64": _Numbers(0, 1, 2, 4)}
"""By `platform.machine()`. Elsewhere it is done without."""

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


class WritesAtOnce:
    """Makes up to `most` writes to a descriptor in one call. For one thread; it is to be closed before the descriptor.

    Args:
        descriptor: of a file or block device, open for writing.
        most: writes in one call.
    """

    def __init__(self, descriptor: int, most: int) -> None:
        self.most = most
        self._requests = (_Request * most)()
        self._pointers = (ctypes.c_void_p * most)()
        self._outcomes = (_Outcome * most)()
        for number, request in enumerate(self._requests):
            request.number, request.operation, request.descriptor = number, _WRITE, descriptor
            self._pointers[number] = ctypes.addressof(request)
        self._offered = self._set_up()

    def _set_up(self) -> tuple[_Numbers, ctypes.c_ulong] | None:
        """The calls and their context, where the machine offers them."""
        numbers = _NUMBERS.get(platform.machine())
        context = ctypes.c_ulong(0)
        if numbers is None:
            return None
        if _libc.syscall(numbers.setup, self.most, ctypes.byref(context)):
            # Where a sandbox forbids it, or the machine's fs.aio-max-nr is used up.
            log.info("writes are made one by one: %s", os.strerror(ctypes.get_errno()))
            return None
        return numbers, context

    def close(self) -> None:
        """Give the kernel's part back."""
        if self._offered is not None:
            numbers, context = self._offered
            self._offered = None
            _libc.syscall(numbers.destroy, context)

    def write(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """Write pieces, each an offset and bytes in writable memory.

        Returns:
            How many bytes of each were taken; 0 for those that were not tried, since the file does not offer it, say.

        Raises:
            OSError: a write failed. What became of the others is not told.
        """
        taken = [0] * len(pieces)
        if self._offered is None:
            return taken
        numbers, context = self._offered
        for request, (offset, data) in zip(self._requests, pieces, strict=False):
            request.address = ctypes.addressof(ctypes.c_char.from_buffer(data))
            request.length = len(data)
            request.offset = offset
        begun = _libc.syscall(numbers.submit, context, len(pieces), self._pointers)
        for outcome in self._outcomes[: self._wait_for(begun, numbers, context)]:
            if outcome.result < 0:
                raise OSError(-outcome.result, os.strerror(-outcome.result))
            taken[outcome.number] = outcome.result
        return taken

    def _wait_for(self, begun: int, numbers: _Numbers, context: ctypes.c_ulong) -> int:
        """Wait until all that was begun is done, however long it takes: the memory is the kernel's meanwhile."""
        done = 0
        while done < begun:
            left = begun - done
            place = ctypes.byref(self._outcomes, done * ctypes.sizeof(_Outcome))
            got = _libc.syscall(numbers.getevents, context, left, left, place, None)
            if got < 0 and ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            done += max(0, got)
        return done
