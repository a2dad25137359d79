"""How the workflows call activities: one policy a kind of call, chosen by what a repeat and what a delay cost.

Every policy ends: what still fails after it is shown to a person, or tried again by the lifecycle with a new snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final, TypedDict

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception  # noqa: A004
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from workflows.names import DATA_QUEUE
    from xms.models import Trouble


class Policy(TypedDict, total=False):
    """Keyword arguments of `workflow.execute_activity_method`."""

    task_queue: str
    start_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


HEARTBEAT: Final = timedelta(seconds=10)
"""A worker that was killed is noticed after this time; the pulse beats every half second."""

CONTROL: Final = Policy(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=60),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=10
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""A question or a small change in vSphere or the cloud. About four minutes of trying."""

CLEAN_UP: Final = Policy(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=60),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1), maximum_attempts=60
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""What must not stay behind: a snapshot, an attachment, a source that is off. About an hour of trying."""

STREAM: Final = Policy(
    task_queue=DATA_QUEUE,
    start_to_close_timeout=timedelta(days=7),
    heartbeat_timeout=HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=30
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""A stream goes on from its heartbeat on any data worker, so a repeat is cheap. The week bounds a stream that moves
but never ends; a snapshot's age ends it long before."""

CONVERSION: Final = Policy(
    task_queue=DATA_QUEUE,
    start_to_close_timeout=timedelta(hours=3),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=4
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""Each try costs minutes of downtime; a guest that cannot be converted fails at once, without a retry."""


def on_host(queue: str) -> Policy:
    """For the files of one worker: when it does not come back within two minutes, it counts as lost."""
    return Policy(
        task_queue=queue,
        start_to_close_timeout=timedelta(hours=1),
        schedule_to_start_timeout=timedelta(minutes=2),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15), maximum_attempts=4
        ),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish clean-up work although the caller is cancelled in the middle of it; the cancellation comes after."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def failure_type(error: BaseException) -> str:
    """The class in xms.errors that an activity failed with; empty when it was none of them."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return (cause.type or "") if isinstance(cause, ApplicationError) else ""


def host_is_lost(error: BaseException) -> bool:
    """Whether a call to one worker's own queue failed because that worker, or what it held, is gone."""
    cause = error.cause if isinstance(error, ActivityError) else None
    return isinstance(cause, TimeoutError) or failure_type(error) == "ConversionLost"


def explain(error: BaseException, what: str) -> Trouble:
    """What a failed step tells a person: the domain's own words where there are any, else the innermost cause."""
    cause: BaseException = error
    while isinstance(cause, ActivityError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, ApplicationError) and cause.details:
        return Trouble.model_validate(cause.details[0]).model_copy(update={"at": workflow.now()})
    if isinstance(cause, TimeoutError):
        return Trouble(
            kind="WorkerLost",
            what=what,
            because=f"no worker finished it in time ({cause.message})",
            means="nothing of it counts; the replica is as of the last committed sync",
            do="see that a worker with the right queues runs: xms-worker",
            at=workflow.now(),
        )
    if is_cancelled_exception(error):
        return Trouble(kind="Cancelled", what=f"{what}: cancelled", at=workflow.now())
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    kind = (cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__
    return Trouble(kind=kind, what=what, because=text, at=workflow.now())
