"""A real guest on the stand-in host: its own evidence holds over snapshots, shutdown, loss of power and restarts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, GuestSilentError, MachineSpec, NicSpec, PowerStateError
from lab.esxi.machine import LabMachine
from lab.guest.evidence import DATA_LOG, ROOT_LOG, console_numbers, gaps, logged_numbers
from lab.guest.image import PARTITION_START, build
from lab.layout import default_cache

ROOT, DATA = 2000, 2001
BOOT_SECONDS = 150.0
SHUTDOWN_SECONDS = 60.0

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LabMachine]:
    image = build(default_cache())
    image.copy_root(tmp_path / "root.raw")
    image.copy_data(tmp_path / "data.raw")
    spec = MachineSpec(
        name="db-prod-01",
        disks=(
            DiskSpec(ROOT, "Hard disk 1", tmp_path / "root.raw", "[ds1] db-prod-01/root.vmdk"),
            DiskSpec(DATA, "Hard disk 2", tmp_path / "data.raw", "[ds1] db-prod-01/data.vmdk"),
        ),
        nics=(
            NicSpec(4000, "Network adapter 1", "00:50:56:9a:11:02", "VM Network"),
            NicSpec(4001, "Network adapter 2", "00:50:56:9a:11:03", "Backup"),
        ),
    )
    with LabHost(tmp_path / "esxi", [spec]) as host:
        yield host.machines[0]


def wait_until(true: Callable[[], bool], seconds: float) -> float:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds, f"not within {seconds:g} s"
        time.sleep(0.1)
    return time.monotonic() - begin


def after_recovery(disk: Path, log: str, offset: int) -> list[int]:
    """The numbers that a guest would find on a disk that was cut off: its journal is replayed first, on a copy.

    The copy is of the file system alone: e2fsck forgets an offset once it has replayed a journal.
    """
    copy = disk.with_suffix(".recovered")
    pieces = ["bs=1M", f"skip={offset >> 20}", "conv=sparse", "status=none"]
    subprocess.run(["dd", f"if={disk}", f"of={copy}", *pieces], check=True)
    checked = subprocess.run(
        ["/usr/sbin/e2fsck", "-fy", "-E", "journal_only", str(copy)], check=False, capture_output=True
    )
    assert checked.returncode in {0, 1}, checked
    return logged_numbers(copy, log)


def on_both_disks(root: Path, data: Path) -> tuple[list[int], list[int]]:
    return after_recovery(root, ROOT_LOG, PARTITION_START), after_recovery(data, DATA_LOG, 0)


def test_the_guests_evidence_is_whole_whatever_happens_to_it(machine: LabMachine, tmp_path: Path) -> None:
    console = tmp_path / "esxi" / "db-prod-01" / "console.log"
    root, data = (disk.file for disk in machine.spec.disks)
    machine.power_on()
    with pytest.raises(GuestSilentError):
        machine.shutdown_guest()
    print(f"boot: {wait_until(lambda: len(console_numbers(console)) >= 20, BOOT_SECONDS):.1f} s")  # noqa: T201 - pytest -s
    assert machine.tools_running

    # A snapshot of the running guest: each number that was shown before it is on both disks, of one moment.
    machine.set_change_tracking(True)
    shown_before = console_numbers(console)
    snapshot = machine.create_snapshot()
    since = str(machine.change_id(ROOT, snapshot))
    wait_until(lambda: console_numbers(console)[-1] > shown_before[-1] + 10, BOOT_SECONDS)
    frozen = []
    for key in (ROOT, DATA):
        export = machine.export(key, snapshot)
        frozen.append(tmp_path / f"frozen-{key}.raw")
        uri = f"nbd+unix:///{export.name}?socket={export.socket}"
        subprocess.run(["nbdcopy", uri, str(frozen[-1])], check=True)
    machine.remove_snapshot(snapshot)
    on_root, on_data = on_both_disks(*frozen)
    assert gaps(on_root) == gaps(on_data) == []
    assert on_root[-1] - on_data[-1] in {0, 1}
    assert shown_before[-1] <= on_data[-1] < console_numbers(console)[-1] - 5

    # What it wrote since is a small part of the disk.
    second = machine.create_snapshot()
    changed = machine.changed_areas(ROOT, since, second)
    assert 0 < sum(length for _, length in changed) < 64 << 20
    allocated = machine.changed_areas(ROOT, "*", second)
    assert 200 << 20 < sum(length for _, length in allocated) < 1 << 30
    machine.remove_snapshot(second)

    # It shuts down when it is asked, and everything that it showed is on its disks.
    machine.shutdown_guest()
    took = wait_until(lambda: machine.power_state == "poweredOff", SHUTDOWN_SECONDS)
    print(f"shutdown: {took:.1f} s")  # noqa: T201 - pytest -s
    with pytest.raises(PowerStateError):
        machine.power_off()
    shown = console_numbers(console)
    assert gaps(shown) == []
    assert logged_numbers(root, ROOT_LOG, PARTITION_START)[-1] - shown[-1] in {0, 1}

    # It goes on where it stopped, also without power for a while.
    machine.power_on()
    wait_until(lambda: console_numbers(console)[-1] >= shown[-1] + 20, BOOT_SECONDS)
    machine.power_off()
    shown = console_numbers(console)
    on_root, on_data = on_both_disks(root, data)
    assert gaps(on_root) == gaps(on_data) == []
    assert on_root[-1] >= on_data[-1] >= shown[-1]
    assert on_root[-1] - on_data[-1] in {0, 1}
    starts = [line for line in console.read_text(errors="replace").splitlines() if line.startswith("SEQSTART")]
    assert len(starts) == 2
    assert all("last-root=" in line and "last-data=" in line for line in starts)
    assert "sda,sdb" in starts[0]
    assert starts[0].rsplit("nics=", 1)[1].count(",") == 1
