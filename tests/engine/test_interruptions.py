"""Copies that are stopped, killed or starved: nothing that was flushed is lost, and nothing counts that was not."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.rig import MIB, AllowingGuard, RecordingPulse, Serve, a_disk, copy, stale
from xms.change_map import ByteRanges
from xms.engine import connection, connections, read_back, reader, write_behind, writer
from xms.engine import copy as engine
from xms.engine.account import Account
from xms.engine.native_aio import Ended, WritesUnderWay
from xms.errors import Interrupted, LeaseLost, TransportFailed, WriteFailed
from xms.models import DiskProgress


def test_a_resumed_copy_writes_nothing_below_the_watermark(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 16 * MIB)
    volume = stale(tmp_path / "volume", 16 * MIB)
    pulse = RecordingPulse()

    result = copy(serve("file", source), volume, start_at=5 * MIB + 17, pulse=pulse)

    after = volume.read_bytes()
    assert after[: 5 * MIB + 17] == b"\xa5" * (5 * MIB + 17)
    assert after[5 * MIB + 17 :] == source.read_bytes()[5 * MIB + 17 :]
    assert result.bytes_read == 16 * MIB
    assert pulse.seen[0].bytes_read == pulse.seen[0].bytes_written == 5 * MIB + 17


def test_a_copy_that_was_finished_before_reads_nothing(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 4 * MIB)
    volume = stale(tmp_path / "volume", 4 * MIB)

    result = copy(serve("file", source), volume, start_at=4 * MIB)

    assert not result.remaining
    assert volume.read_bytes() == b"\xa5" * 4 * MIB


def test_an_interrupted_copy_tells_its_exact_watermark_and_goes_on_there(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.1)
    source = a_disk(tmp_path / "source", 48 * MIB)
    volume = stale(tmp_path / "volume", 48 * MIB)
    pulse = RecordingPulse(stop_when=lambda progress: progress.flushed_to >= 4 * MIB)

    with pytest.raises(Interrupted):
        copy(serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1"), volume, pulse=pulse)

    watermark = pulse.last.flushed_to
    assert pulse.last.bytes_written - reader.LOOKAHEAD * MIB <= watermark < 48 * MIB
    assert pulse.last.flushed_to >= pulse.seen[-2].flushed_to
    assert volume.read_bytes()[:watermark] == source.read_bytes()[:watermark]
    copy(serve("file", source), volume, start_at=watermark)
    assert volume.read_bytes() == source.read_bytes()


def test_the_watermark_moves_only_after_the_flush_of_all_that_is_below_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(engine, "BEAT_SECONDS", 0.0)
    written = flushed = ByteRanges()
    really_write, really_ended, really_flush = os.pwrite, WritesUnderWay.ended, os.fsync

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal written
        count = really_write(fd, data, offset)
        written |= ByteRanges([(offset, count)])
        return count

    def ended(self: WritesUnderWay, at_least: int) -> list[Ended]:
        nonlocal written
        those = really_ended(self, at_least)
        written |= ByteRanges((each.offset, each.taken) for each in those)
        return those

    def fsync(fd: int) -> None:
        nonlocal flushed
        before = written
        really_flush(fd)
        flushed = before

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(WritesUnderWay, "ended", ended)
    monkeypatch.setattr(os, "fsync", fsync)
    plan = ByteRanges((start, 700_000) for start in range(0, 60 * MIB, 3 * MIB))
    watermarks = []

    def look(progress: DiskProgress) -> bool:
        watermarks.append(progress.flushed_to)
        assert not plan.below(progress.flushed_to) - flushed
        return False

    source = a_disk(tmp_path / "source", 64 * MIB)
    volume = stale(tmp_path / "volume", 64 * MIB)
    slow = serve("--filter=rate", "file", source, "rate=64M", "burstiness=0.1")

    copy(slow, volume, plan, pulse=RecordingPulse(stop_when=look))

    assert len(set(watermarks)) > 5
    assert watermarks == sorted(watermarks)
    assert watermarks[-1] >= plan.end


def given_back(reading: reader.Reader, blocks: Iterator[reader.Block]) -> Iterator[reader.Block]:
    for block in blocks:
        yield block
        if block.slot is not None:
            reading.give_back(block.slot)


def test_a_block_that_is_still_being_written_is_not_finished(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 40 * MIB, [(0, 3 * MIB), (38 * MIB, MIB)])

    with reader.Reader(serve("file", source).uri, 40 * MIB, idle=lambda: None) as reading:
        blocks = reading.blocks(ByteRanges.whole(40 * MIB), use_allocation=True)
        given_out = [(block.offset, reading.finished_to) for block in given_back(reading, blocks)]

    assert len(given_out) > 5
    assert all(finished_to <= offset for offset, finished_to in given_out)
    assert reading.finished_to == 40 * MIB


def test_a_request_that_starves_holds_back_the_others_before_long(serve: Serve) -> None:
    size = 160 * MIB
    the_first_read_is_late = serve(
        "eval",
        f"get_size=echo {size}",
        "thread_model=echo parallel",
        "pread=if [ $4 = 0 ]; then sleep 2; fi; head -c $3 /dev/zero",
    )

    with reader.Reader(the_first_read_is_late.uri, size, idle=lambda: None) as reading:
        blocks = reading.blocks(ByteRanges.whole(size), use_allocation=False)
        offsets = [block.offset for block in given_back(reading, blocks)]

    assert sorted(offsets) == list(range(0, size, MIB))
    assert max(offsets[: offsets.index(0)]) < reader.LOOKAHEAD * MIB


def test_a_flush_hears_of_a_lost_write_even_where_the_writing_descriptor_was_told_already(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells each open description of a lost write once (fsync(2)); this sees that there are two of them."""
    wrote, flushed = set(), set()
    really_write, really_flush = os.pwrite, os.fsync

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        wrote.add(fd)
        return really_write(fd, data, offset)

    def fsync(fd: int) -> None:
        flushed.add(fd)
        really_flush(fd)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(writer, "open_for_writing", lambda _path: None)

    copy(serve("file", a_disk(tmp_path / "source", 8 * MIB)), stale(tmp_path / "volume", 8 * MIB))

    assert wrote
    assert flushed
    assert not wrote & flushed


