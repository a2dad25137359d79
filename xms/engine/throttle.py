"""A limit on how fast a stream reads, which may be changed while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_NAP_SECONDS: Final = 0.1


class Throttle:
    """Keeps a stream at a number of bytes a second. Another thread may change `rate` at any moment.

    Args:
        rate: bytes a second; None: no limit.
        clock: seconds.
        sleep: takes seconds.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._owed = 0.0
        """bytes that were passed on and are not paid for by time yet"""
        self._paid_at = clock()

    def passed(self, length: int, idle: Callable[[], None]) -> None:
        """Count `length` bytes that were passed on, and wait until the rate allows more.

        Args:
            length: bytes.
            idle: called at least every 0.1 s during the wait; what it raises ends the wait and is passed on.
        """
        if self.rate is None:
            self._owed = 0.0
            return
        self._pay()
        self._owed += length
        # Less than a byte is not worth a nap: it may be shorter than the clock can tell.
        while (rate := self.rate) is not None and self._owed >= 1:
            self._sleep(min(_NAP_SECONDS, self._owed / rate))
            idle()
            self._pay()

    def _pay(self) -> None:
        now = self._clock()
        # Time in which nothing was passed on is no credit: the limit is on every moment, not on the average.
        rate = self.rate
        self._owed = 0.0 if rate is None else max(0.0, self._owed - (now - self._paid_at) * rate)
        self._paid_at = now
