"""A writer that was asleep while another one took its volume over, in real processes with a real lease."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.rig import MIB, Serve, Served, a_disk, stale
from xms.engine.extents import LARGEST_READ

SIZE = 48 * MIB
ASLEEP = ("T", "t")


@dataclass
class WriterProcess:
    """A worker's stream, as a process of its own."""

    process: subprocess.Popen[str]

    def said(self, beginning: str) -> str:
        """Read on until a line begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith((beginning, "ended")):
                assert line.startswith(beginning), line
                return line.strip()
        pytest.fail(f"it ended without saying '{beginning}'")

    def wait_until_written(self, length: int) -> None:
        while int(self.said("written").split()[1]) < length:
            pass

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.wait_until_asleep()

    def wait_until_asleep(self) -> None:
        give_up_at = time.monotonic() + 20
        while Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ASLEEP:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Scene:
    """One volume, one record, and two states of a source: the first worker copies the earlier, the second the later."""

    directory: Path
    volume: Path
    earlier: Served
    later: Served

    @contextmanager
    def writer(self, worker: str, source: Served, *options: str) -> Iterator[WriterProcess]:
        words = [source.uri, str(self.volume), str(self.directory / "record"), worker, *options]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.engine.leased_writer", *words], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield WriterProcess(process)
            finally:
                process.kill()


@pytest.fixture
def scene(serve: Serve, tmp_path: Path) -> Scene:
    earlier = a_disk(tmp_path / "earlier", SIZE, seed=1)
    later = a_disk(tmp_path / "later", SIZE, seed=2)
    return Scene(
        tmp_path,
        stale(tmp_path / "volume", SIZE),
        # So slow that the writer waits for it nearly all the time.
        serve("--filter=rate", "file", earlier, "rate=96M", "burstiness=0.1"),
        serve("file", later),
    )


def differing(volume: Path, source: Path) -> int:
    """Bytes in sectors that differ."""
    here, there = volume.read_bytes(), source.read_bytes()
    return sum(512 for at in range(0, len(here), 512) if here[at : at + 512] != there[at : at + 512])


def test_a_stale_writer_that_wakes_after_a_takeover_writes_nothing(scene: Scene) -> None:
    with scene.writer("first", scene.earlier) as first:
        first.wait_until_written(6 * MIB)
        first.stop()
        with scene.writer("second", scene.later, "--elsewhere") as second:
            assert second.said("ended") == "ended: finished"
        taken_over = scene.volume.read_bytes()
        assert taken_over == (scene.directory / "later").read_bytes()

        first.wake()

        assert "LeaseLost" in first.said("ended")
    assert scene.volume.read_bytes() == taken_over


def test_nobody_takes_a_volume_over_on_the_machine_where_its_stale_writer_still_has_it_open(scene: Scene) -> None:
    with scene.writer("first", scene.earlier, "--stop-at-write", "6") as first:
        first.said("stopping")
        first.wait_until_asleep()
        before = scene.volume.read_bytes()
        with scene.writer("second", scene.later) as second:
            second.said("claimed")
            assert "VolumeBusy" in second.said("ended")
        assert scene.volume.read_bytes() == before

        first.wake()

        assert "LeaseLost" in first.said("ended")
    with scene.writer("third", scene.later) as third:
        assert third.said("ended") == "ended: finished"
    assert scene.volume.read_bytes() == (scene.directory / "later").read_bytes()


def test_a_writer_that_fell_asleep_between_its_check_and_its_write_writes_that_one_piece_at_most(scene: Scene) -> None:
    """What the lease alone cannot close: docs/architecture.md says what does."""
    with scene.writer("first", scene.earlier, "--stop-at-write", "6") as first:
        first.said("stopping")
        first.wait_until_asleep()
        with scene.writer("second", scene.later, "--elsewhere") as second:
            assert second.said("ended") == "ended: finished"

        first.wake()

        assert "LeaseLost" in first.said("ended")
    assert 0 < differing(scene.volume, scene.directory / "later") <= LARGEST_READ
