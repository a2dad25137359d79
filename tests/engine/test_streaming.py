"""The streaming activity: where it goes on, what its heartbeat keeps, and how a lost snapshot ends it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import space_watch, streaming
from activities.streaming import StreamingActivities
from tests.engine.rig import MIB, AllowingGuard, Serve, Served, a_disk, stale
from xms import scrub
from xms.change_map import ByteRanges
from xms.config import Config, SourceConfig, TargetConfig
from xms.errors import Interrupted, SnapshotLost, SourceUnreachable, TransportFailed
from xms.models import DiskProgress, Model
from xms.orders.copy import StreamDisk, StreamResult
from xms.orders.source import SnapshotDisk, VmOrder
from xms.pulse import Pulse
from xms.vsphere.sessions import Sessions


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
        with closing(Sessions()) as sessions:
            return self.environment.run(StreamingActivities(config, sessions).stream_disk, order)

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
    def connect(_config: TargetConfig, project: str, _pulse: Pulse) -> Iterator[None]:
        assert project == "infra"
        yield

    monkeypatch.setattr(streaming, "open_export", open_export)
    monkeypatch.setattr(streaming, "claim_volume", claim_volume)
    monkeypatch.setattr(streaming, "connect", connect)
    monkeypatch.setattr("xms.engine.reader.RECONNECT_SECONDS", 0.2)
    return made


def an_order(ranges: ByteRanges, *, verify: bool = False, compare: ByteRanges | None = None) -> StreamDisk:
    return StreamDisk(
        vm=VmOrder(job_id="warm-lab-db", source="lab", moref="vm-101", vm="db"),
        snapshot="snapshot-101-1",
        disk=SnapshotDisk(key=2000, label="Hard disk 1", capacity=8 * MIB, path="[ds] db/db.vmdk"),
        volume_id="v1",
        target_project="infra",
        ranges=ranges.encode(),
        bytes=ranges.total,
        verify=verify,
        compare=(compare or ByteRanges()).encode(),
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


def test_a_stream_that_verifies_goes_on_from_what_was_verified(outside: Outside) -> None:
    outside.went_on_from(DiskProgress(disk_key=2000, planned=8 * MIB, flushed_to=5 * MIB, verified=True))

    assert outside.stream(an_order(WHOLE, verify=True)).verified

    assert outside.volume.read_bytes()[: 5 * MIB] == b"\xa5" * 5 * MIB


def test_a_stream_that_verifies_does_not_believe_what_was_only_flushed(outside: Outside, tmp_path: Path) -> None:
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


# --- what is compared -------------------------------------------------------------------------------------------------


def flip(volume: Path, at: int) -> None:
    with volume.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def a_block(at: int) -> ByteRanges:
    return ByteRanges([(at - at % 4096, 4096)])


@pytest.mark.parametrize("plan", [ByteRanges(), ByteRanges([(0, MIB)])], ids=["nothing to copy", "a delta"])
def test_a_spoiled_byte_of_the_volume_is_found_by_a_scrub_and_the_next_stream_mends_it(
    outside: Outside, tmp_path: Path, plan: ByteRanges
) -> None:
    outside.stream(an_order(WHOLE))
    flip(outside.volume, 5 * MIB + 77)
    window = scrub.window(8 * MIB, 5 * MIB, 1)

    result = outside.stream(an_order(plan, compare=window))

    assert ByteRanges.decode(result.compared) == window == ByteRanges([(5 * MIB, MIB)])
    assert ByteRanges.decode(result.differing) == a_block(5 * MIB + 77)
    assert result.differing_bytes == 4096
    assert result.remaining == ""
    mended = outside.stream(an_order(ByteRanges.decode(result.differing), compare=window))
    assert mended.differing == ""
    assert outside.volume.read_bytes() == (tmp_path / "source").read_bytes()


def test_a_spoiled_byte_of_the_volume_is_found_by_a_verification_of_everything(outside: Outside) -> None:
    outside.stream(an_order(WHOLE))
    flip(outside.volume, 8 * MIB - 1)

    result = outside.stream(an_order(ByteRanges(), compare=WHOLE))

    assert ByteRanges.decode(result.compared) == WHOLE
    assert ByteRanges.decode(result.differing) == a_block(8 * MIB - 1)


def test_what_is_copied_is_compared_after_it_was_copied(outside: Outside) -> None:
    result = outside.stream(an_order(WHOLE, compare=WHOLE))
    assert ByteRanges.decode(result.compared) == WHOLE
    assert result.differing == ""


def test_a_stream_that_is_cut_short_compares_nothing(outside: Outside) -> None:
    over = datetime.now(UTC) - timedelta(seconds=1)
    result = outside.stream(an_order(WHOLE, compare=WHOLE).model_copy(update={"give_up_at": over}))
    assert result.remaining_bytes == 8 * MIB
    assert (result.compared, result.differing) == ("", "")


def test_a_comparison_goes_on_from_the_heartbeat_of_the_attempt_before_and_forgets_nothing(outside: Outside) -> None:
    outside.stream(an_order(WHOLE))
    flip(outside.volume, 7 * MIB)
    earlier = DiskProgress(
        disk_key=2000, planned=MIB, flushed_to=MIB, compared_to=6 * MIB, differing=a_block(2 * MIB).encode()
    )
    outside.went_on_from(earlier)
    outside.beats.clear()

    result = outside.stream(an_order(ByteRanges([(0, MIB)]), compare=WHOLE))

    assert ByteRanges.decode(result.compared) == WHOLE
    assert ByteRanges.decode(result.differing) == a_block(2 * MIB) | a_block(7 * MIB)
    # A death in any of these moments would leave the next attempt what this one was left.
    assert all(
        isinstance(beat, DiskProgress) and not a_block(2 * MIB) - ByteRanges.decode(beat.differing)
        for beat in outside.beats
    )


def test_a_snapshot_that_is_lost_while_comparing_loses_nothing_that_was_found(outside: Outside) -> None:
    outside.stream(an_order(WHOLE))
    earlier = DiskProgress(
        disk_key=2000, planned=MIB, flushed_to=MIB, compared_to=6 * MIB, differing=a_block(2 * MIB).encode()
    )
    outside.went_on_from(earlier)
    lose_the_snapshot(outside)

    result = outside.stream(an_order(ByteRanges([(0, MIB)]), compare=WHOLE))

    assert result.remaining == ""
    assert ByteRanges.decode(result.compared) == ByteRanges([(0, 6 * MIB)])
    assert ByteRanges.decode(result.differing) == a_block(2 * MIB)


@pytest.mark.parametrize("verify", [False, True])
def test_a_snapshot_that_is_lost_fails_a_stream_with_what_it_had_found(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, *, verify: bool
) -> None:
    monkeypatch.setattr("activities.execution.BEAT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr("xms.engine.compare.BEAT_SECONDS", 0.0)
    outside.stream(an_order(WHOLE))
    flip(outside.volume, 10)

    def beat(progress: DiskProgress) -> None:
        if progress.differing:
            lose_the_snapshot(outside)

    outside.environment.on_heartbeat = beat
    # One read at a time: the snapshot is lost while most of it is not asked for yet.
    order = an_order(ByteRanges(), verify=verify, compare=WHOLE).model_copy(update={"bytes_in_flight": MIB})

    with pytest.raises(SnapshotLost) as lost:
        outside.stream(order)

    assert lost.value.progress is not None
    assert ByteRanges.decode(lost.value.progress.differing) == a_block(10)
    assert lost.value.progress.flushed_to == 0


@dataclass
class HandedOver:
    """A stream that one worker began, was told to stop by SIGTERM, and another one completed."""

    last: DiskProgress
    """the first worker's last heartbeat"""
    first: ByteRanges
    """what the first worker asked the source for"""
    second: ByteRanges


