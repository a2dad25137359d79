"""Several connections to one export, where it allows them, behind the face of one."""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import nbd

from xms.engine.connection import STALL_SECONDS, WAKE_MILLISECONDS, Answer, Connection, ExportError

CONNECTIONS: Final = 2
"""Most connections of a stream. An export that does not say that it allows several (NBD_FLAG_CAN_MULTI_CONN; VDDK does
not) has one. Four were slower than two on two processors (measured): more of nbdkit's threads wait for them."""

REQUESTS_EACH: Final = 16
"""nbdkit works on so many requests of a connection at the same time (nbdkit(1), --threads): one connection has at most
16 answers in the time of one."""

DISTANT: Final = 0.001
"""Seconds. An export that answers faster keeps the processors busy over one connection, and gets slower by more."""

FIRST_READS: Final = 3
"""Each of them is waited for alone, and the fastest tells how distant the export is."""

PATIENCE: Final = 0.1
"""Seconds, for a first read: one that takes longer tells enough."""

OPEN_ANOTHER_SECONDS: Final = 5.0


class Connections:
    """One connection to an export, or up to `CONNECTIONS`. A failure of one is a failure of all.

    Args:
        uri: NBD URI of the export.
        idle: called at least every 0.2 s during every wait; what it raises ends the wait and is passed on.

    Raises:
        ExportError: the export could not be opened.
    """

    def __init__(self, uri: str, idle: Callable[[], None]) -> None:
        self._uri = uri
        self._idle = idle
        self._answers: deque[Answer] = deque()
        self._tickets = 0
        first = Connection(uri, idle, self._answers)
        self.size = first.size
        """bytes"""
        self.tells_zeroes = first.tells_zeroes
        """whether `block_status` can be asked"""
        self._all = [first]
        self._first_reads = FIRST_READS if first.allows_several else 0
        """to be waited for yet"""
        self._latency = PATIENCE

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._all)

    def close(self) -> None:
        """Drop them all: no buffer is written to from here on."""
        for connection in self._all:
            connection.close()

    def start_read(self, buffer: nbd.Buffer, offset: int) -> int:
        """Ask for the bytes at `offset`, as many as `buffer` holds; returns the ticket that the answer will have.

        The buffer has to live until then.

        Raises:
            ExportError: a connection is gone.
        """
        self._tickets += 1
        self._least_used().start_read(buffer, offset, self._tickets)
        if self._first_reads:
            self._look_at_latency()
        return self._tickets

    def next_answer(self) -> Answer:
        """Wait for an answer, good or bad. There must be something in flight.

        Raises:
            ExportError: a connection is gone, or the export gave no answer for `STALL_SECONDS`.
        """
        if not self._answers:
            self._wait_for_one()
        answer = self._answers.popleft()
        if answer.failure and not all(connection.is_alive for connection in self._all):
            raise ExportError(f"the connection broke: {answer.failure}")
        return answer

    def block_status(self, offset: int, length: int) -> list[int]:
        """What the source says of `length` bytes: length, flags, length, flags, ... It may tell of fewer or of more.

        Raises:
            ExportError: it failed, or the answer was empty.
        """
        return self._all[0].block_status(offset, length)

    def _least_used(self) -> Connection:
        """The first with room, so that few requests stay on few connections; else the one with the fewest."""
        for connection in self._all:
            if connection.in_flight < REQUESTS_EACH:
                return connection
        return min(self._all, key=lambda connection: connection.in_flight)

    def _wait_for_one(self) -> None:
        give_up_at = time.monotonic() + STALL_SECONDS
        while not self._answers:
            self._wait_for_answers()
            self._idle()
            if time.monotonic() > give_up_at:
                raise ExportError(f"the export gave no answer for {STALL_SECONDS:.0f} s")

    def _wait_for_answers(self) -> None:
        if len(self._all) == 1:
            self._all[0].poll()
            return
        poll = select.poll()
        for connection in self._all:
            poll.register(connection.descriptor, connection.events)
        happened = dict(poll.poll(WAKE_MILLISECONDS))
        for connection in self._all:
            if events := happened.get(connection.descriptor):
                connection.notify(events)

    def _look_at_latency(self) -> None:
        started = now = time.monotonic()
        while self._all[0].in_flight and now - started < PATIENCE:
            self._all[0].poll()
            self._idle()
            now = time.monotonic()
        self._latency = min(self._latency, now - started)
        self._first_reads -= 1
        if not self._first_reads and self._latency >= DISTANT:
            self._open_others()

    def _open_others(self) -> None:
        # Without them the reading is slower, that is all.
        with contextlib.suppress(ExportError):
            while len(self._all) < CONNECTIONS:
                self._all.append(Connection(self._uri, self._idle, self._answers, OPEN_ANOTHER_SECONDS))
