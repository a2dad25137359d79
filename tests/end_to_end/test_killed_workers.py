"""kill -9 of the worker in the middle of things: another one goes on, nothing is lost, nothing is left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.guest.image import build
from lab.layout import default_cache
from tests.end_to_end.stage import PIECE, Stage, Watch, a_spec, a_stage, see_every_record_on_the_target
from xms.client import Migrations
from xms.cutover import CutoverOrder
from xms.models import Phase, SyncNow

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


@pytest.fixture
def stage_with_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path, build(default_cache()), boots=True) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


async def submitted(**changes: object) -> Watch:
    migrations = await Migrations.connect()
    return Watch(migrations, await migrations.submit(a_spec(**changes)))


def commits_that_stop_in_the_middle(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the next conversion's commit stop, once, after one of two disks; gives the file that tells of it."""
    first_committed, second_begun = stage.directory / "one", stage.directory / "two"
    program = stage.directory / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text(f"""\
#!/bin/sh
if [ "$1" = commit ] && [ -e {first_committed} ] && ! [ -e {second_begun} ]; then touch {second_begun}; sleep 300; fi
if [ "$1" = commit ]; then touch {first_committed}; fi
exec {shutil.which("qemu-img")} "$@"
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return second_begun


async def test_a_job_runs_from_submit_to_completed_with_real_workers(stage: Stage) -> None:
    stage.fill(16)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    assert stage.replica_equals_source(ready)
    assert ready.bytes_full >= 32 * PIECE
    stage.write(2001, 100 * PIECE + 4096, 4096)
    await watch.migrations.command(watch.job, "sync-now", SyncNow(who="test"))
    synced = await watch.until(Phase.READY, syncs=1)
    assert stage.replica_equals_source(synced)
    assert synced.bytes_incremental == 64 << 10
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]], sleep=3)
    await watch.migrations.command(watch.job, "cutover", CutoverOrder(who="test", evidence_timeout_seconds=30))
    await watch.until_there(started)
    assert stage.machine.power_state == "poweredOff"
    assert stage.replica_equals_source(synced)
    done = await watch.until(Phase.COMPLETED)
    assert done.cutover is not None
    assert done.cutover.downtime_ended_at is not None
    assert stage.machine.snapshots == ()
    assert "migrated by XMS job" in stage.machine.annotation


async def test_kill_9_during_the_full_sync_another_worker_completes_it(stage: Stage) -> None:
    stage.fill(96)
    stage.start_worker("first", slow=True)
    watch = await submitted()
    await watch.until_copied(48 * PIECE)
    stage.kill_worker("first")
    stage.write(2000, 5 * PIECE, PIECE)
    stage.start_worker("second")
    ready = await watch.until(Phase.READY)
    await watch.migrations.command(watch.job, "sync-now", SyncNow())
    ready = await watch.until(Phase.READY, syncs=1)
    assert stage.replica_equals_source(ready)
    assert stage.machine.snapshots == ()


async def test_kill_9_during_an_incremental_sync_another_worker_completes_it(stage: Stage) -> None:
    stage.fill(4)
    stage.start_worker("first", slow=True)
    watch = await submitted()
    await watch.until(Phase.READY)
    stage.fill(96)
    await watch.migrations.command(watch.job, "sync-now", SyncNow())
    await watch.until_copied(48 * PIECE)
    stage.kill_worker("first")
    stage.start_worker("second")
    ready = await watch.until(Phase.READY, syncs=1)
    assert stage.replica_equals_source(ready)
    assert stage.machine.snapshots == ()


async def test_kill_9_during_the_cutover_another_worker_completes_it(stage: Stage) -> None:
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]], sleep=300)
    await watch.migrations.command(watch.job, "cutover", CutoverOrder(evidence_timeout_seconds=30))
    await watch.until_there(started)
    stage.kill_worker("first")
    assert stage.replica_equals_source(ready)
    stage.convert_by("second", writes=[[0, "write -P 9 4096 8192"]])
    stage.start_worker("second")
    done = await watch.until(Phase.COMPLETED, seconds=180)
    assert done.cutover is not None
    assert stage.machine.power_state == "poweredOff"
    assert stage.machine.snapshots == ()


async def test_kill_9_between_the_commit_and_the_boot_converts_nothing_again(stage: Stage) -> None:
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]])
    await watch.migrations.command(watch.job, "cutover", CutoverOrder(evidence_timeout_seconds=30))
    await watch.until_step("Finalize")
    stage.kill_worker("first")
    started.unlink()
    stage.start_worker("first")
    done = await watch.until(Phase.COMPLETED, seconds=180)
    assert not started.exists()
    assert stage.volume_holds(ready, 0, 4096, b"\7" * 8192)
    assert stage.machine.power_state == "poweredOff"
    assert done.cutover is not None
    assert done.cutover.server_id


async def test_kill_9_in_the_middle_of_the_commit_half_of_it_is_completed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_begun = commits_that_stop_in_the_middle(stage, monkeypatch)
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"], [1, "write -P 9 4096 8192"]])
    await watch.migrations.command(watch.job, "cutover", CutoverOrder(evidence_timeout_seconds=30))
    await watch.until_there(second_begun)
    stage.kill_worker("first")
    started.unlink()
    stage.start_worker("first")
    await watch.until(Phase.COMPLETED, seconds=180)
    assert not started.exists()
    assert stage.volume_holds(ready, 0, 4096, b"\7" * 8192)
    assert stage.volume_holds(ready, 1, 4096, b"\11" * 8192)


async def test_a_worker_that_is_stopped_hands_its_stream_over_without_reading_twice(stage: Stage) -> None:
    stage.fill(96)
    stage.start_worker("first", slow=True)
    watch = await submitted()
    await watch.until_copied(48 * PIECE)
    stage.stop_worker("first")
    stage.start_worker("second")
    ready = await watch.until(Phase.READY)
    assert stage.replica_equals_source(ready)
    assert ready.bytes_full == 192 * PIECE


async def struck_in_each_step(
    stage: Stage,
    watch: Watch,
    started: Path,
    second_begun: Path,
    **worker: Any,  # noqa: ANN401 - as of start_worker
) -> list[str]:
    """kill -9 in each step of the cutover that runs, another worker in its place each time; gives where it struck.

    Args:
        stage: with a worker of the name "first".
        watch: of the job.
        started: the file that the conversion touches.
        second_begun: the file that the commit of its second disk touches.
        worker: how each worker is started.
    """
    steps = []

    async def strike() -> None:
        status = await watch.status()
        assert status.cutover is not None
        steps.append(status.cutover.steps[-1].name)
        stage.kill_worker("first")
        stage.start_worker("first", **worker)

    for step in ("Gates", "Warm Pass", "Ports", "Power Off Source", "Final Delta"):
        await watch.until_step(step, seconds=600)
        await strike()
    for file in (started, second_begun):
        await watch.until_there(file, seconds=600)
        await strike()
    for step in ("Finalize", "Boot Target", "Evidence"):
        await watch.until_step(step, seconds=600)
        await strike()
    assert steps.count("Guest Fixes") == 2
    assert {"Power Off Source", "Final Delta", "Boot Target", "Evidence"} <= set(steps)
    return steps


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_kill_9_in_each_step_of_one_cutover_the_target_gets_every_byte(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_begun = commits_that_stop_in_the_middle(stage, monkeypatch)
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    ready = await watch.until(Phase.READY)
    started = stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"], [1, "write -P 9 4096 8192"]], sleep=5)
    stage.write(2001, 100 * PIECE, PIECE)
    order = CutoverOrder(who="test", shutdown_timeout_seconds=1, evidence_timeout_seconds=600)
    await watch.migrations.command(watch.job, "cutover", order)
    await struck_in_each_step(stage, watch, started, second_begun)
    done = await watch.until(Phase.COMPLETED, seconds=900)
    assert done.bytes_full == ready.bytes_full
    assert stage.machine.power_state == "poweredOff"
    assert stage.machine.snapshots == ()
    for place, pattern in ((0, b"\7"), (1, b"\11")):
        source = stage.machine.spec.disks[place].file.read_bytes()
        converted = source[:4096] + pattern * 8192 + source[4096 + 8192 :]
        assert stage.volume_holds(done, place, 0, converted)


@pytest.mark.lab
@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_kill_9_in_each_step_of_one_cutover_costs_no_record_of_the_guest(
    stage_with_a_guest: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_with_a_guest
    second_begun = commits_that_stop_in_the_middle(stage, monkeypatch)
    started = stage.directory / "started"
    conversion = stage.directory / "virt-v2v"
    conversion.write_text(f'#!/bin/sh\ntouch {started}\nexec {shutil.which("virt-v2v-in-place")} "$@"\n')
    conversion.chmod(0o755)
    worker: dict[str, Any] = {"conversion": conversion, "lease_seconds": 20}
    stage.start_worker("first", **worker)
    watch = await submitted(flavor="m1.small")
    await watch.until_printed(stage.console, 20)
    ready = await watch.until(Phase.READY, seconds=900)
    order = CutoverOrder(who="test", console_evidence=r"SEQ \d+", evidence_timeout_seconds=1800)
    await watch.migrations.command(watch.job, "cutover", order)
    await struck_in_each_step(stage, watch, started, second_begun, **worker)
    done = await watch.until(Phase.COMPLETED, seconds=1800)
    assert done.bytes_full == ready.bytes_full
    assert stage.machine.power_state == "poweredOff"
    assert stage.machine.snapshots == ()
    await see_every_record_on_the_target(stage, watch, done)
