"""At most N streams read from an ESXi host at a time, whatever jobs and workers there are and whichever of them die."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment

from activities.host_budget import HostBudgetActivities
from tests.workflows.conftest import Job
from tests.workflows.fleet import MIB, SOURCE, Budget, Fleet, a_fleets_worker, submit, until
from tests.workflows.world import failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.host_budget import HostLimits, SlotAnswer, SlotRequest
from xms.models import Abandon, Phase, SyncNow, job_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def host() -> str:
    return f"esx-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex[:6]


async def all_ready(jobs: list[Job], syncs: int = 0) -> None:
    for job in jobs:
        await job.reaches(Phase.READY, syncs=syncs, seconds=60)


async def end(jobs: list[Job]) -> None:
    for job in jobs:
        await job.handle.terminate()


async def ended(budget: Budget) -> None:
    for _ in range(400):
        if (await budget.handle.describe()).status is WorkflowExecutionStatus.COMPLETED:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the budget goes on")


async def test_full_syncs_and_deltas_of_many_jobs_never_have_more_streams_or_bytes_than_the_host_allows(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=2, mib=20)
    everyone = {job_id(SOURCE, f"{name}-{number}") for number in range(6)}
    async with a_fleets_worker(client, fleet):
        fleet.held = set(everyone)
        jobs = [await submit(client, fleet, f"{name}-{number}", disks=1 + number % 3) for number in range(6)]
        await until(lambda: len(fleet.streaming) == 2)
        await Budget(client, host).shows(held=2, waiting=10)
        fleet.held.clear()
        await all_ready(jobs)
        fleet.held = set(everyone)
        for job in jobs:
            for key in job.world.disks:
                job.world.write(key, 2)
            await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await Budget(client, host).shows(held=2, waiting=10)
        fleet.held.clear()
        await all_ready(jobs, syncs=1)
        assert fleet.most == 2
        assert fleet.most_flying == 20 * MIB
        assert all(job.world.replica_equals_source() for job in jobs)
        budget = await Budget(client, host).shows(held=0, waiting=0)
        assert budget.limits.streams == 2
        await end(jobs)


async def test_without_a_limit_no_message_is_sent(client: Client, host: str, name: str) -> None:
    fleet = Fleet(host, streams=None)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name, disks=4)
        await job.reaches(Phase.READY)
        history = await job.handle.fetch_history()
        asked = "ask_for_slot"
        assert not any(
            asked == event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events
        )
        assert {order.bytes_in_flight for order in job.world.streams} == {16 * MIB}
        await job.handle.terminate()


async def test_the_next_slot_goes_to_the_job_that_holds_the_fewest_though_another_has_waited_longer(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=2)
    big, first, small = f"{name}-big", f"{name}-first", f"{name}-small"
    fleet.held = {job_id(SOURCE, vm) for vm in (big, first, small)}
    async with a_fleets_worker(client, fleet):
        budget = Budget(client, host)
        jobs = [await submit(client, fleet, first)]
        await until(lambda: len(fleet.began) == 1)
        jobs.append(await submit(client, fleet, big, disks=3))
        await budget.shows(held=2, waiting=2)
        jobs.append(await submit(client, fleet, small))
        await budget.shows(held=2, waiting=3)
        fleet.held.remove(job_id(SOURCE, first))
        await until(lambda: len(fleet.began) == 3)
        assert fleet.began[-1] == job_id(SOURCE, small)
        fleet.held.clear()
        await all_ready(jobs)
        await end(jobs)


async def test_a_waiting_job_says_what_it_waits_for_and_the_budget_who_reads_and_who_waits(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-a")}
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-a")
        await until(lambda: bool(fleet.streaming))
        waiting = await submit(client, fleet, f"{name}-b")
        budget = Budget(client, host)
        status = await budget.shows(held=1, waiting=1)
        assert [slot.request.job_id for slot in status.held] == [reading.handle.id]
        assert [request.job_id for request in status.waiting] == [waiting.handle.id]
        told = f"waiting for a free stream on host {host} (1 of 1 in use)"
        for _ in range(200):
            if (await waiting.status()).doing == told:
                break
            await asyncio.sleep(0.05)
        assert (await waiting.status()).doing == told
        assert told in await details(client, waiting.handle.id)
        shown = await details(client, budget.handle.id)
        assert "1 of 1 streams in use" in shown
        assert reading.handle.id in shown
        fleet.held.clear()
        await all_ready([reading, waiting])
        await end([reading, waiting])


async def details(client: Client, workflow_id: str) -> str:
    """What the Temporal Web UI shows under User Metadata."""
    answer = await client.get_workflow_handle(workflow_id).query("__temporal_workflow_metadata")
    return str(answer.current_details)


async def test_a_cutover_takes_its_stream_before_the_source_stops_and_before_everybody_who_waits(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        urgent = await submit(client, fleet, f"{name}-urgent")
        await urgent.reaches(Phase.READY)
        fleet.held = {job_id(SOURCE, f"{name}-{other}") for other in ("reading", "waiting")}
        reading = await submit(client, fleet, f"{name}-reading")
        await until(lambda: bool(fleet.streaming))
        waiting = await submit(client, fleet, f"{name}-waiting")
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=1)
        await urgent.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        status = await budget.shows(held=1, waiting=2)
        assert status.turns()[0].job_id == urgent.handle.id
        assert "power_off" not in urgent.world.calls

        urgent.world.before["power_off"] = lambda: urgent.world.write(2000, 7)
        began = len(fleet.began)
        fleet.held.remove(reading.handle.id)
        assert (await urgent.handle.result()).outcome == "completed"
        assert fleet.began[began] == urgent.handle.id
        assert urgent.world.streams[-1].verify
        assert fleet.most == 1

        fleet.held.clear()
        await all_ready([reading, waiting])
        await end([reading, waiting])


async def test_what_a_cutover_reserved_is_given_back_when_it_fails_and_when_it_is_broken_off(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name)
        await job.reaches(Phase.READY)
        job.world.fail["power_off"] = [failure("PowerOffNotConfirmed", needs_person=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        await Budget(client, host).shows(held=0, waiting=0)

        fleet.held = {job_id(SOURCE, f"{name}-other")}
        other = await submit(client, fleet, f"{name}-other")
        await until(lambda: bool(fleet.streaming))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await Budget(client, host).shows(held=1, waiting=1)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        assert (await job.handle.result()).outcome == "abandoned"
        await Budget(client, host).shows(held=1, waiting=0)
        fleet.held.clear()
        await all_ready([other])
        await end([other])


@pytest.mark.parametrize("way_out", ["failure", "abandon", "cancellation"])
async def test_a_slot_is_given_back_in_every_way_out(client: Client, host: str, name: str, way_out: str) -> None:
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name)
        await job.reaches(Phase.READY)
        job.world.write(2000, 3)
        if way_out == "failure":
            job.world.fail["stream_disk"] = [failure("TransportFailed")]
        else:
            fleet.held = {job.handle.id}
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        budget = Budget(client, host)
        if way_out == "failure":
            await job.tells("sync failed")
        else:
            await budget.shows(held=1, waiting=0)
            await (job.handle.cancel() if way_out == "cancellation" else job.handle.signal("abandon", Abandon()))
            assert (await job.handle.result()).outcome == "abandoned"
        await budget.shows(held=0, waiting=0)
        if way_out == "failure":
            await job.handle.terminate()


async def test_an_abandon_that_comes_together_with_the_slot_is_not_lost(client: Client, host: str, name: str) -> None:
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-a")}
    budget = Budget(client, host)
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-a")
        await until(lambda: bool(fleet.streaming))
        waiting = await submit(client, fleet, f"{name}-b")
        (request,) = (await budget.shows(held=1, waiting=1)).waiting
    answer = SlotAnswer(id=request.id, source=SOURCE, host=host, granted=True, bytes_in_flight=MIB)
    await waiting.handle.signal("host-slot", answer)
    await waiting.handle.signal("abandon", Abandon())
    async with a_fleets_worker(client, fleet):
        assert (await waiting.handle.result()).outcome == "abandoned"
        assert "stream_disk" not in waiting.world.calls
        await budget.shows(held=1, waiting=0)
        await end([reading])


async def test_a_slot_that_nobody_waits_for_goes_straight_back(client: Client, host: str, name: str) -> None:
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name)
        await job.reaches(Phase.READY)
        description = await job.handle.describe()
        limits = HostLimits(source=SOURCE, host=host, streams=1, bytes_in_flight=MIB, read_at=description.start_time)
        stray = SlotRequest(
            id="stray",
            job_id=job.handle.id,
            run_id=description.run_id or "",
            limits=limits,
            asked_at=description.start_time,
        )
        await ActivityEnvironment().run(HostBudgetActivities(client).ask_for_slot, stray)
        budget = Budget(client, host)
        for _ in range(200):
            history = await budget.handle.fetch_history()
            signals = [event.workflow_execution_signaled_event_attributes.signal_name for event in history.events]
            if signals.count("give-back") == 2:
                break
            await asyncio.sleep(0.05)
        await budget.shows(held=0, waiting=0)
        await job.handle.terminate()


async def test_a_job_that_was_terminated_gives_its_slot_and_its_place_in_the_queue_back(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-{doomed}") for doomed in ("reading", "queued")}
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-reading")
        await until(lambda: bool(fleet.streaming))
        await reading.handle.terminate()
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=0)
        queued = await submit(client, fleet, f"{name}-queued")
        await until(lambda: queued.handle.id in fleet.streaming)
        await queued.handle.terminate()
        last = await submit(client, fleet, f"{name}-last")
        # It was looked a moment ago, and the next look comes a minute later: nobody knows of the termination yet.
        await budget.shows(held=1, waiting=1)
        fleet.held.clear()
        await end([last])


async def test_the_slot_of_a_job_that_was_terminated_while_others_wait_is_taken_back_at_the_next_look(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_budget.LOOK_EVERY", timedelta(seconds=1))
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-reading")}
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-reading")
        await until(lambda: bool(fleet.streaming))
        queued = await submit(client, fleet, f"{name}-queued")
        waiting = await submit(client, fleet, f"{name}-waiting")
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=2)
        await asyncio.sleep(1.5)
        await budget.shows(held=1, waiting=2)
        await queued.handle.terminate()
        await reading.handle.terminate()
        await waiting.reaches(Phase.READY)
        await budget.shows(held=0, waiting=0)
        await end([waiting])


@pytest.mark.parametrize("cached", [0, 100])
async def test_workers_that_die_lose_no_slot_and_no_place(client: Client, host: str, name: str, cached: int) -> None:
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-a")}
    async with a_fleets_worker(client, fleet, cached):
        jobs = [await submit(client, fleet, f"{name}-a")]
        await until(lambda: bool(fleet.streaming))
        jobs += [await submit(client, fleet, f"{name}-b"), await submit(client, fleet, f"{name}-c")]
        await Budget(client, host).shows(held=1, waiting=2)
    async with a_fleets_worker(client, fleet, cached):
        await Budget(client, host).shows(held=1, waiting=2)
        await until(lambda: bool(fleet.streaming))
        fleet.held.clear()
        await all_ready(jobs)
        assert fleet.most == 1
        await Budget(client, host).shows(held=0, waiting=0)
        await end(jobs)


async def test_a_budget_that_continues_as_new_under_load_loses_no_message(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_budget.HISTORY_LIMIT", 15)
    fleet = Fleet(host, streams=2)
    async with a_fleets_worker(client, fleet):
        jobs = [await submit(client, fleet, f"{name}-{number}", disks=2) for number in range(4)]
        first_run = ""
        for syncs in range(3):
            await all_ready(jobs, syncs)
            first_run = first_run or (await Budget(client, host).handle.describe()).run_id
            for job in jobs:
                for key in job.world.disks:
                    job.world.write(key, 10 + syncs)
                await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await all_ready(jobs, syncs=3)
        budget = Budget(client, host)
        await budget.shows(held=0, waiting=0)
        assert (await budget.handle.describe()).run_id != first_run
        assert fleet.most == 2
        await end(jobs)


async def test_a_job_asks_again_when_the_budget_was_terminated_while_it_waited(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_slots.ASK_AGAIN", timedelta(seconds=1))
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-a")}
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-a")
        await until(lambda: bool(fleet.streaming))
        waiting = await submit(client, fleet, f"{name}-b")
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=1)
        await asyncio.sleep(2.5)
        await budget.shows(held=1, waiting=1)
        await budget.handle.terminate()
        await waiting.reaches(Phase.READY)
        # The lost slot is nobody's any more, and giving it back does no harm.
        fleet.held.clear()
        await all_ready([reading])
        await end([reading, waiting])


async def test_a_budget_that_nobody_needs_ends_and_the_next_request_begins_another(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_budget.LINGER", timedelta(seconds=0.2))
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name)
        await job.reaches(Phase.READY)
        budget = Budget(client, host)
        await ended(budget)
        job.world.write(2000, 9)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        await ended(budget)
        await job.handle.terminate()


async def test_requests_that_come_just_when_a_budget_ends_are_answered(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_budget.LINGER", timedelta(milliseconds=1))
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet, cached=0):
        jobs = [await submit(client, fleet, f"{name}-{number}") for number in range(3)]
        for syncs in range(4):
            await all_ready(jobs, syncs)
            for job in jobs:
                job.world.write(2000, 10 + syncs)
                await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await all_ready(jobs, syncs=4)
        assert fleet.most == 1
        await end(jobs)


async def test_a_snapshot_is_not_held_while_all_streams_of_the_host_are_others(
    client: Client, host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.host_slots.PATIENCE", timedelta(seconds=1))
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, f"{name}-a")}
    async with a_fleets_worker(client, fleet):
        reading = await submit(client, fleet, f"{name}-a")
        await until(lambda: bool(fleet.streaming))
        waiting = await submit(client, fleet, f"{name}-b", disks=2)
        await waiting.tells("host busy")
        await until(lambda: not waiting.world.snapshots)
        await Budget(client, host).shows(held=1, waiting=1)
        assert host in (await waiting.status()).doing
        fleet.held.clear()
        await all_ready([reading, waiting])
        assert waiting.world.replica_equals_source()
        assert waiting.world.calls.count("take_snapshot") == 2
        assert not (await waiting.status()).trouble
        await Budget(client, host).shows(held=0, waiting=0)
        await end([reading, waiting])


async def test_a_vm_that_moved_to_another_host_gives_what_it_reserved_back_and_asks_there(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name)
        await job.reaches(Phase.READY)

        def moves() -> None:
            job.world.write(2000, 7)
            fleet.host = f"{host}-other"

        job.world.before["power_off"] = moves
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        assert (await job.handle.result()).outcome == "completed"
        await Budget(client, host).shows(held=0, waiting=0)
        await Budget(client, f"{host}-other").shows(held=0, waiting=0)


async def test_what_found_no_stream_before_the_snapshot_grew_too_old_goes_on_with_the_next_one(
    client: Client, host: str, name: str
) -> None:
    fleet = Fleet(host, streams=1)
    fleet.held = {job_id(SOURCE, name)}
    async with a_fleets_worker(client, fleet):
        job = await submit(client, fleet, name, disks=2, max_snapshot_age_seconds=3)
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=1)
        await budget.shows(held=1, waiting=0)
        fleet.held.clear()
        status = await job.reaches(Phase.READY)
        assert status.trouble is None
        assert job.world.replica_equals_source()
        story = (await job.handle.query(WarmMigrationWorkflow.events)).events
        (cut_short,) = (event.text for event in story if event.kind == "cut short")
        assert f"no stream was free on host {host}" in cut_short
        assert "sync failed" not in [event.kind for event in story]
        assert fleet.most == 1
        await job.handle.terminate()
