"""The streaming activity: where it goes on, what its heartbeat keeps, and how a lost snapshot ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import streaming
from activities.streaming import StreamingActivities
from tests.engine.rig import MIB, AllowingGuard, Serve, Served, a_disk, stale
from xms.change_map import ByteRanges
from xms.config import Config, SourceConfig, TargetConfig
from xms.errors import Interrupted, SnapshotLost, TransportFailed
from xms.models import DiskProgress, Model
from xms.orders import SnapshotDisk, StreamDisk, StreamResult, VmOrder
from xms.pulse import Pulse


@dataclass
class ClaimedFile(AllowingGuard):
    path: str = ""
    size: int = 0


@dataclass
class Outside:
    """The stand-ins for vSphere and Cinder, and the activity's environment."""

    environment: ActivityEnvironment
    beats: list[Model]
    export: Served | None = None
    volume: Path = Path()
    snapshot_is_lost: bool = False

    def stream(self, order: StreamDisk) -> StreamResult:
        config = Config(
            sources={"lab": SourceConfig(host="h", username="u", password_file=Path("p"))},
            target=TargetConfig(cloud="c"),
        )
        return self.environment.run(StreamingActivities(config).stream_disk, order)

    def went_on_from(self, detail: object) -> None:
        self.environment.info = replace(self.environment.info, heartbeat_details=[detail])


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, serve: Serve, tmp_path: Path) -> Outside:
    beats: list[Model] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.extend(details or [Model()])
    made = Outside(environment, beats)
    made.export = serve("file", a_disk(tmp_path / "source", 8 * MIB))
    made.volume = stale(tmp_path / "volume", 8 * MIB)

    @contextmanager
    def open_export(*, pulse: Pulse, **_where: Any) -> Iterator[str]:  # noqa: ANN401 - a stand-in
        pulse()
        assert made.export is not None
        try:
            yield made.export.uri
        except TransportFailed as failure:
            raise SnapshotLost("the snapshot is gone") if made.snapshot_is_lost else failure from failure

    @contextmanager
    def claim_volume(_cloud: object, volume_id: str, *, pulse: Pulse, **_who: Any) -> Iterator[ClaimedFile]:  # noqa: ANN401
        assert volume_id == "v1"
        pulse()
        yield ClaimedFile(path=str(made.volume), size=8 * MIB)

    @contextmanager
    def connect(_config: TargetConfig, project: str) -> Iterator[None]:
        assert project == "infra"
        yield

    monkeypatch.setattr(streaming, "open_export", open_export)
    monkeypatch.setattr(streaming, "claim_volume", claim_volume)
    monkeypatch.setattr(streaming, "connect", connect)
    monkeypatch.setattr("xms.engine.reader.RECONNECT_SECONDS", 0.2)
    return made


def an_order(ranges: ByteRanges, *, verify: bool = False) -> StreamDisk:
    return StreamDisk(
        vm=VmOrder(job_id="warm-lab-db", source="lab", moref="vm-101", vm="db"),
        snapshot="snapshot-101-1",
        disk=SnapshotDisk(key=2000, label="Hard disk 1", capacity=8 * MIB, path="[ds] db/db.vmdk"),
        volume_id="v1",
        target_project="infra",
        ranges=ranges.encode(),
        bytes=ranges.total,
        verify=verify,
    )


WHOLE = ByteRanges.whole(8 * MIB)


def test_a_stream_brings_the_volume_up_to_the_snapshot(outside: Outside, tmp_path: Path) -> None:
    result = outside.stream(an_order(WHOLE, verify=True))

    assert outside.volume.read_bytes() == (tmp_path / "source").read_bytes()
    assert (result.disk_key, result.bytes_read, result.bytes_written) == (2000, 8 * MIB, 8 * MIB)
    assert result.remaining == ""
    assert result.verified
    assert isinstance(outside.beats[-1], DiskProgress)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stream_goes_on_from_the_heartbeat_of_the_attempt_before(outside: Outside, *, as_json: bool) -> None:
    earlier = DiskProgress(
        disk_key=2000, planned=8 * MIB, bytes_read=6 * MIB, bytes_written=6 * MIB, flushed_to=5 * MIB, worker="dead"
    )
    outside.went_on_from(earlier.model_dump(mode="json") if as_json else earlier)

    result = outside.stream(an_order(WHOLE))

    assert outside.volume.read_bytes()[: 5 * MIB] == b"\xa5" * 5 * MIB
    assert outside.volume.read_bytes()[5 * MIB : 6 * MIB] != b"\xa5" * MIB
    assert result.bytes_read == 8 * MIB


def test_a_heartbeat_before_the_first_block_keeps_the_watermark(outside: Outside) -> None:
    outside.went_on_from(DiskProgress(disk_key=2000, planned=8 * MIB, flushed_to=5 * MIB))

    outside.stream(an_order(WHOLE))

    assert isinstance(outside.beats[0], DiskProgress)
    assert outside.beats[0].flushed_to == 5 * MIB


@pytest.mark.parametrize("detail", [{"flushed_to": "soon"}, "text", {"disk_key": 2001, "planned": 1, "flushed_to": 1}])
def test_a_heartbeat_of_something_else_begins_the_stream_again(
    outside: Outside, tmp_path: Path, detail: object
) -> None:
    outside.went_on_from(detail)

    outside.stream(an_order(WHOLE))

    assert outside.volume.read_bytes() == (tmp_path / "source").read_bytes()


