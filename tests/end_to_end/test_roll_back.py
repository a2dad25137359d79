"""A completed cutover taken back in the lab: real workers, the real engine, the stand-in cloud and its snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.stage import PIECE, Watch, a_spec, a_stage
from xms.client import Migrations
from xms.cutover import CutoverOrder, FinalizeOrder, RollBackOrder
from xms.models import Phase, Resume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("cheap", [False, True], ids=["copied in full", "from snapshots"])
async def test_a_completed_cutover_is_taken_back_and_the_replica_is_the_source_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cheap: bool
) -> None:
    with a_stage(tmp_path) as stage:
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        stage.fill(4)
        stage.start_worker("first", cheap_snapshots=cheap)
        migrations = await Migrations.connect()
        watch = Watch(migrations, await migrations.submit(a_spec()))
        ready = await watch.until(Phase.READY)
        stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]])
        order = CutoverOrder(who="ann", evidence_timeout_seconds=30, rollback_period_seconds=3600)
        await migrations.command(watch.job, "cutover", order)
        done = await watch.until(Phase.COMPLETED)
        assert stage.machine.annotation.startswith("migrated by XMS job")
        assert len(stage.cloud.cloud.snapshots) == (2 if cheap else 0)
        volume = stage.cloud.volume_file(ready.disks[1].volume_id or "")
        with volume.open("r+b") as file:
            file.seek(2 * PIECE)
            file.write(b"what the target wrote")

        await migrations.command(watch.job, "rollback", RollBackOrder(who="bob"))
        back = await watch.until(Phase.READY)
        assert back.paused
        assert stage.machine.power_state == "poweredOn"
        assert stage.machine.annotation == ""
        assert not stage.cloud.cloud.servers
        assert not stage.cloud.cloud.ports
        assert stage.volume_holds(ready, 1, 2 * PIECE, b"what the target wrote")

        stage.write(2000, 5 * PIECE, PIECE)
        await migrations.command(watch.job, "resume", Resume())
        again = await watch.until(Phase.READY, syncs=done.sync_count + (1 if cheap else 0))
        while again.last_sync_at == done.last_sync_at:
            again = await watch.until(Phase.READY)
        assert stage.replica_equals_source(again), await watch.story(again)
        assert (again.bytes_full == done.bytes_full) is cheap
        assert not stage.cloud.cloud.snapshots

        await migrations.command(watch.job, "cutover", order)
        await watch.until(Phase.COMPLETED)
        await migrations.command(watch.job, "finalize", FinalizeOrder(who="bob"))
        report = await migrations.client.get_workflow_handle(watch.job).result()
        assert report["outcome"] == "completed"
        assert not stage.cloud.cloud.snapshots
