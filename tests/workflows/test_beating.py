"""A worker that lives is told from one that was killed, and an activity that waits from one that hangs."""

from __future__ import annotations

import time
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
from worker import CONTROL_SLOTS, workers
from workflows.calls import CONTROL
from workflows.names import TASK_QUEUE
from xms.config import Config, TargetConfig
from xms.vsphere.sessions import Sessions

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTICED = timedelta(seconds=5)
"""Of this test's activities: a worker that is silent for so long is taken for dead."""


class Waiting:
    """An activity that says something once, and then waits for an outside system."""

    heard: tuple[object, ...] = ()

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @activity.defn(no_thread_cancel_exception=True)
    def wait(self, name: str) -> int:
        """The first attempt waits for `seconds`; each later one answers at once with its number."""
        del name
        attempt = activity.info().attempt
        if attempt == 1:
            activity.heartbeat("so far")
            time.sleep(self.seconds)
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
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            yield queue


async def attempts(client: Client, queue: str) -> int:
    return await client.execute_workflow(Waits.run, "x", id=queue, task_queue=queue)


async def test_an_activity_that_waits_for_an_answer_is_not_taken_for_one_whose_worker_died(client: Client) -> None:
    async with a_worker(client, Waiting(seconds=8), Beating()) as queue:
        assert await attempts(client, queue) == 1


async def test_an_activity_that_hangs_is_tried_again_with_what_it_last_said(client: Client) -> None:
    waiting = Waiting(seconds=9)
    async with a_worker(client, waiting, Beating(silence_seconds=1)) as queue:
        assert await attempts(client, queue) == 2
    assert waiting.heard == ("so far",)


async def test_a_killed_control_worker_is_noticed_long_before_a_call_would_have_to_answer() -> None:
    assert timedelta(seconds=4 * EVERY_SECONDS) < CONTROL["heartbeat_timeout"] < timedelta(seconds=SILENCE_SECONDS / 2)


async def test_the_control_worker_beats_and_a_stream_has_to_beat_by_itself(client: Client) -> None:
    config = Config(target=TargetConfig(cloud="lab"))
    with ThreadPoolExecutor(CONTROL_SLOTS) as threads:
        made = workers(client, config, "all", threads, Sessions())
    beating = {
        worker.task_queue
        for worker in made
        if any(isinstance(interceptor, Beating) for interceptor in worker.config(active_config=True)["interceptors"])
    }
    assert beating == {TASK_QUEUE}
