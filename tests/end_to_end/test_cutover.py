"""What a cutover promises to an operator: a conversion that fails costs no copy, and the product itself little time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest.image import ROOT_SIZE, build
from lab.layout import default_cache
from tests.end_to_end.downtime import taken_apart
from tests.end_to_end.stage import PIECE, Stage, Watch, a_spec, a_stage
from xms.client import Migrations
from xms.cutover import CutoverOrder
from xms.models import Phase

pytestmark = pytest.mark.slow

OWN_SHARE_SECONDS = 5.0
"""Of a machine that has nothing else to do."""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


@pytest.fixture
def stage_with_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with a_stage(tmp_path, build(default_cache())) as stage:
        monkeypatch.setitem(os.environ, "TEMPORAL_ADDRESS", stage.temporal.address)
        yield stage


async def submitted(**changes: object) -> Watch:
    migrations = await Migrations.connect()
    return Watch(migrations, await migrations.submit(a_spec(**changes)))


def virt_v2v_that_breaks_once(stage: Stage) -> Path:
    """The real one; the first time it is killed when the overlays have some MiB, between digests of the volumes."""
    directory = stage.directory / "virt-v2v"
    directory.mkdir()
    program = directory / "virt-v2v-in-place"
    program.write_text(f"""\
#!/bin/sh
real={shutil.which("virt-v2v-in-place")}
[ -e {directory}/before ] && exec $real "$@"
for description; do :; done
overlays=$(dirname "$description")/overlays
size() {{ cat "$overlays"/*.qcow2 | wc -c; }}
sha256sum {stage.directory}/cloud/volumes/volume-* > {directory}/before
size > {directory}/empty
limit=$(( $(size) + {2 * PIECE} ))
$real "$@" &
converter=$!
while kill -0 $converter && [ "$(size)" -lt $limit ]; do sleep 0.2; done
kill -KILL $converter
wait $converter
size > {directory}/written
sha256sum {stage.directory}/cloud/volumes/volume-* > {directory}/after
exit 1
""")
    program.chmod(0o755)
    return program


@pytest.mark.lab
@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_conversion_that_breaks_half_way_leaves_the_replica_and_a_second_cutover_needs_no_full_copy(
    stage_with_an_image: Stage,
) -> None:
    stage = stage_with_an_image
    program = virt_v2v_that_breaks_once(stage)
    stage.start_worker("first", conversion=program)
    watch = await submitted(flavor="m1.small")
    ready = await watch.until(Phase.READY, seconds=900)
    assert ready.bytes_full > 100 * PIECE

    order = CutoverOrder(who="test", evidence_timeout_seconds=600)
    await watch.migrations.command(watch.job, "cutover", order)
    await watch.until_step("Guest Fixes", seconds=600)
    back = await watch.until(Phase.READY, syncs=ready.sync_count + 3, seconds=1500)
    written, empty = (int((program.parent / name).read_text()) for name in ("written", "empty"))
    assert written - empty >= 2 * PIECE
    assert (program.parent / "before").read_text() == (program.parent / "after").read_text()
    assert back.cutover is not None
    assert back.cutover.trouble is not None
    assert back.cutover.trouble.kind == "ConversionFailed"
    assert (stage.machine.power_state, stage.machine.snapshots) == ("poweredOn", ())
    assert stage.replica_equals_source(back)
    assert back.bytes_incremental == 0, "nothing was written meanwhile"

    stage.write(2000, ROOT_SIZE - PIECE // 2, 4096)
    await watch.migrations.command(watch.job, "cutover", order)
    done = await watch.until(Phase.COMPLETED, seconds=2400)
    assert done.bytes_full == ready.bytes_full
    assert 4096 <= done.bytes_incremental <= PIECE
    assert (stage.machine.power_state, stage.machine.snapshots) == ("poweredOff", ())
    history = await watch.migrations.client.get_workflow_handle(watch.job).fetch_history()
    print(taken_apart(history, done).told())  # noqa: T201 - figures for whoever looks


async def test_what_the_product_adds_to_a_downtime_is_seconds(stage: Stage) -> None:
    """By its bound a busy machine cannot fail it: on an idle one it is measured, and printed on any."""
    stage.fill(8)
    stage.start_worker("first")
    watch = await submitted()
    await watch.until(Phase.READY)
    stage.convert_by("first", writes=[[0, "write -P 7 4096 8192"]])
    order = CutoverOrder(who="test", shutdown_timeout_seconds=1, evidence_timeout_seconds=60)
    await watch.migrations.command(watch.job, "cutover", order)
    await watch.until_step("Ports")
    stage.write(2001, 100 * PIECE, 4096)
    done = await watch.until(Phase.COMPLETED, seconds=300)
    history = await watch.migrations.client.get_workflow_handle(watch.job).fetch_history()
    downtime = taken_apart(history, done)
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    print(downtime.told(), f"\nload {load:.1f} on {processors} processors")  # noqa: T201 - figures for whoever looks
    assert downtime.parts["own share"] <= OWN_SHARE_SECONDS * max(1.0, load / processors)
