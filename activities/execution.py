"""What every activity shares: its pulse, and how the domain's errors become Temporal's.

Activities run in threads, and are cancelled by their pulse alone (`no_thread_cancel_exception`): the exception that the
SDK would throw into the thread instead may strike in the middle of giving an attachment or a lease back.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from xms.errors import Interrupted, XmsError
from xms.models import Model
from xms.pulse import Pulse

BEAT_EVERY_SECONDS: Final = 0.5

LONGEST_WAIT: Final = timedelta(minutes=5)
"""No more is waited at a time, whatever an outside system asks for: what it says may be wrong."""

HAND_OVER: Final = timedelta(milliseconds=200)
"""A worker that shuts down hands its work over; the next one need not wait as after a failure."""


def activity_pulse() -> Pulse:
    """A pulse that heartbeats for the current activity and stops it on cancellation and worker shutdown.

    It must be called on the activity's own thread. A detail is passed on at least every half second; the last one
    before an interruption always is, so that the next attempt goes on exactly there.
    """
    last_beat = 0.0

    def pulse(detail: Model | None = None) -> None:
        nonlocal last_beat
        stopping = activity.is_cancelled() or activity.is_worker_shutdown()
        now = time.monotonic()
        if stopping or now - last_beat >= BEAT_EVERY_SECONDS:
            last_beat = now
            activity.heartbeat(*([] if detail is None else [detail]))
        if activity.is_cancelled():
            raise Interrupted("the work was cancelled")
        if activity.is_worker_shutdown():
            raise Interrupted("the worker shuts down", means="another attempt goes on from the last checkpoint")

    return pulse


def next_try(error: XmsError) -> timedelta | None:
    """When an activity that failed so is tried again; None: as its policy says."""
    if isinstance(error, Interrupted):
        return HAND_OVER
    if error.retry_after:
        return min(timedelta(seconds=error.retry_after), LONGEST_WAIT)
    return None


class ExplainedErrors(Interceptor):
    """Turns an `XmsError` into an ApplicationError: its class as the type, its Trouble as the details."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - SDK's name
        """Wrap every activity of the worker."""
        return _Explain(next)


class _Explain(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401 - the SDK's signature
        try:
            return await self.next.execute_activity(input)
        except XmsError as error:
            if isinstance(error, Interrupted) and activity.is_cancelled():
                raise CancelledError(str(error)) from error
            raise ApplicationError(
                str(error),
                error.trouble(),
                *([] if error.progress is None else [error.progress]),
                type=type(error).__name__,
                non_retryable=not error.retryable,
                next_retry_delay=next_try(error),
            ) from error
