"""The figures of work that runs now: the heartbeats of the job's streams, and calls that are tried again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowExecutionDescription
from temporalio.converter import DataConverter

from xms.cutover import ConversionProgress
from xms.models import Attempt, DiskProgress
from xms.status import JobStatus

STREAM: Final = "stream_disk"
CONVERSIONS: Final = ("convert", "commit_conversion")


async def with_live_figures(
    status: JobStatus, description: WorkflowExecutionDescription, converter: DataConverter
) -> JobStatus:
    """The job's own answer, with what its pending activities say of themselves."""
    pending = description.raw_description.pending_activities
    progress = [
        item
        for activity in pending
        if activity.activity_type.name == STREAM and activity.HasField("heartbeat_details")
        for item in await _progress(activity, converter)
    ]
    return status.model_copy(
        update={
            "progress": tuple(sorted(progress, key=lambda item: item.disk_key)),
            "conversion": await _conversion(pending, converter),
            "attempts": tuple(_attempts(pending)),
        }
    )


async def _conversion(pending: Sequence[PendingActivityInfo], converter: DataConverter) -> ConversionProgress | None:
    """What the worker says that converts; that none has begun yet, where one is waited for."""
    for activity in pending:
        if activity.activity_type.name not in CONVERSIONS:
            continue
        if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
            return ConversionProgress(stage="waiting for a worker that is free to convert")
        if activity.HasField("heartbeat_details"):
            payloads = list(activity.heartbeat_details.payloads)[:1]
            said = await converter.decode(payloads, [ConversionProgress])
            return next(iter(said), None)
    return None


async def _progress(activity: PendingActivityInfo, converter: DataConverter) -> list[DiskProgress]:
    payloads = list(activity.heartbeat_details.payloads)[:1]
    return await converter.decode(payloads, [DiskProgress])


def _attempts(pending: Sequence[PendingActivityInfo]) -> list[Attempt]:
    return [
        Attempt(
            call=activity.activity_type.name, number=activity.attempt, because=activity.last_failure.message.strip()
        )
        for activity in pending
        if activity.attempt > 1 and activity.HasField("last_failure")
    ]