def test_a_volume_that_takes_its_time_stops_neither_heartbeat_nor_claim(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals: list[int] = []
    guard = AllowingGuard()
    pulse = RecordingPulse()
    really_flush = os.fsync

    def slow_flush(fd: int) -> None:
        renewals.append(guard.renewals)
        time.sleep(1.5)
        really_flush(fd)
        renewals.append(guard.renewals)

    monkeypatch.setattr(os, "fsync", slow_flush)
    source = a_disk(tmp_path / "source", 8 * MIB)

    copy(serve("file", source), stale(tmp_path / "volume", 8 * MIB), guard=guard, pulse=pulse)

    assert renewals[1] - renewals[0] >= 3
    assert pulse.longest_silence() < 0.6
    assert pulse.last.flushed_to == 8 * MIB


def test_a_volume_that_takes_nothing_any_more_is_given_up_and_waited_for(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "STALL_SECONDS", 0.4)
    went_through = []

    def stuck(fd: int) -> None:
        del fd
        time.sleep(2)
        went_through.append(time.monotonic())

    monkeypatch.setattr(os, "fsync", stuck)
    source = a_disk(tmp_path / "source", 8 * MIB)
    pulse = RecordingPulse()

    with pytest.raises(WriteFailed, match="takes no more bytes"):
        copy(serve("file", source), stale(tmp_path / "volume", 8 * MIB), pulse=pulse)

    assert went_through, "the claim is given back only when the kernel holds no write any more"
    assert pulse.times[-1] < went_through[0] - 1, "nobody is told that it is alive meanwhile"
    assert pulse.last.flushed_to == 0


def test_what_is_flushed_and_not_verified_yet_does_not_count(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.1)
    monkeypatch.setattr(engine, "BEAT_SECONDS", 0.05)
    met: list[int] = []
    counted: list[tuple[int, int]] = []
    really_meet = read_back.Expectations.meet

    def slow_meet(self: read_back.Expectations, *arguments: Any) -> None:  # noqa: ANN401 - passed on
        pieces = [offset + length for offset, length, _ in self._pieces]
        time.sleep(0.3)
        really_meet(self, *arguments)
        met.extend(pieces)

    def look(progress: DiskProgress) -> bool:
        counted.append((progress.flushed_to, max(met, default=0)))
        return False

    monkeypatch.setattr(read_back.Expectations, "meet", slow_meet)
    source = a_disk(tmp_path / "source", 32 * MIB)
    slow = serve("--filter=rate", "file", source, "rate=64M", "burstiness=0.1")

    result = copy(slow, stale(tmp_path / "volume", 32 * MIB), verify=True, pulse=RecordingPulse(stop_when=look))

    assert result.verified
    assert len({flushed for flushed, _ in counted}) > 3
    assert all(flushed <= verified for flushed, verified in counted)


KILLED = """
import sys
from tests.engine import rig
from xms.engine import copy
copy.CHECKPOINT_SECONDS = 0.2
copy.BEAT_SECONDS = 0.05
class Source: uri = sys.argv[1]
def show(progress):
    print(progress.model_dump_json(), flush=True)
    return False
rig.copy(Source, rig.Path(sys.argv[2]), pulse=rig.RecordingPulse(stop_when=show))
"""


def test_a_killed_copy_goes_on_from_its_last_heartbeat_and_repeats_little(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 64 * MIB)
    volume = stale(tmp_path / "volume", 64 * MIB)
    slow = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")
    watermark = attempts = 0

    while attempts < 2:
        attempts += 1
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, slow.uri, str(volume)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            heard = DiskProgress.model_validate(json.loads(line))
            if heard.flushed_to >= 8 * MIB:
                break
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        watermark = heard.flushed_to
        slow.kill()
        slow.start()

    repeated = heard.bytes_written - watermark
    assert 8 * MIB <= watermark < 64 * MIB
    assert repeated <= reader.LOOKAHEAD * MIB
    assert volume.read_bytes()[:watermark] == source.read_bytes()[:watermark]
    copy(serve("file", source), volume, start_at=watermark)
    assert volume.read_bytes() == source.read_bytes()


def test_a_lost_export_ends_the_attempt_with_an_exact_watermark(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "RECONNECT_SECONDS", 0.5)
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.1)
    source = a_disk(tmp_path / "source", 48 * MIB)
    volume = stale(tmp_path / "volume", 48 * MIB)
    served = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")

    def kill_the_server(progress: DiskProgress) -> bool:
        if progress.flushed_to >= 4 * MIB:
            served.kill()
        return False

    pulse = RecordingPulse(stop_when=kill_the_server)

    with pytest.raises(TransportFailed, match="takes no connection"):
        copy(served, volume, pulse=pulse)

    watermark = pulse.last.flushed_to
    assert 4 * MIB <= watermark < 48 * MIB
    assert volume.read_bytes()[:watermark] == source.read_bytes()[:watermark]


