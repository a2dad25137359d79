"""The whole way of a disk's bytes: snapshot by the API, export by nbdkit with the lab's plugin, read by libnbd."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import nbd
import pytest

from lab import vddk_library
from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, Machine, MachineSpec
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from xms.change_map import ByteRanges
from xms.config import SourceConfig, TransportConfig
from xms.errors import SnapshotLost, SourceRefusedLogin, XmsError
from xms.orders.source import SnapshotTaken, VmOrder
from xms.pulse import no_pulse
from xms.transport.vddk import open_export
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.snapshots import remove_snapshots, take_snapshot

MIB = 1 << 20
CAPACITY = 16 * MIB
PLUGIN = Path(__file__).parents[2] / "lab" / "vddk_plugin.py"
USER, PASSWORD = "administrator@vsphere.local", "secret"
ORDER = VmOrder(job_id="warm-lab-web", source="lab", moref="vm-101", vm="web")


@dataclass
class Lab:
    """One machine with two disks on real QEMU, behind the stand-in vCenter."""

    machine: Machine
    source: SourceConfig
    transport: TransportConfig

    def read(self, taken: SnapshotTaken, number: int = 0, *, source: SourceConfig | None = None) -> bytes:
        with open_export(
            source=source or self.source,
            transport=self.transport,
            vm_moref=ORDER.moref,
            vm=ORDER.vm,
            snapshot=taken.moref,
            path=taken.disks[number].path,
        ) as uri:
            connection = nbd.NBD()
            connection.connect_uri(uri)
            content = b"".join(bytes(connection.pread(MIB, at)) for at in range(0, connection.get_size(), MIB))
            connection.shutdown()
            return content


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    # Sockets of QEMU live in the host's directory, and pytest's is too deep for their names.
    directory = Path(tempfile.mkdtemp(prefix="xms-h", dir="/tmp"))
    files = [tmp_path / "disk-0.raw", tmp_path / "disk-1.raw"]
    for file in files:
        with file.open("wb") as raw:
            raw.truncate(CAPACITY)
    disks = tuple(
        DiskSpec(2000 + number, f"Hard disk {number + 1}", file, f"[ds1] web/web_{number}.vmdk")
        for number, file in enumerate(files)
    )
    host = LabHost(directory, [MachineSpec(name="web", disks=disks, guest=False)])
    thumbprint = make(tmp_path / "vcenter.pem", ["127.0.0.1"])
    server = VcenterServer(
        host, address="127.0.0.1", port=0, certificate=tmp_path / "vcenter.pem", users={USER: PASSWORD}
    )
    server.start()
    password_file = tmp_path / "password"
    password_file.write_text(PASSWORD)
    password_file.chmod(0o600)
    source = SourceConfig(
        host="127.0.0.1", port=server.port, username=USER, password_file=password_file, thumbprint=thumbprint
    )
    try:
        host.machines[0].power_on()
        yield Lab(
            host.machines[0],
            source,
            TransportConfig(plugin=f"python {PLUGIN}", libdir=vddk_library.make(tmp_path / "vddk")),
        )
    finally:
        server.stop()
        host.close()
        rmtree(directory)


@pytest.fixture
def session(lab: Lab) -> Iterator[VsphereSession]:
    with connect("lab", lab.source) as opened:
        yield opened


def changes(session: VsphereSession, taken: SnapshotTaken, since: str, number: int = 0) -> ByteRanges:
    query = ChangeQuery(vm=ORDER, snapshot=taken.moref, disk=taken.disks[number])
    return ByteRanges(query_changes(session, query, since=since, pulse=no_pulse))


def test_an_export_reads_what_the_snapshot_froze_whatever_is_written_later(lab: Lab, session: VsphereSession) -> None:
    enable_change_tracking(session, ORDER, pulse=no_pulse)
    lab.machine.write(2000, 3 * MIB, b"before" * 1000)
    lab.machine.write(2001, 5 * MIB, b"the other disk")
    taken = take_snapshot(session, ORDER, pulse=no_pulse)
    lab.machine.write(2000, 3 * MIB, b"after!" * 1000)
    lab.machine.write(2000, 9 * MIB, b"new")
    frozen = lab.read(taken)
    assert len(frozen) == CAPACITY
    assert frozen[3 * MIB :][:6000] == b"before" * 1000
    assert not any(frozen[9 * MIB :])
    assert lab.read(taken, 1)[5 * MIB :].startswith(b"the other disk")
    remove_snapshots(session, ORDER, pulse=no_pulse)
    later = take_snapshot(session, ORDER, pulse=no_pulse)
    assert lab.read(later)[3 * MIB :][:6000] == b"after!" * 1000


def test_changed_areas_applied_to_the_last_copy_make_it_equal_to_the_snapshot(
    lab: Lab, session: VsphereSession
) -> None:
    generator = random.Random(7)  # noqa: S311 - the same writes in every run
    enable_change_tracking(session, ORDER, pulse=no_pulse)
    lab.machine.write(2000, MIB, generator.randbytes(MIB))
    taken = take_snapshot(session, ORDER, pulse=no_pulse)
    replica = bytearray(CAPACITY)
    source = lab.read(taken)
    for offset, length in changes(session, taken, ALLOCATED):
        replica[offset : offset + length] = source[offset : offset + length]
    assert bytes(replica) == source
    for _ in range(3):
        since = str(taken.disks[0].change_id)
        remove_snapshots(session, ORDER, pulse=no_pulse)
        for _ in range(20):
            place = generator.randrange(CAPACITY - 100_000)
            lab.machine.write(2000, place, generator.randbytes(generator.randrange(1, 100_000)))
        taken = take_snapshot(session, ORDER, pulse=no_pulse)
        source = lab.read(taken)
        delta = changes(session, taken, since)
        assert delta.total < CAPACITY
        for offset, length in delta:
            replica[offset : offset + length] = source[offset : offset + length]
        assert bytes(replica) == source


def test_a_wrong_password_is_told_as_such(lab: Lab, session: VsphereSession) -> None:
    taken = take_snapshot(session, ORDER, pulse=no_pulse)
    wrong = lab.source.password_file.with_name("wrong")
    wrong.write_text("hunter2")
    wrong.chmod(0o600)
    with pytest.raises(SourceRefusedLogin) as failed:
        lab.read(taken, source=lab.source.model_copy(update={"password_file": wrong}))
    assert "hunter2" not in str(failed.value)


def test_a_removed_snapshot_is_told_as_lost(lab: Lab, session: VsphereSession) -> None:
    taken = take_snapshot(session, ORDER, pulse=no_pulse)
    remove_snapshots(session, ORDER, pulse=no_pulse)
    with pytest.raises(SnapshotLost):
        lab.read(taken)


def test_a_disk_that_the_snapshot_does_not_have_is_refused(lab: Lab, session: VsphereSession) -> None:
    taken = take_snapshot(session, ORDER, pulse=no_pulse)
    disk = taken.disks[0].model_copy(update={"path": "[ds1] web/other.vmdk"})
    with pytest.raises(XmsError, match="web"):
        lab.read(taken.model_copy(update={"disks": (disk,)}))
