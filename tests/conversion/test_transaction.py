"""A conversion reaches the volumes as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from tests.conversion.workshop import MIB, SIZE, Workshop
from xms import programs
from xms.change_map import ByteRanges
from xms.conversion.stages import Stages
from xms.errors import ConversionFailed, ConversionLost, Interrupted, LeaseLost, ProgramMissing, WriteFailed
from xms.models import Model
from xms.pulse import no_pulse

WRITES = [(0, "write -P 0xaa 1M 1M"), (1, "write -P 0xbb 3M 64k"), (1, "write -z 4M 128k"), (0, "discard 6M 64k")]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop.new(tmp_path)


def expected(fill: int, *pieces: tuple[int, int, int]) -> bytes:
    content = bytearray(bytes([fill]) * SIZE)
    for start, length, value in pieces:
        content[start : start + length] = bytes([value]) * length
    return bytes(content)


def test_a_conversion_changes_no_volume_before_its_commit(workshop: Workshop) -> None:
    replica = workshop.digests()
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    assert workshop.digests() == replica


def test_a_failed_conversion_leaves_the_replica_and_says_why(workshop: Workshop) -> None:
    replica = workshop.digests()
    workshop.virt_v2v(writes=WRITES, error="No root device found in this operating system image.")
    with pytest.raises(ConversionFailed, match="b was not converted") as failed:
        workshop.convert()
    assert "no operating system was found" in failed.value.because
    assert "xms migration log warm-a-b" in failed.value.do
    assert failed.value.worker_queue == "queue-1"
    assert workshop.conversion.log.exists()
    assert workshop.overlays == []
    assert workshop.digests() == replica
    with pytest.raises(ConversionLost):
        workshop.commit()
    assert workshop.digests() == replica


def test_a_commit_writes_exactly_what_the_conversion_wrote(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    workshop.commit()
    first, second = (volume.path.read_bytes() for volume in workshop.volumes)
    assert first == expected(0x11, (1 * MIB, MIB, 0xAA), (6 * MIB, 65536, 0))
    assert second == expected(0x22, (3 * MIB, 65536, 0xBB), (4 * MIB, 131072, 0))


def test_the_written_ranges_cover_exactly_what_differs_with_what_was_zeroed_or_trimmed(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    converted = workshop.convert()
    assert {disk.disk_key: list(ByteRanges.decode(disk.ranges)) for disk in converted.written} == {
        2000: [(1 * MIB, MIB), (6 * MIB, 65536)],
        2001: [(3 * MIB, 65536), (4 * MIB, 131072)],
    }
    assert [disk.bytes for disk in converted.written] == [MIB + 65536, 65536 + 131072]


def test_trimming_what_is_a_hole_already_changes_nothing(workshop: Workshop) -> None:
    with workshop.volumes[0].path.open("r+b") as file:
        file.truncate(4 * MIB)
        file.truncate(SIZE)
    workshop.virt_v2v(writes=[(0, "discard 3M 2M"), (0, "write -P 0xaa 6M 64k"), (0, "write -P 0 7M 64k")])
    converted = workshop.convert()
    assert list(ByteRanges.decode(converted.written[0].ranges)) == [(3 * MIB, MIB), (6 * MIB, 65536), (7 * MIB, 65536)]
    workshop.commit()
    assert workshop.volumes[0].path.read_bytes() == (
        bytes([0x11]) * 3 * MIB + bytes(3 * MIB) + bytes([0xAA]) * 65536 + bytes(SIZE - 6 * MIB - 65536)
    )


def test_what_lies_beyond_the_disk_on_a_larger_volume_is_not_told(workshop: Workshop) -> None:
    first, second = workshop.order.disks
    workshop.order = workshop.order.model_copy(
        update={"disks": (first.model_copy(update={"capacity": MIB + 512}), second)}
    )
    workshop.virt_v2v(writes=[(0, "write -P 0xaa 1M 1M")])
    converted = workshop.convert()
    assert list(ByteRanges.decode(converted.written[0].ranges)) == [(MIB, 512)]


def test_what_the_conversion_found_is_told(workshop: Workshop) -> None:
    converted = workshop.convert()
    assert (converted.firmware, converted.machine, converted.block_bus, converted.net_bus, converted.os_type) == (
        "bios",
        "q35",
        "virtio",
        "virtio",
        "linux",
    )
    assert converted.worker_queue == "queue-1"


def test_each_attempt_converts_on_new_overlays(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=[(0, "write -P 0xaa 1M 1M")])
    workshop.convert()
    workshop.virt_v2v(writes=[(0, "write -P 0xcc 2M 64k")])
    converted = workshop.convert()
    assert list(ByteRanges.decode(converted.written[0].ranges)) == [(2 * MIB, 65536)]


def test_a_commit_that_is_asked_for_twice_is_done_once(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    first = workshop.commit()
    assert workshop.conversion.committed() == first
    assert workshop.overlays == []


def test_a_commit_is_refused_when_somebody_had_the_volume_since(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    workshop.volumes[1].claim("worker-2").lease.release()
    between = workshop.digests()
    with pytest.raises(ConversionLost, match="no conversion") as lost:
        workshop.commit()
    assert "volume-b" in lost.value.because
    assert workshop.digests() == between


def test_a_commit_by_a_worker_without_the_overlays_is_lost(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    for overlay in workshop.overlays:
        overlay.unlink()
    with pytest.raises(ConversionLost):
        workshop.commit()


def test_a_commit_that_stopped_between_two_volumes_is_finished_by_its_repetition(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    first, second = workshop.volumes
    claims = [volume.claim(heritage=workshop.conversion.heritage) for volume in (first, second)]
    claims[1].lease._lost = "somebody took it"
    with pytest.raises(LeaseLost):
        workshop.conversion.commit(claims, Stages(no_pulse))
    assert first.path.read_bytes() != expected(0x11)
    assert second.path.read_bytes() == expected(0x22)
    for claim in claims:
        claim.lease.release()
    workshop.commit()
    assert first.path.read_bytes() == expected(0x11, (1 * MIB, MIB, 0xAA), (6 * MIB, 65536, 0))
    assert second.path.read_bytes() == expected(0x22, (3 * MIB, 65536, 0xBB), (4 * MIB, 131072, 0))


def commit_in_a_process(workshop: Workshop, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.conversion.killed_commit", str(workshop.directory), *words])


def see_the_repetition_complete_it(workshop: Workshop) -> None:
    for volume in workshop.volumes:
        volume.give_back()
    workshop.conversion.committed() or workshop.commit()
    assert workshop.volumes[0].path.read_bytes() == expected(0x11, (1 * MIB, MIB, 0xAA), (6 * MIB, 65536, 0))
    assert workshop.volumes[1].path.read_bytes() == expected(0x22, (3 * MIB, 65536, 0xBB), (4 * MIB, 131072, 0))


def killed_before_step(workshop: Workshop, step: int) -> bool:
    """Whether the commit came to that step, and was killed there."""
    ended = commit_in_a_process(workshop, "--before-step", str(step)).wait(60)
    assert ended in {0, -signal.SIGKILL}
    return ended != 0


def a_converted_workshop(directory: Path) -> Workshop:
    directory.mkdir()
    workshop = Workshop.new(directory)
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    return workshop


def test_a_worker_killed_at_any_step_of_the_commit_leaves_what_a_repetition_completes(tmp_path: Path) -> None:
    a_converted_workshop(converted := tmp_path / "converted")
    for step in count(1):
        workshop = Workshop(shutil.copytree(converted, tmp_path / str(step)))
        killed = killed_before_step(workshop, step)
        see_the_repetition_complete_it(workshop)
        if not killed:
            break
    # Two claims, two commits, the record, the overlays' end: each is several steps.
    assert step > 10


def test_a_half_committed_overlay_outlives_the_death_of_the_worker_that_was_to_finish_it(tmp_path: Path) -> None:
    a_converted_workshop(converted := tmp_path / "converted")
    half = Workshop(shutil.copytree(converted, tmp_path / "half"))
    before = half.volumes[1].digest()
    for step in count(1):
        shutil.rmtree(tmp_path / "half")
        half = Workshop(shutil.copytree(converted, tmp_path / "half"))
        assert killed_before_step(half, step)
        if half.volumes[0].path.read_bytes() != expected(0x11):
            break
    assert half.volumes[1].digest() == before, "it is half committed: the first volume, and not the second"
    for volume in half.volumes:
        volume.give_back()
    for step in count(1):
        workshop = Workshop(shutil.copytree(tmp_path / "half", tmp_path / f"again-{step}"))
        killed = killed_before_step(workshop, step)
        see_the_repetition_complete_it(workshop)
        if not killed:
            break
    assert step > 10


def test_a_commit_after_a_stranger_is_refused_for_ever_however_often_it_is_tried(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    workshop.volumes[0].claim("worker-2").lease.release()
    between = workshop.digests()
    for _ in range(3):
        with pytest.raises(ConversionLost, match="no conversion"):
            workshop.commit()
    # Not even where the claim of a commit that was refused is the last one on the other volume.
    assert workshop.digests() == between


def test_a_conversion_of_an_older_worker_can_be_committed(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    record = workshop.directory / "conversions" / "warm-a-b" / "record.json"
    older = json.loads(record.read_text())
    del older["conversion"]
    record.write_text(json.dumps(older))
    see_the_repetition_complete_it(workshop)


def test_a_commit_whose_program_is_killed_is_repeated(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    with monkeypatch.context() as patched:
        (bin_directory := workshop.directory / "bin").mkdir()
        program = bin_directory / "qemu-img"
        program.write_text("#!/bin/sh\nkill -9 $$\n")
        program.chmod(0o755)
        patched.setenv("PATH", f"{bin_directory}:{os.environ['PATH']}")
        with pytest.raises(WriteFailed, match="was not committed"):
            workshop.commit()
    see_the_repetition_complete_it(workshop)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2])
def test_a_worker_killed_hard_during_the_commit_leaves_what_a_repetition_completes(
    tmp_path: Path, delay: float
) -> None:
    workshop = Workshop.new(tmp_path)
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    before = workshop.volumes[1].read()
    with commit_in_a_process(workshop) as process:
        end = time.monotonic() + 20
        while workshop.volumes[1].read() == before and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    see_the_repetition_complete_it(workshop)


def test_a_discarded_conversion_cannot_be_committed_and_its_log_stays(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES)
    workshop.convert()
    workshop.conversion.discard()
    workshop.conversion.discard()
    assert workshop.overlays == []
    assert workshop.conversion.log.exists()
    with pytest.raises(ConversionLost):
        workshop.commit()


def test_an_interrupted_conversion_ends_its_program(workshop: Workshop) -> None:
    workshop.virt_v2v(writes=WRITES, sleep=60)
    started = workshop.directory / "conversions" / "started"

    def interrupt(detail: Model | None = None) -> None:
        del detail
        if started.exists():
            raise Interrupted("stop")

    replica = workshop.digests()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        workshop.convert(interrupt)
    assert time.monotonic() - began < 20
    assert not running(str(workshop.directory))
    assert workshop.digests() == replica


def test_a_conversion_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    workshop = Workshop.new(tmp_path, timeout=1.5)
    workshop.virt_v2v(sleep=60)
    with pytest.raises(ConversionFailed, match="did not end"):
        workshop.convert()
    assert not running(str(workshop.directory))


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="no-such-virt-v2v"):
        Workshop.new(tmp_path, program="no-such-virt-v2v").convert()


def test_a_program_gets_none_of_the_workers_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "do not tell")
    output = tmp_path / "out"
    assert programs.run(["env"], output=output, pulse=no_pulse, timeout=10) == 0
    assert "do not tell" not in output.read_text()


def test_a_program_whose_worker_died_before_it_could_be_tied_to_it_does_nothing(tmp_path: Path) -> None:
    a_dead_worker = subprocess.Popen(["true"])
    a_dead_worker.wait()
    touch = ["touch", str(tmp_path / "written")]
    assert subprocess.run(programs.tied_to(a_dead_worker.pid, touch), check=False).returncode == 125
    assert not (tmp_path / "written").exists()
    assert subprocess.run(programs.tied_to(os.getpid(), touch), check=False).returncode == 0
    assert (tmp_path / "written").exists()


def test_what_a_program_leaves_running_ends_with_it_however_it_ended(tmp_path: Path) -> None:
    for ending in ("exit 3", "kill -9 $$"):
        child = tmp_path / "child"
        script = f"sleep 300 & echo $! > {child}; {ending}"
        status = programs.run(["sh", "-c", script], output=tmp_path / "out", pulse=no_pulse, timeout=10)
        assert status == (3 if ending == "exit 3" else -9)
        deadline = time.monotonic() + 10
        while Path(f"/proc/{child.read_text().strip()}/stat").exists():
            assert time.monotonic() < deadline, "its child lives on"
            time.sleep(0.05)


def running(mark: str) -> list[str]:
    """Command lines of live processes that hold the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if mark in line and "virt_v2v" in line:
                found.append(line)
    return found