def test_an_export_that_comes_back_is_read_on(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 24 * MIB)
    volume = stale(tmp_path / "volume", 24 * MIB)
    served = serve("--filter=rate", "file", source, "rate=128M", "burstiness=0.1")
    restarts: list[DiskProgress] = []

    def restart_the_server(progress: DiskProgress) -> bool:
        if progress.bytes_written >= 6 * MIB and not restarts:
            restarts.append(progress)
            served.kill()
            served.start()
        return False

    result = copy(served, volume, pulse=RecordingPulse(stop_when=restart_the_server))

    assert restarts
    assert not result.remaining
    assert volume.read_bytes() == source.read_bytes()


def test_reads_that_fail_now_and_then_are_repeated(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 24 * MIB)
    volume = stale(tmp_path / "volume", 24 * MIB)
    flaky = serve("--filter=error", "file", source, "error-pread=EIO", "error-pread-rate=3%")

    for _ in range(5):
        copy(flaky, volume)

    assert volume.read_bytes() == source.read_bytes()


def test_a_range_that_cannot_be_read_is_named(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 4 * MIB)
    volume = stale(tmp_path / "volume", 4 * MIB)
    broken = serve("--filter=error", "file", source, "error-pread=EIO", "error-pread-rate=100%")

    with pytest.raises(TransportFailed, match="bytes 1048576 to 2097151 of the source disk") as failure:
        copy(broken, volume, ByteRanges([(MIB, MIB)]))

    assert "Input/output error" in failure.value.because
    assert volume.read_bytes() == b"\xa5" * 4 * MIB


def test_allocation_that_cannot_be_asked_for_is_an_error_and_not_an_empty_disk(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 4 * MIB)
    volume = stale(tmp_path / "volume", 4 * MIB)
    broken = serve("--filter=error", "file", source, "error-extents=EIO", "error-extents-rate=100%")

    with pytest.raises(TransportFailed):
        copy(broken, volume)

    assert volume.read_bytes() == b"\xa5" * 4 * MIB


