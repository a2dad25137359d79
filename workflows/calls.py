"""How the workflows call activities: one policy a kind of call, chosen by what a repeat and what a delay cost.

Every policy ends: what still fails after it is shown to a person, or tried again by the lifecycle with a new snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, TypeVar, Unpack, overload

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception  # noqa: A004
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from workflows.names import CONVERSION_QUEUE, DATA_QUEUE, LOOK_QUEUE
    from xms.errors import XmsError
    from xms.job import shortened
    from xms.models import DiskProgress, Model, Trouble


Order = TypeVar("Order")
Answer = TypeVar("Answer")
Said = TypeVar("Said", bound=Model)


class Policy(TypedDict, total=False):
    """Keyword arguments of `workflow.execute_activity_method`."""

    task_queue: str
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


HEARTBEAT: Final = timedelta(seconds=10)
"""A worker that was killed is noticed after this time; the pulse beats every half second."""

CONTROL_HEARTBEAT: Final = timedelta(seconds=15)
"""The same of a control worker, which may have to wait for an outside system for a minute: it shows that it lives
meanwhile (`activities.beating`). The source may be off, and each second counts."""

CONTROL: Final = Policy(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=CONTROL_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=10
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""A question or a small change in vSphere or the cloud. About four minutes of trying."""

CLEAN_UP: Final = Policy(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=CONTROL_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1), maximum_attempts=60
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""What must not stay behind: a snapshot, an attachment, a source that is off. About an hour of trying."""

WHILE_OFF: Final[Policy] = {**CLEAN_UP, "schedule_to_close_timeout": timedelta(minutes=5)}
"""Clean-up for which a source that is off would have to wait: what does not succeed soon is left for later, or the
cutover is undone."""

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
    task_queue=CONVERSION_QUEUE,
    start_to_close_timeout=timedelta(hours=3),
    schedule_to_start_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=4
    ),
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""Each try costs minutes of downtime; a guest that cannot be converted fails at once, without a retry.

The source is off: where no worker has a slot for half an hour, it had better run again.
"""

LOOK: Final = Policy(
    task_queue=LOOK_QUEUE,
    start_to_close_timeout=timedelta(minutes=1),
    schedule_to_start_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
)
"""What a data worker is asked before the source is stopped: where none is there to answer, none would convert."""


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


BOOT: Final[Policy] = {
    **CONTROL,
    "schedule_to_close_timeout": timedelta(minutes=30),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=3
    ),
}
"""The source is off meanwhile: an instance that does not come up after three tries will not at the tenth."""


GLANCE: Final[Policy] = {
    **CONTROL,
    "schedule_to_close_timeout": timedelta(seconds=30),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=5), maximum_attempts=3
    ),
}
"""A look that is worth some seconds of downtime, and no more."""

SNAPSHOTS: Final[Policy] = {
    **CONTROL,
    "schedule_to_close_timeout": timedelta(minutes=3),
}
"""Snapshots of volumes are made beside the conversion, and the downtime must not wait for slow ones."""


def power_off(shutdown_timeout_seconds: int) -> Policy:
    """The guest is given its whole time, and vCenter some more; a repeat waits for the same shutdown."""
    return {**CONTROL, "start_to_close_timeout": timedelta(seconds=shutdown_timeout_seconds, minutes=10)}


def evidence(timeout_seconds: int) -> Policy:
    """Waiting for evidence ends the cutover at its own time: to wait again would only lengthen the downtime.

    What is tried again is a cloud that does not answer, for some minutes.
    """
    return {
        **CONTROL,
        "start_to_close_timeout": timedelta(seconds=timeout_seconds, minutes=2),
        "schedule_to_close_timeout": timedelta(seconds=timeout_seconds, minutes=5),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=timedelta(seconds=30),
            maximum_attempts=10,
            non_retryable_error_types=["BootFailed"],
        ),
    }


@overload
async def call(
    method: Callable[[Any, Order], Awaitable[Answer]],
    order: Order,
    *,
    summary: str | None = None,
    **policy: Unpack[Policy],
) -> Answer: ...


