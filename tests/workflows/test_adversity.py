"""What may go wrong on the way, and must not lose a byte, leave something behind, go round for ever, or mislead."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.workflows.conftest import Job, a_job, a_spec, a_worker
from tests.workflows.world import BLOCK, World, failure
from workflows.names import DATA_QUEUE, TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.job import JobInput, JobState
from xms.models import Abandon, Pause, Phase, Resume, Retry, SyncNow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def until(there: Callable[[], bool]) -> None:
    for _ in range(400):
        if there():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


async def test_a_stream_that_failed_for_good_keeps_what_it_had_flushed(client: Client) -> None:
    world = World(disks=1)
    for block in range(40):
        world.write(2000, block)
    world.breaks_after = 30 * BLOCK
    world.before["take_snapshot"] = lambda: None
    async with a_job(client, world) as job:
        await job.tells("sync failed")
        status = await job.status()
        assert status.disks[0].baseline.change_id == "uuid/1"
        assert status.disks[0].baseline.unseeded_bytes == 34 * BLOCK
        world.write(2000, 2)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        ready = await job.reaches(Phase.READY)
        assert world.replica_equals_source()
        assert ready.bytes_full == 65 * BLOCK
        await job.handle.terminate()


async def test_a_sync_that_is_cut_short_before_it_copied_anything_does_not_begin_again_at_once(client: Client) -> None:
    world = World(disks=1)
    world.write(2000, 1)
    async with a_job(client, world) as job:
        world.before["stream_disk"] = lambda: setattr(world, "cut_short_after", 0)
        await job.tells("sync failed")
        status = await job.status()
        assert status.trouble is not None
        assert status.trouble.kind == "NoProgress"
        assert world.calls.count("take_snapshot") == 1
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY)
        await job.handle.terminate()


async def test_paused_in_the_full_sync_the_rest_waits_for_resume(client: Client) -> None:
    world = World(disks=1)
    world.cut_short_after = 10 * BLOCK
    world.hold = True
    async with a_job(client, world) as job:
        await until(lambda: "stream_disk" in world.calls)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause())
        world.hold = False
        await job.tells("cut short")
        paused = await job.reaches(Phase.FULL_SYNC)
        assert paused.paused
        assert not world.snapshots
        await asyncio.sleep(0.3)
        assert world.calls.count("take_snapshot") == 1
        await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        await job.reaches(Phase.READY)
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_snapshot_that_could_not_be_removed_is_told_and_removed_later_though_no_sync_is_due(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["remove_snapshots"] = [failure("SourceRefusedLogin", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        status = await job.reaches(Phase.READY, syncs=1)
        assert world.snapshots
        assert status.trouble is not None
        assert status.trouble.kind == "SourceRefusedLogin"
        record = JobState.model_validate(status.model_dump() | {"moref": "vm-101", "clean_up_at": status.since})
        await job.handle.terminate()
    async with a_job(client, world, a_spec(), carried=record) as job:
        await job.tells("cleaned up")
        assert not world.snapshots
        assert (await job.status()).trouble is None
        await job.handle.terminate()


async def test_abandoned_before_the_source_is_off_a_cutover_stops_at_once_and_the_job_ends(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.write(2000, 1)
        world.hold = True
        streams = world.calls.count("stream_disk")
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await until(lambda: world.calls.count("stream_disk") > streams)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(who="ann"))
        report = await asyncio.wait_for(job.handle.result(), 20)
        assert report.outcome == "abandoned"
        assert "power_off" not in world.calls
        assert not world.ports
        assert not world.snapshots
        assert "sync failed" not in [event.kind for event in report.events]


async def test_an_abandon_that_comes_while_ports_are_made_is_not_swallowed_by_the_cutover(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["make_ports"] = [failure("TargetUnreachable", retryable=True)] * 3
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await until(lambda: "make_ports" in world.calls)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "abandoned"
        assert "power_off" not in world.calls
        assert not world.ports


@pytest.mark.parametrize(("late", "never"), [("take_snapshot", "plan_disk"), ("plan_disk", "stream_disk")])
async def test_an_abandon_is_heeded_although_the_call_that_ran_meanwhile_succeeded(
    client: Client, late: str, never: str
) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.write(2000, 1)
        world.late, world.hold = {late}, True
        before = len(world.calls)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await until(lambda: late in world.calls[before:])
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        world.late.clear()
        report = await asyncio.wait_for(job.handle.result(), 20)
        assert report.outcome == "abandoned"
        assert never not in world.calls[before:]
        assert not world.snapshots


async def test_what_is_missing_from_the_replica_is_copied_before_the_source_stops(client: Client) -> None:
    world = World(disks=1)
    missing_at_power_off = []
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        for block in range(40):
            world.write(2000, block)
        world.cut_short_after = 10 * BLOCK
        world.before["power_off"] = lambda: missing_at_power_off.append(not world.replica_equals_source())
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        assert (await job.handle.result()).outcome == "completed"
        assert missing_at_power_off == [False]


async def test_what_a_cutover_failed_with_outlives_the_sync_that_follows(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        status = await job.reaches(Phase.READY, syncs=3)
        assert status.trouble is None
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "ConversionFailed"
        await job.handle.terminate()


async def test_a_source_that_was_off_before_the_cutover_is_not_started_by_its_roll_back(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.power = "poweredOff"
        world.fail["convert"] = [failure("ConversionFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.reaches(Phase.READY, syncs=3)
        assert world.power == "poweredOff"
        await job.handle.terminate()


async def test_a_boot_that_may_have_run_a_guest_once_makes_the_next_sync_copy_everything(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        first = await job.reaches(Phase.READY)

        def ran_once() -> None:
            world.volumes["volume-2000"][50] = -1

        world.before["boot_server"] = ran_once
        world.fail["boot_server"] = [failure("QuotaExceeded", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await until(world.replica_equals_source)
        status = await job.reaches(Phase.READY)
        assert status.bytes_full == 2 * first.bytes_full
        assert world.replica_equals_source()
        await job.handle.terminate()


@pytest.mark.parametrize("kind", ["BootRefused", "NeverStarted"])
async def test_a_boot_that_was_refused_costs_no_full_copy(client: Client, kind: str) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["boot_server"] = [failure(kind, needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await until(world.replica_equals_source)
        status = await job.reaches(Phase.READY)
        assert status.bytes_full <= (64 + 2) * BLOCK
        await job.handle.terminate()


async def test_a_target_without_evidence_is_not_waited_for_ten_times(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed", retryable=True)] * 3
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        assert world.calls.count("see_running") == 1
        await job.handle.terminate()


async def test_a_retry_does_not_begin_a_cutover_that_was_ordered_before_the_failure(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.write(2000, 1)
        world.hold = True
        streams = world.calls.count("stream_disk")
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await until(lambda: world.calls.count("stream_disk") > streams)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        world.breaks_after = None
        world.fail["stream_disk"] = [failure("SourceForbidden", needs_person=True)]
        world.volumes["volume-2000"] = {}
        world.snapshots.clear()
        world.hold = False
        await job.reaches(Phase.FAILED, seconds=60)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.reaches(Phase.READY)
        assert "cutover dropped" in await job.kinds()
        assert "power_off" not in world.calls
        await job.handle.terminate()


async def test_an_abandon_that_failed_does_not_forget_where_the_job_stood(client: Client) -> None:
    world = World(disks=1)
    world.fail["check_target"] = [failure("TargetNotFound", needs_person=True)]
    async with a_job(client, world) as job:
        await job.reaches(Phase.FAILED)
        world.fail["remove_snapshots"] = [failure("SourceForbidden", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        await until(lambda: "remove_snapshots" in world.calls)
        await job.tells("failed")
        await asyncio.sleep(0.3)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.reaches(Phase.READY)
        await job.handle.terminate()


async def test_refused_signals_alone_do_not_let_a_history_grow_without_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside of the sandbox, which would import the limit anew.
    monkeypatch.setattr("workflows.warm_migration.HISTORY_LIMIT", 120)
    world = World(disks=1)
    spec = a_spec()
    runner = UnsandboxedWorkflowRunner()
    async with (
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[WarmMigrationWorkflow],
            activities=world.activities(),
            workflow_runner=runner,
        ),
        Worker(client, task_queue=DATA_QUEUE, activities=world.activities()),
    ):
        handle = await client.start_workflow(
            WarmMigrationWorkflow.run, JobInput(**spec.model_dump()), id=f"warm-{spec.vm}", task_queue=TASK_QUEUE
        )
        await Job(handle, world).reaches(Phase.READY)
        latest = client.get_workflow_handle(handle.id)
        first_run = (await latest.describe()).run_id
        for _ in range(60):
            await latest.signal("retry", Retry(who="a script"))
            await asyncio.sleep(0.02)
        assert (await latest.describe()).run_id != first_run
        await latest.terminate()


async def test_a_worker_that_ends_in_the_middle_of_a_sync_leaves_no_noise_and_no_command(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    world = World(disks=1)
    world.hold = True
    async with a_job(client, world) as job:
        await until(lambda: "stream_disk" in world.calls)
        handle = job.handle
    world.hold = False
    gc.collect()
    assert not noise
    async with a_worker(client, world):
        assert (await job.reaches(Phase.READY)).phase is Phase.READY
        await handle.terminate()


async def test_an_abandon_is_refused_with_the_way_out_while_a_roll_back_is_stuck(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.fail["power_on"] = [failure("SourceForbidden", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        parked = await job.reaches(Phase.FAILED)
        assert parked.cutover is not None
        assert parked.cutover.trouble is not None
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        assert "retry" in str(caught.value.cause)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        status = await job.reaches(Phase.READY)
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "ConversionFailed"
        assert world.power == "poweredOn"
        await job.handle.terminate()