def test_a_stalled_source_does_not_stop_the_heartbeat(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    volume = stale(tmp_path / "volume", 2 * MIB)
    pulse = RecordingPulse()
    guard = AllowingGuard()

    copy(serve("--filter=delay", "file", source, "delay-read=2"), volume, pulse=pulse, guard=guard)

    assert volume.read_bytes() == source.read_bytes()
    assert pulse.longest_silence() < 0.6
    assert guard.renewals >= 4


def test_an_interruption_is_heard_while_the_source_stalls(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 2 * MIB)
    started = time.monotonic()
    pulse = RecordingPulse(stop_when=lambda _progress: time.monotonic() > started + 0.5)

    with pytest.raises(Interrupted):
        copy(
            serve("--filter=delay", "file", source, "delay-read=30"),
            stale(tmp_path / "volume", 2 * MIB),
            pulse=pulse,
        )

    # What was asked for is given a moment to arrive, by the copy and by the connection.
    assert time.monotonic() - started < 0.5 + engine.DRAIN_SECONDS + connection.DRAIN_SECONDS + 1.5


def test_a_source_that_never_answers_is_given_up(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(connection, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(reader, "READ_TRIES", 2)
    # Not the delay filter: nbdkit wakes its reads when their client leaves, and may abort over them.
    silent = serve("eval", f"get_size=echo {2 * MIB}", "thread_model=echo parallel", "pread=exec sleep 5")

    with pytest.raises(TransportFailed, match="no answer"):
        copy(silent, stale(tmp_path / "volume", 2 * MIB))


def test_a_volume_that_takes_no_more_ends_the_copy(serve: Serve, tmp_path: Path) -> None:
    source = a_disk(tmp_path / "source", 24 * MIB)
    volume = a_disk(tmp_path / "volume", 24 * MIB, [])
    served = serve("file", source)
    pulse = RecordingPulse()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * MIB, limits[1]))
    try:
        with pytest.raises(WriteFailed, match="File too large"):
            copy(served, volume, pulse=pulse)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert pulse.last.flushed_to <= 10 * MIB


def test_a_flush_that_fails_is_never_repeated_and_nothing_counts(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = []

    def fsync(fd: int) -> None:
        flushes.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    source = a_disk(tmp_path / "source", 4 * MIB)
    pulse = RecordingPulse()

    with pytest.raises(WriteFailed, match="could not be flushed"):
        copy(serve("file", source), stale(tmp_path / "volume", 4 * MIB), pulse=pulse)

    assert len(flushes) == 1
    assert pulse.last.flushed_to == 0


MEASURED = """
import resource, sys
from tests.engine import rig
class Source: uri = sys.argv[1]
size = int(sys.argv[3])
rig.copy(Source, rig.Path(sys.argv[2]), rig.ByteRanges.whole(1 << 20), capacity=size, skip_zeroes=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rig.copy(Source, rig.Path(sys.argv[2]), capacity=size, skip_zeroes=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_disk_and_its_extents(serve: Serve, tmp_path: Path) -> None:
    size = 64 << 30
    pieces = [(offset, 4096) for offset in range(0, 256 * MIB, 128 << 10)]
    source = a_disk(tmp_path / "source", size, pieces)
    volume = a_disk(tmp_path / "volume", size, [])

    measured = subprocess.run(
        [sys.executable, "-c", MEASURED, serve("file", source).uri, str(volume), str(size)],
        check=True,
        capture_output=True,
        text=True,
    )

    grown_kib = int(measured.stdout)
    assert grown_kib < 48 << 10
    with volume.open("rb") as replica, source.open("rb") as original:
        assert replica.read(257 * MIB) == original.read(257 * MIB)


def test_a_copy_that_is_given_up_does_not_wait_for_what_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = 40
    pieces_read = []
    really_read_back = writer.Volume.reading_back

    @contextlib.contextmanager
    def slowly(self: writer.Volume) -> Iterator[writer.ReadBack]:
        with really_read_back(self) as read:

            def read_slowly(offset: int, length: int) -> memoryview:
                time.sleep(0.1)
                pieces_read.append(offset)
                return read(offset, length)

            yield read_slowly

    monkeypatch.setattr(writer.Volume, "reading_back", slowly)
    path = stale(tmp_path / "volume", blocks * MIB)
    data = memoryview(b"\x17" * MIB)

    def given_up(volume: writer.Volume, account: Account) -> None:
        with write_behind.WriteBehind(volume, account, lambda _: None, skip_zeroes=False, verify=True) as behind:
            for number in range(blocks):
                behind.write(reader.Block(number * MIB, MIB, data), lambda: None)
                if number in {blocks // 2, blocks - 1}:
                    behind.checkpoint((number + 1) * MIB)
            while not pieces_read:
                time.sleep(0.01)
            raise LeaseLost("taken by a test")

    account = Account(ByteRanges.whole(blocks * MIB), 0)
    with writer.Volume(str(path), blocks * MIB, AllowingGuard(), lambda: None) as volume, pytest.raises(LeaseLost):
        given_up(volume, account)

    # The second checkpoint was waiting for the first, with as much again to read.
    assert len(pieces_read) < blocks // 4
    assert account.settled_to == 0
