"""One NBD connection that never waits for long without showing life."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import nbd

OPEN_SECONDS: Final = 120.0
"""VDDK opens the disk while NBD shakes hands, which takes a busy ESXi host up to a minute."""

STALL_SECONDS: Final = 60.0
"""A command without an answer for so long is given up with its connection."""

DRAIN_SECONDS: Final = 1.0

_WAKE_MILLISECONDS: Final = 200


class ExportError(Exception):
    """A command or the connection failed. A new connection may help; how often that is tried is the reader's affair."""


class Connection:
    """A connection to an export: commands are started, waited for, and retired by their cookies.

    Args:
        uri: NBD URI of the export.
        idle: called at least every 0.2 s during every wait; what it raises ends the wait and is passed on.

    Raises:
        ExportError: the export could not be opened.
    """

    def __init__(self, uri: str, idle: Callable[[], None]) -> None:
        self._idle = idle
        handle = nbd.NBD()
        self._handle: Any = handle
        # The buffers are filled again and again: to clear each of them first would cost a pass over the memory.
        handle.set_pread_initialize(False)
        try:
            handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            handle.aio_connect_uri(uri)
        except nbd.Error as error:
            raise ExportError(str(error)) from None
        self._wait_until(handle.aio_is_ready, OPEN_SECONDS)
        self.size: int = handle.get_size()
        """bytes"""
        self.tells_zeroes: bool = handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        """whether `block_status` can be asked"""

    def close(self) -> None:
        """Drop the connection: no buffer is written to from here on.

        Answers under way are taken off it first, for a moment: nbdkit 1.32 may abort when a client leaves without them
        (an assertion in its raw_send_socket), and the export would be gone for the next connection, too.
        """
        patience_ends = time.monotonic() + DRAIN_SECONDS
        with contextlib.suppress(nbd.Error):  # a connection that is dead already has no answers under way
            while self._handle.aio_in_flight() and time.monotonic() < patience_ends:
                self._handle.poll(_WAKE_MILLISECONDS)
        # libnbd's binding has no other way to close: the last reference does it.
        self._handle = None

    def start_read(self, buffer: nbd.Buffer, offset: int) -> int:
        """Ask for the bytes at `offset`, as many as `buffer` holds. The buffer has to live until the cookie is retired.

        Raises:
            ExportError: the connection is gone.
        """
        try:
            return int(self._handle.aio_pread(buffer, offset))
        except nbd.Error as error:
            raise ExportError(str(error)) from None

    def wait_completed(self) -> int:
        """The cookie of a command that has its answer, good or bad. There must be one in flight.

        Raises:
            ExportError: the connection is gone, or the export gave no answer for `STALL_SECONDS`.
        """
        self._wait_until(lambda: self._handle.aio_peek_command_completed() > 0, STALL_SECONDS)
        return int(self._handle.aio_peek_command_completed())

    def retire(self, cookie: int) -> None:
        """Take the answer of a completed command.

        Raises:
            ExportError: the answer is an error.
        """
        try:
            self._handle.aio_command_completed(cookie)
        except nbd.Error as error:
            raise ExportError(str(error)) from None

    def block_status(self, offset: int, length: int) -> list[int]:
        """What the source says of `length` bytes: length, flags, length, flags, ... It may tell of fewer or of more.

        Raises:
            ExportError: it failed, or the answer was empty.
        """
        told: list[int] = []

        def collect(_context: str, _offset: int, entries: list[int], _error: object) -> int:
            told.extend(entries)
            return 0

        try:
            cookie = self._handle.aio_block_status(length, offset, collect)
        except nbd.Error as error:
            raise ExportError(str(error)) from None
        self._wait_until(lambda: self._handle.aio_command_completed(cookie), STALL_SECONDS)
        if not told:
            raise ExportError("the export said nothing about its allocation")
        return told

    def _wait_until(self, reached: Callable[[], bool], seconds: float) -> None:
        give_up_at = time.monotonic() + seconds
        try:
            while not reached():
                self._handle.poll(_WAKE_MILLISECONDS)
                self._idle()
                if time.monotonic() > give_up_at:
                    raise ExportError(f"the export gave no answer for {seconds:.0f} s")
        except nbd.Error as error:
            raise ExportError(str(error)) from None
