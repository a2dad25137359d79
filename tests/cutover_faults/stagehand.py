"""Stands between Temporal and the activities: knows for which step each is called, and strikes where a case says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from temporalio import activity, client, workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RetryPolicy
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from tests.cutover_faults.cases import Fault, Place
from tests.workflows.world import failure
from workflows.warm_migration import WarmMigrationWorkflow

if TYPE_CHECKING:
    from tests.cutover_faults.play import Play

HEADER: Final = "place"
UNDOING: Final = "rolling back: "

HEARTBEAT: Final = timedelta(seconds=1.2)
ONE_TRY: Final = timedelta(seconds=2.5)
PAUSE: Final = timedelta(seconds=0.1)
TRIES: Final = 2
"""What the policy of a call that is struck is shortened to; which bounds it has, stays as it is."""

UNHURRIED: Final = frozenset({Fault.RESTARTED, Fault.ABANDONED, Fault.CANCELLED})
"""Faults that wait for no policy, but for others, which may take long on a busy machine."""

HOLDS: Final = frozenset({"stream_disk", "convert", "commit_conversion"})
"""Calls whose worker has the volumes attached; where it is killed, it still has."""


PLAYS: Final[dict[str, Play]] = {}
"""The jobs that are looked after, by workflow id."""


class Stagehand(client.Interceptor, Interceptor):
    """For the client of a worker, and so for the worker."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Strikes(next)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002
    ) -> type[WorkflowInboundInterceptor]:
        del input
        return _Watches


class _Watches(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_TellsThePlace(outbound))


class _TellsThePlace(WorkflowOutboundInterceptor):
    """Gives every activity the step that it is called for; of one that will be struck, the times are short."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002
        play = PLAYS.get(workflow.info().workflow_id)
        job = workflow.instance()
        if play is not None and isinstance(job, WarmMigrationWorkflow):
            play.instance = job
            if heading := _heading(job):
                input.headers = {**input.headers, HEADER: Payload(data=heading.encode())}
                _hurry(play, heading, input)
        return super().start_activity(input)


def _heading(job: WarmMigrationWorkflow) -> str:
    """The step that runs, or "-" and the step that is undone; empty outside of a cutover."""
    if job.state.doing.startswith(UNDOING):
        return "-" + job.state.doing.removeprefix(UNDOING)
    steps = job.state.cutover.steps if job.state.cutover else ()
    return steps[-1].name if steps and steps[-1].outcome == "running" else ""


def _hurry(play: Play, heading: str, order: StartActivityInput) -> None:
    if play.case is None or play.case.fault in UNHURRIED or _place(heading, order.activity) != play.case.place:
        return
    policy = order.retry_policy or RetryPolicy()
    order.heartbeat_timeout = _shorter(order.heartbeat_timeout, HEARTBEAT)
    order.start_to_close_timeout = _shorter(order.start_to_close_timeout, ONE_TRY)
    order.retry_policy = RetryPolicy(
        initial_interval=PAUSE,
        maximum_interval=PAUSE,
        maximum_attempts=TRIES if play.case.fault.at_every_try else policy.maximum_attempts,
        non_retryable_error_types=policy.non_retryable_error_types,
    )


def _place(heading: str, call: str) -> Place:
    return Place(step=heading.removeprefix("-"), undoing=heading.startswith("-"), call=call)


def _shorter(time: timedelta | None, limit: timedelta) -> timedelta | None:
    return None if time is None else min(time, limit)


class _Strikes(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401
        info = activity.info()
        play = PLAYS.get(info.workflow_id or "")
        told = input.headers.get(HEADER)
        if play is None:
            return await self.next.execute_activity(input)

        async def work() -> Any:  # noqa: ANN401 - whatever the activity answers
            play.begins(info.activity_type)
            return await self.next.execute_activity(input)

        if told is None:
            return await work()
        place = _place(told.data.decode(), info.activity_type)
        play.seen.append(place)
        fault = play.strikes(place)
        return await (work() if fault is None else _STRIKES[fault](play, place, work))


Work = Callable[[], Awaitable[Any]]


async def _refused(_play: Play, _place: Place, _work: Work) -> None:
    raise failure("Injected", needs_person=True)


async def _fails(_play: Play, _place: Place, _work: Work) -> None:
    raise failure("Injected", retryable=True)


async def _hangs(_play: Play, _place: Place, _work: Work) -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.2)


async def _killed_before(play: Play, place: Place, _work: Work) -> None:
    if place.call in HOLDS:
        play.world.attached.add("held by a dead worker")
    await asyncio.Event().wait()


async def _killed_after(play: Play, place: Place, work: Work) -> None:
    await work()
    await _killed_before(play, place, work)


async def _restarted(play: Play, place: Place, work: Work) -> None:
    play.at_its_place.set()
    await _hangs(play, place, work)


async def _abandoned(play: Play, _place: Place, work: Work) -> Any:  # noqa: ANN401 - whatever the activity answers
    await play.abandon()
    return await work()


async def _cancelled(play: Play, _place: Place, work: Work) -> Any:  # noqa: ANN401 - whatever the activity answers
    await play.job.handle.cancel()
    # An answer to a question comes after the workflow has heard of it.
    await play.job.status()
    return await work()


_STRIKES: Final[Mapping[Fault, Callable[[Play, Place, Work], Awaitable[Any]]]] = {
    Fault.REFUSED: _refused,
    Fault.PASSING: _fails,
    Fault.PERSISTING: _fails,
    Fault.HANGS_ONCE: _hangs,
    Fault.HANGS: _hangs,
    Fault.KILLED_BEFORE: _killed_before,
    Fault.KILLED_AFTER: _killed_after,
    Fault.RESTARTED: _restarted,
    Fault.ABANDONED: _abandoned,
    Fault.CANCELLED: _cancelled,
}
