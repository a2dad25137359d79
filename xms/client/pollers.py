"""Whether somebody works at a task queue: asked before waiting, since Temporal itself would wait for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from xms.errors import NoWorker

SILENT: Final = timedelta(seconds=90)
"""A worker polls at least once a minute (the server's long poll); one that was not seen for longer is gone, although
the server lists it for five minutes."""

CALL: Final = timedelta(seconds=10)


async def last_seen(client: Client, queue: str) -> datetime | None:
    """When a worker last asked for workflow tasks of this queue; None when none did for five minutes."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ),
        timeout=CALL,
    )
    return max((poller.last_access_time.ToDatetime(tzinfo=UTC) for poller in answer.pollers), default=None)


async def see_a_worker(client: Client, queue: str, *, what: str, means: str = "") -> None:
    """See that a worker serves the queue.

    Args:
        client: of the namespace in question.
        queue: name of the task queue.
        what: what cannot be done without one, for the error.
        means: the consequence, for the error.

    Raises:
        NoWorker: none was seen lately.
        RPCError: the server did not answer.
    """
    seen = await last_seen(client, queue)
    if seen is not None and datetime.now(UTC) - seen < SILENT:
        return
    raise NoWorker(
        what,
        because=f"no worker serves task queue '{queue}' of namespace '{client.namespace}'"
        + ("" if seen is None else f" since {seen:%H:%M:%S} UTC"),
        means=means,
        do="start one: xms-worker",
    )