def hand_over(outside: Outside, serve: Serve, tmp_path: Path, *filters: str, rate: str) -> HandedOver:
    """SIGTERM to a worker is `is_worker_shutdown` for its activities."""
    first_log, second_log = tmp_path / "first", tmp_path / "second"
    slow = [*filters, "--filter=rate", "file", tmp_path / "source", f"rate={rate}", "burstiness=0.1"]
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
    done = hand_over(outside, serve, tmp_path, "--filter=noparallel", rate="32M")

    assert 3 * MIB <= done.last.flushed_to == done.last.bytes_written < 8 * MIB
    assert done.second == WHOLE.from_offset(done.last.flushed_to)


def test_after_a_worker_was_told_to_stop_nothing_is_read_again(outside: Outside, serve: Serve, tmp_path: Path) -> None:
    # All of it is asked for at once, and has to arrive within the time that a drain has.
    done = hand_over(outside, serve, tmp_path, rate="64M")

    assert not done.first & done.second


def reads_of(log: Path) -> ByteRanges:
    """What a server of nbdkit's log filter was asked to read."""
    found = re.findall(r" Read id=\d+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+) ", log.read_text())
    return ByteRanges((int(offset, 16), int(length, 16)) for offset, length in found)


# --- the source's datastores ------------------------------------------------------------------------------------------

