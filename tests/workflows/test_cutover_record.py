"""What a cutover leaves in the job's record for its report, whatever came of it."""

from __future__ import annotations

from temporalio.client import Client

from tests.workflows.conftest import a_job, a_spec
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import Cutover, CutoverOrder, StepRecord
from xms.job import EVENTS_KEPT
from xms.models import NetworkMapping, Phase, SyncNow


def step(record: Cutover | None, name: str) -> StepRecord:
    assert record is not None
    (found,) = [step for step in record.steps if step.name == name]
    return found


async def test_each_step_says_what_it_came_to_and_moved(client: Client) -> None:
    world = World(disks=1)
    world.write(2000, 1)
    mapping = NetworkMapping(source="VM Network", network="internal-net")
    async with a_job(client, world, a_spec().model_copy(update={"network_map": (mapping,)})) as job:
        await job.reaches(Phase.READY)
        world.write(2000, 4)

        def write_the_last_blocks() -> None:
            world.write(2000, 5)
            world.write(2000, 6)

        world.before["power_off"] = write_the_last_blocks
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        record = (await job.handle.result()).status.cutover
    assert step(record, "Gates").found == "the source runs; 1 disk, 1 NIC"
    assert step(record, "Warm Pass").bytes == BLOCK
    assert step(record, "Ports").found == "NIC on internal-net: no address"
    assert step(record, "Reserve Stream").found == "the host has no limit"
    assert step(record, "Power Off Source").found == "guest shut down"
    delta = step(record, "Final Delta")
    assert delta.bytes == 2 * BLOCK
    assert delta.work_seconds is not None
    assert delta.found == "128 KiB read back and compared"
    assert step(record, "Finalize").found == "bios, q35, disks on virtio"
    assert step(record, "Boot Target").found == "server server-1"
    assert step(record, "Evidence").found == "SEQ 42 on the console"
    assert record is not None
    assert record.verified_bytes == 2 * BLOCK
    assert record.number == 1
    assert record.failed_at == ""
    assert record.source_on_at is None


async def test_a_final_delta_that_is_read_again_counts_all_that_was_verified(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.before["power_off"] = lambda: world.write(2000, 5)
        world.fail["commit_conversion"] = [failure("ConversionLost")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        record = (await job.handle.result()).status.cutover
    assert record is not None
    # The conversion had begun to write two blocks, which the second delta mends.
    assert record.verified_bytes == 3 * BLOCK


async def test_a_failed_attempt_tells_the_step_and_when_each_was_undone_and_the_source_ran_again(
    client: Client,
) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        await job.tells("rolled back")
        record = (await job.status()).cutover
        assert record is not None
        assert record.failed_at == "Evidence"
        off = step(record, "Power Off Source")
        assert off.undone_at is not None
        assert step(record, "Final Delta").undone_at is None
        assert record.source_on_at is not None
        assert record.rolled_back_at is not None
        assert off.started_at < record.source_on_at <= off.undone_at <= record.rolled_back_at
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="bob"))
        report = await job.handle.result()
    (earlier,) = report.status.earlier_cutovers
    assert earlier == record
    assert report.status.cutover is not None
    assert report.status.cutover.number == 2


async def test_the_result_tells_the_last_syncs_and_how_much_of_the_story_is_lost(client: Client) -> None:
    world = World(disks=1)
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        for number in range(EVENTS_KEPT):
            await job.handle.signal("retry", {"who": f"number {number}"})
        world.write(2000, 3)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        report = await job.handle.result()
    assert [figures.bytes for figures in report.status.recent_syncs][1] == BLOCK
    assert report.status.recent_syncs[-1].final
    assert len(report.events) == EVENTS_KEPT
    assert report.dropped > 0
