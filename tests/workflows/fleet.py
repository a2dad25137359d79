"""Many jobs on one ESXi host: a world each, behind one set of activities, and who streams at a time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.workflows.conftest import Job, a_spec, a_worker
from tests.workflows.world import World
from workflows.host_budget import HostBudgetWorkflow
from workflows.names import TASK_QUEUE, budget_id
from workflows.warm_migration import WarmMigrationWorkflow
from xms.host_budget import HostBudget
from xms.job import JobInput
from xms.models import MigrationSpec, job_id
from xms.orders.conversion import LookBeforeConversion
from xms.orders.copy import StreamDisk, StreamResult
from xms.status import JobReport

SOURCE = "lab"
MIB = 1 << 20


class Fleet(World):
    """The world of each job, found by what its orders name, all on one host.

    Attributes:
        streaming: the jobs whose streams run now, one entry a stream.
        most: streams that ran at a time.
        began: the jobs of the streams in the order in which they began.
        held: jobs whose streams do not end before they are taken out.
    """

    def __init__(self, host: str, streams: int | None = 3, mib: int | None = 48) -> None:
        super().__init__()
        self.host, self.host_streams = host, streams
        self.host_bytes_in_flight = None if mib is None else mib * MIB
        self.worlds: dict[str, World] = {}
        self.streaming: list[str] = []
        self.flying = 0
        self.most = 0
        self.most_flying = 0
        self.began: list[str] = []
        self.held: set[str] = set()

    def has(self, vm: str, disks: int = 1) -> World:
        """Put a VM on the host."""
        world = World(disks)
        self.worlds[job_id(SOURCE, vm)] = world
        return world

    def activities(self) -> list[Callable[..., Any]]:
        return [self._of_the_job(method) for method in super().activities()]

    def _of_the_job(self, method: Callable[..., Any]) -> Callable[..., Any]:
        name = method.__name__

        @functools.wraps(method)
        async def of_the_job(order: Any) -> Any:  # noqa: ANN401 - any order, any answer
            world = self.worlds[job_of(order)]
            world.host, world.host_streams = self.host, self.host_streams
            world.host_bytes_in_flight = self.host_bytes_in_flight
            if name == "stream_disk":
                return await self._counted(world, order)
            return await getattr(world, name)(order)

        return of_the_job

    async def _counted(self, world: World, order: StreamDisk) -> StreamResult:
        job = order.vm.job_id
        self.streaming.append(job)
        self.began.append(job)
        self.flying += order.bytes_in_flight
        self.most, self.most_flying = max(self.most, len(self.streaming)), max(self.most_flying, self.flying)
        try:
            while job in self.held:
                activity.heartbeat()
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.02)
            return await world.stream_disk(order)
        finally:
            self.streaming.remove(job)
            self.flying -= order.bytes_in_flight


def job_of(order: Any) -> str:  # noqa: ANN401 - any order
    if isinstance(order, LookBeforeConversion):
        return job_id(SOURCE, order.vm)
    for path in ("job_id", "vm.job_id", "target.job_id", "server.target.job_id", "status.job_id", "spec"):
        value: Any = order
        for part in path.split("."):
            value = getattr(value, part, None)
        if isinstance(value, MigrationSpec):
            return job_id(value.source, value.vm)
        if value is not None:
            return str(value)
    return job_id(order.source, order.vm)


class Budget:
    """A host's budget as a test looks at it."""

    def __init__(self, client: Client, host: str) -> None:
        self.handle: WorkflowHandle[HostBudgetWorkflow, None] = client.get_workflow_handle_for(
            HostBudgetWorkflow.run, budget_id(SOURCE, host)
        )

    async def status(self) -> HostBudget:
        return await self.handle.query(HostBudgetWorkflow.status)

    async def shows(self, held: int, waiting: int, seconds: float = 20.0) -> HostBudget:
        status = None
        for _ in range(int(seconds / 0.05)):
            with suppress(RPCError):  # nobody has asked for it yet
                status = await self.status()
                if (len(status.held), len(status.waiting)) == (held, waiting):
                    return status
            await asyncio.sleep(0.05)
        raise AssertionError(f"not {held} held and {waiting} waiting: {status}")


async def submit(client: Client, fleet: Fleet, vm: str, disks: int = 1, max_snapshot_age_seconds: int = 3600) -> Job:
    """A job for a VM with something to copy."""
    world = fleet.has(vm, disks)
    for key in world.disks:
        world.write(key, 1)
    spec = a_spec(vm).model_copy(update={"max_snapshot_age_seconds": max_snapshot_age_seconds})
    handle: WorkflowHandle[WarmMigrationWorkflow, JobReport] = await client.start_workflow(
        WarmMigrationWorkflow.run,
        JobInput(**spec.model_dump()),
        id=job_id(spec.source, spec.vm),
        task_queue=TASK_QUEUE,
    )
    return Job(handle, world)


@asynccontextmanager
async def a_fleets_worker(client: Client, fleet: Fleet, cached: int = 100) -> AsyncIterator[None]:
    """Outside of the sandbox, which would import anew the times and limits that a test has changed."""
    async with a_worker(client, fleet, cached, UnsandboxedWorkflowRunner()):
        yield


async def until(there: Callable[[], bool], seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if there():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")
