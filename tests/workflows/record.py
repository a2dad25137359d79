"""Records the histories that the replay tests run over: python -m tests.workflows.record [SHAPE ...]

With names it records those shapes alone, so that a new one leaves the others as they were recorded. Run it only when a
change of the workflow is meant to break running jobs, or to add a shape; say so in the commit.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.conftest import Job, a_job, a_spec, a_worker, program
from tests.workflows.fleet import SOURCE, Budget, Fleet, submit
from tests.workflows.sighted import Sighted
from tests.workflows.world import BLOCK, World, failure
from workflows.names import SEARCH_ATTRIBUTES
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import (
    ConversionOptions,
    CutoverOrder,
    Evidence,
    FinalizeOrder,
    OnFailure,
    Rehearse,
    RollBackOrder,
    Window,
    WithdrawCutover,
)
from xms.job import JobState
from xms.models import (
    Abandon,
    NetworkMapping,
    Pause,
    Phase,
    Resume,
    Retry,
    SetCadence,
    SetRateLimit,
    SyncNow,
    Verify,
    job_id,
)
from xms.rehearsal import rehearsal_id


class Recorded(Protocol):
    """What has a history."""

    @property
    def handle(self) -> WorkflowHandle[Any, Any]: ...


HISTORIES = Path(__file__).parent / "histories"


async def straight(client: Client) -> Job:
    """Full sync, two syncs, cutover."""
    world = World()
    world.write(2000, 1)
    async with a_job(client, world, a_spec("straight", cadence_seconds=1)) as job:
        await job.reaches(Phase.READY, syncs=2)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        await job.handle.result()
    return job


async def commanded(client: Client) -> Job:
    """Every verb, as updates and as signals, some of them refused."""
    world = World()
    async with a_job(client, world, a_spec("commanded")) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.pause, Pause(who="ann"))
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.signal("resume", Resume())
        await job.handle.signal("retry", Retry())
        await job.handle.execute_update(WarmMigrationWorkflow.set_cadence, SetCadence(cadence_seconds=3600))
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon(delete_volumes=True))
        await job.handle.result()
    return job


async def troubled(client: Client) -> Job:
    """Parked and retried, a sync that failed, a cutover rolled back, a lost conversion, completed."""
    world = World()
    world.fail["make_volume"] = [failure("QuotaExceeded", needs_person=True)]
    async with a_job(client, world, a_spec("troubled")) as job:
        await job.reaches(Phase.FAILED)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.reaches(Phase.READY)
        world.fail["stream_disk"] = [failure("TransportFailed")]
        world.write(2000, 4)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("sync failed")
        world.fail["see_running"] = [failure("BootFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        world.fail["commit_conversion"] = [failure("ConversionLost")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.result()
    return job


async def converted_otherwise(client: Client) -> Job:
    """A conversion that fails with a key, one that succeeds with it before a boot that fails, and one left out."""
    world = World()
    world.write(2000, 1)
    with_a_key = CutoverOrder(conversion=ConversionOptions(luks_keys=("db.key",)))
    async with a_job(client, world, a_spec("converted-otherwise")) as job:
        await job.reaches(Phase.READY)
        for number, activity in enumerate(("convert", "see_running"), start=1):
            world.fail[activity] = [failure("ConversionFailed")]
            await job.handle.execute_update(WarmMigrationWorkflow.cutover, with_a_key)
            await job.tells("rolled back", times=number)
            await job.reaches(Phase.READY)
        order = CutoverOrder(conversion=ConversionOptions(skip=True))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.handle.result()
    return job


async def cut_short(client: Client) -> Job:
    """A full sync over two snapshots; the workflow is cancelled then."""
    world = World(disks=1)
    for block in range(20):
        world.write(2000, block)
    world.cut_short_after = 10 * (64 << 10)
    async with a_job(client, world, a_spec("cut-short")) as job:
        await job.reaches(Phase.READY)
        await job.handle.cancel()
        await job.handle.result()
    return job


async def carried_over(client: Client) -> Job:
    """A run that begins from another one's record, as after continue-as-new."""
    world = World(disks=1)
    async with a_job(client, world, a_spec("first")) as job:
        await job.reaches(Phase.READY)
        record = JobState.model_validate((await job.status()).model_dump() | {"moref": "vm-101", "cadence_seconds": 1})
        await job.handle.terminate()
    async with a_job(client, world, a_spec("carried-over", cadence_seconds=1), carried=record) as job:
        await job.reaches(Phase.READY, syncs=1)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        await job.handle.result()
    return job


