"""Shows that an activity's worker lives while the activity waits for an outside system.

A call of vCenter or a cloud may take a minute without a word, so an activity's own pulse cannot be expected sooner. But
a worker that was killed has to be noticed within seconds: the source may be off meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

EVERY_SECONDS: Final = 2.0

SILENCE_SECONDS: Final = 60.0
"""An activity that gave no sign of its own for so long hangs: from then on nobody speaks for it, and it is tried again
elsewhere. Longer than one call of an outside system takes."""


class Beating(Interceptor):
    """Heartbeats for an activity as long as it is not silent for `silence_seconds`.

    Args:
        silence_seconds: as of `SILENCE_SECONDS`.
    """

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.silence_seconds = silence_seconds

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - SDK's name
        """Wrap every activity of the worker."""
        return _Beats(next, self.silence_seconds)


class _Heard(ActivityOutboundInterceptor):
    """Knows when the activity itself last showed life, and what it said."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:  # noqa: A002 - SDK's name
        super().__init__(next)
        self.at = time.monotonic()
        self.said: tuple[Any, ...] = ()

    def heartbeat(self, *details: Any) -> None:  # noqa: ANN401 - the SDK's signature
        self.at, self.said = time.monotonic(), details
        super().heartbeat(*details)

    def again(self) -> None:
        """Say what it said last: a heartbeat without details would erase them."""
        super().heartbeat(*self.said)


class _Beats(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, silence_seconds: float) -> None:  # noqa: A002 - SDK's name
        super().__init__(next)
        self._silence_seconds = silence_seconds
        self._heard: _Heard | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        self._heard = _Heard(outbound)
        super().init(self._heard)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401 - the SDK's signature
        beating = asyncio.create_task(self._beat())
        try:
            return await self.next.execute_activity(input)
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while self._heard is not None:
            await asyncio.sleep(min(EVERY_SECONDS, self._silence_seconds / 2))
            if time.monotonic() - self._heard.at < self._silence_seconds:
                self._heard.again()
