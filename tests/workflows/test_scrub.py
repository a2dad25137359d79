"""What the rolling scrub finds on the way, and how it is mended; and what a sync's own verifications refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import Client

from tests.workflows.conftest import Job, a_job, a_spec
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.change_map import ByteRanges
from xms.cutover import CutoverOrder
from xms.models import DiskProgress, MigrationSpec, Pause, Phase, Resume, SyncNow

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = 2000
WINDOW = 16
"""blocks: a window is 1 MiB at least"""


def scrubbing(percent: float = 1.0, **changes: Any) -> MigrationSpec:  # noqa: ANN401 - fields of the spec
    return a_spec().model_copy(update={"scrub_percent": percent, **changes})


async def until(there: Callable[[], bool]) -> None:
    for _ in range(400):
        if there():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


async def sync(job: Job) -> None:
    await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow(who="ann"))


async def told(job: Job, kind: str) -> list[str]:
    story = await job.handle.query(WarmMigrationWorkflow.events)
    return [event.text for event in story.events if event.kind == kind]


async def test_a_spoiled_block_is_found_by_the_scrub_and_mended_by_a_sync_right_after(client: Client) -> None:
    world = World(disks=1)
    world.write(KEY, 3)
    # Without a cache every task replays the whole history, which a decision that is not deterministic does not survive.
    async with a_job(client, world, scrubbing(100), cached=0) as job:
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 5)
        await sync(job)
        await job.tells("scrub")
        await until(world.replica_equals_source)
        await until(lambda: not world.snapshots)
        status = await job.reaches(Phase.READY)
        assert status.trouble is None
        assert status.disks[0].baseline.unseeded_bytes == 0
        found, mended = await told(job, "scrub")
        assert found == "Hard disk 1 differed in 1 range, 64 KiB, from byte 327680 (327680 to 393215); copied again"
        assert "equal again" in mended
        assert world.calls.count("take_snapshot") == 3
        await job.handle.terminate()


async def test_until_it_is_mended_the_job_says_so_and_a_cutover_mends_it_before_the_source_stops(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        world.corrupt(KEY, 5)
        await sync(job)
        await job.tells("scrub")
        status = await job.reaches(Phase.READY)
        assert status.trouble is not None
        assert status.trouble.kind == "ReplicaDiffers"
        assert "from byte 327680" in status.trouble.because
        assert status.disks[0].baseline.unseeded_bytes == BLOCK
        equal_at_power_off: list[bool] = []
        world.before["power_off"] = lambda: equal_at_power_off.append(world.replica_equals_source())
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        assert (await job.handle.result()).outcome == "completed"
        assert equal_at_power_off == [True]


async def test_the_scrub_goes_round_the_disk_though_nothing_has_to_be_copied(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(1)) as job:
        await job.reaches(Phase.READY)
        for number in range(1, 5):
            await sync(job)
            await job.reaches(Phase.READY, syncs=number)
        starts = [next(iter(ranges))[0] // BLOCK for _, ranges in world.compares]
        assert starts == [0, WINDOW, 2 * WINDOW, 3 * WINDOW, 0]
        assert all(ranges.total == WINDOW * BLOCK for _, ranges in world.compares)
        await job.handle.terminate()


async def test_a_comparison_that_was_cut_short_goes_on_where_it_ended(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(50)) as job:
        world.compares_at_most = 3 * BLOCK
        await job.reaches(Phase.READY)
        await sync(job)
        status = await job.reaches(Phase.READY, syncs=1)
        # Windows begin at whole mebibytes, so what was compared of one is compared once more.
        assert status.disks[0].scrub_from == 3 * BLOCK
        world.compares_at_most = None
        await sync(job)
        status = await job.reaches(Phase.READY, syncs=2)
        assert status.disks[0].scrub_from == 32 * BLOCK
        await job.handle.terminate()


async def test_without_a_share_nothing_is_compared_and_a_sync_with_nothing_to_copy_streams_nothing(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        streams = world.calls.count("stream_disk")
        await sync(job)
        await job.reaches(Phase.READY, syncs=1)
        assert world.calls.count("stream_disk") == streams
        assert not world.compares
        await job.handle.terminate()


async def test_the_last_delta_is_not_made_longer_by_a_scrub(client: Client) -> None:
    world = World(disks=1)
    compares_at_power_off: list[int] = []
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)

        def power_off() -> None:
            world.write(KEY, 1)
            compares_at_power_off.append(len(world.compares))

        world.before["power_off"] = power_off
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.result()
        assert compares_at_power_off == [len(world.compares)]
        assert world.verified[-1]


async def test_what_is_not_copied_yet_is_not_compared(client: Client) -> None:
    world = World(disks=1)
    world.cut_short_after = 10 * BLOCK
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)
        assert world.calls.count("stream_disk") == 2
        assert len(world.compares) == 1
        assert "scrub" not in await job.kinds()
        await job.handle.terminate()


async def test_storage_that_spoils_a_block_again_and_again_is_not_written_to_for_ever(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 5, again=True)
        await sync(job)
        await until(lambda: world.calls.count("take_snapshot") == 4)
        status = await job.reaches(Phase.READY)
        await asyncio.sleep(0.5)
        assert world.calls.count("take_snapshot") == 4
        assert status.trouble is not None
        assert "the storage behind volume volume-2000" in status.trouble.do
        assert "look at the storage" in (await told(job, "scrub"))[-1]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        assert "power_off" not in world.calls
        failed = (await job.status()).cutover
        assert failed is not None
        assert failed.trouble is not None
        assert failed.trouble.kind == "ReplicaDiffers"
        assert "the storage behind volume volume-2000" in failed.trouble.do
        await job.reaches(Phase.READY)
        world.rots.clear()
        await sync(job)
        await until(world.replica_equals_source)
        await job.tells("sync committed")
        assert (await job.reaches(Phase.READY)).trouble is None
        await job.handle.terminate()


async def test_storage_that_spoils_a_block_again_and_again_is_not_written_to_faster_than_the_cadence(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100, cadence_seconds=2)) as job:
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 5, again=True)
        await until(lambda: world.calls.count("take_snapshot") == 4)
        await asyncio.sleep(3)
        assert world.calls.count("take_snapshot") in {5, 6}
        await job.handle.terminate()


async def test_a_full_sync_onto_storage_that_spoils_it_is_tried_again_later(client: Client) -> None:
    world = World(disks=1)
    world.rots.add((KEY, 5))
    async with a_job(client, world, scrubbing(100)) as job:
        await until(lambda: world.calls.count("take_snapshot") == 3)
        status = await job.reaches(Phase.FULL_SYNC)
        await asyncio.sleep(0.5)
        assert world.calls.count("take_snapshot") == 3
        assert status.trouble is not None
        world.rots.clear()
        await sync(job)
        await job.reaches(Phase.READY)
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_what_a_stream_found_before_it_failed_is_not_forgotten(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 5)
        progress = DiskProgress(
            disk_key=KEY, planned=0, compared_to=9 * BLOCK, differing=ByteRanges([(5 * BLOCK, BLOCK)]).encode()
        )
        world.fail["stream_disk"] = [failure("TransportFailed", progress=progress)]
        await sync(job)
        await job.tells("sync failed")
        status = await job.reaches(Phase.READY)
        assert status.disks[0].baseline.unseeded_bytes == BLOCK
        await sync(job)
        await until(world.replica_equals_source)
        await job.handle.terminate()


async def test_a_stream_that_failed_after_its_copy_keeps_both_what_it_flushed_and_what_it_found(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100)) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        world.write(KEY, 9)
        world.corrupt(KEY, 5)
        progress = DiskProgress(
            disk_key=KEY, planned=BLOCK, flushed_to=10 * BLOCK, differing=ByteRanges([(5 * BLOCK, BLOCK)]).encode()
        )
        world.fail["stream_disk"] = [failure("TransportFailed", progress=progress)]
        await sync(job)
        await job.tells("sync failed")
        status = await job.reaches(Phase.READY)
        assert status.disks[0].baseline.change_id == "uuid/2"
        assert ByteRanges.decode(status.disks[0].baseline.unseeded) == ByteRanges([(5 * BLOCK, BLOCK)])
        await job.handle.terminate()


# --- the verifications of a sync itself -------------------------------------------------------------------------------


async def test_a_disk_whose_verification_failed_commits_nothing_whatever_was_flushed(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, a_spec().model_copy(update={"verify_syncs": True})) as job:
        before = await job.reaches(Phase.READY)
        world.write(KEY, 9)
        progress = DiskProgress(disk_key=KEY, planned=BLOCK, flushed_to=64 * BLOCK)
        world.fail["stream_disk"] = [failure("VerificationFailed", progress=progress)]
        await sync(job)
        await job.tells("sync failed")
        after = await job.reaches(Phase.READY)
        assert after.disks[0].baseline == before.disks[0].baseline
        assert after.trouble is not None
        assert after.trouble.kind == "VerificationFailed"
        assert "the test says so" in (await told(job, "sync failed"))[0]
        await job.handle.terminate()


@pytest.mark.parametrize("every", [False, True])
async def test_every_sync_is_verified_where_it_was_asked_for(client: Client, *, every: bool) -> None:
    world = World(disks=1)
    async with a_job(client, world, a_spec().model_copy(update={"verify_syncs": every})) as job:
        await job.reaches(Phase.READY)
        world.write(KEY, 1)
        await sync(job)
        await job.reaches(Phase.READY, syncs=1)
        assert world.verified == [every, every]
        await job.handle.terminate()


async def test_a_sync_whose_two_accounts_are_not_the_same_commits_nothing_and_names_both(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        before = await job.reaches(Phase.READY)
        world.write(KEY, 9)
        world.flushes = BLOCK - 512
        await sync(job)
        await job.tells("sync failed")
        after = await job.reaches(Phase.READY)
        assert after.disks[0].baseline == before.disks[0].baseline
        assert after.trouble is not None
        assert after.trouble.kind == "VerificationFailed"
        assert "65536 bytes were planned" in after.trouble.because
        assert "65024 bytes flushed" in after.trouble.because
        # The other disk, which had nothing to copy, is not held up by it.
        assert after.disks[1].baseline != before.disks[1].baseline
        world.flushes = BLOCK
        await sync(job)
        await job.reaches(Phase.READY, syncs=1)
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_what_differed_while_paused_is_mended_after_resume(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, scrubbing(100, cadence_seconds=1)) as job:
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        await job.reaches(Phase.READY)
        world.corrupt(KEY, 5)
        await sync(job)
        await job.tells("scrub")
        await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        await until(world.replica_equals_source)
        await job.handle.terminate()
