"""Change ids and changed areas are exact, and never pretend to know what they do not."""

from __future__ import annotations

import random
import re

import pytest

from lab.esxi.change_tracking import GRAIN, ChangeId
from lab.esxi.host import LabHost
from lab.esxi.interface import PowerStateError, UnknownChangeIdError
from lab.esxi.machine import LabMachine
from tests.lab_esxi.conftest import DATA, MEBIBYTE, ROOT, SIZE


def change_id(machine: LabMachine, key: int, sequence: int | None) -> str:
    found = machine.change_id(key, sequence)
    assert found is not None
    return found


def areas(grains: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for grain in sorted(grains):
        if found and sum(found[-1]) == grain * GRAIN:
            found[-1] = (found[-1][0], found[-1][1] + GRAIN)
        else:
            found.append((grain * GRAIN, GRAIN))
    return found


def test_changed_areas_are_exact_between_any_two_snapshots(machine: LabMachine) -> None:
    dice = random.Random(7)  # noqa: S311 - a test's dice
    written: list[set[int]] = []
    snapshots = [machine.create_snapshot()]
    for _ in range(4):
        grains = set(dice.sample(range(SIZE // GRAIN), 9))
        for grain in grains:
            machine.write(ROOT, grain * GRAIN + dice.randrange(GRAIN), b"!")
        written.append(grains)
        snapshots.append(machine.create_snapshot())

    for first in range(5):
        for last in range(first, 5):
            since = change_id(machine, ROOT, snapshots[first])
            expected = areas(set().union(*written[first:last]))
            assert machine.changed_areas(ROOT, since, snapshots[last]) == expected, (first, last)
            assert machine.changed_areas(DATA, change_id(machine, DATA, snapshots[first]), snapshots[last]) == []


def test_a_change_id_outlives_its_snapshot(machine: LabMachine) -> None:
    first = machine.create_snapshot()
    since = change_id(machine, ROOT, first)
    machine.remove_snapshot(first)
    machine.write(ROOT, 3 * MEBIBYTE, b"x" * (GRAIN + 1))

    assert machine.changed_areas(ROOT, since, machine.create_snapshot()) == [(3 * MEBIBYTE, 2 * GRAIN)]


def test_change_ids_are_spelled_as_vsphere_spells_them(machine: LabMachine) -> None:
    snapshot = machine.create_snapshot()
    spelling = r"([0-9a-f]{2} ){7}[0-9a-f]{2}-([0-9a-f]{2} ){7}[0-9a-f]{2}/[0-9]+"

    assert re.fullmatch(spelling, change_id(machine, ROOT, snapshot))
    assert change_id(machine, ROOT, snapshot).split("/")[0] != change_id(machine, DATA, snapshot).split("/")[0]
    text = "52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/14"
    assert str(ChangeId.parse(text)) == text


def test_a_star_gives_the_allocated_areas_of_the_snapshot(machine: LabMachine) -> None:
    machine.write(ROOT, 10 * MEBIBYTE + 5, b"x")
    machine.write(ROOT, SIZE - 1, b"x")
    snapshot = machine.create_snapshot()

    assert machine.changed_areas(ROOT, "*", snapshot) == [(10 * MEBIBYTE, GRAIN), (SIZE - GRAIN, GRAIN)]
    assert machine.changed_areas(DATA, "*", snapshot) == []


def test_what_was_given_back_is_not_allocated(machine: LabMachine) -> None:
    machine.write(ROOT, 0, b"x" * MEBIBYTE)
    machine.discard(ROOT, 0, MEBIBYTE // 2)

    assert machine.changed_areas(ROOT, "*", machine.create_snapshot()) == [(MEBIBYTE // 2, MEBIBYTE // 2)]


def test_a_trim_of_the_guest_alone_gives_an_area_back(machine: LabMachine) -> None:
    machine.write(ROOT, 0, b"x" * MEBIBYTE)
    machine._writers[ROOT].trim(MEBIBYTE // 2, 0)

    assert machine.changed_areas(ROOT, "*", machine.create_snapshot()) == [(MEBIBYTE // 2, MEBIBYTE // 2)]


def test_a_reset_makes_older_change_ids_unknown(machine: LabMachine) -> None:
    old = machine.create_snapshot()
    since = change_id(machine, ROOT, old)
    machine.reset_change_tracking()
    new = machine.create_snapshot()

    assert change_id(machine, ROOT, new).split("/")[0] != since.split("/")[0]
    for snapshot in (old, new):
        with pytest.raises(UnknownChangeIdError):
            machine.changed_areas(ROOT, since, snapshot)
    assert machine.changed_areas(ROOT, change_id(machine, ROOT, new), new) == []


@pytest.mark.parametrize("wrong", ["", "52 2d", "52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/1", "**"])
def test_a_change_id_of_elsewhere_is_unknown(machine: LabMachine, wrong: str) -> None:
    snapshot = machine.create_snapshot()
    with pytest.raises(UnknownChangeIdError):
        machine.changed_areas(ROOT, wrong, snapshot)


def test_a_change_id_of_another_disk_or_of_later_is_unknown(machine: LabMachine) -> None:
    first, second = machine.create_snapshot(), machine.create_snapshot()
    with pytest.raises(UnknownChangeIdError):
        machine.changed_areas(ROOT, change_id(machine, DATA, first), second)
    with pytest.raises(UnknownChangeIdError):
        machine.changed_areas(ROOT, change_id(machine, ROOT, second), first)


def test_tracking_of_a_running_machine_begins_at_its_next_snapshot(host: LabHost) -> None:
    machine = host.machines[0]
    machine.power_on()
    untracked = machine.create_snapshot()
    machine.set_change_tracking(True)

    assert machine.change_tracking
    assert machine.change_id(ROOT, None) is None
    assert machine.change_id(ROOT, untracked) is None
    with pytest.raises(UnknownChangeIdError):
        machine.changed_areas(ROOT, "*", untracked)

    machine.write(ROOT, 0, b"before tracking")
    first = machine.create_snapshot()
    machine.write(ROOT, MEBIBYTE, b"tracked")
    second = machine.create_snapshot()
    assert machine.changed_areas(ROOT, "*", first) == [(0, GRAIN)]
    assert machine.changed_areas(ROOT, change_id(machine, ROOT, first), second) == [(MEBIBYTE, GRAIN)]


def test_tracking_of_a_machine_that_is_off_begins_at_once(host: LabHost) -> None:
    machine = host.machines[0]
    machine.set_change_tracking(True)
    since = change_id(machine, ROOT, None)
    machine.power_on()
    machine.write(ROOT, 0, b"x")
    machine.power_off()

    assert machine.changed_areas(ROOT, since, None) == [(0, GRAIN)]
    assert machine.changed_areas(ROOT, "*", None) == [(0, GRAIN)]


def test_turning_tracking_off_forgets_every_change_id(machine: LabMachine) -> None:
    snapshot = machine.create_snapshot()
    since = change_id(machine, ROOT, snapshot)
    machine.set_change_tracking(False)

    assert machine.change_id(ROOT, snapshot) is None
    machine.set_change_tracking(True)
    with pytest.raises(UnknownChangeIdError):
        machine.changed_areas(ROOT, since, machine.create_snapshot())


def test_the_live_disk_is_asked_for_only_when_the_machine_is_off(machine: LabMachine) -> None:
    since = change_id(machine, ROOT, machine.create_snapshot())
    machine.write(ROOT, 0, b"x")
    with pytest.raises(PowerStateError):
        machine.changed_areas(ROOT, since, None)

    machine.power_off()
    assert machine.changed_areas(ROOT, since, None) == [(0, GRAIN)]


def test_the_live_disks_change_id_as_a_baseline_misses_nothing(machine: LabMachine) -> None:
    machine.create_snapshot()
    machine.write(ROOT, 0, b"x")
    machine.power_off()
    since = change_id(machine, ROOT, None)
    machine.power_on()
    machine.write(ROOT, MEBIBYTE, b"y")

    assert (MEBIBYTE, GRAIN) in machine.changed_areas(ROOT, since, machine.create_snapshot())
