"""Rehearsals: beside the syncs, on copies, and nothing stays of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from tests.workflows.conftest import Job, a_job, a_spec
from tests.workflows.world import World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder, Evidence, Rehearsal, Rehearse, WithdrawCutover
from xms.models import Abandon, NetworkMapping, Phase, SyncNow
from xms.rehearsal import rehearsal_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

OF_THE_SOURCE = {
    "inspect_vm",
    "enable_change_tracking",
    "take_snapshot",
    "remove_snapshots",
    "plan_disk",
    "power_off",
    "power_on",
    "mark_migrated",
}
STEPS = ("make_isolated_network", "make_ports", "convert", "commit_conversion", "finalize_volumes", "boot_server")


async def rehearse(job: Job, order: Rehearse | None = None) -> None:
    await job.handle.execute_update(WarmMigrationWorkflow.rehearse, order or Rehearse(who="ann"))


async def ended(job: Job, number: int = 1, seconds: float = 30.0) -> Rehearsal:
    for _ in range(int(seconds / 0.05)):
        found = (await job.status()).rehearsal
        if found is not None and found.number == number and found.outcome != "running":
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it has not ended: {await job.status()}")


async def called(world: World, name: str) -> None:
    for _ in range(400):
        if name in world.calls:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is not among {world.calls}")


def outcomes(record: Rehearsal) -> list[tuple[str, str]]:
    return [(step.name, step.outcome) for step in record.steps]


async def test_a_rehearsal_converts_and_boots_a_copy_and_leaves_nothing(client: Client) -> None:
    world = World()
    world.write(2000, 5)
    spec = a_spec().model_copy(update={"network_map": (NetworkMapping(source="VM Network", network="real-net"),)})
    async with a_job(client, world, spec) as job:
        ready = await job.reaches(Phase.READY)
        before = {name: dict(blocks) for name, blocks in world.volumes.items()}
        world.calls.clear()
        await rehearse(job)
        found = await ended(job)
        status = await job.status()
        assert found.outcome == "passed"
        assert [name for name, _ in outcomes(found)] == [
            "Copies",
            "Network",
            "Guest Fixes",
            "Finalize",
            "Boot Copy",
            "Evidence",
            "Removal",
        ]
        assert {outcome for _, outcome in outcomes(found)} == {"done"}
        assert all(step.ended_at is not None for step in found.steps)
        assert found.evidence == "SEQ 42 on the console"
        assert found.asked_by == "ann"
        assert found.replica_of == ready.replica_of
        assert found.conversion_seconds is not None
        assert found.boot_seconds is not None
        assert status.rehearsed == found
        assert status.phase is Phase.READY
        assert not world.left_of_rehearsals()
        assert world.volumes == before
        assert world.rehearsed_on <= {"isolated"}
        assert not OF_THE_SOURCE & set(world.calls)
        assert "rehearsal passed" in await job.kinds()


async def test_three_rehearsals_on_a_short_cadence_miss_no_sync_and_leave_nothing(client: Client) -> None:
    world = World()
    async with a_job(client, world, a_spec(cadence_seconds=1)) as job:
        await job.reaches(Phase.READY)
        began = asyncio.get_running_loop().time()
        first = (await job.status()).sync_count
        for number in (1, 2, 3):
            world.late = {"see_running"}
            await rehearse(job)
            await called(world, "see_running")
            during = (await job.status()).sync_count
            await asyncio.sleep(2.5)
            assert (await job.status()).sync_count >= during + 1
            world.late = set()
            assert (await ended(job, number)).outcome == "passed"
            world.calls = [name for name in world.calls if name != "see_running"]
        seconds = asyncio.get_running_loop().time() - began
        status = await job.status()
        # Each sync is a second after the one before it, and takes a part of one.
        assert status.sync_count - first >= seconds / 2 - 1
        assert not world.copied_beside_a_stream
        assert not world.left_of_rehearsals()
        assert status.rehearsal is not None
        assert status.rehearsal.number == 3
        assert not [kind for kind in await job.kinds() if kind in {"sync failed", "rehearsal left"}]


@pytest.mark.parametrize("step", ["check_rehearsal", "clone_volumes", *STEPS, "see_running"])
async def test_a_failure_at_any_step_leaves_nothing_and_the_job_goes_on(client: Client, step: str) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        before = {name: dict(blocks) for name, blocks in world.volumes.items()}
        world.fail[step] = [failure("QuotaExceeded", needs_person=True)]
        await rehearse(job)
        found = await ended(job)
        status = await job.status()
        assert found.outcome == "failed"
        assert found.trouble is not None
        assert found.trouble.kind == "QuotaExceeded"
        assert found.ended_at is not None
        assert status.rehearsed is None
        assert status.phase is Phase.READY
        assert not world.left_of_rehearsals()
        assert world.volumes == before
        world.write(2000, 3)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        assert world.replica_equals_source()
        await rehearse(job)
        assert (await ended(job, 2)).outcome == "passed"


@pytest.mark.parametrize("step", ["check_rehearsal", "clone_volumes", *STEPS, "see_running", "delete_clones"])
async def test_a_cutover_at_any_step_breaks_it_off_and_waits_until_it_is_removed(client: Client, step: str) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        left: list[set[str]] = []
        world.before["power_off"] = lambda: left.append(world.left_of_rehearsals())
        if step == "delete_clones":
            # The first call of it makes room.
            await rehearse(job)
            await called(world, "see_running")
        else:
            world.late = {step}
            await rehearse(job)
            await called(world, step)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="bob"))
        await asyncio.sleep(0.2)
        world.late = set()
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "completed"
        assert left == [set()]
        assert not world.left_of_rehearsals()
        assert report.status.rehearsal is not None
        assert report.status.rehearsal.outcome in {"broken off", "passed"}
        assert not world.both_ran


@pytest.mark.parametrize("how", ["abandon", "cancellation"])
@pytest.mark.parametrize("step", ["check_rehearsal", "clone_volumes", "convert"])
async def test_the_jobs_end_breaks_it_off_and_leaves_nothing_of_it(client: Client, step: str, how: str) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.late = {step}
        await rehearse(job)
        await called(world, step)
        if how == "abandon":
            await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(who="bob"))
        else:
            await job.handle.cancel()
        await asyncio.sleep(0.2)
        world.late = set()
        report = await asyncio.wait_for(job.handle.result(), 30)
        assert report.outcome == "abandoned"
        assert set(world.volumes) == {"volume-2000", "volume-2001"}
        assert not world.left_of_rehearsals()
        assert report.status.rehearsal is not None
        assert report.status.rehearsal.outcome == "broken off"


async def test_a_cutover_that_is_withdrawn_while_it_waits_for_the_removal_does_not_begin(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.late = {"convert"}
        await rehearse(job)
        await called(world, "convert")
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="bob"))
        await job.handle.execute_update(WarmMigrationWorkflow.withdraw_cutover, WithdrawCutover(who="bob"))
        world.late = set()
        found = await ended(job)
        status = await job.reaches(Phase.READY)
        assert found.outcome == "broken off"
        assert status.cutover is None
        assert "power_off" not in world.calls
        assert not world.left_of_rehearsals()


async def test_a_rehearsal_whose_workflow_is_terminated_is_removed_by_the_job(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.hold = False
        world.late = {"see_running"}
        await rehearse(job)
        await called(world, "see_running")
        await client.get_workflow_handle(rehearsal_id(job.handle.id)).terminate("by hand")
        found = await ended(job)
        world.late = set()
        assert found.outcome == "broken off"
        assert found.trouble is not None
        assert "terminated" in found.trouble.because.lower()
        assert not world.left_of_rehearsals()
        assert (await job.status()).phase is Phase.READY


async def test_a_rehearsal_whose_job_is_terminated_removes_itself(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.late = {"see_running"}
        await rehearse(job)
        await called(world, "see_running")
        await job.handle.terminate("by hand")
        world.late = set()
        record = await asyncio.wait_for(client.get_workflow_handle(rehearsal_id(job.handle.id)).result(), 30)
        assert record["outcome"] in {"broken off", "passed"}
        assert not world.left_of_rehearsals()


async def test_what_cannot_be_removed_is_told_and_removed_by_the_next_rehearsal(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.late = {"see_running"}
        await rehearse(job)
        await called(world, "see_running")
        world.fail["delete_clones"] = [failure("VolumeFailed")]
        world.late = set()
        found = await ended(job)
        assert found.outcome == "passed"
        assert [sentence for sentence in found.left if "VolumeFailed happened" in sentence]
        assert "rehearsal left" in await job.kinds()
        assert world.copies
        await rehearse(job)
        assert (await ended(job, 2)).left == ()
        assert not world.left_of_rehearsals()


async def test_the_copies_wait_for_the_sync_that_runs(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.hold = True
        world.write(2000, 7)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await rehearse(job)
        await asyncio.sleep(0.5)
        assert "clone_volumes" not in world.calls
        world.hold = False
        assert (await ended(job)).outcome == "passed"
        assert not world.copied_beside_a_stream


async def test_a_second_rehearsal_beside_the_first_is_refused(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.late = {"convert"}
        await rehearse(job)
        await called(world, "convert")
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await rehearse(job)
        assert "runs already" in str(refused.value.cause)
        world.late = set()
        await ended(job)


async def test_evidence_that_needs_a_network_is_refused_before_anything_is_made(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await rehearse(job, Rehearse(evidence=(Evidence(kind="tcp", port=22),)))
        cause = refused.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == "BadInput"
        assert "allowed: console" in str(cause)
        assert "check_rehearsal" not in world.calls


async def test_a_cutover_that_asks_for_a_rehearsal_does_not_touch_an_unrehearsed_source(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        asked = CutoverOrder(who="bob", require_rehearsal_seconds=int(timedelta(days=14).total_seconds()))
        world.calls.clear()
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, asked)
        await job.tells("rolled back")
        status = await job.reaches(Phase.READY, syncs=1)
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "NotRehearsed"
        assert world.power == "poweredOn"
        assert "power_off" not in world.calls
        assert "power_on" not in world.calls
        await rehearse(job)
        await ended(job)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, asked)
        assert (await asyncio.wait_for(job.handle.result(), 30)).outcome == "completed"


async def test_a_rehearsals_times_are_remembered_for_predictions(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await rehearse(job)
        found = await ended(job)
        assert found.conversion_seconds is not None
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        await job.handle.result()
    assert found.ended_at is not None
