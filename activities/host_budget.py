"""What jobs and budgets ask of Temporal itself: a workflow can neither start another one on demand nor look at it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from workflows.names import ASK, HOST_BUDGET, TASK_QUEUE, budget_id
from xms.host_budget import HostBudget, SlotRequest
from xms.orders.copy import JobRuns
from xms.orders.source import Done

CALL: Final = timedelta(seconds=10)
"""For an answer of the server."""


class HostBudgetActivities:
    """Asks the budgets of ESXi hosts, and looks after those that use them."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @activity.defn(no_thread_cancel_exception=True)
    async def ask_for_slot(self, request: SlotRequest) -> Done:
        """Tell the host's budget what a job wants; where no budget runs, this starts it, in the same call.

        So nothing is lost between a budget that ends because nobody needs it and the next request.
        """
        limits = request.limits
        await self.client.start_workflow(
            HOST_BUDGET,
            HostBudget(limits=limits),
            id=budget_id(limits.source, limits.host),
            task_queue=TASK_QUEUE,
            start_signal=ASK,
            start_signal_args=[request],
            static_summary=f"streams from {limits.host} of {limits.source}",
            rpc_timeout=CALL,
        )
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    async def ended_runs(self, order: JobRuns) -> JobRuns:
        """Which of these runs of jobs are over: completed, terminated, or not known to Temporal any more."""
        return JobRuns(runs=tuple([run for run in order.runs if await self._is_over(*run)]))

    async def _is_over(self, workflow_id: str, run_id: str) -> bool:
        try:
            description = await self.client.get_workflow_handle(workflow_id, run_id=run_id).describe(rpc_timeout=CALL)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return True
            raise
        return description.status is not WorkflowExecutionStatus.RUNNING
