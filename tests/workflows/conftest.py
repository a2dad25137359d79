from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest_asyncio
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.host_budget import HostBudgetActivities
from lab.programs import find_program
from tests.workflows.world import World
from worker import activities_of
from workflows.host_budget import HostBudgetWorkflow
from workflows.names import CONVERSION_QUEUE, DATA_QUEUE, LOOK_QUEUE, SEARCH_ATTRIBUTES, TASK_QUEUE
from workflows.rehearsal import RehearsalWorkflow
from workflows.warm_migration import WarmMigrationWorkflow
from xms.job import JobInput, JobState
from xms.models import MigrationSpec, Phase
from xms.status import JobReport, JobStatus


def program(name: str) -> str:
    return str(find_program(name))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=program("temporal"),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
        dev_server_log_level="error",
    ) as environment:
        yield environment


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: WorkflowEnvironment) -> AsyncIterator[Client]:
    """The server's; what a test leaves running ends with it: it would go on in the next one's world."""
    yield server.client
    async for left in server.client.list_workflows('ExecutionStatus = "Running"'):
        with suppress(RPCError):  # it ended meanwhile
            await server.client.get_workflow_handle(left.id, run_id=left.run_id).terminate("the test is over")


def a_spec(vm: str | None = None, cadence_seconds: int | None = None) -> MigrationSpec:
    return MigrationSpec(
        source="lab",
        vm=vm or f"vm-{uuid.uuid4().hex[:8]}",
        target_project="infra",
        instance_name="db",
        flavor="m1.small",
        volume_type="ssd",
        cadence_seconds=cadence_seconds,
        requested_by="tester",
    )


class Job:
    """A running job, and how a test looks at it."""

    def __init__(self, handle: WorkflowHandle[WarmMigrationWorkflow, JobReport], world: World) -> None:
        self.handle = handle
        self.world = world

    async def status(self) -> JobStatus:
        return await self.handle.query(WarmMigrationWorkflow.status)

    async def kinds(self) -> list[str]:
        return [event.kind for event in (await self.handle.query(WarmMigrationWorkflow.events)).events]

    async def tells(self, kind: str, seconds: float = 20.0, times: int = 1) -> None:
        for _ in range(int(seconds / 0.05)):
            if (await self.kinds()).count(kind) >= times:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"no event '{kind}' among {await self.kinds()}")

    async def reaches(self, phase: Phase, syncs: int = 0, seconds: float = 20.0) -> JobStatus:
        for _ in range(int(seconds / 0.05)):
            status = await self.status()
            if status.phase is phase and status.sync_count >= syncs and status.sync is None:
                return status
            await asyncio.sleep(0.05)
        raise AssertionError(f"{status.phase}, {status.sync_count} syncs, trouble {status.trouble}")


@asynccontextmanager
async def a_worker(
    client: Client, world: World, cached: int = 100, runner: WorkflowRunner | None = None
) -> AsyncIterator[None]:
    async with (
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[WarmMigrationWorkflow, RehearsalWorkflow, HostBudgetWorkflow],
            activities=[*world.activities(), *activities_of(HostBudgetActivities(client))],
            max_cached_workflows=cached,
            workflow_runner=runner or SandboxedWorkflowRunner(),
        ),
        Worker(client, task_queue=DATA_QUEUE, activities=world.activities()),
        Worker(client, task_queue=CONVERSION_QUEUE, activities=world.activities()),
        Worker(client, task_queue=LOOK_QUEUE, activities=world.activities()),
    ):
        yield


@asynccontextmanager
async def a_job(
    client: Client,
    world: World,
    spec: MigrationSpec | None = None,
    *,
    carried: JobState | None = None,
    cached: int = 100,
) -> AsyncIterator[Job]:
    spec = spec or a_spec()
    async with a_worker(client, world, cached):
        handle = await client.start_workflow(
            WarmMigrationWorkflow.run,
            JobInput(**spec.model_dump(), carried=carried),
            id=f"warm-{spec.source}-{spec.vm}",
            task_queue=TASK_QUEUE,
        )
        yield Job(handle, world)
