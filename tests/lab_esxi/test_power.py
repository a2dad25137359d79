"""Power states of machines, and the life of their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.esxi.host import HostDirectoryInUseError, LabHost
from lab.esxi.interface import DiskSpec, GuestSilentError, MachineSpec, PowerState, PowerStateError
from lab.esxi.machine import LabMachine
from lab.esxi.qemu import QemuEndedError
from tests.lab_esxi.conftest import ROOT, machine_spec


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def power(machine: LabMachine) -> PowerState:
    """The state anew: a type checker takes a property for a constant."""
    return machine.power_state


def test_power_calls_fit_the_power_state(host: LabHost) -> None:
    machine = host.machines[0]
    assert power(machine) == "poweredOff"
    with pytest.raises(PowerStateError):
        machine.power_off()
    with pytest.raises(PowerStateError):
        machine.shutdown_guest()

    machine.power_on()
    assert power(machine) == "poweredOn"
    with pytest.raises(PowerStateError):
        machine.power_on()

    machine.power_off()
    assert power(machine) == "poweredOff"
    machine.power_on()
    assert power(machine) == "poweredOn"


def test_nothing_is_written_while_the_machine_is_off(host: LabHost) -> None:
    with pytest.raises(PowerStateError):
        host.machines[0].write(ROOT, 0, b"x")
    with pytest.raises(PowerStateError):
        host.machines[0].discard(ROOT, 0, 512)


def test_a_played_guest_shuts_down_when_it_is_asked(host: LabHost) -> None:
    machine = host.machines[0]
    assert not machine.tools_running
    machine.power_on()
    assert machine.tools_running
    machine.shutdown_guest()
    assert power(machine) == "poweredOff"
    assert not machine.tools_running


def test_a_machine_without_tools_cannot_be_asked(tmp_path: Path) -> None:
    with LabHost(tmp_path / "host", [machine_spec(tmp_path, plays_tools=False)]) as host:
        host.machines[0].power_on()
        with pytest.raises(GuestSilentError):
            host.machines[0].shutdown_guest()
        assert power(host.machines[0]) == "poweredOn"


def test_a_machine_starts_in_a_moment(tmp_path: Path) -> None:
    specs = [machine_spec(tmp_path, f"vm-{number}") for number in range(4)]
    begin = time.monotonic()
    with LabHost(tmp_path / "host", specs) as host:
        assert time.monotonic() - begin < 4 * 0.5
        assert [machine.spec.name for machine in host.machines] == ["vm-0", "vm-1", "vm-2", "vm-3"]


def test_a_directory_with_a_long_name_does(tmp_path: Path) -> None:
    with LabHost(tmp_path / ("x" * 120), [machine_spec(tmp_path)]) as host:
        sockets = host.machines[0].export(ROOT, host.machines[0].create_snapshot()).socket.parent
        assert sockets.is_dir()
    assert not sockets.exists()


def test_close_ends_every_process(tmp_path: Path) -> None:
    host = LabHost(tmp_path / "host", [machine_spec(tmp_path, name) for name in ("a", "b")])
    pids = [machine.pid for machine in host.machines]
    assert all(map(running, pids))
    host.close()
    host.close()
    assert not any(map(running, pids))


def test_a_killed_host_takes_its_machines_with_it(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from lab.esxi.host import LabHost
from tests.lab_esxi.conftest import machine_spec
directory = Path(sys.argv[1])
host = LabHost(directory / "host", [machine_spec(directory)])
print(host.machines[0].pid, flush=True)
time.sleep(60)
"""
    lab = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with lab:
        assert lab.stdout is not None
        pid = int(lab.stdout.readline())
        assert running(pid)
        lab.send_signal(signal.SIGKILL)
        lab.wait()
        end = time.monotonic() + 5
        while running(pid) and time.monotonic() < end:
            time.sleep(0.01)
        assert not running(pid)


def test_a_machine_whose_process_died_is_off(host: LabHost) -> None:
    machine = host.machines[0]
    machine.power_on()
    os.kill(machine.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while power(machine) == "poweredOn" and time.monotonic() < end:
        time.sleep(0.01)
    assert power(machine) == "poweredOff"


def test_one_directory_has_one_host(host: LabHost, tmp_path: Path) -> None:
    assert host.machines
    with pytest.raises(HostDirectoryInUseError):
        LabHost(tmp_path / "host", [])


def test_what_qemu_complains_of_is_told_and_nothing_stays(tmp_path: Path) -> None:
    wrong = DiskSpec(ROOT, "Hard disk 1", tmp_path, "[ds1] x/x.vmdk")
    with pytest.raises(QemuEndedError, match="directory"):
        LabHost(tmp_path / "host", [machine_spec(tmp_path, "good"), MachineSpec("bad", (wrong,), guest=False)])
    with LabHost(tmp_path / "host", [machine_spec(tmp_path, "good")]) as host:
        assert power(host.machines[0]) == "poweredOff"


def test_many_threads_share_a_machine(host: LabHost) -> None:
    machine = host.machines[0]
    machine.set_change_tracking(True)
    machine.power_on()
    failures: list[BaseException] = []

    def snapshot_and_read() -> None:
        try:
            for number in range(5):
                machine.write(ROOT, number << 16, b"x")
                sequence = machine.create_snapshot()
                machine.changed_areas(ROOT, "*", sequence)
                machine.changed_areas(ROOT, str(machine.change_id(ROOT, sequence)), sequence)
                machine.export(ROOT, sequence)
                machine.remove_snapshot(sequence)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=snapshot_and_read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert machine.snapshots == ()
    assert machine.create_snapshot() == 31
