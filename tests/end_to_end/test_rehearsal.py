"""Rehearsals with real workers: a copy is converted and booted, syncs go on, kills change nothing, nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.stage import PIECE, Stage, Watch, a_spec, a_stage
from xms.client import Migrations
from xms.cutover import CutoverOrder, Rehearsal, Rehearse
from xms.models import Phase, SyncNow
from xms.status import JobStatus

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


async def submitted() -> Watch:
    migrations = await Migrations.connect()
    return Watch(migrations, await migrations.submit(a_spec()))


async def rehearsed(watch: Watch, number: int, seconds: float = 180.0) -> Rehearsal:
    deadline = time.monotonic() + seconds
    while True:
        status = await watch.status()
        found = status.rehearsal
        if found is not None and found.number == number and found.outcome != "running":
            return found
        if time.monotonic() > deadline:
            raise AssertionError(await watch.story(status))
        await asyncio.sleep(0.1)


def nothing_is_left(stage: Stage, status: JobStatus) -> bool:
    """In the cloud's own state: the job's volumes, and nothing else that a member can make."""
    cloud = stage.cloud.cloud
    return (
        set(cloud.volumes) == {disk.volume_id for disk in status.disks}
        and not cloud.servers
        and not cloud.ports
        and not cloud.attachments
        and not [network for network in cloud.networks.values() if network.description]
    )


async def test_a_copy_is_rehearsed_beside_syncs_and_a_cutover_follows(stage: Stage) -> None:
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]], sleep=5)
    await watch.migrations.command(watch.job, "rehearse", Rehearse(who="test", evidence_timeout_seconds=60))
    await watch.until_there(started)
    stage.write(2001, 100 * PIECE, 4096)
    await watch.migrations.command(watch.job, "sync-now", SyncNow(who="test"))
    synced = await watch.until(Phase.READY, syncs=1)
    assert synced.rehearsal is not None
    assert synced.rehearsal.outcome == "running"
    assert stage.replica_equals_source(synced)
    found = await rehearsed(watch, 1)
    assert found.outcome == "passed", found
    assert {step.outcome for step in found.steps} == {"done"}
    assert found.conversion_seconds is not None
    assert found.conversion_seconds >= 5
    assert found.left == ()
    assert str(stage.machine.power_state) == "poweredOn"
    assert stage.replica_equals_source(ready)
    assert nothing_is_left(stage, ready)
    assert not list((stage.directory / "first").rglob("*.qcow2"))
    order = CutoverOrder(who="test", evidence_timeout_seconds=60, require_rehearsal_seconds=3600)
    await watch.migrations.command(watch.job, "cutover", order)
    await watch.until(Phase.COMPLETED)
    assert stage.machine.power_state == "poweredOff"


async def test_kill_9_during_a_rehearsals_conversion_another_worker_completes_it(stage: Stage) -> None:
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]], sleep=300)
    await watch.migrations.command(watch.job, "rehearse", Rehearse(evidence_timeout_seconds=60))
    await watch.until_there(started)
    stage.kill_worker("first")
    stage.convert_by("second", writes=[[0, "write -P 9 4096 8192"]])
    stage.start_worker("second")
    found = await rehearsed(watch, 1)
    assert found.outcome == "passed", found
    assert stage.replica_equals_source(ready)
    assert nothing_is_left(stage, ready)
    assert stage.machine.power_state == "poweredOn"


async def test_a_rehearsal_whose_guest_cannot_be_converted_leaves_nothing(stage: Stage) -> None:
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    stage.convert_by(
        "first",
        writes=[[0, "write -P 7 4096 8192"]],
        error="inspection could not detect the source guest (or physical machine).",
    )
    await watch.migrations.command(watch.job, "rehearse", Rehearse())
    found = await rehearsed(watch, 1)
    assert found.outcome == "failed"
    assert found.trouble is not None
    assert found.trouble.kind == "ConversionFailed"
    assert stage.replica_equals_source(ready)
    assert nothing_is_left(stage, ready)
    assert not list((stage.directory / "first").rglob("*.qcow2"))
