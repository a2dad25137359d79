"""The design's invariants, as far as the order of steps keeps them: each test fails when its own is broken.

What the parts keep by themselves is tested beside them: flushes and the watermark (1) in tests/engine, the lease (2) in
tests/openstack, secrets (9) in tests/transport and tests/vsphere, the memory of a stream (11) in tests/engine.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from tests.workflows.conftest import Job, a_job
from tests.workflows.world import BLOCK, World, failure
from workflows import calls
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.models import Abandon, Phase, SyncNow
from xms.status import JobReport

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANGING = (
    "take_snapshot",
    "remove_snapshots",
    "enable_change_tracking",
    "make_volume",
    "stream_disk",
    "release_volumes",
    "make_ports",
    "power_off",
    "convert",
    "commit_conversion",
    "finalize_volumes",
    "boot_server",
    "mark_migrated",
)


async def cut_over(job: Job, **changes: Any) -> JobReport:  # noqa: ANN401 - fields of the order
    await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann", **changes))
    return await job.handle.result()


async def test_1_a_baseline_advances_only_after_its_stream_said_that_all_is_flushed(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        before = await job.reaches(Phase.READY)
        world.write(2000, 5)
        world.fail["stream_disk"] = [failure("WriteFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("sync failed")
        after = await job.reaches(Phase.READY)
        assert after.disks[0].baseline == before.disks[0].baseline
        assert after.replica_of == before.replica_of
        await job.handle.terminate()


async def test_2_a_volume_is_never_written_by_two_steps_at_a_time(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job)
        order = [call for call in world.calls if call in {"stream_disk", "convert", "commit_conversion", "boot_server"}]
        assert order[-3:] == ["convert", "commit_conversion", "boot_server"]
        last_release = len(world.calls) - 1 - world.calls[::-1].index("release_volumes")
        assert world.calls.index("commit_conversion") < last_release < world.calls.index("boot_server")


async def test_3_no_snapshot_outlives_its_sync_whatever_step_failed(client: Client) -> None:
    for step in ("take_snapshot", "plan_disk", "stream_disk", "release_volumes"):
        world = World()
        async with a_job(client, world) as job:
            await job.reaches(Phase.READY)
            world.write(2000, 1)
            world.fail[step] = [failure("SourceFault")]
            await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
            await job.tells("clean-up failed" if step == "release_volumes" else "sync failed")
            await job.reaches(Phase.READY)
            assert not world.snapshots, step
            await job.handle.terminate()


async def test_4_the_last_delta_is_read_with_the_source_off_and_before_the_conversion_replica_equals_source(
    client: Client,
) -> None:
    world = World()
    seen: list[tuple[str, bool]] = []
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)

        def last_write() -> None:
            world.write(2001, 3)
            world.before["take_snapshot"] = lambda: seen.append((world.power, world.replica_equals_source()))

        world.before["power_off"] = last_write
        world.before["convert"] = lambda: seen.append((world.power, world.replica_equals_source()))
        assert (await cut_over(job)).outcome == "completed"
        assert seen == [("poweredOff", False), ("poweredOff", True)]


@pytest.mark.parametrize("moment", ["convert", "finalize_volumes"])
async def test_8_a_source_that_somebody_starts_during_the_cutover_never_runs_beside_the_target(
    client: Client, moment: str
) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)

        def started_by_somebody() -> None:
            world.power = "poweredOn"
            world.write(2000, 9)

        world.before[moment] = started_by_somebody
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        assert "boot_server" not in world.calls
        assert not world.both_ran
        await job.tells("sync committed")
        status = await job.reaches(Phase.READY)
        assert status.cutover is not None
        assert status.cutover.trouble is not None
        assert status.cutover.trouble.kind == "SourceRunning"
        await job.handle.terminate()


async def test_5_a_conversion_that_failed_leaves_the_replica_as_it_was(client: Client) -> None:
    world = World()
    unchanged = []
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.write(2000, 1)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.before["power_on"] = lambda: unchanged.append(world.replica_equals_source())
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        assert unchanged == [True]
        status = await job.reaches(Phase.READY)
        assert status.bytes_full == 128 * BLOCK
        await job.handle.terminate()


async def test_5_a_worker_killed_in_the_middle_of_the_commit_leaves_volumes_that_the_next_one_mends(
    client: Client,
) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        equal: list[bool] = []
        # The first block of two is committed when it dies, and its overlays are gone with it.
        world.fail["commit_conversion"] = [failure("ConversionLost")]

        def second_time() -> None:
            equal.append(world.replica_equals_source())

        def first_time() -> None:
            world.before["convert"] = second_time

        world.before["convert"] = first_time
        assert (await cut_over(job)).outcome == "completed"
        assert equal == [True]
        assert world.volumes["volume-2000"][3] == -3


async def test_5_a_commit_that_broke_in_the_middle_and_is_rolled_back_is_mended_without_a_full_copy(
    client: Client,
) -> None:
    world = World()
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["commit_conversion"] = [failure("SourceFault")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        for _ in range(200):
            status = await job.reaches(Phase.READY)
            if world.replica_equals_source():
                break
            await asyncio.sleep(0.05)
        assert world.replica_equals_source()
        assert status.bytes_full <= (128 + 2) * BLOCK
        await job.handle.terminate()


async def test_5_a_worker_killed_between_commit_and_boot_converts_nothing_again(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    # Without a cache every task is replayed by a worker that knows nothing, as after a kill -9.
    async with a_job(client, world, cached=0) as job:
        await job.reaches(Phase.READY)
        world.fail["finalize_volumes"] = [failure("TargetUnreachable", retryable=True)]
        world.fail["boot_server"] = [failure("Interrupted", retryable=True)]
        assert (await cut_over(job)).outcome == "completed"
        assert world.calls.count("convert") == 1
        assert world.calls.count("commit_conversion") == 1
        assert world.calls.count("boot_server") == 2


async def test_6_no_volume_is_deleted_without_the_operators_word(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        assert (await job.handle.result()).outcome == "abandoned"
        assert "delete_volumes" not in world.calls
        assert len(world.volumes) == 2


async def test_7_after_a_failed_cutover_nothing_is_left_on_the_target_and_the_source_runs(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        gone_first: list[bool] = []
        world.before["power_on"] = lambda: gone_first.append(not world.servers)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        assert gone_first == [True]
        assert (world.servers, world.ports, world.power) == (set(), set(), "poweredOn")
        await job.handle.terminate()


async def test_7_the_source_stays_off_where_the_operator_chose_so(client: Client) -> None:
    world = World()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        order = CutoverOrder(power_on_source_after_failure=False)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.tells("rolled back")
        assert world.power == "poweredOff"
        await job.handle.terminate()


async def test_9_no_payload_of_a_jobs_history_names_a_secret(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await cut_over(job)
        history = (await job.handle.fetch_history()).to_json().lower()
        assert not [word for word in ("password", "secret", "token") if f'"{word}' in history]


@pytest.mark.slow
async def test_10_every_activity_that_ran_to_its_end_and_was_not_believed_runs_again(client: Client) -> None:
    world = World()
    for name in CHANGING:
        # The work is done, and then its worker dies: Temporal hears nothing of it and has it done again.
        world.die_after.add(name)
    world.write(2000, 1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY, seconds=60)
        report = await cut_over(job)
        assert report.outcome == "completed"
        assert not world.die_after
        assert not world.both_ran
        assert not world.snapshots
        assert world.servers == {"server-1"}


async def test_10_every_command_is_recorded_with_who_and_what_came_of_it(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.signal("retry", {"who": "bob"})
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow(who="ann"))
        report = await cut_over(job)
        told = [(event.kind, event.who) for event in report.events]
        assert ("refused", "bob") in told
        assert told.count(("command", "ann")) == 2


async def test_11_every_retry_ends() -> None:
    policies = [
        calls.CONTROL,
        calls.CLEAN_UP,
        calls.STREAM,
        calls.CONVERSION,
        calls.BOOT,
        calls.LOOK,
        calls.GLANCE,
        calls.SNAPSHOTS,
    ]
    policies += [calls.on_host("q"), calls.power_off(300), calls.evidence(600)]
    for policy in policies:
        assert 1 <= policy["retry_policy"].maximum_attempts <= 60
        assert policy["start_to_close_timeout"]
    assert calls.evidence(600)["schedule_to_close_timeout"].total_seconds() <= 900
