"""Disks that differ, fail, come, go and grow between syncs."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from tests.workflows.conftest import a_job
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.models import Abandon, Phase, SyncNow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_of_two_disks_the_one_that_failed_keeps_its_old_baseline(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        before = await job.reaches(Phase.READY)
        world.write(2000, 3)
        world.write(2001, 4)
        world.fail["stream_disk"] = [failure("TransportFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("sync failed")
        after = await job.reaches(Phase.READY)
        moved = [new.baseline != old.baseline for old, new in zip(before.disks, after.disks, strict=True)]
        assert sorted(moved) == [False, True]
        assert after.last_sync_at == before.last_sync_at
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_disk_whose_change_tracking_was_turned_off_is_tracked_again_and_not_copied_for_ever(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.tracked = False
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        status = await job.reaches(Phase.READY, syncs=1)
        assert world.calls.count("enable_change_tracking") == 2
        assert status.disks[0].baseline.change_id is not None
        assert not world.snapshots
        await job.handle.terminate()


async def test_a_vm_without_disks_waits_for_a_person(client: Client) -> None:
    world = World(disks=0)
    async with a_job(client, world) as job:
        parked = await job.reaches(Phase.FAILED)
        assert parked.trouble is not None
        assert parked.trouble.kind == "VmUnsupported"
        assert "take_snapshot" not in world.calls
        await job.handle.terminate()


async def test_volumes_of_disks_that_were_taken_out_are_deleted_with_the_others_on_the_operators_word(
    client: Client,
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        del world.disks[2001]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        status = await job.reaches(Phase.READY, syncs=1)
        assert [disk.key for disk in status.disks] == [2000]
        assert "volume-2001" in world.volumes
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(delete_volumes=True))
        await job.handle.result()
        assert not world.volumes


async def test_a_disk_that_is_added_and_one_that_grows_are_replicated(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        grown = world.disks[2000]
        grown.capacity = 80 * BLOCK
        world.write(2000, 70)
        world.disks[2001] = type(grown)()
        world.write(2001, 5)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("disk grown")
        await job.tells("disk added")
        for _ in range(200):
            if world.replica_equals_source():
                break
            await asyncio.sleep(0.05)
        status = await job.reaches(Phase.READY)
        assert status.disks[0].volume_size == 80 * BLOCK
        assert world.replica_equals_source()
        await job.handle.terminate()
