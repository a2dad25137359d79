"""What happens to the VM and its datastores while its job runs."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from tests.workflows.conftest import Job, a_job, a_spec
from tests.workflows.fleet import until
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.models import Pause, Phase, Resume, SyncNow

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOW = "datastore ds1 has 3 GiB free, less than the reserve of 10 GiB"


async def texts(job: Job, kind: str) -> list[str]:
    events = (await job.handle.query(WarmMigrationWorkflow.events)).events
    return [event.text for event in events if event.kind == kind]


async def sync(job: Job, syncs: int) -> None:
    await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
    await job.reaches(Phase.READY, syncs=syncs)


async def test_a_resume_syncs_at_once_and_turns_change_tracking_on_again_where_it_was_lost(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause(who="ann"))
        world.write(2000, 3)
        world.tracked = False
        receipt = await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume(who="ann"))
        assert "a sync starts now" in receipt.text
        status = await job.reaches(Phase.READY, syncs=1)
        assert world.calls.count("enable_change_tracking") == 2
        assert "is off for Hard disk 1; it is turned on again" in await texts(job, "change tracking")
        assert status.disks[0].baseline.change_id is not None
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_resume_of_a_job_that_is_not_paused_starts_nothing(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        receipt = await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        assert receipt.text == "resumed: syncs follow the cadence again"
        await sync(job, 1)
        assert world.calls.count("take_snapshot") == 2
        await job.handle.terminate()


async def test_a_resume_as_a_signal_syncs_at_once_too(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, a_spec(cadence_seconds=86400)) as job:
        await job.reaches(Phase.READY)
        await job.handle.signal("pause", Pause())
        await job.handle.signal("resume", Resume())
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.terminate()


async def test_a_reseed_is_of_that_disk_only_and_its_reason_is_in_the_events(client: Client) -> None:
    world = World(disks=2)
    async with a_job(client, world) as job:
        before = await job.reaches(Phase.READY)
        world.write(2001, 5)
        world.reseed_reason = "change tracking began anew: its change id was of 52 aa, and is now of 52 bb"
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("reseed")
        status = await job.reaches(Phase.READY)
        told = await texts(job, "reseed")
        assert len(told) == 1
        assert "began anew: its change id was of 52 aa" in told[0]
        assert status.bytes_full - before.bytes_full == 64 * BLOCK
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_vm_that_was_renamed_moved_and_powered_off_is_followed_and_the_events_say_so(client: Client) -> None:
    world = World(disks=1)
    world.host, world.name = "esxi-1", "db"
    world.consistency = "quiesced"
    async with a_job(client, world, a_spec("db-renamed")) as job:
        await job.reaches(Phase.READY)
        world.host, world.name, world.power = "esxi-2", "db-old", "poweredOff"
        world.consistency = "not quiesced: the VM is off"
        await sync(job, 1)
        world.power = "suspended"
        await sync(job, 2)
        assert (await texts(job, "renamed"))[-1].startswith("db is called db-old now")
        assert (await texts(job, "moved"))[0].startswith("from host esxi-1 to esxi-2")
        off, suspended = await texts(job, "source power")
        assert off.startswith("the VM is poweredOff and was poweredOn")
        assert "a cutover needs it resumed" in suspended
        assert await texts(job, "snapshot") == ["quiesced", "not quiesced: the VM is off"]
        assert (await texts(job, "sync committed"))[-1].endswith(", not quiesced")
        await job.handle.terminate()


async def test_a_vm_that_was_deleted_parks_the_job_with_its_volumes_kept(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["take_snapshot"] = [failure("VmNotFound", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        status = await job.reaches(Phase.FAILED)
        assert status.trouble is not None
        assert status.trouble.kind == "VmNotFound"
        assert list(world.volumes) == ["volume-2000"]
        assert "delete_volumes" not in world.calls
        await job.handle.terminate()


async def test_a_sync_that_is_given_up_for_the_datastores_sake_keeps_what_it_flushed_and_rests(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world, a_spec(cadence_seconds=86400)) as job:
        await job.reaches(Phase.READY)
        for block in range(40):
            world.write(2000, block)
        world.cut_short_after, world.given_up = 10 * BLOCK, LOW
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("given up")
        status = await job.reaches(Phase.READY)
        assert status.disks[0].baseline.unseeded_bytes == 30 * BLOCK
        assert status.trouble is not None
        assert (status.trouble.kind, status.trouble.because) == ("DatastoreFull", LOW)
        assert not world.snapshots
        snapshots = world.calls.count("take_snapshot")
        assert status.next_sync_at is not None
        world.given_up = ""
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await until(world.replica_equals_source)
        assert (await job.reaches(Phase.READY)).trouble is None
        assert world.calls.count("take_snapshot") == snapshots + 1
        await job.handle.terminate()


async def test_a_full_sync_that_is_given_up_rests_before_it_goes_on(client: Client) -> None:
    world = World(disks=1)
    for block in range(40):
        world.write(2000, block)
    world.cut_short_after, world.given_up = 10 * BLOCK, LOW
    async with a_job(client, world) as job:
        await job.tells("given up")
        status = await job.status()
        assert status.phase is Phase.FULL_SYNC
        world.given_up = ""
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY)
        assert world.calls.count("take_snapshot") == 2
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_sync_that_is_given_up_before_it_copied_anything_says_why(client: Client) -> None:
    world = World(disks=1)
    world.write(2000, 1)

    def low() -> None:
        world.cut_short_after, world.given_up = 0, LOW

    async with a_job(client, world) as job:
        world.before["stream_disk"] = low
        await job.tells("sync failed")
        assert LOW in (await texts(job, "sync failed"))[0]
        await job.handle.terminate()
