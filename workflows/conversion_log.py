"""The short workflow that fetches a conversion's log from the worker that has it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.conversion import ConversionActivities
    from workflows.calls import Policy, call
    from xms.orders.conversion import ConversionLog, ReadConversionLog

ONE_WORKER: Final = Policy(
    start_to_close_timeout=timedelta(seconds=30),
    schedule_to_start_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=2),
)
"""It polls all the time: where it does not come within seconds, it does not run. No other worker has the file."""


@workflow.defn
class ConversionLogWorkflow:
    """The end of the log of a job's last conversion."""

    @workflow.run
    async def run(self, question: ReadConversionLog) -> ConversionLog:
        """Have the one worker read it."""
        policy: Policy = {**ONE_WORKER, "task_queue": question.worker_queue}
        return await call(ConversionActivities.read_conversion_log, question, **policy)
