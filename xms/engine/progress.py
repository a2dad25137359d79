"""How fast a stream is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

SECONDS: Final = 10.0
"""The rate is that of the last so many seconds: long enough to be calm, short enough to show a stall."""


class Rate:
    """Bytes a second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def at(self, total: int) -> float:
        """The present rate, now that `total` bytes are done in all since the beginning."""
        now = self._clock()
        self._samples.append((now, total))
        while self._samples[1][0] <= now - SECONDS:
            self._samples.popleft()
        since, done = self._samples[0]
        return (total - done) / (now - since) if now > since else 0.0