async def verified(client: Client) -> Job:
    """Scrub and read-back at each sync, what was spoiled mended, a verification over two snapshots, another cut off."""
    world = World()
    spec = a_spec("verified", cadence_seconds=3600).model_copy(update={"scrub_percent": 50.0, "verify_syncs": True})
    async with a_job(client, world, spec) as job:
        await job.reaches(Phase.READY)
        world.corrupt(2000, 5)
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.handle.execute_update(WarmMigrationWorkflow.sync_now, SyncNow())
        await job.tells("scrub")
        world.corrupt(2001, 60)
        world.compares_at_most = 40 * BLOCK
        await job.handle.execute_update(WarmMigrationWorkflow.verify, Verify(who="ann"))
        await job.handle.signal("verify", Verify(who="bob"))
        await job.tells("verified")
        await job.reaches(Phase.READY)
        world.hold = True
        await job.handle.execute_update(WarmMigrationWorkflow.verify, Verify(who="ann"))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="bob"))
        world.hold = False
        await job.handle.result()
    return job


async def on_a_busy_host(client: Client, host: str) -> tuple[Job, Budget]:
    """Two disks and one stream: one disk waits for the other; then a delta, and a cutover that reserves its stream."""
    fleet = Fleet(host, streams=1)
    name = f"on-{host}"
    fleet.held = {job_id(SOURCE, name)}
    async with a_worker(client, fleet):
        job = await submit(client, fleet, name, disks=2)
        budget = Budget(client, host)
        await budget.shows(held=1, waiting=1)
        await job.handle.execute_update(WarmMigrationWorkflow.set_rate_limit, SetRateLimit(rate_limit=50 << 20))
        fleet.held.clear()
        await job.reaches(Phase.READY)
        job.world.before["power_off"] = lambda: job.world.write(2000, 7)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.result()
        await budget.shows(held=0, waiting=0)
    return job, budget


async def limited(client: Client) -> Job:
    """A job whose streams wait for each other."""
    return (await on_a_busy_host(client, "esx-01"))[0]


async def host_budget(client: Client) -> Budget:
    """The budget that they wait for."""
    return (await on_a_busy_host(client, "esx-02"))[1]


async def seen(client: Client) -> Job:
    """A cutover whose ports got no address to be seen at, and one that is seen by several signs."""
    world = Sighted()
    mapped = (NetworkMapping(source="LAN", network="net"),)
    signs = (Evidence(kind="tcp", port=22), Evidence(kind="command", command="db-answers"))
    async with a_job(client, world, a_spec("seen").model_copy(update={"network_map": mapped})) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(evidence=signs))
        await job.tells("rolled back")
        await job.reaches(Phase.READY, syncs=1)
        world.addresses = ("10.20.0.15",)
        order = CutoverOrder(evidence=signs, console_evidence="login:")
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.handle.result()
    return job


async def scheduled(client: Client) -> Job:
    """Orders for a time: replaced, withdrawn, dropped by a short window; one over its budget; one that is forced."""
    world = World()
    async with a_job(client, world, a_spec("scheduled")) as job:
        await job.reaches(Phase.READY)
        now = datetime.now(UTC)
        cutover, withdraw = WarmMigrationWorkflow.cutover, WarmMigrationWorkflow.withdraw_cutover
        await job.handle.execute_update(cutover, CutoverOrder(who="ann", at=now + timedelta(days=1)))
        await job.handle.execute_update(cutover, CutoverOrder(who="bob", at=now + timedelta(days=2)))
        await job.handle.execute_update(withdraw, WithdrawCutover(who="ann"))
        window = Window(opens_at=now + timedelta(seconds=2), closes_at=now + timedelta(seconds=72))
        await job.handle.execute_update(cutover, CutoverOrder(who="ann", window=window))
        await job.tells("cutover dropped")
        await job.handle.execute_update(cutover, CutoverOrder(who="ann", max_downtime_seconds=60))
        await job.tells("rolled back")
        await job.reaches(Phase.READY, syncs=1)
        at = datetime.now(UTC) + timedelta(seconds=2)
        await job.handle.execute_update(cutover, CutoverOrder(who="ann", at=at, max_downtime_seconds=60, force=True))
        await job.handle.result()
    return job


async def rolled_back(client: Client) -> Job:
    """Kept as it failed and taken back; completed, rolled back, reverted from snapshots; completed and finalized."""
    world = World()
    world.write(2000, 1)
    async with a_job(client, world, a_spec("rolled-back")) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("BootFailed")]
        order = CutoverOrder(who="ann", on_failure=OnFailure.KEEP_OFF)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.reaches(Phase.FAILED)
        await job.handle.execute_update(WarmMigrationWorkflow.rollback, RollBackOrder(who="ann"))
        await job.tells("rolled back")
        await job.reaches(Phase.READY)
        world.cheap_snapshots = True
        order = CutoverOrder(who="ann", rollback_period_seconds=86_400)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.reaches(Phase.COMPLETED)
        await job.handle.signal("rollback", RollBackOrder(who="ann"))
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.resume, Resume())
        await job.tells("volume reverted")
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        await job.reaches(Phase.COMPLETED)
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder(who="ann"))
        await job.handle.result()
    return job


async def parked_by_an_attachment(client: Client) -> Job:
    """A roll-back that could not release the volumes, retried. Recorded when the source still waited for that."""
    world = World(disks=1)
    async with a_job(client, world, a_spec("parked-by-an-attachment")) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.before["convert"] = lambda: world.fail["release_volumes"].append(failure("VolumeBusy"))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.reaches(Phase.FAILED)
        await job.handle.execute_update(WarmMigrationWorkflow.retry, Retry())
        await job.reaches(Phase.READY, syncs=3)
        await job.handle.execute_update(WarmMigrationWorkflow.abandon, Abandon())
        await job.handle.result()
    return job


