"""The same vCenter over the real stand-in host: machines without a guest, whose disks are QEMU's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbd
import pytest

from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, MachineSpec, NicSpec
from lab.esxi.machine import LabMachine
from lab.vcenter import certificate
from lab.vcenter.server import VcenterServer
from tests.lab_vcenter.client import (
    USERS,
    Remote,
    areas,
    change_id_of,
    connected,
    disks_of,
    snapshot_of,
    trusting_only,
    turn_tracking,
    vm_named,
    vmodl,
    wait_for,
)

GRAIN = 64 << 10
CAPACITY = 8 << 20


@dataclass
class Running:
    machine: LabMachine
    port: int
    certificate: Path
    vm: Remote


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    disks = []
    for key in (2000, 2001):
        file = tmp_path / f"{key}.raw"
        file.touch()
        with file.open("r+b") as opened:
            opened.truncate(CAPACITY)
        disks.append(DiskSpec(key, f"Hard disk {key - 1999}", file, f"[ds1] db/{key}.vmdk"))
    nic = NicSpec(4000, "Network adapter 1", "00:50:56:9a:11:02", "VM Network")
    spec = MachineSpec(name="db", disks=tuple(disks), nics=(nic,), guest=False)
    pem = tmp_path / "vcenter.pem"
    certificate.make(pem, ["127.0.0.1"])
    with LabHost(tmp_path / "host", [spec]) as host:
        server = VcenterServer(host, address="127.0.0.1", port=0, certificate=pem, users=USERS)
        server.start()
        try:
            with connected(server.port, pem) as service:
                yield Running(host.machines[0], server.port, pem, vm_named(service, "db"))
        finally:
            server.stop()


def read_through_the_door(running: Running, snapshot: Remote, key: int, offset: int, length: int) -> bytes:
    connection = http.client.HTTPSConnection("127.0.0.1", running.port, context=trusting_only(running.certificate))
    wanted = {
        "user": "xms@lab",
        "password": "a secret",
        "vm": running.vm._moId,
        "snapshot": snapshot._moId,
        "file": disks_of(snapshot.config)[key].backing.fileName,
    }
    connection.request("POST", "/nfc/lease", body=json.dumps(wanted))
    lease = json.loads(connection.getresponse().read())
    connection.close()
    handle = nbd.NBD()
    handle.set_export_name(lease["export"])
    handle.connect_unix(lease["socket"])
    data = bytes(handle.pread(length, offset))
    handle.shutdown()
    return data


def test_a_vm_that_runs_is_tracked_synced_and_switched_off(running: Running) -> None:
    vm, machine = running.vm, running.machine
    wait_for(vm.PowerOn())
    turn_tracking(vm, on=True)
    machine.write(2000, 3 * GRAIN, b"first")
    first = snapshot_of(vm, "first")
    assert first._moId == "snapshot-101-1"
    since = {key: change_id_of(first, key) for key in (2000, 2001)}
    assert all(since.values())
    assert areas(vm, first, "*", CAPACITY) == [(3 * GRAIN, GRAIN)]
    machine.write(2000, 3 * GRAIN, b"later")
    machine.write(2001, 7 * GRAIN, b"other")
    assert read_through_the_door(running, first, 2000, 3 * GRAIN, 5) == b"first"
    wait_for(first.Remove(removeChildren=False))
    second = snapshot_of(vm, "second")
    assert second._moId == "snapshot-101-2"
    assert areas(vm, second, since[2000], CAPACITY) == [(3 * GRAIN, GRAIN)]
    assert areas(vm, second, since[2001], CAPACITY, 2001) == [(7 * GRAIN, GRAIN)]
    assert read_through_the_door(running, second, 2000, 3 * GRAIN, 5) == b"later"
    assert read_through_the_door(running, second, 2001, 7 * GRAIN, 5) == b"other"
    wait_for(vm.PowerOff())
    assert vm.runtime.powerState == "poweredOff"
    wait_for(vm.RemoveAllSnapshots())
    assert vm.snapshot is None


def test_a_reset_of_tracking_makes_change_ids_unknown(running: Running) -> None:
    vm = running.vm
    turn_tracking(vm, on=True)
    since = change_id_of(snapshot_of(vm, "before"))
    running.machine.reset_change_tracking()
    after = snapshot_of(vm, "after")
    with pytest.raises(vmodl.fault.InvalidArgument, match="changeId"):
        areas(vm, after, since, CAPACITY)
    with pytest.raises(vmodl.fault.InvalidArgument, match="changeId"):
        areas(vm, after, "nonsense", CAPACITY)
