"""What comes before a source is stopped: predictions, warm passes, and cutovers that wait for their time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.conftest import Job, a_job, a_spec, a_worker, program
from tests.workflows.world import World, failure
from workflows.names import SEARCH_ATTRIBUTES, TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder, Measured, SyncFigures, Window, WithdrawCutover
from xms.job import JobInput, JobState
from xms.models import Pause, Phase, SetCadence, SyncNow

BLOCK = 64 << 10
QUICK = Measured(shutdown=1.0, conversion=1.0, boot=1.0, own=1.0)


async def order(job: Job, command: CutoverOrder) -> str:
    receipt = await job.handle.execute_update(WarmMigrationWorkflow.cutover, command)
    return receipt.text


async def a_record(client: Client, world: World, **more: Any) -> JobState:  # noqa: ANN401 - fields
    """The record of a job that is Ready, with a history of its own."""
    async with a_job(client, world, a_spec()) as job:
        status = await job.reaches(Phase.READY)
        await job.handle.terminate()
    return JobState.model_validate(status.model_dump() | more)


async def is_back(job: Job, world: World) -> Any:  # noqa: ANN401 - a status
    """The cutover ended before the source was touched, and the job is Ready."""
    await job.tells("rolled back")
    status = await job.reaches(Phase.READY)
    assert world.power == "poweredOn"
    assert "power_off" not in world.calls
    assert not world.snapshots
    assert not world.ports
    assert status.cutover_ordered is None
    return status


async def test_a_downtime_that_no_pass_could_shorten_ends_the_cutover_before_anything_is_touched(
    client: Client,
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await order(job, CutoverOrder(who="ann", max_downtime_seconds=60))
        status = await is_back(job, world)
        assert status.cutover is not None
        assert [step.name for step in status.cutover.steps] == ["Gates"]
        assert status.cutover.trouble.kind == "DowntimeTooLong"
        assert "allowed 1m" in status.cutover.trouble.because
        assert "the source was not touched" in status.cutover.trouble.means
        assert status.cutover.decisions[-1].what == "does not begin"
        assert status.cutover.prediction.seconds > 200


async def test_force_goes_on_with_what_does_not_fit_and_the_record_says_so(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await order(job, CutoverOrder(who="ann", max_downtime_seconds=60, force=True))
        report = await job.handle.result()
        assert report.outcome == "completed"
        assert report.status.cutover is not None
        decided = report.status.cutover.decisions[-1]
        assert decided.what == "goes on"
        assert decided.because.endswith("allowed 1m: forced")
        assert report.status.cutover.prediction is not None


async def test_passes_go_on_while_the_delta_shrinks_and_the_cutover_begins_when_it_fits(client: Client) -> None:
    world = World(disks=1)
    record = await a_record(client, world, measured=QUICK, recent_syncs=a_slow_history())
    world.hold = True
    async with a_job(client, world, carried=record) as job:
        await order(job, CutoverOrder(max_downtime_seconds=22))
        world.write(2000, 5)
        await asyncio.sleep(4)
        world.hold = False
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "completed"
        story = [event.kind for event in report.events]
        assert 1 <= story.count("warm pass") <= 3
        assert report.status.cutover is not None
        assert report.status.cutover.prediction is not None
        assert report.status.cutover.prediction.seconds <= 22
        assert report.status.cutover.decisions[-1].what == "goes on"


def a_slow_history() -> tuple[SyncFigures, ...]:
    """1 KiB changed a second, and 1 KiB copied a second: each second before the shutdown is two of downtime."""
    began = datetime.now(UTC) - timedelta(hours=1)
    large = SyncFigures(snapshot_at=began, bytes=100 << 20, streaming_seconds=102_400.0, seconds=102_400.0)
    small = (
        SyncFigures(snapshot_at=began + timedelta(seconds=7 * n), bytes=7 << 10, streaming_seconds=7.0, seconds=7.0)
        for n in range(1, 8)
    )
    return (large, *small)


async def test_passes_end_where_the_delta_does_not_shrink_any_more(client: Client) -> None:
    world = World(disks=1)
    record = await a_record(client, world, measured=QUICK, recent_syncs=a_slow_history())
    async with a_job(client, world, carried=record) as job:
        await order(job, CutoverOrder(max_downtime_seconds=16))
        status = await is_back(job, world)
        assert status.cutover.trouble.kind == "DowntimeTooLong"
        assert "at best" in status.cutover.trouble.because or "any more" in status.cutover.trouble.because


async def test_what_a_failed_cutover_measured_is_predicted_of_the_next_one(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        await order(job, CutoverOrder())
        await job.tells("rolled back")
        status = await job.reaches(Phase.READY)
        assert status.measured.shutdown is not None
        assert status.measured.conversion is not None
        assert status.measured.boot is None
        assert status.measured.by == "cutover"
        await order(job, CutoverOrder(max_downtime_seconds=90))
        report = await job.handle.result()
        assert report.outcome == "completed"
        assert report.status.cutover is not None
        assert report.status.cutover.prediction is not None
        assert report.status.cutover.prediction.seconds < 90
        assert report.status.measured.boot is not None


async def test_a_wait_for_the_last_stream_counts_when_the_source_is_about_to_be_stopped(client: Client) -> None:
    world = World(disks=1)
    record = await a_record(client, world, measured=QUICK, recent_syncs=a_slow_history())
    world.late = {"make_ports"}
    async with a_job(client, world, carried=record) as job:
        await order(job, CutoverOrder(max_downtime_seconds=22))
        await asyncio.sleep(12)
        world.late.clear()
        status = await is_back(job, world)
        assert status.cutover.trouble.kind == "DowntimeTooLong"
        assert [step.name for step in status.cutover.steps][-1] == "Reserve Stream"


# --- scheduled --------------------------------------------------------------------------------------------------------


async def test_a_cutover_begins_at_its_time_after_a_sync_that_comes_before_it(client: Client) -> None:
    world = World()
    record = await a_record(client, world, last_sync_at=datetime.now(UTC) - timedelta(hours=1))
    async with a_job(client, world, carried=record) as job:
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        at = datetime.now(UTC) + timedelta(seconds=4)
        assert "can be changed or withdrawn" in await order(job, CutoverOrder(who="ann", at=at))
        status = await job.reaches(Phase.READY, syncs=1)
        assert status.cutover_ordered is not None
        assert status.cutover is None
        assert datetime.now(UTC) < at
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "completed"
        assert report.status.cutover is not None
        assert report.status.cutover.steps[0].started_at >= at
        committed = [event.text for event in report.events if event.kind == "sync committed"]
        assert [text.split(":")[0] for text in committed] == [
            "before the cutover",
            "before cutover",
            "final delta",
        ]


async def test_a_window_that_does_not_suffice_is_told_and_the_job_goes_on(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        opens = datetime.now(UTC) + timedelta(seconds=1)
        window = Window(opens_at=opens, closes_at=opens + timedelta(seconds=70))
        await order(job, CutoverOrder(who="ann", window=window))
        await job.tells("cutover dropped")
        status = await job.reaches(Phase.READY)
        assert status.cutover_ordered is None
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "WindowMissed"
        assert "the window closes in" in status.cutover.trouble.because
        assert status.cutover.decisions[-1].what == "does not begin"
        assert status.cutover.prediction is not None
        assert status.trouble is not None
        assert world.power == "poweredOn"
        assert "power_off" not in world.calls
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        assert (await job.reaches(Phase.READY, syncs=1)).trouble is None


async def test_a_sync_that_fails_before_the_opening_is_tried_again_and_does_not_drop_the_order(client: Client) -> None:
    world = World()
    record = await a_record(client, world, last_sync_at=datetime.now(UTC) - timedelta(hours=1))
    async with a_job(client, world, carried=record) as job:
        world.fail["take_snapshot"] = [failure("SourceUnreachable")]
        at = datetime.now(UTC) + timedelta(seconds=3)
        await order(job, CutoverOrder(at=at))
        await job.tells("sync failed")
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "completed"


async def test_a_scheduled_cutover_is_changed_and_withdrawn(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await order(job, CutoverOrder(who="ann", at=tomorrow))
        assert "it replaces the one of" in await order(job, CutoverOrder(who="bob", at=tomorrow + timedelta(hours=1)))
        status = await job.status()
        assert status.cutover_ordered is not None
        assert status.cutover_ordered.who == "bob"
        await job.handle.execute_update(WarmMigrationWorkflow.withdraw_cutover, WithdrawCutover(who="ann"))
        assert (await job.status()).cutover_ordered is None
        await job.handle.signal("cutover", {"who": "carl", "at": (tomorrow).replace(tzinfo=None).isoformat()})
        await asyncio.sleep(0.5)
        status = await job.status()
        assert status.cutover_ordered is not None
        assert status.cutover_ordered.at == tomorrow


@pytest.mark.slow
async def test_a_scheduled_cutover_outlives_a_continue_as_new_and_begins_in_its_window() -> None:
    world = World(disks=1)
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=program("temporal-test-server"), data_converter=pydantic_data_converter
    ) as environment:
        kinds = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace="default", search_attributes=kinds)
        )
        async with a_worker(environment.client, world):
            handle = await environment.client.start_workflow(
                WarmMigrationWorkflow.run,
                JobInput(**a_spec(cadence_seconds=1800).model_dump()),
                id="scheduled",
                task_queue=TASK_QUEUE,
            )
            first_run = handle.first_execution_run_id
            job = Job(handle, world)
            await environment.sleep(timedelta(hours=1))
            opens = (await environment.get_current_time()).astimezone(UTC) + timedelta(days=20)
            await order(job, CutoverOrder(window=Window(opens_at=opens, closes_at=opens + timedelta(hours=3))))
            for _ in range(16):
                await environment.sleep(timedelta(days=1))
            latest = environment.client.get_workflow_handle_for(WarmMigrationWorkflow.run, "scheduled")
            assert (await latest.describe()).run_id != first_run
            status = await latest.query(WarmMigrationWorkflow.status)
            assert status.cutover_ordered is not None
            await latest.execute_update(WarmMigrationWorkflow.set_cadence, SetCadence(cadence_seconds=None))
            for _ in range(4):
                await environment.sleep(timedelta(days=1))
            report = await asyncio.wait_for(latest.result(), 60)
            assert report.outcome == "completed"
            assert report.status.cutover is not None
            begun = report.status.cutover.steps[0].started_at
            assert opens <= begun < opens + timedelta(minutes=1)
            before = [event for event in report.events if event.text.startswith("before the cutover")]
            assert len(before) == 1
            assert timedelta(minutes=4) <= opens - before[0].at <= timedelta(minutes=5)
