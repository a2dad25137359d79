"""What was predicted of a downtime comes, and rehearsals cost no sync and leave nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import openstack
import pytest

from lab.guest.image import build
from lab.layout import PROJECT, default_cache
from tests.end_to_end.downtime import taken_apart
from tests.end_to_end.stage import Stage, Watch, a_spec, a_stage
from xms.client import Migrations
from xms.cutover import CutoverOrder, Evidence, Rehearse
from xms.models import Phase, SetCadence
from xms.status import JobStatus

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.lab]

RECORDS = 20
CADENCE = 60
PREDICTED_WITHIN = 0.25
REHEARSALS = 3


@pytest.fixture
def stage_with_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path, build(default_cache()), boots=True) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


async def ready(stage: Stage) -> Watch:
    """A guest that writes, and its job, which is Ready."""
    stage.start_worker("first", conversion="virt-v2v-in-place")
    migrations = await Migrations.connect()
    watch = Watch(migrations, await migrations.submit(a_spec(flavor="m1.small")))
    await watch.until_printed(stage.console, RECORDS)
    await watch.until(Phase.READY, seconds=900)
    return watch


async def rehearsed(watch: Watch, seconds: float = 2400.0) -> JobStatus:
    """Order a rehearsal, and wait until it has passed."""
    before = (await watch.status()).rehearsal
    number = (before.number if before else 0) + 1
    order = Rehearse(who="test", evidence=(Evidence(kind="console", pattern=r"SEQ \d+"),), evidence_timeout_seconds=900)
    await watch.migrations.command(watch.job, "rehearse", order)
    for _ in range(int(seconds / 0.5)):
        status = await watch.status()
        if status.rehearsal and status.rehearsal.number == number and status.rehearsal.outcome != "running":
            assert status.rehearsal.outcome == "passed", await watch.story(status)
            return status
        await asyncio.sleep(0.5)
    raise AssertionError(await watch.story(status))


def what_the_cloud_has(stage: Stage) -> dict[str, set[str]]:
    """Everything that a rehearsal might leave, by the cloud's own answer."""
    config = stage.directory / "clouds.yaml"
    loader = openstack.config.OpenStackConfig(config_files=[str(config)])
    entry = loader.get_one(cloud="lab", project_name=PROJECT)
    with openstack.connection.Connection(config=entry) as cloud:
        return {
            "volumes": {volume.id for volume in cloud.block_storage.volumes()},
            "snapshots": {snapshot.id for snapshot in cloud.block_storage.snapshots()},
            "servers": {server.id for server in cloud.compute.servers()},
            "ports": {port.id for port in cloud.network.ports()},
            "networks": {network.id for network in cloud.network.networks()},
        }


@pytest.mark.timeout(3600)
async def test_a_downtime_that_was_predicted_after_a_rehearsal_is_what_comes(stage_with_a_guest: Stage) -> None:
    stage = stage_with_a_guest
    watch = await ready(stage)
    await rehearsed(watch)
    order = CutoverOrder(who="test", console_evidence=r"SEQ \d+", evidence_timeout_seconds=1200)
    await watch.migrations.command(watch.job, "cutover", order)
    done = await watch.until(Phase.COMPLETED, seconds=2400)
    assert done.cutover is not None
    predicted = done.cutover.prediction
    assert predicted is not None
    history = await watch.migrations.client.get_workflow_handle(watch.job).fetch_history()
    came = taken_apart(history, done)
    print(came.told())  # noqa: T201 - figures for whoever looks
    for part in predicted.parts:
        print(f"  predicted {part.name:<12} {part.seconds:7.2f} s  {part.basis}")  # noqa: T201
    assert predicted.seconds == pytest.approx(came.seconds, rel=PREDICTED_WITHIN)


@pytest.mark.timeout(5400)
async def test_three_rehearsals_miss_no_sync_and_leave_nothing_behind(stage_with_a_guest: Stage) -> None:
    stage = stage_with_a_guest
    watch = await ready(stage)
    await watch.migrations.command(watch.job, "set-cadence", SetCadence(who="test", cadence_seconds=CADENCE))
    first = await watch.until(Phase.READY, syncs=1)
    before = what_the_cloud_has(stage)
    for _ in range(REHEARSALS):
        await rehearsed(watch)
    last = await watch.until(Phase.READY, syncs=first.sync_count + 1)
    assert last.rehearsal is not None
    assert last.rehearsal.number == REHEARSALS
    assert last.rehearsal.left == ()
    assert what_the_cloud_has(stage) == before
    assert stage.machine.power_state == "poweredOn"

    assert first.last_sync_at is not None
    assert last.last_sync_at is not None
    cadence = timedelta(seconds=CADENCE)
    due = (last.last_sync_at - first.last_sync_at) // (cadence + timedelta(seconds=15))
    assert last.sync_count - first.sync_count >= due
    assert stage.machine.snapshots == ()
    assert last.bytes_full == first.bytes_full
