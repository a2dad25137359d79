"""A worker that lives is told from one that was killed, and an activity that waits from one that hangs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.beating import EVERY_SECONDS, SILENCE_SECONDS, Beating
from workflows.calls import CONTROL

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTICED = timedelta(seconds=4)
"""Of this test's activities: a worker that is silent for so long is taken for dead."""


class Waiting:
    """An activity that says something once, and then waits for an outside system."""

    heard: tuple[object, ...] = ()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.answer = threading.Event()

    @activity.defn(no_thread_cancel_exception=True)
    def wait(self, name: str) -> int:
        """The first attempt waits for the answer, `seconds` at most; each later one answers at once."""
        del name
        attempt = activity.info().attempt
        if attempt == 1:
            activity.heartbeat("so far")
            self.answer.wait(self.seconds)
        else:
            self.heard = tuple(activity.info().heartbeat_details)
        return attempt


@workflow.defn
class Waits:
    """Has it done."""

    @workflow.run
    async def run(self, name: str) -> int:
        """How many attempts it took."""
        return await workflow.execute_activity_method(
            Waiting.wait,
            name,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=NOTICED,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )


@asynccontextmanager
async def a_worker(client: Client, waiting: Waiting, beating: Beating) -> AsyncIterator[str]:
    queue = f"beating-{uuid.uuid4().hex[:8]}"
    with ThreadPoolExecutor(4) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Waits],
            activities=[waiting.wait],
            activity_executor=threads,
            interceptors=[beating],
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            yield queue


async def attempts(client: Client, queue: str) -> int:
    return await client.execute_workflow(Waits.run, "x", id=queue, task_queue=queue)


async def test_an_activity_that_waits_for_an_answer_is_not_taken_for_one_whose_worker_died(client: Client) -> None:
    async with a_worker(client, Waiting(seconds=7), Beating()) as queue:
        assert await attempts(client, queue) == 1


async def test_an_activity_that_hangs_is_tried_again_with_what_it_last_said(client: Client) -> None:
    waiting = Waiting(seconds=60)
    async with a_worker(client, waiting, Beating(silence_seconds=1)) as queue:
        try:
            assert await attempts(client, queue) == 2
        finally:
            waiting.answer.set()
    assert waiting.heard == ("so far",)


async def test_a_killed_control_worker_is_noticed_long_before_a_call_would_have_to_answer() -> None:
    assert timedelta(seconds=4 * EVERY_SECONDS) < CONTROL["heartbeat_timeout"] < timedelta(seconds=SILENCE_SECONDS / 2)
