"""xms migration verify: everything is compared, over as many snapshots as it takes, and what differs is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from tests.workflows.conftest import Job, a_job, a_spec
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.change_map import ByteRanges
from xms.cutover import CutoverOrder
from xms.models import Abandon, Pause, Phase, Retry, SyncNow, Verification, Verify
from xms.status import JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = 2000
WHOLE = 64 * BLOCK


async def until(there: Callable[[], bool]) -> None:
    for _ in range(400):
        if there():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


async def verify(job: Job, who: str = "ann") -> str:
    return (await job.handle.execute_update(WarmMigrationWorkflow.verify, Verify(who=who))).text


async def ended(job: Job) -> tuple[JobStatus, Verification]:
    for _ in range(400):
        status = await job.status()
        if status.verification is not None and status.verification.ended_at is not None and status.sync is None:
            return status, status.verification
        await asyncio.sleep(0.05)
    raise AssertionError(await job.status())


async def test_an_equal_replica_is_reported_with_who_when_and_how_much(client: Client) -> None:
    world = World()
    world.write(KEY, 3)
    async with a_job(client, world, cached=0) as job:
        await job.reaches(Phase.READY)
        assert await verify(job) == "every byte of the replica is compared with the source, 8 MiB, beginning now"
        status, report = await ended(job)
        assert (report.asked_by, report.snapshots, report.ended_because) == ("ann", 1, "")
        assert [(disk.disk_key, disk.compared, disk.differing_bytes) for disk in report.disks] == [
            (2000, WHOLE, 0),
            (2001, WHOLE, 0),
        ]
        assert status.trouble is None
        assert status.phase is Phase.READY
        assert "verified" in await job.kinds()
        await asyncio.sleep(0.3)
        assert world.calls.count("take_snapshot") == 2
        await job.handle.terminate()


async def test_a_spoiled_block_is_reported_and_mended_and_the_report_keeps_naming_it(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.corrupt(2001, 60)
        await verify(job)
        await ended(job)
        await until(world.replica_equals_source)
        await until(lambda: world.calls.count("take_snapshot") == 3)
        status = await job.reaches(Phase.READY)
        assert status.verification is not None
        first, second = status.verification.disks
        assert first.differing == ""
        assert ByteRanges.decode(second.differing) == ByteRanges([(60 * BLOCK, BLOCK)])
        assert second.differing_bytes == BLOCK
        assert status.trouble is None
        assert status.disks[1].differed_bytes == 0
        assert not world.snapshots
        await job.handle.terminate()


async def test_a_verification_goes_over_as_many_snapshots_as_it_takes_and_a_pause_does_not_hold_it_up(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world, cached=0) as job:
        await job.reaches(Phase.READY)
        world.compares_at_most = 24 * BLOCK
        world.corrupt(KEY, 1)
        world.corrupt(KEY, 30)
        world.corrupt(KEY, 63)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        await verify(job)
        _, report = await ended(job)
        assert report.snapshots == 3
        assert [next(iter(asked)) for _, asked in world.compares] == [
            (start * BLOCK, WHOLE - start * BLOCK) for start in (0, 24, 48)
        ]
        assert report.disks[0].compared == WHOLE
        wrong = ByteRanges((block * BLOCK, BLOCK) for block in (1, 30, 63))
        assert ByteRanges.decode(report.disks[0].differing) == wrong
        # The first two were mended by the syncs that followed; the job is paused, and the third one waits.
        status = await job.reaches(Phase.READY)
        assert status.disks[0].baseline.unseeded_bytes == BLOCK
        assert status.trouble is not None
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await until(world.replica_equals_source)
        await job.handle.terminate()


async def test_a_verification_goes_on_after_a_sync_that_failed(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.compares_at_most = 40 * BLOCK
        world.corrupt(KEY, 1)

        def second_stream_fails() -> None:
            world.before["stream_disk"] = lambda: world.fail["stream_disk"].append(failure("TransportFailed"))

        world.before["stream_disk"] = second_stream_fails
        await verify(job)
        await job.tells("sync failed")
        status = await job.reaches(Phase.READY)
        assert status.verification is not None
        assert status.verification.disks[0].compared == 40 * BLOCK
        # It would go on by itself after half a minute; any other sync takes it along.
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        _, report = await ended(job)
        assert report.disks[0].compared == WHOLE
        assert report.disks[0].differing_bytes == BLOCK
        await until(world.replica_equals_source)
        await job.handle.terminate()


async def test_a_worker_that_dies_after_a_comparison_has_it_made_again_and_nothing_is_counted_twice(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world, cached=0) as job:
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 7)
        world.die_after.add("stream_disk")
        await verify(job)
        _, report = await ended(job)
        assert len(world.compares) >= 2
        assert (report.snapshots, report.disks[0].compared, report.disks[0].differing_bytes) == (1, WHOLE, BLOCK)
        await until(world.replica_equals_source)
        await job.handle.terminate()


async def test_a_failure_that_needs_a_person_interrupts_a_verification_until_the_retry(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["stream_disk"] = [failure("SourceForbidden", needs_person=True)]
        await verify(job)
        await job.reaches(Phase.FAILED)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        _, report = await ended(job)
        assert report.disks[0].compared == WHOLE
        await job.handle.terminate()


async def test_a_verification_that_does_not_get_on_does_not_go_round_for_ever(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        before = await job.reaches(Phase.READY)
        world.compares_at_most = 0
        world.write(KEY, 1)
        await verify(job)
        await job.tells("sync failed")
        status = await job.reaches(Phase.READY)
        await asyncio.sleep(0.5)
        assert world.calls.count("take_snapshot") == 2
        assert status.trouble is not None
        assert status.trouble.kind == "NoProgress"
        assert status.disks[0].baseline != before.disks[0].baseline
        await job.handle.terminate()


async def test_a_second_verification_is_refused_while_one_runs_with_who_asked_for_it(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.hold = True
        await verify(job, "ann")
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await verify(job, "bob")
        assert "ann asked for it at" in str(refused.value.cause)
        await job.handle.signal("verify", Verify(who="bob"))
        assert "refused" in await job.kinds()
        world.hold = False
        await ended(job)
        assert "beginning now" in await verify(job, "bob")
        await job.handle.terminate()


async def test_asked_for_while_a_sync_runs_it_follows_with_a_snapshot_of_its_own(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.write(KEY, 1)
        world.hold = True
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await until(lambda: world.calls.count("stream_disk") == 2)
        assert "after the sync that runs" in await verify(job)
        world.hold = False
        _, report = await ended(job)
        assert report.snapshots == 1
        assert world.calls.count("take_snapshot") == 3
        assert len(world.compares) == 1
        await job.handle.terminate()


async def test_a_cutover_comes_first_and_ends_a_verification_as_incomplete(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.compares_at_most = 10 * BLOCK
        world.hold = True
        await verify(job)
        await until(lambda: world.calls.count("stream_disk") == 2)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="bob"))
        with pytest.raises(WorkflowUpdateFailedError):
            await verify(job)
        world.hold = False
        report = await job.handle.result()
        assert report.outcome == "completed"
        found = report.status.verification
        assert found is not None
        assert found.ended_because == "the cutover that bob ordered comes first"
        assert found.disks[0].compared == 10 * BLOCK
        (text,) = (event.text for event in report.events if event.kind == "verification ended")
        assert text.endswith("640 KiB of 4 MiB compared over 1 snapshot: all of it is equal")


async def test_abandoned_the_job_takes_its_verification_with_it(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.hold = True
        await verify(job)
        await until(lambda: world.calls.count("stream_disk") == 2)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        report = await asyncio.wait_for(job.handle.result(), 20)
        assert report.status.verification is not None
        assert report.status.verification.ended_because == "the job was abandoned"


async def test_a_disk_that_is_added_while_a_verification_runs_takes_part_in_it(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, a_spec()) as job:
        await job.reaches(Phase.READY)
        world.compares_at_most = 40 * BLOCK
        world.before["stream_disk"] = lambda: world.disks.update({2001: type(world.disks[KEY])()})
        await verify(job)
        _, report = await ended(job)
        assert [(disk.disk_key, disk.compared) for disk in report.disks] == [(2000, WHOLE), (2001, WHOLE)]
        await job.handle.terminate()