LOW = "datastore ds1 has 3 GiB free, less than the reserve of 10 GiB"


def until_tomorrow(ranges: ByteRanges, compare: ByteRanges | None = None) -> StreamDisk:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return an_order(ranges, compare=compare).model_copy(update={"give_up_at": tomorrow})


@pytest.fixture
def slow(outside: Outside, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    monkeypatch.setattr(space_watch, "LOOK_EVERY_SECONDS", 0.2)
    outside.export = serve("--filter=rate", "file", tmp_path / "source", "rate=32M", "burstiness=0.1")
    return outside


def has_room(monkeypatch: pytest.MonkeyPatch, look: Callable[[], str]) -> None:
    @contextmanager
    def session(_sessions: Sessions, name: str, _config: SourceConfig) -> Iterator[str]:
        yield name

    monkeypatch.setattr(Sessions, "session", session)
    monkeypatch.setattr(streaming, "without_room", lambda *_who, **_how: look())


def test_a_datastore_that_fills_up_ends_the_stream_cleanly_and_what_is_flushed_counts(
    slow: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_room(monkeypatch, lambda: LOW)

    result = slow.stream(until_tomorrow(WHOLE, compare=WHOLE))

    assert (result.cut_short, result.given_up) == (LOW, LOW)
    remaining = ByteRanges.decode(result.remaining)
    assert 0 < remaining.total < 8 * MIB
    assert result.flushed_bytes == 8 * MIB - result.remaining_bytes
    assert result.compared == ""
    source, volume = (tmp_path / "source").read_bytes(), slow.volume.read_bytes()
    assert all(volume[at : at + size] == source[at : at + size] for at, size in WHOLE - remaining)


def test_a_watch_that_cannot_reach_vcenter_warns_and_never_breaks_the_stream(
    slow: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable() -> str:
        raise SourceUnreachable("lab cannot be reached", because="timed out")

    has_room(monkeypatch, unreachable)

    result = slow.stream(until_tomorrow(WHOLE))

    assert (result.cut_short, result.given_up) == ("", "")
    assert slow.volume.read_bytes() == (tmp_path / "source").read_bytes()
    assert "the copy goes on: lab cannot be reached" in caplog.text


def test_the_final_delta_is_not_given_up(slow: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_room(monkeypatch, lambda: LOW)

    result = slow.stream(an_order(WHOLE))

    assert (result.cut_short, result.given_up) == ("", "")
    assert slow.volume.read_bytes() == (tmp_path / "source").read_bytes()


def test_a_look_that_hangs_does_not_hold_up_the_end_of_the_stream(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_watch, "LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(space_watch, "PATIENCE_SECONDS", 0.01)
    over = threading.Event()
    has_room(monkeypatch, lambda: str(over.wait(20) or ""))

    assert outside.stream(until_tomorrow(WHOLE)).cut_short == ""

    assert not over.is_set()
    over.set()
