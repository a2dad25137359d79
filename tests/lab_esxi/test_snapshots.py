"""Snapshots hold one moment of all disks, and leave nothing behind."""

from __future__ import annotations

import random
import subprocess
import threading
from pathlib import Path

import nbd
import pytest

from lab.esxi.host import LabHost
from lab.esxi.machine import LabMachine
from lab.esxi.qmp import QmpError
from tests.lab_esxi.conftest import DATA, MEBIBYTE, ROOT, SIZE, Read

RECORD = 4096


def test_a_snapshot_keeps_its_moment_while_writes_go_on(machine: LabMachine, read: Read) -> None:
    machine.write(ROOT, MEBIBYTE, b"before" * 1000)
    export = machine.export(ROOT, machine.create_snapshot())

    machine.write(ROOT, MEBIBYTE, b"after!" * 1000)
    machine.write(ROOT, 5 * MEBIBYTE, b"new")

    assert read(export, MEBIBYTE, 6000) == b"before" * 1000
    assert read(export, 5 * MEBIBYTE, 3) == b"\0\0\0"


def test_two_disks_are_frozen_at_the_same_moment(machine: LabMachine, read: Read) -> None:
    """The writer puts each number on the first disk, then on the second: at any moment they differ by one at most."""
    done = threading.Event()

    def write_numbers() -> None:
        number = 0
        while not done.is_set():
            number += 1
            for key in (ROOT, DATA):
                machine.write(key, 0, number.to_bytes(8, "big"))

    writer = threading.Thread(target=write_numbers)
    writer.start()
    try:
        pairs = []
        for _ in range(8):
            snapshot = machine.create_snapshot()
            pairs.append([int.from_bytes(read(machine.export(key, snapshot), 0, 8), "big") for key in (ROOT, DATA)])
            machine.remove_snapshot(snapshot)
    finally:
        done.set()
        writer.join()
    assert all(root - data in {0, 1} for root, data in pairs), pairs
    assert len({root for root, _ in pairs}) > 1, "nothing was written between the snapshots"


@pytest.mark.parametrize("removed_first", [0, 1, 2])
def test_overlapping_snapshots_each_keep_their_own_moment(machine: LabMachine, read: Read, removed_first: int) -> None:
    dice = random.Random(4)  # noqa: S311 - a test's dice
    live = bytearray(SIZE)
    moments: dict[int, bytes] = {}

    def write_some() -> None:
        for _ in range(60):
            at, data = dice.randrange(0, SIZE - RECORD), dice.randbytes(RECORD)
            machine.write(ROOT, at, data)
            live[at : at + RECORD] = data

    for _ in range(3):
        write_some()
        moments[machine.create_snapshot()] = bytes(live)
    write_some()
    machine.remove_snapshot(first := sorted(moments)[removed_first])
    del moments[first]
    write_some()

    for sequence, content in moments.items():
        export = machine.export(ROOT, sequence)
        for at in range(0, SIZE, 8 * MEBIBYTE):
            assert read(export, at, 8 * MEBIBYTE) == content[at : at + 8 * MEBIBYTE], f"snapshot {sequence} at {at}"
    assert machine.snapshots == tuple(sorted(moments))


def test_an_area_that_is_given_back_after_the_snapshot_is_still_in_it(machine: LabMachine, read: Read) -> None:
    machine.write(ROOT, 0, b"x" * MEBIBYTE)
    snapshot = machine.create_snapshot()
    machine.discard(ROOT, 0, MEBIBYTE)

    assert read(machine.export(ROOT, snapshot), 0, MEBIBYTE) == b"x" * MEBIBYTE
    later = machine.create_snapshot()
    assert read(machine.export(ROOT, later), 0, MEBIBYTE) == bytes(MEBIBYTE)
    assert machine.changed_areas(ROOT, str(machine.change_id(ROOT, snapshot)), later) == [(0, MEBIBYTE)]


def test_a_removed_snapshot_leaves_no_file_and_no_export(machine: LabMachine, tmp_path: Path, read: Read) -> None:
    snapshot = machine.create_snapshot()
    export = machine.export(ROOT, snapshot)
    read(export, 0, 1)
    machine.write(ROOT, 0, b"x")
    assert len(list(tmp_path.glob("host/db-prod-01/fleece-*"))) == 2

    machine.remove_snapshot(snapshot)

    assert list(tmp_path.glob("host/db-prod-01/fleece-*")) == []
    with pytest.raises(nbd.Error):
        read(export, 0, 1)
    listed = subprocess.run(
        ["nbdinfo", "--list", "--json", f"nbd+unix:///?socket={export.socket}"], check=True, capture_output=True
    )
    assert export.name.encode() not in listed.stdout
    assert machine.snapshots == ()
    with pytest.raises(KeyError):
        machine.export(ROOT, snapshot)


def test_a_snapshot_that_cannot_be_made_leaves_nothing(
    machine: LabMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = machine._qmp.command

    def refuse_transactions(name: str, *arguments: object, **options: object) -> object:
        if name == "transaction":
            raise QmpError("no")
        return command(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(machine._qmp, "command", refuse_transactions)
    before = machine.change_id(ROOT, None)
    with pytest.raises(QmpError):
        machine.create_snapshot()
    monkeypatch.undo()

    assert list(tmp_path.glob("host/db-prod-01/fleece-*")) == []
    assert machine.snapshots == ()
    assert machine.change_id(ROOT, None) == before
    assert machine.create_snapshot() == 1


def test_several_clients_read_one_export_at_once(machine: LabMachine) -> None:
    machine.write(DATA, 0, b"d" * MEBIBYTE)
    export = machine.export(DATA, machine.create_snapshot())
    handles = [nbd.NBD() for _ in range(3)]
    for handle in handles:
        handle.set_export_name(export.name)
        handle.connect_unix(str(export.socket))

    assert {bytes(handle.pread(4, 0)) for handle in handles} == {b"dddd"}
    assert all(handle.can_multi_conn() and handle.is_read_only() for handle in handles)


def test_what_a_killed_host_left_is_cleared_by_the_next(host: LabHost, machine: LabMachine, tmp_path: Path) -> None:
    machine.create_snapshot()
    leftover = tmp_path / "host" / "db-prod-01" / "fleece-9-2000.qcow2"
    spec = machine.spec
    host.close()
    assert list(tmp_path.glob("host/db-prod-01/fleece-*")) == []
    leftover.touch()

    with LabHost(tmp_path / "host", [spec]) as again:
        assert not leftover.exists()
        assert again.machines[0].create_snapshot() == 1