async def with_rehearsals(client: Client, vm: str) -> tuple[Job, WorkflowHandle[Any, Any]]:
    """A rehearsal that passes beside syncs, one whose copy does not boot, one that a cutover breaks off."""
    world = World()
    async with a_job(client, world, a_spec(vm, cadence_seconds=1)) as job:
        await job.reaches(Phase.READY)
        rehearsal = client.get_workflow_handle(rehearsal_id(job.handle.id))
        for end in ("passed", "failed"):
            world.fail["see_running"] = [failure("BootFailed")] if end == "failed" else []
            await job.handle.execute_update(WarmMigrationWorkflow.rehearse, Rehearse(who="ann"))
            await job.tells(f"rehearsal {end}")
        world.late = {"convert"}
        world.calls.clear()
        await job.handle.execute_update(WarmMigrationWorkflow.rehearse, Rehearse(who="ann"))
        while "convert" not in world.calls:  # noqa: ASYNC110 - a list that the activities append to
            await asyncio.sleep(0.05)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(require_rehearsal_seconds=3600))
        world.late = set()
        await job.handle.result()
    return job, rehearsal


async def rehearsed(client: Client) -> Job:
    """A job that was rehearsed three times."""
    return (await with_rehearsals(client, "rehearsed"))[0]


@dataclass
class Rehearsed:
    """A rehearsal's own workflow."""

    handle: WorkflowHandle[Any, Any]


async def rehearsal_broken_off(client: Client) -> Rehearsed:
    """The last of its rehearsals, which was broken off."""
    return Rehearsed((await with_rehearsals(client, "broken-off"))[1])


async def rehearsal_passed(client: Client) -> Rehearsed:
    """One that went to its end."""
    world = World()
    async with a_job(client, world, a_spec("passed")) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.rehearse, Rehearse(who="ann"))
        await job.tells("rehearsal passed")
    return Rehearsed(client.get_workflow_handle(rehearsal_id(job.handle.id)))


async def cleaned_up_later(client: Client) -> Job:
    """Volumes that could not be released before the source ran again, and a snapshot that outlived the final delta."""
    world = World(disks=1)
    async with a_job(client, world, a_spec("cleaned-up-later")) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        world.before["convert"] = lambda: world.fail["release_volumes"].append(failure("VolumeBusy"))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("rolled back")
        await job.reaches(Phase.READY, syncs=3)
        world.before["power_off"] = lambda: world.fail["remove_snapshots"].append(failure("SourceForbidden"))
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.handle.result()
        assert not world.snapshots
    return job


async def reported(client: Client) -> Job:
    """A report that is kept after a roll-back, one that cannot be kept after the cutover, one when that stands."""
    world = World(disks=1)
    async with a_job(client, world, a_spec("reported")) as job:
        await job.reaches(Phase.READY)
        world.fail["convert"] = [failure("ConversionFailed")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder())
        await job.tells("report kept")
        await job.reaches(Phase.READY)
        world.fail["keep_report"] = [failure("ReportNotKept")]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(rollback_period_seconds=600))
        await job.tells("report not kept")
        await job.handle.execute_update(WarmMigrationWorkflow.finalize, FinalizeOrder(who="ann"))
        await job.handle.result()
    return job


SHAPES: dict[str, Callable[[Client], Awaitable[Recorded]]] = {
    "straight": straight,
    "commanded": commanded,
    "troubled": troubled,
    "converted-otherwise": converted_otherwise,
    "cut-short": cut_short,
    "carried-over": carried_over,
    "verified": verified,
    "rolled-back": rolled_back,
    "parked-by-an-attachment": parked_by_an_attachment,
    "cleaned-up-later": cleaned_up_later,
    "limited": limited,
    "host-budget": host_budget,
    "seen": seen,
    "rehearsed": rehearsed,
    "rehearsal-passed": rehearsal_passed,
    "rehearsal-broken-off": rehearsal_broken_off,
    "scheduled": scheduled,
    "reported": reported,
}


def without_traces(history: str) -> str:
    """A history without the stack traces of its failures: they name places of the machine that recorded it."""

    def emptied(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: "" if name == "stackTrace" else value for name, value in fields.items()}

    return json.dumps(json.loads(history, object_hook=emptied), indent=2)


async def record(wanted: Sequence[str]) -> None:
    """Run the wanted shapes and write their histories."""
    HISTORIES.mkdir(exist_ok=True)
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=program("temporal"),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
        dev_server_log_level="error",
    ) as environment:
        for name in wanted:
            job = await SHAPES[name](environment.client)
            history = await job.handle.fetch_history()
            (HISTORIES / f"{name}.json").write_text(without_traces(history.to_json()) + "\n")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:] or list(SHAPES)))
