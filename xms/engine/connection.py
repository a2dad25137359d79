"""One NBD connection that never waits for long without showing life."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import nbd

OPEN_SECONDS: Final = 120.0
"""VDDK opens the disk while NBD shakes hands, which takes a busy ESXi host up to a minute."""

STALL_SECONDS: Final = 60.0
"""A command without an answer for so long is given up with its connection."""

DRAIN_SECONDS: Final = 1.0

WAKE_MILLISECONDS: Final = 200
"""No wait is longer without showing life."""

AT_ONCE: Final = 16
"""Answers that are taken off a connection after one wait, where they are there. libnbd takes one off at an event, and
to wait for each took a fifth of an incremental copy's time (measured, 2 ms away)."""

_EVENTS: Final = {
    0: 0,
    nbd.AIO_DIRECTION_READ: select.POLLIN,
    nbd.AIO_DIRECTION_WRITE: select.POLLOUT,
    nbd.AIO_DIRECTION_BOTH: select.POLLIN | select.POLLOUT,
}


class ExportError(Exception):
    """A command or the connection failed. A new connection may help; how often that is tried is the reader's affair."""


class Answer(NamedTuple):
    """What became of a read."""

    ticket: int
    failure: str
    """empty: the bytes are in the buffer"""


class Connection:
    """A connection to an export: reads are started, and their answers come in while it is polled.

    libnbd calls back for each answer. To ask it for them takes two calls an answer, each of which gives Python's lock
    away, while another thread writes.

    Args:
        uri: NBD URI of the export.
        answers: gets the answers.
        idle: called at least every 0.2 s during every wait; what it raises ends the wait and is passed on.
        open_seconds: an export that has not opened by then is given up.

    Raises:
        ExportError: the export could not be opened.
    """

    def __init__(
        self, uri: str, idle: Callable[[], None], answers: deque[Answer], open_seconds: float = OPEN_SECONDS
    ) -> None:
        self._idle = idle
        self._answers = answers
        self.in_flight = 0
        """reads without an answer"""
        handle = nbd.NBD()
        self._handle: Any = handle
        # The buffers are filled again and again: to clear each of them first would cost a pass over the memory.
        handle.set_pread_initialize(False)
        try:
            handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            handle.aio_connect_uri(uri)
        except nbd.Error as error:
            raise ExportError(str(error)) from None
        self._wait_until(handle.aio_is_ready, open_seconds)
        self.size: int = handle.get_size()
        """bytes"""
        self.tells_zeroes: bool = handle.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        """whether `block_status` can be asked"""
        self.allows_several: bool = handle.can_multi_conn()
        """other connections to the same export see the same bytes"""
        self.descriptor: int = handle.aio_get_fd()

    def close(self) -> None:
        """Drop the connection: no buffer is written to from here on.

        Answers under way are taken off it first, for a moment: nbdkit 1.32 may abort when a client leaves without them
        (an assertion in its raw_send_socket), and the export would be gone for the next connection, too.
        """
        patience_ends = time.monotonic() + DRAIN_SECONDS
        with contextlib.suppress(nbd.Error):  # a connection that is dead already has no answers under way
            while self._handle.aio_in_flight() and time.monotonic() < patience_ends:
                self._handle.poll(WAKE_MILLISECONDS)
        # libnbd's binding has no other way to close: the last reference does it.
        self._handle = None

    def start_read(self, buffer: nbd.Buffer, offset: int, ticket: int) -> None:
        """Ask for the bytes at `offset`, as many as `buffer` holds. The buffer has to live until the answer is there.

        Raises:
            ExportError: the connection is gone.
        """
        self.in_flight += 1
        try:
            self._handle.aio_pread(buffer, offset, partial(self._answered, ticket))
        except nbd.Error as error:
            raise ExportError(str(error)) from None

    def _answered(self, ticket: int, error: Any) -> int:  # noqa: ANN401 - libnbd has no types
        self.in_flight -= 1
        number: int = error.value
        self._answers.append(Answer(ticket, os.strerror(number) if number else ""))
        return 1  # libnbd need not keep it

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked for something."""
        return not (self._handle.aio_is_dead() or self._handle.aio_is_closed())

    @property
    def events(self) -> int:
        """What `select.poll` has to look for at the descriptor."""
        return _EVENTS[self._handle.aio_get_direction()]

    def notify(self, events: int) -> None:
        """Do what can be done now that `select.poll` reported `events`, and take the answers that are there.

        Raises:
            ExportError: the connection is gone.
        """
        try:
            # Where both happened, reading may be all that is left to do.
            if events & ~select.POLLOUT:
                self._handle.aio_notify_read()
            elif self._handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
                self._handle.aio_notify_write()
            self._take_what_is_there()
        except nbd.Error as error:
            raise ExportError(str(error)) from None

    def poll(self) -> None:
        """Wait for the export, 0.2 s at most, do what can be done then, and take the answers that are there.

        Raises:
            ExportError: the connection is gone.
        """
        try:
            self._handle.poll(WAKE_MILLISECONDS)
            self._take_what_is_there()
        except nbd.Error as error:
            raise ExportError(str(error)) from None

    def _take_what_is_there(self) -> None:
        for _ in range(AT_ONCE - 1):
            if not self.in_flight or not self._handle.poll(0):
                return

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
                self._handle.poll(WAKE_MILLISECONDS)
                self._idle()
                if time.monotonic() > give_up_at:
                    raise ExportError(f"the export gave no answer for {seconds:.0f} s")
        except nbd.Error as error:
            raise ExportError(str(error)) from None
