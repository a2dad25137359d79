"""The lifecycle on a real Temporal server, with a source and a cloud of a few blocks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from tests.workflows.conftest import a_job, a_spec, a_worker
from tests.workflows.world import World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.models import Abandon, NetworkMapping, Pause, Phase, Resume, Retry, SetCadence, SyncNow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_goes_through_every_phase_and_ends_with_a_target_that_runs(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    world.write(2001, 7)
    # Without a cache every task replays the whole history, which a decision that is not deterministic does not survive.
    async with a_job(client, world, cached=0) as job:
        ready = await job.reaches(Phase.READY)
        assert ready.bytes_full > 0
        assert world.replica_equals_source()
        world.write(2000, 9)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow(who="ann"))
        synced = await job.reaches(Phase.READY, syncs=1)
        assert world.replica_equals_source()
        assert synced.bytes_incremental == 64 << 10
        equal_before_conversion = []
        world.before["convert"] = lambda: equal_before_conversion.append(world.replica_equals_source())
        world.before["power_off"] = lambda: world.write(2001, 3)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        report = await job.handle.result()
        assert report.outcome == "completed"
        assert equal_before_conversion == [True]
        assert world.power == "poweredOff"
        assert world.servers == {"server-1"}
        assert not world.both_ran
        assert not world.snapshots
        assert "migrated by XMS job" in world.annotation
        assert [step.outcome for step in report.status.cutover.steps] == ["done"] * 11 if report.status.cutover else 0


async def test_the_cadence_starts_syncs_and_pause_stops_them(client: Client) -> None:
    world = World()
    async with a_job(client, world, a_spec(cadence_seconds=1)) as job:
        await job.reaches(Phase.READY, syncs=2)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause(who="ann"))
        paused = await job.reaches(Phase.READY)
        assert paused.paused
        assert paused.next_sync_at is None
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=paused.sync_count + 1)
        await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        await job.reaches(Phase.READY, syncs=paused.sync_count + 2)
        await job.handle.terminate()


async def test_a_refused_update_says_why_and_costs_no_history(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await job.handle.execute_update(WarmMigrationWorkflow.set_cadence, SetCadence(cadence_seconds=5))
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "BadInput"
        assert "at least 60 s" in str(caught.value.cause)
        with pytest.raises(WorkflowUpdateFailedError):
            await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        history = await job.handle.fetch_history()
        assert not [event for event in history.events if "UPDATE_ACCEPTED" in EventType.Name(event.event_type)]
        await job.handle.terminate()


async def test_a_refused_signal_becomes_an_event(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.signal("retry", Retry(who="bob"))
        assert "refused" in await job.kinds()
        await job.handle.signal("sync-now", SyncNow(who="bob"))
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.terminate()


async def test_a_sync_that_fails_leaves_the_job_ready_with_the_error_and_no_snapshot(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        first = await job.reaches(Phase.READY)
        world.write(2000, 5)
        world.fail["stream_disk"] = [failure("TransportFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("sync failed")
        failed = await job.reaches(Phase.READY)
        assert failed.trouble is not None
        assert failed.trouble.kind == "TransportFailed"
        assert failed.last_sync_at == first.last_sync_at
        assert not world.snapshots
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        mended = await job.reaches(Phase.READY, syncs=1)
        assert mended.trouble is None
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_an_error_that_needs_a_person_parks_the_job_and_retry_goes_on_where_it_stood(client: Client) -> None:
    world = World()
    world.fail["make_volume"] = [failure("QuotaExceeded", needs_person=True)]
    async with a_job(client, world) as job:
        parked = await job.reaches(Phase.FAILED)
        assert parked.trouble is not None
        assert parked.trouble.needs_person
        with pytest.raises(WorkflowUpdateFailedError):
            await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry(who="ann"))
        await job.reaches(Phase.READY)
        assert world.replica_equals_source()
        await job.handle.terminate()


async def test_a_full_sync_that_was_cut_short_goes_on_with_a_new_snapshot(client: Client) -> None:
    world = World(disks=1)
    for block in range(20):
        world.write(2000, block)
    world.cut_short_after = 10 * (64 << 10)
    world.before["stream_disk"] = lambda: world.write(2000, 3)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        assert world.calls.count("take_snapshot") == 2
        assert world.calls.count("plan_disk") == 2
        assert world.replica_equals_source()
        await job.handle.terminate()


@pytest.mark.parametrize(
    ("step", "activity"),
    [
        ("Gates", "check_target"),
        ("Ports", "make_ports"),
        ("Power Off Source", "power_off"),
        ("Guest Fixes", "convert"),
        ("Guest Fixes", "commit_conversion"),
        ("Finalize", "finalize_volumes"),
        ("Boot Target", "boot_server"),
        ("Evidence", "see_running"),
    ],
)
async def test_a_cutover_that_fails_is_rolled_back_and_the_job_is_ready(
    client: Client, step: str, activity: str
) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail[activity] = [failure("SourceFault")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        status = await job.reaches(Phase.READY, syncs=1)
        assert status.cutover is not None
        assert status.cutover.steps[-1].name == step
        assert world.power == "poweredOn"
        assert not world.servers
        assert not world.ports
        assert not world.snapshots
        assert not world.both_ran
        assert world.replica_equals_source()
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        assert (await job.handle.result()).outcome == "completed"


async def test_a_port_that_the_roll_back_had_to_leave_is_told_in_the_jobs_story(client: Client) -> None:
    world = World()
    world.ports_left = ("port p-1 was left: instance s-9 uses it",)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["power_off"] = [failure("SourceFault")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("port left")
        events = (await job.handle.query(WarmMigrationWorkflow.events)).events
        assert [event.text for event in events if event.kind == "port left"] == list(world.ports_left)


async def test_a_cutover_maps_otherwise_what_it_names_and_the_rest_as_submitted(client: Client) -> None:
    world = World()
    submitted = (NetworkMapping(source="LAN", network="net"), NetworkMapping(source="DMZ", network="dmz"))
    spec = a_spec().model_copy(update={"network_map": submitted})
    async with a_job(client, world, spec) as job:
        assert [nic.network for nic in (await job.reaches(Phase.READY)).nics] == ["net", "dmz"]
        order = CutoverOrder(network_map=(NetworkMapping(source="LAN", network="other", mac="new"),))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        report = await job.handle.result()
        assert {nic.source_network: nic.network for nic in report.status.nics} == {"LAN": "other", "DMZ": "dmz"}
        assert report.status.spec.network_map == submitted


async def test_a_source_is_not_powered_on_while_the_target_may_run(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        world.fail["remove_server"] = [failure("TargetUnreachable")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.reaches(Phase.FAILED)
        assert world.power == "poweredOff"
        assert "power_on" not in world.calls
        with pytest.raises(WorkflowUpdateFailedError):
            await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        assert world.power == "poweredOn"
        assert not world.both_ran
        await job.handle.terminate()


async def test_abandon_keeps_the_volumes_unless_told_otherwise(client: Client) -> None:
    for delete in (False, True):
        world = World()
        async with a_job(client, world) as job:
            await job.reaches(Phase.READY)
            await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(who="ann", delete_volumes=delete))
            report = await job.handle.result()
            assert report.outcome == "abandoned"
            assert bool(world.volumes) is not delete
            assert not world.snapshots


async def test_cancelling_the_workflow_abandons_the_job_and_keeps_the_volumes(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.cancel()
        report = await job.handle.result()
        assert report.outcome == "abandoned"
        assert world.volumes
        assert not world.snapshots


async def test_a_cancellation_that_comes_together_with_an_order_is_not_lost(client: Client) -> None:
    world = World()
    async with a_job(client, world, a_spec(cadence_seconds=3600)) as job:
        await job.reaches(Phase.READY)
    await job.handle.signal("pause", Pause(who="ann"))
    await job.handle.cancel()
    async with a_worker(client, world):
        assert (await asyncio.wait_for(job.handle.result(), 20)).outcome == "abandoned"


async def test_a_conversion_whose_worker_is_lost_is_mended_and_done_again(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["commit_conversion"] = [failure("ConversionLost")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        report = await job.handle.result()
        assert report.outcome == "completed"
        assert world.calls.count("convert") == 2
        assert "conversion lost" in [event.kind for event in report.events]


async def test_everything_that_is_asked_of_the_cloud_is_asked_of_the_jobs_target(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world, a_spec().model_copy(update={"target": "west"})) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        await job.handle.result()
        history = await job.handle.fetch_history()
    asked = [
        (attributes.activity_type.name, json.loads(attributes.input.payloads[0].data))
        for event in history.events
        if (attributes := event.activity_task_scheduled_event_attributes).activity_type.name
    ]
    targets = {name: target for name, order in asked if (target := named_target(order)) is not None}
    assert {"check_target", "make_volume", "stream_disk", "convert", "commit_conversion", "boot_server"} <= set(targets)
    assert set(targets.values()) == {"west"}


def named_target(order: dict[str, Any]) -> str | None:
    """The target that an activity's order names; None for one that has nothing to do with the cloud."""
    match order:
        case {"target_project": _}:
            return str(order.get("target_name"))
        case {"target": {"target_project": _} as target}:
            return str(target.get("target_name"))
        case {"server": {"target": target}}:
            return str(target.get("target_name"))
        case {"spec": {"target": target}}:
            return str(target)
    return None
