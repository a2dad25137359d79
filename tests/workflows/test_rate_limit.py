"""A job's rate limit: real copies of a real export follow it within seconds while they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities import streaming
from activities.rate_limit import ASK_EVERY_SECONDS, FollowedRate, job_rates
from activities.streaming import StreamingActivities
from tests.engine.rig import MIB, AllowingGuard, Served, a_disk
from tests.workflows.conftest import Job, a_job, a_spec
from tests.workflows.world import World
from worker import activities_of
from workflows.names import DATA_QUEUE, TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.client.live import with_live_figures
from xms.config import Config, SourceConfig, TargetConfig
from xms.cutover import CutoverOrder
from xms.engine.throttle import Throttle
from xms.job import JobInput
from xms.models import Phase, SetRateLimit, SyncNow
from xms.orders.copy import StreamRate
from xms.vsphere.sessions import Sessions

SIZE = 256 * MIB


class ClaimedFile(AllowingGuard):
    path: str


@asynccontextmanager
async def a_real_copy(
    client: Client, place: Path, monkeypatch: pytest.MonkeyPatch, rate_limit: int | None
) -> AsyncIterator[Job]:
    """A job with one disk, whose stream is the real one: nbdkit to a file."""
    export = Served(
        place / "socket", ("file", a_disk(place / "source", SIZE, [(at * 32 * MIB, 32 * MIB) for at in range(8)]))
    )
    volume = place / "volume"
    with volume.open("wb") as file:
        file.truncate(SIZE)

    @contextmanager
    def open_export(**_where: Any) -> Iterator[str]:  # noqa: ANN401 - a stand-in
        yield export.uri

    @contextmanager
    def claim_volume(*_where: Any, **_who: Any) -> Iterator[ClaimedFile]:  # noqa: ANN401 - a stand-in
        claim = ClaimedFile()
        claim.path = str(volume)
        yield claim

    @contextmanager
    def connect(*_where: Any) -> Iterator[None]:  # noqa: ANN401 - a stand-in
        yield

    monkeypatch.setattr(streaming, "open_export", open_export)
    monkeypatch.setattr(streaming, "claim_volume", claim_volume)
    monkeypatch.setattr(streaming, "connect", connect)
    world = World(disks=1)
    world.disks[2000].capacity = SIZE
    config = Config(
        sources={"lab": SourceConfig(host="h", username="u", password_file=Path("p"))}, target=TargetConfig(cloud="c")
    )
    spec = a_spec().model_copy(update={"rate_limit": rate_limit})
    with ThreadPoolExecutor(max_workers=2) as threads, closing(Sessions()) as sessions:
        async with (
            Worker(client, task_queue=TASK_QUEUE, workflows=[WarmMigrationWorkflow], activities=world.activities()),
            Worker(
                client,
                task_queue=DATA_QUEUE,
                activities=activities_of(StreamingActivities(config, sessions, job_rates(client))),
                activity_executor=threads,
                max_heartbeat_throttle_interval=timedelta(seconds=0.2),
                default_heartbeat_throttle_interval=timedelta(seconds=0.2),
            ),
        ):
            handle = await client.start_workflow(
                WarmMigrationWorkflow.run,
                JobInput(**spec.model_dump()),
                id=f"warm-{spec.source}-{spec.vm}",
                task_queue=TASK_QUEUE,
            )
            yield Job(handle, world)
    export.kill()
    assert volume.read_bytes() == (place / "source").read_bytes()


async def has_read(client: Client, job: Job) -> int:
    """Bytes, by the stream's last heartbeat."""
    status = await with_live_figures(await job.status(), await job.handle.describe(), client.data_converter)
    return sum(stream.bytes_read for stream in status.progress)


async def read_within(client: Client, job: Job, seconds: float) -> int:
    before = await has_read(client, job)
    await asyncio.sleep(seconds)
    return await has_read(client, job) - before


async def begins(client: Client, job: Job) -> None:
    for _ in range(400):
        if await has_read(client, job):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nothing is read")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_running_copy_is_slowed_down_and_sped_up_by_set_rate_limit(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_real_copy(client, tmp_path, monkeypatch, rate_limit=4 * MIB) as job:
        await begins(client, job)
        assert await has_read(client, job) < 24 * MIB
        assert 5 * MIB < await read_within(client, job, 3) < 20 * MIB

        await job.handle.execute_update(WarmMigrationWorkflow.set_rate_limit, SetRateLimit(rate_limit=1 * MIB))
        await asyncio.sleep(5)
        assert await read_within(client, job, 4) < 8 * MIB

        await job.handle.execute_update(WarmMigrationWorkflow.set_rate_limit, SetRateLimit(rate_limit=12 * MIB))
        await asyncio.sleep(5)
        assert await read_within(client, job, 3) > 20 * MIB

        began = time.monotonic()
        await job.handle.execute_update(WarmMigrationWorkflow.set_rate_limit, SetRateLimit(rate_limit=None))
        ready = await job.reaches(Phase.READY, seconds=60)
        assert time.monotonic() - began < 12
        assert ready.rate_limit is None
        await job.handle.terminate()


@pytest.mark.asyncio(loop_scope="session")
async def test_streams_begin_with_their_share_of_the_limit_and_the_final_delta_with_none(client: Client) -> None:
    world = World(disks=2)
    world.write(2000, 1)
    spec = a_spec().model_copy(update={"rate_limit": 10 * MIB})
    async with a_job(client, world, spec) as job:
        await job.reaches(Phase.READY)
        assert [order.rate_limit for order in world.streams] == [5 * MIB, 5 * MIB]
        world.write(2000, 2)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        assert world.streams[-1].rate_limit == 10 * MIB
        world.before["power_off"] = lambda: world.write(2000, 3)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.result()
        assert world.streams[-1].verify
        assert world.streams[-1].rate_limit is None


class AskedJob:
    """A job that answers when the test wants it to."""

    def __init__(self) -> None:
        self.asked: list[Future[StreamRate]] = []

    def __call__(self, workflow_id: str, run_id: str) -> Future[StreamRate]:
        assert workflow_id
        assert run_id
        self.asked.append(Future())
        return self.asked[-1]


def test_a_rate_is_asked_for_at_once_and_again_and_one_question_at_a_time() -> None:
    now = 100.0
    job, throttle = AskedJob(), Throttle(5.0)

    def play() -> None:
        nonlocal now
        followed = FollowedRate(throttle, job, clock=lambda: now)
        followed.look()
        assert len(job.asked) == 1
        now += 2 * ASK_EVERY_SECONDS
        followed.look()
        assert len(job.asked) == 1
        assert throttle.rate == 5.0
        job.asked[0].set_result(StreamRate(bytes_a_second=7))
        followed.look()
        assert throttle.rate == 7
        assert len(job.asked) == 2
        job.asked[1].set_exception(RuntimeError("no worker answers"))
        followed.look()
        assert throttle.rate == 7
        assert len(job.asked) == 2
        now += ASK_EVERY_SECONDS
        followed.look()
        job.asked[2].set_result(StreamRate(bytes_a_second=None))
        followed.look()
        assert throttle.rate is None
        now += ASK_EVERY_SECONDS
        followed.look()
        followed.end()
        assert job.asked[3].cancelled()

    ActivityEnvironment().run(play)
