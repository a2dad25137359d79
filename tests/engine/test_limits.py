"""What a stream may cost: memory and computing time by the number of extents, requests by what there is to copy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engine.rig import MIB, AllowingGuard, RecordingPulse, Serve, a_disk, copy, stale
from tests.vsphere.test_planning import a_plan_order, never_asked
from xms.change_map import MOST_RANGES, ByteRanges
from xms.engine import copy as engine
from xms.engine.throttle import Throttle
from xms.planning import plan_disk

CHILD: Final = """
import ctypes, json, resource, sys
from tests.engine.rig import ByteRanges, Path, copy

def peak(reset=False):
    "MiB that this process took at most, since the last reset."
    if reset:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def cost(work):
    before, began = peak(reset=True), seconds()
    made = work()
    return made, {"memory": peak() - before, "seconds": seconds() - began}
"""

A_MILLION: Final = """
import random
from array import array
GRAIN, COUNT = 64 << 10, 1_000_000
places = array("Q", random.Random(1).sample(range(COUNT * 20), COUNT))
costs = {}
scattered, costs["building"] = cost(lambda: ByteRanges((place * GRAIN, GRAIN) for place in places))
shifted = ByteRanges((offset + GRAIN // 2, GRAIN) for offset, _ in scattered)
_, costs["union"] = cost(lambda: scattered | shifted)
_, costs["subtraction"] = cost(lambda: scattered - shifted)
text, costs["encoding"] = cost(scattered.encode)
back, costs["decoding"] = cost(lambda: ByteRanges.decode(text))
assert len(scattered) > 900_000
assert not scattered - back
print(json.dumps(costs))
"""

MANY_RANGES: Final = """
class Source: uri = sys.argv[1]
capacity, count = int(sys.argv[3]), int(sys.argv[4])
text = ByteRanges((n * (capacity // count), 512) for n in range(count)).encode(1 << 30)
def stream():
    ranges = ByteRanges.decode(text)
    assert len(ranges) == count
    return copy(Source, Path(sys.argv[2]), ranges, capacity=capacity)
result, costs = cost(stream)
assert not result.remaining
print(json.dumps(costs))
"""

STREAMS: Final = 4

STREAMS_BEFORE: Final = 3
"""They borrow as many slots as the pool will ever have."""

ONE_AFTER_THE_OTHER: Final = (
    MANY_RANGES[: MANY_RANGES.index("result,")]
    + f"""
def resident():
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
for _ in range({STREAMS_BEFORE}):
    stream()
before = resident()
for _ in range({STREAMS}):
    stream()
print(resident() - before)
"""
)


def told_by_a_child(script: str, *words: object) -> Any:  # noqa: ANN401 - JSON
    command = [sys.executable, "-c", CHILD + script, *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_a_million_extents_take_64_mib_and_ten_seconds_of_computing() -> None:
    costs = told_by_a_child(A_MILLION)

    assert {name: cost["memory"] for name, cost in costs.items() if cost["memory"] > 64} == {}
    assert sum(cost["seconds"] for cost in costs.values()) < 10


def test_a_million_extents_are_held_in_16_mib() -> None:
    scattered = ByteRanges((number * (128 << 10), 64 << 10) for number in range(1_000_000))

    assert sys.getsizeof(scattered._bounds) < 17 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1 << 30, 64 << 30])
def test_a_stream_with_as_many_ranges_as_there_can_be_takes_64_mib(serve: Serve, tmp_path: Path, capacity: int) -> None:
    source, volume = a_disk(tmp_path / "source", capacity, []), a_disk(tmp_path / "volume", capacity, [])

    costs = told_by_a_child(MANY_RANGES, serve("file", source).uri, volume, capacity, MOST_RANGES)

    assert costs["memory"] < 64


def test_the_reads_of_a_stream_leave_nothing_behind_in_the_worker(serve: Serve, tmp_path: Path) -> None:
    source, volume = a_disk(tmp_path / "source", 64 * MIB, []), a_disk(tmp_path / "volume", 64 * MIB, [])
    uri = serve("file", source).uri

    left_behind = told_by_a_child(ONE_AFTER_THE_OTHER, uri, volume, 64 * MIB, reads := 20_000)

    assert left_behind / (STREAMS * reads) < 30


SIZES: Final = [1 << 30, 10 << 40]


def requests_of(log: Path) -> list[tuple[str, int, int]]:
    """(what, offset, length) of each request that a server of nbdkit's log filter got."""
    found = re.findall(r" (Read|Extents) id=\d+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+) ", log.read_text())
    return [(what, int(offset, 16), int(length, 16)) for what, offset, length in found]


@pytest.mark.parametrize("capacity", SIZES)
def test_a_sync_with_nothing_to_copy_costs_no_request_however_large_the_disk_is(
    serve: Serve, tmp_path: Path, capacity: int
) -> None:
    source, volume = a_disk(tmp_path / "source", capacity, []), a_disk(tmp_path / "volume", capacity, [])
    log = tmp_path / "log"
    guard, pulse = AllowingGuard(), RecordingPulse()
    plan = plan_disk(a_plan_order(capacity=capacity), allocated=never_asked, changed=lambda _since: [])
    assert (plan.bytes, plan.ranges) == (0, "")

    # The workflow does not even start a stream then; where one runs all the same, it has nothing to do.
    result = copy(
        serve("--filter=log", "file", source, f"logfile={log}"),
        volume,
        ByteRanges.decode(plan.ranges),
        capacity=capacity,
        guard=guard,
        pulse=pulse,
    )

    assert not result.remaining
    assert requests_of(log) == []
    assert guard.checks == 0
    assert len(pulse.seen) < 20
    assert volume.stat().st_blocks * 512 < MIB


def test_a_few_changed_blocks_cost_the_same_requests_however_large_the_disk_is(serve: Serve, tmp_path: Path) -> None:
    asked = []
    for capacity in SIZES:
        changed = [(capacity - 8 * MIB, 64 << 10), (4 * MIB, 3 * MIB), (MIB, 512)]
        source = a_disk(tmp_path / f"source-{capacity}", capacity, changed)
        volume = a_disk(tmp_path / f"volume-{capacity}", capacity, [])
        log = tmp_path / f"log-{capacity}"

        copy(
            serve("--filter=log", "file", source, f"logfile={log}"),
            volume,
            ByteRanges(changed),
            capacity=capacity,
        )

        asked.append(sorted((what, length) for what, _, length in requests_of(log)))
        assert sum(length for what, _, length in requests_of(log) if what == "Read") == ByteRanges(changed).total
    assert asked[0] == asked[1]


def test_a_killed_copy_has_written_no_more_than_seconds_that_are_not_flushed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.CHECKPOINT_SECONDS <= 5
    between, slack = 1.0, 1.0
    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", between)
    source = a_disk(tmp_path / "source", 80 * MIB)
    steady = serve("--filter=noparallel", "--filter=rate", "file", source, "rate=128M", "burstiness=0.1")
    pulse = RecordingPulse()
    began = time.monotonic()

    copy(steady, stale(tmp_path / "volume", 80 * MIB), pulse=pulse)

    assert time.monotonic() - began > 3 * between
    for at, progress in zip(pulse.times, pulse.seen, strict=True):
        long_ago = [
            earlier.bytes_written
            for when, earlier in zip(pulse.times, pulse.seen, strict=True)
            if when < at - between - slack
        ]
        assert progress.flushed_to >= max(long_ago, default=0)


def test_a_slow_source_does_not_keep_what_was_read_from_the_volume(serve: Serve, tmp_path: Path) -> None:
    # A block each half second, far fewer than are written together; and the first checkpoint is seconds away.
    blocks = ByteRanges((number * MIB, 64 << 10) for number in range(7))
    pulse = RecordingPulse()

    copy(
        serve("file", a_disk(tmp_path / "source", 16 * MIB)),
        stale(tmp_path / "volume", 16 * MIB),
        blocks,
        pulse=pulse,
        throttle=Throttle(rate=128 << 10),
    )

    first = next(when for when, progress in zip(pulse.times, pulse.seen, strict=True) if progress.bytes_written)
    assert first - pulse.times[0] < engine.CHECKPOINT_SECONDS / 2
