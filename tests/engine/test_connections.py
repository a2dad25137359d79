"""Distant exports are read over several connections, where they allow it; what goes wrong with one is mended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbd
import pytest

from tests.engine.rig import MIB, Serve, Served, a_disk, copy, stale
from xms.change_map import ByteRanges
from xms.engine import connections
from xms.engine.connection import ExportError
from xms.engine.connections import CONNECTIONS, FIRST_READS, Connections

DISTANT = ("--filter=delay", "delay-read=5ms")


@contextmanager
def connected(served: Served) -> Iterator[Connections]:
    several = Connections(served.uri, lambda: None)
    try:
        yield several
    finally:
        several.close()


def read(several: Connections, disk: Path, blocks: int = 64, size: int = 4096) -> None:
    """Have many reads in flight, and see that each got its own bytes."""
    memory = [bytearray(size) for _ in range(blocks)]
    buffers = [nbd.Buffer.from_buffer(part) for part in memory]
    tickets = [several.start_read(buffer, number * size) for number, buffer in enumerate(buffers)]
    answers = [several.next_answer() for _ in tickets]
    assert sorted(answer.ticket for answer in answers) == tickets
    assert not any(answer.failure for answer in answers)
    assert b"".join(memory) == disk.read_bytes()[: blocks * size]


def test_a_distant_export_is_read_over_several_connections(serve: Serve, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "disk", MIB)

    with connected(serve("file", disk, *DISTANT)) as several:
        assert several.count == 1
        read(several, disk, FIRST_READS - 1)
        assert several.count == 1
        read(several, disk)
        assert several.count == CONNECTIONS > 1
        read(several, disk)


def test_a_near_export_is_read_over_one(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may be slow three times.
    monkeypatch.setattr(connections, "DISTANT", 0.05)
    disk = a_disk(tmp_path / "disk", MIB)

    with connected(serve("file", disk)) as several:
        read(several, disk)
        assert several.count == 1


def test_an_export_that_forbids_it_gets_no_second_one(serve: Serve, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "disk", MIB)
    alone = serve("--filter=multi-conn", "file", disk, "multi-conn-mode=disable", *DISTANT)

    with connected(alone) as several:
        read(several, disk)
        assert several.count == 1


def test_a_second_one_that_is_refused_is_done_without(serve: Serve, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "disk", MIB)

    with connected(serve("--filter=limit", "file", disk, "limit=1", *DISTANT)) as several:
        read(several, disk)
        assert several.count == 1


@pytest.mark.parametrize("options", [(), DISTANT], ids=["one connection", "several"])
def test_answers_that_are_there_are_not_waited_for_one_by_one(
    serve: Serve, tmp_path: Path, options: tuple[str, ...]
) -> None:
    waits: list[None] = []
    several = Connections(serve("file", a_disk(tmp_path / "disk", MIB), *options).uri, lambda: waits.append(None))
    buffers = [nbd.Buffer.from_buffer(bytearray(4096)) for _ in range(12)]
    try:
        for _ in range(2):
            for number, buffer in enumerate(buffers):
                several.start_read(buffer, number * 4096)
            time.sleep(0.3)
            waits.clear()
            for _ in buffers:
                several.next_answer()
        assert len(waits) <= len(buffers) / 3
    finally:
        several.close()


def test_a_read_that_fails_is_told_with_its_ticket(serve: Serve, tmp_path: Path) -> None:
    failing = serve(
        "--filter=error", "file", a_disk(tmp_path / "disk", MIB), "error-pread=EIO", "error-pread-rate=100%"
    )
    buffer = nbd.Buffer.from_buffer(bytearray(4096))

    with connected(failing) as several:
        ticket = several.start_read(buffer, 0)
        assert several.next_answer() == (ticket, "Input/output error")


def test_a_server_that_dies_fails_the_connection_and_no_read(serve: Serve, tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "disk", MIB)
    served = serve("file", disk, "--filter=delay", "delay-read=200ms")
    buffers = [nbd.Buffer.from_buffer(bytearray(4096)) for _ in range(8)]

    with connected(served) as several:
        for buffer in buffers:
            several.start_read(buffer, 0)
        served.kill()
        with pytest.raises(ExportError):
            [several.next_answer() for _ in buffers]


@pytest.mark.parametrize("rate", ["0%", "1%"])
def test_a_plan_of_many_small_ranges_over_several_connections_gives_the_right_volume(
    serve: Serve, tmp_path: Path, rate: str
) -> None:
    source = a_disk(tmp_path / "source", 32 * MIB)
    volume = stale(tmp_path / "volume", 32 * MIB)
    plan = ByteRanges((start, 4096) for start in range(0, 32 * MIB, 64 << 10))
    distant = ("delay-read=2ms", "error-pread=EIO", f"error-pread-rate={rate}")

    copy(serve("--filter=error", "--filter=delay", "file", source, *distant), volume, plan)

    wanted, got = source.read_bytes(), volume.read_bytes()
    stale_bytes = b"\xa5" * (60 << 10)
    for start, length in plan:
        assert got[start : start + length] == wanted[start : start + length]
        assert got[start + length : start + (64 << 10)] == stale_bytes
