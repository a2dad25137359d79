"""The report of a job is kept as a file whenever something ended in it, and nothing waits for that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client

from tests.workflows.conftest import Job, a_job
from tests.workflows.world import World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder, FinalizeOrder, Window
from xms.models import Abandon, Phase

pytestmark = pytest.mark.asyncio(loop_scope="session")


def phases(world: World) -> list[Phase]:
    """Of the job, as each report that was kept tells it."""
    return [order.status.phase for order in world.reports]


async def cut_over(job: Job, **wishes: object) -> None:
    await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann", **wishes))


async def test_it_is_kept_after_a_roll_back_after_the_cutover_and_when_that_stands(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        assert phases(world) == []
        world.fail["finalize_volumes"] = [failure("VolumeFailed")]
        await cut_over(job)
        await job.tells("report kept")
        await cut_over(job, rollback_period_seconds=600)
        await job.tells("report kept", times=2)
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder(who="ann"))
        result = await job.handle.result()
    assert phases(world) == [Phase.READY, Phase.COMPLETED, Phase.COMPLETED]
    assert {order.submitted_at for order in world.reports} == {result.events[0].at}
    unseeded = world.reports[0].status.disks[0].baseline
    assert (unseeded.unseeded, unseeded.unseeded_bytes > 0) == ("", True)
    failed, completed, stands = (order.story.events for order in world.reports)
    assert "rolled back" in {event.kind for event in failed}
    assert "completed" in {event.kind for event in completed}
    assert stands[-1].kind == "finalized"
    kept = [event.text for event in result.events if event.kind == "report kept"]
    assert kept == [f"on control-1: /reports/{job.handle.id}.html"] * 3


async def test_it_is_kept_when_the_job_needs_a_person_and_when_it_is_given_up(client: Client) -> None:
    world = World()
    world.fail["make_volume"] = [failure("QuotaExceeded", needs_person=True)]
    async with a_job(client, world) as job:
        await job.tells("report kept")
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(who="ann"))
        await job.handle.result()
    assert phases(world) == [Phase.FAILED, Phase.ABANDONED]


async def test_it_is_kept_when_a_cutover_was_not_begun(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        opens = datetime.now(UTC) + timedelta(seconds=1)
        await cut_over(job, window=Window(opens_at=opens, closes_at=opens + timedelta(seconds=70)))
        await job.tells("cutover dropped")
        await job.tells("report kept")
        await job.handle.terminate()
    assert phases(world) == [Phase.READY]


async def test_a_report_that_cannot_be_kept_costs_the_job_nothing(client: Client) -> None:
    world = World()
    world.fail["keep_report"] = [failure("ReportNotKept") for _ in range(3)]
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job)
        result = await job.handle.result()
    assert result.outcome == "completed"
    assert world.reports == []
    told = [event.text for event in result.events if event.kind == "report not kept"]
    assert told == ["the test says so"]
