"""A source that is down is left alone for a growing pause, so that a thousand jobs do not hammer it while it starts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from xms.errors import SourceUnreachable

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
JITTER: Final = 0.25
"""Share of a pause that is added by chance: workers that lost the same source do not come back in the same moment."""

BROKEN_CALLS: Final = 3
"""Calls that broke in a row, on connections that stood: one may have been slow, several are an outage."""


class Outage:
    """What is known of a source's being down. Thread-safe.

    Args:
        source: its name, for messages.
        clock: seconds that only grow.
        chance: from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        source: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._failures = 0
        self._broken = 0
        self._probing = False
        self._not_before = 0.0
        self._because = ""

    @property
    def lasts(self) -> bool:
        """Whether the last attempt to reach the source failed."""
        with self._lock:
            return self._failures > 0

    def admit(self) -> None:
        """Let an attempt pass, or refuse it at once. After a pause one passes, and decides for all.

        Raises:
            SourceUnreachable: the pause lasts; the text says for how long, and what the last attempt failed with.
        """
        with self._lock:
            if not self._failures:
                return
            now = self._clock()
            wait = self._not_before - now
            if wait <= 0:
                # Until this attempt has an outcome, nobody else makes one; if it never has, for the longest pause.
                self._probing = True
                self._not_before = now + LONGEST_PAUSE_SECONDS
                return
            raise SourceUnreachable(
                f"{self._source} cannot be reached",
                because=f"{self._because}; it is tried again in {max(1, round(wait))} s",
            )

    def not_connected(self, because: str) -> None:
        """A connection could not be made, or a log-in broke: the pause begins, twice as long as the one before."""
        with self._lock:
            self._begin_pause(because)

    def broken(self, because: str) -> None:
        """A call broke on a connection that stood."""
        with self._lock:
            self._broken += 1
            if self._failures or self._broken >= BROKEN_CALLS:
                self._begin_pause(because)

    def answered(self) -> None:
        """The source answered, whatever it said: it is not down."""
        if self._failures or self._broken:
            with self._lock:
                self._failures = self._broken = 0
                self._probing = False

    def _begin_pause(self, because: str) -> None:
        now = self._clock()
        self._because = because
        if self._failures and not self._probing and now < self._not_before:
            # It was under way when the pause began: attempts that fail together are one failure.
            return
        pause = FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10)
        self._probing = False
        self._failures += 1
        self._not_before = now + min(LONGEST_PAUSE_SECONDS, pause * (1 + JITTER * self._chance()))
