"""How a running stream follows its job's rate limit: it asks the job, again and again, and never waits for the answer.

The copy's own thread looks at the answer in its pulse, so neither the copy nor the heartbeat depends on a workflow
that is slow to answer, or on workers for workflows that are gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from temporalio import activity
from temporalio.client import Client

from xms.engine.throttle import Throttle
from xms.orders.copy import StreamRate

ASK_EVERY_SECONDS: Final = 3.0
"""With the time of the answer, a new limit is kept within five seconds."""

PATIENCE: Final = timedelta(seconds=10)
"""For one answer: the worker may have to replay the job first."""

Ask = Callable[[str, str], Future[StreamRate]]
"""Asks the job of that workflow id and run id, and returns at once."""


def job_rates(client: Client) -> Ask:
    """Ask by the query `rate`. To be called on the loop that the client lives on; the answer on any thread."""
    loop = asyncio.get_running_loop()

    async def asked(workflow_id: str, run_id: str) -> StreamRate:
        job = client.get_workflow_handle(workflow_id, run_id=run_id)
        rate: StreamRate = await job.query("rate", result_type=StreamRate, rpc_timeout=PATIENCE)
        return rate

    def ask(workflow_id: str, run_id: str) -> Future[StreamRate]:
        return asyncio.run_coroutine_threadsafe(asked(workflow_id, run_id), loop)

    return ask


class FollowedRate:
    """Keeps a throttle at the rate that the current activity's job says. A query that fails changes nothing.

    Args:
        throttle: whose rate is set.
        ask: None asks nobody.
        clock: seconds.
    """

    def __init__(self, throttle: Throttle, ask: Ask | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._throttle = throttle
        self._ask = ask
        self._clock = clock
        self._answer: Future[StreamRate] | None = None
        self._next = clock()
        info = activity.info()
        self._job = (info.workflow_id or "", info.workflow_run_id or "")

    def look(self) -> None:
        """Take an answer that has come, and ask when it is time; returns at once."""
        if self._ask is None:
            return
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            if error := answer.exception():
                activity.logger.debug("the job did not say its rate limit: %s", error)
            else:
                self._throttle.rate = answer.result().bytes_a_second
        now = self._clock()
        if self._answer is None and now >= self._next:
            self._next = now + ASK_EVERY_SECONDS
            self._answer = self._ask(*self._job)

    def end(self) -> None:
        """Wait for no answer any more."""
        if self._answer is not None:
            self._answer.cancel()
