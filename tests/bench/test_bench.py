"""The benchmark itself: it measures what it says, and a wrong copy ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import run as measure_these
from bench.cases import Pair, all_cases, copy_once
from bench.checks import check
from bench.contestants import PEERS, Errand, nbdcopy_extentlist, xms
from bench.cost import Cost
from bench.disks import NEIGHBOUR, Disk, full_disk, incremental_disk, unallocated_disk
from bench.errors import WrongCopy
from bench.rounds import order_of, row_of
from bench.sizes import KIB, MIB, PROTOCOL, QUICK
from bench.targets import fresh_target, why_no_loop_device
from tests.docs.pages import ROOT
from xms.change_map import ByteRanges


def run(directory: Path, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--directory", directory, "--output", directory / "out", *options],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def result_of(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "out").read_text())
    return result


def a_program(directory: Path, name: str, script: str) -> str:
    """A program of that name that is found before the real one; the directory that it is in."""
    place = directory / "programs"
    place.mkdir()
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)
    return str(place)


def test_a_run_compares_the_engine_with_its_peers_and_describes_the_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "full-0ms", "--only", "incremental-2ms", "--only", "extents")

    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    compared = [(row["name"], row["peer"], row["target"]) for row in result["rows"]]
    assert compared == [
        *(("full-0ms", peer, "file") for peer in ("nbdcopy", "qemu-img", "cp", "serial")),
        *(("incremental-2ms", peer, "file") for peer in ("nbdcopy-extentlist", "serial")),
        ("extents-100", "extents-100", "none"),
        ("extents-1000", "extents-100", "none"),
    ]
    for row in result["rows"]:
        assert 0 < row["ratio_min"] <= row["ratio_median"] <= row["ratio_max"]
        assert row["rounds"] == 2
        assert row["ours"]["wall"] > 0
        assert 10 * MIB < row["ours"]["memory"] < 400 * MIB
    assert result["partial"] == "tiny disks; rounds: 2 instead of 7; only full-0ms, incremental-2ms, extents"
    assert all(result["machine"].values())
    assert all(row["name"] in done.stdout for row in result["rows"])


def test_every_case_of_the_protocol_is_there(tmp_path: Path) -> None:
    cases = {case.name: [pair.peer for pair in case.pairs] for case in all_cases(tmp_path, PROTOCOL)}
    assert cases["full-0ms"] == ["nbdcopy", "qemu-img", "cp", "serial"]
    assert cases["full-2ms"] == ["nbdcopy", "qemu-img", "serial"]
    assert cases["incremental-0ms"] == cases["incremental-2ms"] == ["nbdcopy-extentlist", "serial"]
    over_files = ("full-0ms", "full-2ms", "incremental-0ms", "incremental-2ms")
    assert {f"{name}-{kind}" for name in over_files for kind in ("block", "block-direct")} <= set(cases)
    assert cases["nothing"] == ["nothing-1GiB", "nothing-1GiB"]
    assert cases["extents"][-1] == "extents-100000"


def test_latency_makes_a_serial_loop_wait_for_every_read(tmp_path: Path) -> None:
    disk = incremental_disk(tmp_path, 64 * MIB, 100)
    assert copy_once(PEERS["serial"], disk, tmp_path, 0, delay=2).wall >= 0.2


def test_servers_and_targets_do_not_outlive_a_run(tmp_path: Path) -> None:
    seen: list[Errand] = []

    def contestant(errand: Errand) -> Cost:
        seen.append(errand)
        return nbdcopy_extentlist(errand)

    cost = copy_once(contestant, incremental_disk(tmp_path, 64 * MIB, 10), tmp_path, 0)
    assert cost.server > 0
    assert not seen[0].target.exists()


@pytest.mark.parametrize("who", ["nbdcopy", "qemu-img"])
def test_a_peer_that_copies_nothing_makes_the_run_fail(tmp_path: Path, who: str) -> None:
    done = run(
        tmp_path, "--only", "full-2ms", path=a_program(tmp_path, who, f"[ $1 = --version ] && echo {who}; exit 0")
    )

    assert done.returncode == 1
    assert f"WrongCopy: full-2ms, round 1 of 2, {who}: bytes 0 to " in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_peer_that_fails_makes_the_run_fail_and_the_cases_before_it_are_kept(tmp_path: Path) -> None:
    failing = a_program(tmp_path, "qemu-img", "[ $1 = --version ] && echo x")
    done = run(tmp_path, "--only", "incremental-0ms", "--only", "full-2ms", path=failing)
    assert done.returncode == 1
    assert "CannotMeasure: full-2ms, round 1 of 2, qemu-img: qemu-img convert" in done.stderr
    assert {row["name"] for row in result_of(tmp_path)["rows"]} == {"incremental-0ms"}
    assert result_of(tmp_path)["partial"].endswith("; ended after incremental-0ms")


def test_a_server_that_does_not_start_makes_the_run_fail(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "nothing", path=a_program(tmp_path, "nbdkit", "[ $1 = --version ] && echo x"))
    assert done.returncode == 1
    assert "CannotMeasure: nothing, round 1 of 2, nothing-1GiB: nbdkit did not start" in done.stderr


def test_a_machine_without_loop_devices_says_so_and_measures_the_rest(tmp_path: Path) -> None:
    refusing = a_program(tmp_path, "losetup", "echo 'losetup: cannot find an unused loop device' >&2; exit 1")
    done = run(tmp_path, "--only", "full-2ms-block", "--only", "extents", path=refusing)

    assert done.returncode == 0, done.stderr
    reason = "block target: not possible here: losetup: cannot find an unused loop device"
    assert result_of(tmp_path)["notes"] == [reason]
    assert reason in done.stdout
    assert {row["target"] for row in result_of(tmp_path)["rows"]} == {"none"}


@pytest.mark.parametrize("kind", ["block", "block-direct"])
def test_a_copy_to_a_loop_device_is_checked_and_the_device_given_back(tmp_path: Path, changed: Disk, kind: str) -> None:
    if reason := why_no_loop_device(tmp_path, kind):
        pytest.skip(reason)
    devices: list[Path] = []

    def contestant(errand: Errand) -> Cost:
        assert errand.target.is_block_device()
        devices.append(errand.target)
        direct = Path("/sys/block", errand.target.name, "loop", "dio").read_text().strip()
        assert direct == str(int(kind == "block-direct"))
        return PEERS["nbdcopy-extentlist"](errand)

    copy_once(contestant, changed, tmp_path, 0, kind_of_target=kind)
    attached = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in attached
    with pytest.raises(WrongCopy, match="not the source's"):
        copy_once(lambda _errand: Cost(wall=1, user=0, system=0), changed, tmp_path, 0, kind_of_target=kind)


def test_a_disk_that_the_file_system_cannot_hold_is_said_and_the_rest_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = replace(QUICK, disks={"huge": 1 << 62}, planned_extents=(10,))
    monkeypatch.setattr("bench.__main__.QUICK", sizes)
    *_, result = measure_these(1, ["nothing-huge", "extents-10"], tmp_path, quick=True)
    assert [row.name for row in result.rows] == ["extents-10"]
    assert [note.partition(": a sparse file of")[0] for note in result.notes] == ["nothing: not possible here"]
    assert not list(tmp_path.iterdir())


def test_a_case_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "ful-0ms")
    assert done.returncode == 1
    assert "there are full-0ms, incremental-0ms" in done.stderr


@pytest.fixture
def changed(tmp_path: Path) -> Disk:
    return incremental_disk(tmp_path, 64 * MIB, 60)


def copied(errand: Errand, *, then: bytes, at: int) -> Cost:
    """What the engine copied, with one flaw."""
    cost = xms(errand)
    with errand.target.open("r+b") as file:
        file.seek(at)
        file.write(then)
    return cost


def test_a_flipped_byte_in_the_plan_is_found(tmp_path: Path, changed: Disk) -> None:
    offset, length = list(changed.plan)[-1]
    with pytest.raises(WrongCopy, match="not the source's"):
        copy_once(lambda errand: copied(errand, then=b"\1", at=offset + length - 1), changed, tmp_path, 0)


def test_a_zeroed_block_that_stays_stale_is_found(tmp_path: Path, changed: Disk) -> None:
    first = next(iter(changed.plan))[0]
    assert changed.path.read_bytes()[first : first + 64 * KIB] == bytes(64 * KIB)
    with pytest.raises(WrongCopy, match="not the source's"):
        copy_once(lambda errand: copied(errand, then=b"\xaa" * 64 * KIB, at=first), changed, tmp_path, 0)


def test_a_byte_that_is_written_where_nothing_was_is_found(tmp_path: Path, changed: Disk) -> None:
    taken = changed.plan | changed.neighbours
    free = next(iter(ByteRanges.whole(changed.size) - taken))[0]
    with pytest.raises(WrongCopy, match="were written, and are not in the plan"):
        copy_once(lambda errand: copied(errand, then=b"\1", at=free), changed, tmp_path, 0)


def test_a_neighbour_that_is_overwritten_is_found(tmp_path: Path, changed: Disk) -> None:
    neighbour = list(changed.neighbours)[-1][0]
    with pytest.raises(WrongCopy, match="were changed, and are not in the plan"):
        copy_once(lambda errand: copied(errand, then=b"\1", at=neighbour), changed, tmp_path, 0)


def test_a_neighbour_that_is_zeroed_is_found_in_every_round(tmp_path: Path, changed: Disk) -> None:
    offset, length = list(changed.neighbours)[-1]
    with fresh_target(changed, tmp_path) as file:
        xms(Errand(changed, file, 0))
        check(changed, file, 3)
        subprocess.run(["fallocate", "--punch-hole", "-o", str(offset), "-l", str(length), file], check=True)
        with pytest.raises(WrongCopy, match=f"were zeroed, the first at {offset}"):
            check(changed, file, 3)


def test_a_target_that_grew_is_found(tmp_path: Path, changed: Disk) -> None:
    with pytest.raises(WrongCopy, match="bytes long now"):
        copy_once(lambda errand: copied(errand, then=b"\1", at=changed.size), changed, tmp_path, 0)


def test_data_where_a_new_disk_has_none_is_found(tmp_path: Path) -> None:
    disk = full_disk(tmp_path, 32 * MIB)
    hole = disk.path.read_bytes().index(bytes(256 * KIB))
    with pytest.raises(WrongCopy, match="not the source's"):
        copy_once(lambda errand: copied(errand, then=b"\1", at=hole + KIB), disk, tmp_path, 0)


def test_the_disks_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("a", "b"))
    for directory in (first, second):
        directory.mkdir()
        full_disk(directory, 8 * MIB)
        incremental_disk(directory, 8 * MIB, 20)
    assert [file.read_bytes() for file in sorted(first.iterdir())] == [
        file.read_bytes() for file in sorted(second.iterdir())
    ]
    assert unallocated_disk(first, MIB).plan.total == MIB


def test_the_target_of_an_incremental_copy_differs_in_and_beside_the_plan(tmp_path: Path, changed: Disk) -> None:
    with fresh_target(changed, tmp_path) as file:
        before, source = file.read_bytes(), changed.path.read_bytes()
    for offset, length in changed.plan:
        assert before[offset : offset + length] != source[offset : offset + length]
    for offset, length in changed.neighbours:
        assert before[offset : offset + length] == NEIGHBOUR * length
        assert source[offset : offset + length] == bytes(length)


def test_of_any_two_each_is_first_in_half_of_the_rounds_and_no_one_keeps_a_place() -> None:
    names = ["a", "b", "c", "d"]
    orders = [order_of(names, turn) for turn in range(8)]
    for one, other in combinations(names, 2):
        assert sum(order.index(one) < order.index(other) for order in orders) == 4
    assert {order.index("a") for order in orders} == {0, 1, 2, 3}


def test_ratios_are_taken_within_a_round() -> None:
    walls = {"xms": (1.0, 20.0, 3.0), "cp": (2.0, 10.0, 3.0)}
    costs = {who: [Cost(wall=wall, user=0, system=0, memory=7) for wall in each] for who, each in walls.items()}
    row = row_of(Pair("full", "xms", "cp"), "file", costs)
    assert (row.ratio_median, row.ratio_min, row.ratio_max, row.rounds) == (1.0, 0.5, 2.0, 3)
    assert (row.ours.wall, row.theirs.wall, row.ours.memory) == (3.0, 3.0, 7)
