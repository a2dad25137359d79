"""The budget of one ESXi host: at most so many streams read from it at a time, whatever job and worker they are of.

One workflow a source and host. A job's request starts it (`activities.host_budget`), it answers by a signal, and ends
when nobody has needed it for a while. The rules are in `xms.host_budget`; here is what keeps them true: every answer is
given, a job that is gone gives its slots back, and no message is lost on the way to the next run.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.host_budget import HostBudgetActivities
    from workflows.calls import Policy
    from workflows.names import ASK, GIVE_BACK, HOST_BUDGET, HOST_SLOT
    from xms.host_budget import HostBudget, SlotBack, SlotRequest
    from xms.orders.copy import JobRuns
    from xms.quantities import size

HISTORY_LIMIT: Final = 4000
"""Events after which a run continues as new, where the server does not suggest it earlier."""

LOOK_EVERY: Final = timedelta(minutes=1)
"""How often, while somebody waits, it is asked whether the jobs that hold slots still run."""

LINGER: Final = timedelta(minutes=5)
"""How long a budget that nobody needs stays: the next sync soon comes, and each run is a line in Temporal's list."""

SHOWN: Final = 40
"""Streams that the details list, of those that read and of those that wait: a workflow's details end at 20 KiB."""

LOOK: Final = Policy(
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_close_timeout=timedelta(minutes=2),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
)
"""A question to Temporal alone; one that fails is asked again after `LOOK_EVERY`."""


@workflow.defn(name=HOST_BUDGET)
class HostBudgetWorkflow:
    """Gives out the slots of one ESXi host."""

    @workflow.init
    def __init__(self, budget: HostBudget) -> None:
        """Begin with a host's limits, or go on with what the run before carried over."""
        self.budget = budget
        self.unanswered: dict[str, SlotRequest] = {}
        """Requests by their ids; in the order in which they came."""

    @workflow.run
    async def run(self, budget: HostBudget) -> None:
        """Answer, until nobody needs the host any more.

        A message that comes while this returns or continues as new makes the server refuse that, and is seen first.
        """
        del budget
        caretaker = asyncio.create_task(self.look_after_jobs())
        while True:
            await self.answer()
            if self.should_continue_as_new():
                workflow.continue_as_new(self.budget)
            if not await self.something_changes(caretaker):
                return

    @workflow.signal(name=ASK, description="From a job: one of its streams wants a slot")
    def ask(self, request: SlotRequest) -> None:
        """Take a request in; asked again, it is answered again."""
        self.budget.ask(request)
        self.unanswered[request.id] = request

    @workflow.signal(name=GIVE_BACK, description="From a job: a slot, or a request, is not needed any more")
    def give_back(self, back: SlotBack) -> None:
        """Free what it had."""
        self.budget.take_back(back.id)
        self.unanswered.pop(back.id, None)

    @workflow.query(description="The limits, who reads, and who waits")
    def status(self) -> HostBudget:
        """All that is known."""
        return self.budget

    async def answer(self) -> None:
        """Grant what can be granted, and tell everybody whose request that changes or who has asked."""
        while True:
            granted = {request.id: request for request in self.budget.grant(workflow.now())}
            told, self.unanswered = self.unanswered | granted, {}
            workflow.set_current_details(describe(self.budget))
            if not told:
                return
            await asyncio.gather(*(self.tell(request) for request in told.values()))

    async def tell(self, request: SlotRequest) -> None:
        """Answer one request; a job that is over cannot be told anything, and needs nothing."""
        answer = self.budget.answer(request.id)
        if answer is None:
            return
        job = workflow.get_external_workflow_handle(request.job_id, run_id=request.run_id)
        try:
            await job.signal(HOST_SLOT, answer)
        except ApplicationError:
            self.budget.take_back(request.id)

    async def something_changes(self, caretaker: asyncio.Task[None]) -> bool:
        """Wait for it. While somebody has a slot that takes as long as it takes, and costs no history.

        Returns:
            False where nobody has needed the host for some time.
        """
        seen = self.budget.requests
        try:
            await workflow.wait_condition(
                lambda: bool(self.unanswered) or self.budget.requests != seen or caretaker.done(),
                timeout=None if self.budget.in_use else LINGER,
                timeout_summary="ends when nobody asks",
            )
        except TimeoutError:
            return False
        if caretaker.done():
            caretaker.result()
        return True

    async def look_after_jobs(self) -> None:
        """While somebody waits, take back what jobs have that are over without having given it back: terminated ones.

        A slot that nobody else wants may be forgotten for as long as it likes.
        """
        while True:
            await workflow.wait_condition(lambda: bool(self.budget.waiting))
            due = workflow.now() if self.budget.looked_at is None else self.budget.looked_at + LOOK_EVERY
            if due > workflow.now():
                with suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: not self.budget.waiting,
                        timeout=due - workflow.now(),
                        timeout_summary="then: are the jobs alive?",
                    )
                continue
            await self.look()

    async def look(self) -> None:
        """Ask which jobs are over, and take back what they had."""
        runs = tuple(dict.fromkeys((request.job_id, request.run_id) for request in self.budget.requests))
        try:
            over = await workflow.execute_activity_method(
                HostBudgetActivities.ended_runs, JobRuns(runs=runs), summary="are the jobs alive?", **LOOK
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("which jobs still run could not be asked: %s", error.cause)
            over = JobRuns(runs=())
        self.budget.looked_at = workflow.now()
        for request in self.budget.requests:
            if (request.job_id, request.run_id) in over.runs:
                self.budget.take_back(request.id)

    def should_continue_as_new(self) -> bool:
        """Only with every request answered: what is carried over is the budget alone."""
        info = workflow.info()
        long = info.is_continue_as_new_suggested() or info.get_current_history_length() >= HISTORY_LIMIT
        return long and not self.unanswered and workflow.all_handlers_finished()


def describe(budget: HostBudget) -> str:
    """The budget for the Temporal Web UI, in Markdown."""
    limits = budget.limits
    lines = [
        f"## {limits.host} of {limits.source}: {len(budget.held)} of {limits.at_a_time} streams in use",
        "",
        f"At most {limits.streams} streams and {size(limits.bytes_in_flight)} in flight, over all jobs.",
    ]
    if budget.held:
        lines += ["", "**Reading**", ""]
        lines += [
            f"- {slot.request.job_id}, since {slot.since:%Y-%m-%d %H:%M:%S} UTC, {size(slot.bytes_in_flight)} in flight"
            for slot in budget.held[:SHOWN]
        ]
    if budget.waiting:
        lines += ["", f"**Waiting**: {len(budget.waiting)}, in this order", ""]
        lines += [
            f"1. {request.job_id}, since {request.asked_at:%Y-%m-%d %H:%M:%S} UTC{_hurry(request)}"
            for request in budget.turns()[:SHOWN]
        ]
    return "\n".join(lines)


def _hurry(request: SlotRequest) -> str:
    return ", before the others: its source is off, or about to be" if request.urgent else ""
