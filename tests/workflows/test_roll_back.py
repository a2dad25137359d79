"""A cutover that is taken back: by itself after a failure, by order after one that was kept, or after Completed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from tests.workflows.conftest import Job, a_job
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder, FinalizeOrder, OnFailure, RollBackOrder
from xms.job import JobState
from xms.models import Abandon, Phase, Resume, Retry
from xms.status import JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

WEEK = 7 * 86_400
FULL = 128 * BLOCK


async def cut_over(job: Job, **wishes: Any) -> None:  # noqa: ANN401 - fields of the order
    await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann", **wishes))


async def rolls_back(job: Job) -> None:
    await job.handle.execute_update(WarmMigrationWorkflow.rollback, RollBackOrder(who="bob"))


async def replica_is_whole(job: Job) -> JobStatus:
    """Wait for the sync that follows a roll-back."""
    for _ in range(400):
        status = await job.status()
        if status.phase is Phase.READY and status.sync is None and job.world.replica_equals_source():
            return status
        await asyncio.sleep(0.05)
    raise AssertionError(await job.kinds())


def after(world: World, call: str) -> list[str]:
    """What was called after the last call of that name."""
    last = len(world.calls) - 1 - world.calls[::-1].index(call)
    return world.calls[last + 1 :]


# --- in at most the time that a power-on takes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activity", "only_before"),
    [
        ("convert", []),
        ("commit_conversion", []),
        ("finalize_volumes", []),
        ("boot_server", ["remove_server"]),
        ("see_running", ["remove_server"]),
    ],
)
async def test_after_a_failure_nothing_but_the_targets_removal_comes_before_the_sources_power_on(
    client: Client, activity: str, only_before: list[str]
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail[activity] = [failure("SourceFault")]
        failed_at: list[int] = []
        world.before[activity] = lambda: failed_at.append(len(world.calls))
        await cut_over(job)
        await job.tells("rolled back")
        assert world.calls[failed_at[0] : world.calls.index("power_on")] == only_before
        assert "remove_ports" in after(world, "power_on")
        assert not world.both_ran
        await job.handle.terminate()


async def test_a_final_delta_that_failed_leaves_its_snapshot_to_the_next_sync_and_the_source_runs_at_once(
    client: Client,
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)

        def then_the_delta_fails() -> None:
            world.write(2000, 3)
            world.fail["stream_disk"] = [failure("WriteFailed")]

        world.before["power_off"] = then_the_delta_fails
        snapshots: list[int] = []
        world.before["power_on"] = lambda: snapshots.append(len(world.snapshots))
        await cut_over(job)
        await job.tells("rolled back")
        await replica_is_whole(job)
        failed = world.calls.index("power_off")
        failed += world.calls[failed:].index("stream_disk")
        assert world.calls[failed + 1 : world.calls.index("power_on")] == []
        assert snapshots == [1]
        assert not world.snapshots
        await job.handle.terminate()


async def test_the_source_runs_and_the_job_is_ready_although_the_cloud_gives_no_attachment_back(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.before["power_on"] = lambda: world.fail["release_volumes"].append(failure("TargetUnreachable"))
        await cut_over(job)
        await job.tells("rolled back")
        assert world.power == "poweredOn"
        assert "clean-up failed" in await job.kinds()
        await replica_is_whole(job)
        assert not world.ports
        await job.handle.terminate()


async def test_the_source_runs_although_the_cloud_does_not_let_go_of_a_port(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.before["power_on"] = lambda: world.fail["remove_ports"].append(failure("TargetRejected"))
        await cut_over(job)
        status = await job.reaches(Phase.FAILED)
        assert world.power == "poweredOn"
        assert status.trouble is not None
        assert "the source is no longer held off" in status.trouble.means
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.tells("rolled back")
        await replica_is_whole(job)
        assert not world.ports
        await job.handle.terminate()


# --- kept as it failed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["rollback", "retry"])
async def test_a_failure_that_is_kept_leaves_all_as_it_is_until_somebody_takes_it_back(
    client: Client, word: str
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        # An older order said so for the roll-back by itself; who orders one wants the source.
        await cut_over(job, on_failure=OnFailure.KEEP_OFF, power_on_source_after_failure=word == "retry")
        kept = await job.reaches(Phase.FAILED)
        assert (world.power, world.servers) == ("poweredOff", {"server-1"})
        assert kept.trouble is not None
        assert "kept as it failed" in kept.trouble.means
        assert "xms migration rollback warm-lab-" in kept.trouble.do
        with pytest.raises(WorkflowUpdateFailedError):
            await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        if word == "retry":
            await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry(who="bob"))
        else:
            await rolls_back(job)
        await job.tells("rolled back")
        status = await replica_is_whole(job)
        assert (world.power, world.servers, world.ports) == ("poweredOn", set(), set())
        assert not world.both_ran
        assert not status.paused
        assert status.cutover is not None
        assert status.cutover.rolled_back_at is not None
        assert status.cutover.rolled_back_by == ("bob" if word == "rollback" else "")
        await job.handle.terminate()


async def test_a_failure_before_the_source_was_stopped_keeps_nothing(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["make_ports"] = [failure("QuotaExceeded", needs_person=True)]
        await cut_over(job, on_failure=OnFailure.KEEP_OFF)
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        assert world.power == "poweredOn"
        await job.handle.terminate()


@pytest.mark.parametrize("on_failure", list(OnFailure))
async def test_a_source_that_somebody_started_after_the_boot_has_the_target_removed_whatever_the_order_says(
    client: Client, on_failure: OnFailure
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)

        def started_by_somebody() -> None:
            world.power = "poweredOn"
            world.write(2000, 9)

        world.before["see_running"] = started_by_somebody
        await cut_over(job, on_failure=on_failure)
        await job.tells("rolled back")
        status = await replica_is_whole(job)
        assert not world.servers
        assert world.power == "poweredOn"
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "SourceRunning"
        await job.handle.terminate()


async def test_a_source_that_cannot_be_looked_at_after_the_boot_takes_no_target_away(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.before["see_running"] = lambda: world.fail["inspect_vm"].append(failure("SourceUnreachable"))
        await cut_over(job)
        report = await job.handle.result()
    assert report.outcome == "completed"
    assert "source not seen" in [event.kind for event in report.events]
    assert world.servers == {"server-1"}


# --- after Completed --------------------------------------------------------------------------------------------------


async def completed(job: Job, **wishes: Any) -> JobStatus:  # noqa: ANN401 - fields of the order
    await job.reaches(Phase.READY)
    await cut_over(job, **({"rollback_period_seconds": WEEK} | wishes))
    return await job.reaches(Phase.COMPLETED)


@pytest.mark.parametrize("cheap", [False, True], ids=["reseeded", "reverted"])
async def test_a_completed_cutover_is_taken_back_and_nothing_is_copied_before_somebody_says_so(
    client: Client, *, cheap: bool
) -> None:
    world = World()
    world.write(2000, 1)
    world.cheap_snapshots = cheap
    async with a_job(client, world, cached=0) as job:
        status = await completed(job)
        assert status.roll_back_until is not None
        assert status.cutover is not None
        assert status.roll_back_until - status.since == timedelta(seconds=WEEK)
        order: list[tuple[bool, str]] = []
        world.before["power_on"] = lambda: order.append((not world.servers, world.annotation))
        await rolls_back(job)
        await job.tells("rolled back")
        back = await job.reaches(Phase.READY)
        assert [gone for gone, _ in order] == [True]
        assert back.paused
        assert (world.power, world.annotation, world.ports) == ("poweredOn", "", set())
        assert not world.both_ran
        assert back.cutover is not None
        assert back.cutover.rolled_back_by == "bob"
        # What the target wrote is still there.
        assert world.volumes["volume-2000"][0] == -1
        world.write(2001, 5)
        await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        again = await replica_is_whole(job)
        assert (again.bytes_full == FULL) is cheap
        assert not world.volume_snapshots
        world.cheap_snapshots = False
        await cut_over(job)
        assert (await job.handle.result()).outcome == "completed"


async def test_a_volume_that_the_cloud_does_not_take_back_is_copied_in_full_and_the_others_are_not(
    client: Client,
) -> None:
    world = World()
    world.cheap_snapshots, world.not_reverted = True, {2001}
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        await cut_over(job)
        await job.tells("volume not reverted")
        status = await replica_is_whole(job)
        assert status.bytes_full == FULL + FULL // 2
        assert not world.volume_snapshots
        await job.handle.terminate()


@pytest.mark.parametrize("failing", [False, True], ids=["made", "refused"])
async def test_snapshots_are_made_of_the_replica_beside_the_conversion_and_none_of_them_fails_a_cutover(
    client: Client, *, failing: bool
) -> None:
    world = World()
    world.cheap_snapshots = True
    equal: list[bool] = []
    world.before["snapshot_volumes"] = lambda: equal.append(world.replica_equals_source())
    if failing:
        world.fail["snapshot_volumes"] = [failure("QuotaExceeded", needs_person=True)]
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job)
        report = await job.handle.result()
    assert report.outcome == "completed"
    assert equal == [True]
    assert world.calls.index("snapshot_volumes") < world.calls.index("commit_conversion")
    assert not world.volume_snapshots
    assert ("no volume snapshot" in [event.kind for event in report.events]) is failing


async def test_what_a_roll_back_would_cost_is_told_before_the_source_is_stopped(client: Client) -> None:
    world = World()
    told: list[str] = []
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.hold = True
        world.write(2000, 1)
        await cut_over(job)
        await job.tells("decided")
        events = (await job.handle.query(WarmMigrationWorkflow.events)).events
        told = [event.text for event in events if event.kind == "decided"]
        assert world.power == "poweredOn"
        world.hold = False
        await job.handle.result()
    assert "copies every disk in full again" in told[0]


async def test_a_conversion_that_failed_needs_no_snapshot_to_go_back_and_leaves_none(client: Client) -> None:
    world = World()
    world.cheap_snapshots = True
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["finalize_volumes"] = [failure("TargetFault")]
        await cut_over(job)
        await job.tells("rolled back")
        status = await replica_is_whole(job)
        assert status.bytes_full <= FULL + 2 * BLOCK
        assert "revert_volumes" not in world.calls
        assert not world.volume_snapshots
        await job.handle.terminate()


async def test_finalize_ends_the_job_and_removes_what_a_roll_back_would_need(client: Client) -> None:
    world = World()
    world.cheap_snapshots = True
    async with a_job(client, world) as job:
        await completed(job)
        assert world.volume_snapshots
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder(who="bob"))
        report = await job.handle.result()
    assert report.outcome == "completed"
    told = next(event for event in reversed(report.events) if event.kind == "finalized")
    assert told.who == "bob"
    assert not world.volume_snapshots
    assert world.servers == {"server-1"}


async def test_at_the_end_of_the_roll_back_period_the_job_ends_by_itself(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job, rollback_period_seconds=1)
        report = await job.handle.result()
    assert report.outcome == "completed"
    told = next(event for event in reversed(report.events) if event.kind == "finalized")
    assert "the roll-back period is over" in told.text


async def test_cancelling_a_completed_job_in_temporal_lets_its_target_run(client: Client) -> None:
    world = World()
    world.cheap_snapshots = True
    async with a_job(client, world) as job:
        await completed(job)
        await job.handle.cancel()
        report = await job.handle.result()
    assert report.outcome == "completed"
    assert world.servers == {"server-1"}
    assert not world.volume_snapshots


async def test_no_target_is_removed_where_the_source_is_gone(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await completed(job)
        world.fail["inspect_vm"] = [failure("VmNotFound", needs_person=True)]
        await rolls_back(job)
        await job.tells("roll-back refused")
        status = await job.reaches(Phase.COMPLETED)
        assert world.servers == {"server-1"}
        assert status.trouble is not None
        assert status.trouble.kind == "VmNotFound"
        assert status.roll_back_until is not None
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder())
        assert (await job.handle.result()).outcome == "completed"


async def test_a_target_that_cannot_be_removed_keeps_the_source_off_after_completed_too(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await completed(job)
        world.fail["remove_server"] = [failure("TargetRejected", needs_person=True)]
        await rolls_back(job)
        parked = await job.reaches(Phase.FAILED)
        assert world.power == "poweredOff"
        assert "power_on" not in world.calls
        assert parked.trouble is not None
        assert "the source is still off" in parked.trouble.means
        await rolls_back(job)
        await job.tells("rolled back")
        back = await job.reaches(Phase.READY)
        assert back.paused
        assert (world.power, world.servers) == ("poweredOn", set())
        assert not world.both_ran
        await job.handle.terminate()


async def test_abandon_after_a_roll_back_removes_the_snapshots_and_keeps_the_volumes(client: Client) -> None:
    world = World()
    world.cheap_snapshots = True
    async with a_job(client, world) as job:
        await completed(job)
        await rolls_back(job)
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        assert world.volume_snapshots
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        assert (await job.handle.result()).outcome == "abandoned"
    assert not world.volume_snapshots
    assert len(world.volumes) == 2


async def test_a_completed_job_takes_no_other_order(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await completed(job)
        for verb, order in (("abandon", Abandon()), ("cutover", CutoverOrder()), ("resume", Resume())):
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await job.handle.execute_update(verb, order)
            assert "is Completed" in str(refused.value.cause)
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder())
        assert (await job.handle.result()).outcome == "completed"


async def test_a_completed_job_that_continued_as_new_is_taken_back_all_the_same(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        status = await completed(job)
        await job.handle.terminate()
    more = {"moref": "vm-101", "source_is_off": True}
    record = JobState.model_validate(status.model_dump() | more)
    async with a_job(client, world, status.spec, carried=record) as job:
        assert (await job.status()).roll_back_until == status.roll_back_until
        await rolls_back(job)
        await job.tells("rolled back")
        assert (await job.reaches(Phase.READY)).paused
        assert (world.power, world.servers) == ("poweredOn", set())
        assert not world.both_ran
        await job.handle.terminate()


async def test_how_the_source_was_stopped_stands_in_the_steps_record(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job)
        cutover = (await job.handle.result()).status.cutover
    assert cutover is not None
    assert cutover.completed_at is not None
    assert [step.found for step in cutover.steps if step.name == "Power Off Source"] == ["guest shut down"]
