"""Weeks with a sync every hour, in simulated time: several continue-as-news, nothing lost on the way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.conftest import Job, a_spec, a_worker, program
from tests.workflows.world import World
from workflows.names import SEARCH_ATTRIBUTES, TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.job import JobInput
from xms.models import SetCadence
from xms.status import JobReport


@pytest.mark.slow
@pytest.mark.parametrize("days", [24, pytest.param(90, marks=pytest.mark.soak)])
async def test_a_job_syncs_hourly_for_weeks_over_several_continue_as_news(days: int) -> None:
    world = World(disks=1)
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=program("temporal-test-server"), data_converter=pydantic_data_converter
    ) as environment:
        kinds = {key.name: IndexedValueType.ValueType(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace="default", search_attributes=kinds)
        )
        async with a_worker(environment.client, world, cached=100):
            spec = a_spec(cadence_seconds=3600)
            handle = await environment.client.start_workflow(
                WarmMigrationWorkflow.run, JobInput(**spec.model_dump()), id="for-weeks", task_queue=TASK_QUEUE
            )
            first_run = handle.first_execution_run_id
            job = Job(handle, world)
            for day in range(days):
                world.write(2000, day % 64)
                await environment.sleep(timedelta(days=1))
            status = await job.status()
            assert status.sync_count == pytest.approx(24 * days, abs=3)
            assert world.replica_equals_source()
            described = await environment.client.get_workflow_handle("for-weeks").describe()
            assert described.run_id != first_run
            assert await continued_runs(environment, first_run or "") >= 3
            events = await handle.query(WarmMigrationWorkflow.events)
            assert len(events.events) == 200
            assert events.dropped > 24 * days - 300
            latest = environment.client.get_workflow_handle_for(WarmMigrationWorkflow.run, "for-weeks")
            await latest.execute_update(WarmMigrationWorkflow.set_cadence, SetCadence(cadence_seconds=None))
            await latest.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
            report = await asyncio.wait_for(latest.result(), 60)
            assert isinstance(report, JobReport)
            assert report.outcome == "completed"


async def continued_runs(environment: WorkflowEnvironment, first_run: str) -> int:
    """How many runs the chain has."""
    runs, run = 0, first_run
    while run:
        runs += 1
        history = await environment.client.get_workflow_handle("for-weeks", run_id=run).fetch_history()
        last = history.events[-1]
        assert len(history.events) < 12_000
        run = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return runs