@overload
async def call(
    method: Callable[[Any, Order], Answer], order: Order, *, summary: str | None = None, **policy: Unpack[Policy]
) -> Answer: ...


async def call(
    method: Callable[[Any, Order], Any], order: Order, *, summary: str | None = None, **policy: Unpack[Policy]
) -> Any:
    """Have an activity done, unless the caller was cancelled meanwhile.

    A call that succeeds although it was to be broken off answers as if nothing had been said, and a task is told of its
    cancellation once only. So the next call looks for it; what the last one answered is in the job's record by then.
    What has to be done in spite of a cancellation runs in `to_the_end`.

    Raises:
        ActivityError: it failed after its retries.
        asyncio.CancelledError: the caller was cancelled.
    """
    heed_cancellation()
    return await workflow.execute_activity_method(method, order, summary=summary, **policy)


def heed_cancellation() -> None:
    """Before a call, a wait, or tasks that are gathered: raise a cancellation that the last call's answer won over.

    Raises:
        asyncio.CancelledError: the task was cancelled, whether it was told so already or not.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish clean-up work however often the caller is cancelled in the middle of it; the cancellation comes after."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled:
        raise cancelled


async def unless(stopped: Callable[[], bool], work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Do the work, but break it off as soon as `stopped` says so, or the caller is cancelled.

    Returns:
        What the work's own clean-up failed with after it was broken off; None where it did not, or all was done.
    """
    task = asyncio.create_task(work)
    try:
        heed_cancellation()
        await workflow.wait_condition(lambda: task.done() or stopped())
    except asyncio.CancelledError:
        await _broken_off(task)
        raise
    if not task.done():
        return await _broken_off(task)
    await task
    return None


async def _broken_off(task: asyncio.Task[None]) -> BaseException | None:
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, ActivityError, ApplicationError) as error:
        return None if is_cancelled_exception(error) else error
    return None


def failure_type(error: BaseException) -> str:
    """The class in xms.errors that an activity failed with; empty when it was none of them."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return (cause.type or "") if isinstance(cause, ApplicationError) else ""


def host_is_lost(error: BaseException) -> bool:
    """Whether a call to one worker's own queue failed because that worker, or what it held, is gone."""
    cause = error.cause if isinstance(error, ActivityError) else None
    return isinstance(cause, TimeoutError) or failure_type(error) == "ConversionLost"


def last_progress(error: ActivityError) -> DiskProgress | None:
    """How far a stream had come that failed after its retries, or was lost with its worker; None where nobody knows."""
    return last_heartbeat(error, DiskProgress)


def last_heartbeat(error: ActivityError, kind: type[Said]) -> Said | None:
    """What an activity last said of itself that failed after its retries, or was lost with its worker."""
    cause = error.cause
    details: Sequence[object] = ()
    if isinstance(cause, TimeoutError):
        details = cause.last_heartbeat_details
    elif isinstance(cause, ApplicationError):
        details = cause.details[1:]
    try:
        return kind.model_validate(details[0]) if details else None
    except ValidationError:
        # Another version's: what it copied is copied once more.
        return None


def explain(error: BaseException, what: str) -> Trouble:
    """What a failed step tells a person: the domain's own words where there are any, else the innermost cause."""
    cause: BaseException = error
    while isinstance(cause, ActivityError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, ApplicationError) and (told := _told(cause)):
        return told
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


def _told(error: ApplicationError) -> Trouble | None:
    """The domain's own words; what another sort of failure has as its details is none of them."""
    try:
        told = Trouble.model_validate(error.details[0]) if error.details else None
    except ValidationError:
        return None
    if told is None:
        return None
    words = {name: shortened(getattr(told, name)) for name in ("what", "because", "means", "do")}
    return told.model_copy(update={**words, "at": workflow.now()})


def refusal(kind: type[XmsError], what: str, *, because: str = "", means: str = "", do: str = "") -> ApplicationError:
    """What the workflow itself finds wrong, in the form in which activities say it."""
    error = kind(what, because=because, means=means, do=do)
    return ApplicationError(str(error), error.trouble(), type=kind.__name__, non_retryable=True)