def test_a_stream_that_verifies_copies_from_the_beginning(outside: Outside, tmp_path: Path) -> None:
    outside.went_on_from(DiskProgress(disk_key=2000, planned=8 * MIB, flushed_to=5 * MIB))

    assert outside.stream(an_order(WHOLE, verify=True)).verified

    assert outside.volume.read_bytes() == (tmp_path / "source").read_bytes()


def lose_the_snapshot(outside: Outside) -> None:
    assert outside.export is not None
    outside.export.kill()
    outside.snapshot_is_lost = True


def test_a_lost_snapshot_cuts_a_stream_short_and_keeps_what_is_flushed(outside: Outside) -> None:
    outside.went_on_from(DiskProgress(disk_key=2000, planned=8 * MIB, bytes_read=5 * MIB, flushed_to=5 * MIB))
    lose_the_snapshot(outside)

    result = outside.stream(an_order(WHOLE))

    assert ByteRanges.decode(result.remaining) == ByteRanges([(5 * MIB, 3 * MIB)])
    assert result.remaining_bytes == 3 * MIB
    assert result.cut_short == "the snapshot is gone"
    assert not result.verified


def test_a_lost_snapshot_fails_a_stream_that_flushed_nothing(outside: Outside) -> None:
    lose_the_snapshot(outside)

    with pytest.raises(SnapshotLost):
        outside.stream(an_order(WHOLE))


def test_a_lost_snapshot_fails_a_stream_that_has_to_verify(outside: Outside, serve: Serve, tmp_path: Path) -> None:
    outside.export = serve("--filter=rate", "file", tmp_path / "source", "rate=32M", "burstiness=0.1")
    beats: list[DiskProgress] = []

    def beat(progress: DiskProgress) -> None:
        beats.append(progress)
        if progress.bytes_written:
            lose_the_snapshot(outside)

    outside.environment.on_heartbeat = beat

    with pytest.raises(SnapshotLost):
        outside.stream(an_order(WHOLE, verify=True))

    assert any(progress.bytes_written for progress in beats)


def test_a_stream_that_fails_tells_with_its_error_what_is_flushed(outside: Outside) -> None:
    outside.went_on_from(DiskProgress(disk_key=2000, planned=8 * MIB, bytes_read=5 * MIB, flushed_to=5 * MIB))
    assert outside.export is not None
    outside.export.kill()

    with pytest.raises(TransportFailed) as failed:
        outside.stream(an_order(WHOLE))

    assert failed.value.progress is not None
    assert failed.value.progress.flushed_to == 5 * MIB


@dataclass
class HandedOver:
    """A stream that one worker began, was told to stop by SIGTERM, and another one completed."""

    last: DiskProgress
    """the first worker's last heartbeat"""
    first: ByteRanges
    """what the first worker asked the source for"""
    second: ByteRanges


def hand_over(outside: Outside, serve: Serve, tmp_path: Path, *filters: str) -> HandedOver:
    """SIGTERM to a worker is `is_worker_shutdown` for its activities."""
    first_log, second_log = tmp_path / "first", tmp_path / "second"
    slow = [*filters, "--filter=rate", "file", tmp_path / "source", "rate=32M", "burstiness=0.1"]
    outside.export = serve("--filter=log", *slow, f"logfile={first_log}")

    def beat(*details: Model) -> None:
        outside.beats.extend(details)
        if isinstance(details[0], DiskProgress) and details[0].bytes_written >= 3 * MIB:
            outside.environment.worker_shutdown()

    outside.environment.on_heartbeat = beat
    with pytest.raises(Interrupted):
        outside.stream(an_order(WHOLE))
    last = outside.beats[-1]
    assert isinstance(last, DiskProgress)

    outside.environment = ActivityEnvironment()
    outside.went_on_from(last.model_dump(mode="json"))
    outside.export = serve("--filter=log", "file", tmp_path / "source", f"logfile={second_log}")
    assert outside.stream(an_order(WHOLE)).bytes_read == 8 * MIB
    assert outside.volume.read_bytes() == (tmp_path / "source").read_bytes()
    return HandedOver(last, reads_of(first_log), reads_of(second_log))


def test_a_stream_whose_worker_is_told_to_stop_goes_on_exactly_at_its_last_heartbeat(
    outside: Outside, serve: Serve, tmp_path: Path
) -> None:
    done = hand_over(outside, serve, tmp_path, "--filter=noparallel")

    assert 3 * MIB <= done.last.flushed_to == done.last.bytes_written < 8 * MIB
    assert done.second == WHOLE.from_offset(done.last.flushed_to)


@pytest.mark.xfail(reason="reads that are under way are dropped, and hold the watermark back", strict=True)
def test_after_a_worker_was_told_to_stop_nothing_is_read_again(outside: Outside, serve: Serve, tmp_path: Path) -> None:
    done = hand_over(outside, serve, tmp_path)

    assert not done.first & done.second


def reads_of(log: Path) -> ByteRanges:
    """What a server of nbdkit's log filter was asked to read."""
    found = re.findall(r" Read id=\d+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+) ", log.read_text())
    return ByteRanges((int(offset, 16), int(length, 16)) for offset, length in found)
