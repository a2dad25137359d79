"""What a cutover asks of the conversion, and what it keeps of it."""

from __future__ import annotations

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from tests.workflows.conftest import a_job
from tests.workflows.world import BLOCK, World, failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import ConversionOptions, Cutover, CutoverOrder, StaticAddress, StepRecord
from xms.errors import ConversionFailed
from xms.models import Phase
from xms.orders.source import VmNic
from xms.status import JobReport, JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAC = "00:50:56:9a:11:02"
STATIC = StaticAddress(mac=MAC, address="10.20.0.15", prefix_length=24, gateway="10.20.0.1")


def a_world(guest_id: str = "", os_type: str = "linux") -> World:
    world = World(disks=1)
    world.guest_id, world.os_type = guest_id, os_type
    world.vm_nics = (VmNic(key=4000, label="Network adapter 1", mac=MAC, network="LAN"),)
    world.write(2000, 1)
    return world


async def completed(client: Client, world: World, options: ConversionOptions) -> JobReport:
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(conversion=options))
        return await job.handle.result()


async def rolled_back(client: Client, world: World, options: ConversionOptions) -> tuple[Cutover, str]:
    """The record of a cutover that failed, and what the job's story says of the failure."""
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(conversion=options))
        await job.tells("rolled back")
        events = (await job.handle.query(WarmMigrationWorkflow.events)).events
        record = (await job.status()).cutover
    assert record is not None
    return record, next(event.text for event in events if event.kind == "cutover failed")


def guest_fixes(status: JobStatus) -> StepRecord:
    assert status.cutover is not None
    (step,) = [step for step in status.cutover.steps if step.name == "Guest Fixes"]
    return step


async def test_the_step_says_what_was_written_how_long_virt_v2v_took_and_what_it_found(client: Client) -> None:
    world = a_world()
    status = (await completed(client, world, ConversionOptions(luks_keys=("db.key",)))).status
    assert world.conversions[0].options.luks_keys == ("db.key",)
    step = guest_fixes(status)
    assert (step.bytes, step.work_seconds) == (2 * BLOCK, 61.5)
    assert step.found == "debian 12, boots by bios, disks on virtio, converted on TCG"
    assert status.cutover is not None
    assert status.cutover.converted_by == world.worker_queue


async def test_a_guest_that_is_ready_is_left_as_it_is_and_nothing_is_committed(client: Client) -> None:
    world = a_world()
    status = (await completed(client, world, ConversionOptions(skip=True))).status
    assert status.phase is Phase.COMPLETED
    assert not {"commit_conversion", "look_before_conversion", "discard_conversion"} & set(world.calls)
    step = guest_fixes(status)
    assert (step.bytes, step.work_seconds) == (0, None)
    assert step.found == "skipped: the guest is ready; it boots by bios"


async def test_what_a_worker_lacks_is_known_before_the_source_is_stopped(client: Client) -> None:
    world = a_world("windows2019srv_64Guest")
    world.fail["look_before_conversion"] = [failure("ConfigurationError", needs_person=True)]
    record, _ = await rolled_back(client, world, ConversionOptions())
    assert "power_off" not in world.calls
    assert [look.windows for look in world.looked_for] == [True]
    assert record.steps[-1].name == "Gates"


@pytest.mark.parametrize(
    ("guest_id", "mac", "because"),
    [
        ("debian12_64Guest", MAC, "virt-v2v sets them in Windows alone"),
        ("windows2019srv_64Guest", "00:50:56:00:00:99", f"its NICs are {MAC}"),
    ],
)
async def test_a_static_address_that_cannot_be_set_is_refused_before_the_source_is_stopped(
    client: Client, guest_id: str, mac: str, because: str
) -> None:
    world = a_world(guest_id)
    options = ConversionOptions(static_addresses=(STATIC.model_copy(update={"mac": mac}),))
    _, text = await rolled_back(client, world, options)
    assert "power_off" not in world.calls
    assert because in text


async def test_a_static_address_that_was_not_set_is_told_in_the_story(client: Client) -> None:
    world = a_world("otherGuest64")
    report = await completed(client, world, ConversionOptions(static_addresses=(STATIC,)))
    (told,) = [event.text for event in report.events if event.kind == "conversion"]
    assert "Windows alone" in told


async def test_which_worker_has_the_log_of_a_failed_conversion_is_kept(client: Client) -> None:
    world = a_world()
    error = ConversionFailed("db was not converted", because="too full")
    error.log_tail, error.worker_queue = "the last line", "xms-data-mover-1"
    assert error.trouble().log_tail == "the last line"
    world.fail["convert"] = [
        ApplicationError(str(error), error.trouble(), type="ConversionFailed", non_retryable=True),
    ]
    record, text = await rolled_back(client, world, ConversionOptions())
    assert record.converted_by == "xms-data-mover-1"
    assert "too full" in text
