"""Servers are QEMU processes. Their guest here is a boot sector that greets on the serial port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openstack import exceptions
from openstack.compute.v2.server import Server

from lab.cloud.server import CloudServer
from tests.lab_cloud.conftest import Member, ServerMaker, VolumeMaker, boot_from, connect, member_of, wait_for

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

# 16-bit code: DS=0; write the text after the code to COM1, byte by byte; then seven bytes of an ending; then halt.
GREET = bytes.fromhex("31c0 8ed8 be1c7c ac 84c0 7406 baf803 ee ebf5")
POWER_OFF = bytes.fromhex("ba0406 b80020 ef")  # write SLP_EN to q35's ACPI control register
STAY = b"\x90" * len(POWER_OFF)
HALT = bytes.fromhex("f4 ebfd")


def boot_sector(text: bytes, ending: bytes) -> bytes:
    return (GREET + ending + HALT + text + b"\0").ljust(510, b"\0") + b"\x55\xaa"


def write(cloud: CloudServer, volume_id: str, data: bytes) -> None:
    with cloud.volume_file(volume_id).open("r+b") as file:
        file.write(data)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait(member: Member, server: Server, status: str) -> Server:
    return member.compute.wait_for_server(server, status, failures=[], interval=0.05, wait=30)


def process_id(cloud: CloudServer, server: Server) -> int:
    machine = cloud.cloud.servers[server.id].machine
    assert machine is not None
    return machine.pid


def command_line(cloud: CloudServer, server: Server) -> str:
    return Path(f"/proc/{process_id(cloud, server)}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_root_volume_boots_and_its_console_is_read(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root, data = make_volume(bootable=True), make_volume()
    write(cloud, root.id, boot_sector(b"first line\nhello from root\n", STAY))
    write(cloud, data.id, boot_sector(b"hello from data\n", STAY))

    server = make_server(root, data)

    until(lambda: "root\n" in member.compute.get_server_console_output(server)["output"])
    assert member.compute.get_server_console_output(server)["output"] == "first line\nhello from root\n"
    assert member.compute.get_server_console_output(server, length=2)["output"] == "hello from root\n"
    assert cloud.console_file(server.id).read_text() == "first line\nhello from root\n"


def test_a_guest_that_powers_off_is_seen_as_shutoff(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root = make_volume(bootable=True)
    write(cloud, root.id, boot_sector(b"bye\n", POWER_OFF))

    server = wait(member, make_server(root, wait=False), "SHUTOFF")

    assert server.power_state == 4
    assert member.block_storage.get_volume(root).status == "in-use"


def test_a_server_is_stopped_and_started_again_on_the_same_volumes(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    cloud.cloud.shutdown_seconds = 0.2
    root = make_volume(bootable=True)
    write(cloud, root.id, boot_sector(b"up\n", STAY))
    server = make_server(root)
    until(lambda: cloud.console_file(server.id).read_text() == "up\n")
    first = process_id(cloud, server)

    member.compute.stop_server(server)
    wait(member, server, "SHUTOFF")
    assert not lives(first)
    with pytest.raises(exceptions.ConflictException, match="Cannot 'stop' instance"):
        member.compute.stop_server(server)
    member.compute.start_server(server)
    wait(member, server, "ACTIVE")
    until(lambda: cloud.console_file(server.id).read_text() == "up\nup\n")
    member.compute.reboot_server(server, "HARD")
    until(lambda: cloud.console_file(server.id).read_text() == "up\nup\nup\n")


def test_hardware_follows_flavor_port_and_volume(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root, data = make_volume(bootable=True), make_volume()
    network = next(member.network.networks(name="internal-net"))
    port = member.network.create_port(network_id=network.id, mac_address="00:50:56:9a:11:02")

    line = command_line(cloud, make_server(root, data, flavor="m1.small", networks=[{"port": port.id}]))

    assert "-machine q35" in line
    assert "-smp 1 -m 1024" in line
    assert "virtio-net-pci,netdev=net0,mac=00:50:56:9a:11:02" in line
    assert f"dhcpstart={port.fixed_ips[0]['ip_address']}" in line
    for index, volume in enumerate((root, data)):
        assert f'"driver": "virtio-blk-pci", "id": "d-{volume.id[:20]}-dev"' in line
        assert f'"serial": "{volume.id[:20]}", "bootindex": {index + 1}' in line


def test_a_scsi_guest_gets_its_disks_on_virtio_scsi_and_gives_one_back_at_once(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root = make_volume(bootable=True, image_metadata={"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"})
    write(cloud, root.id, boot_sector(b"scsi\n", STAY))
    server, extra = make_server(root), make_volume()
    until(lambda: cloud.console_file(server.id).read_text() == "scsi\n")

    attachment = member.compute.create_volume_attachment(server, volume=extra)
    assert attachment.volume_id == extra.id
    assert [each.volume_id for each in member.compute.volume_attachments(server)] == [root.id, extra.id]
    member.compute.delete_volume_attachment(server, extra, ignore_missing=False)

    wait_for(member, extra, "available")
    assert [each.volume_id for each in member.compute.volume_attachments(server)] == [root.id]


def test_a_volume_comes_and_goes_while_the_server_is_off(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    cloud.cloud.shutdown_seconds = 0.2
    server, extra = make_server(make_volume(bootable=True)), make_volume()
    member.compute.stop_server(server)
    wait(member, server, "SHUTOFF")

    member.compute.create_volume_attachment(server, volume=extra)
    assert member.block_storage.get_volume(extra).status == "in-use"
    member.compute.delete_volume_attachment(server, extra, ignore_missing=False)

    wait_for(member, extra, "available")


def test_deleting_ends_qemu_and_deletes_only_the_volumes_that_were_to_go(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root, scratch = make_volume(bootable=True), make_volume()
    mapping: list[dict[str, object]] = [
        {"uuid": root.id, "source_type": "volume", "destination_type": "volume", "boot_index": 0},
        {"uuid": scratch.id, "source_type": "volume", "destination_type": "volume", "delete_on_termination": True},
    ]
    server = make_server(block_device_mapping=mapping)
    pid = process_id(cloud, server)

    member.compute.delete_server(server)
    member.compute.wait_for_delete(server, interval=0.05, wait=10)

    assert not lives(pid)
    assert member.block_storage.get_volume(root).status == "available"
    member.block_storage.wait_for_delete(scratch, interval=0.02, wait=5)


def test_a_server_deleted_while_it_is_built_leaves_nothing(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    cloud.faults.server_seconds = 0.3
    root = make_volume(bootable=True)
    server = make_server(root, wait=False)

    member.compute.delete_server(server)
    member.compute.wait_for_delete(server, interval=0.05, wait=10)

    assert member.block_storage.get_volume(root).status == "available"
    assert not (cloud.directory / "servers" / server.id).exists()


def test_a_server_that_qemu_refuses_goes_to_error_with_its_words(
    member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root = make_volume(bootable=True, image_metadata={"hw_machine_type": "vax"})

    with pytest.raises(exceptions.ResourceFailure):
        make_server(root)

    listed = next(member.compute.servers())
    assert listed.fault is None
    server = member.compute.get_server(listed.id)
    assert "unsupported machine type" in server.fault["message"]
    member.compute.delete_server(server)
    member.compute.wait_for_delete(server, interval=0.05, wait=10)
    assert member.block_storage.get_volume(root).status == "available"


def test_without_room_there_is_no_valid_host(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    cloud.cloud.host_memory_mib = 4096
    server = make_server(make_volume(bootable=True), flavor="m1.xlarge", wait=False)

    server = wait(member, server, "ERROR")

    assert server.fault["message"] == "No valid host was found. "


def test_an_ordered_fault_hits_one_server_only(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    cloud.faults.next_server_fault = "Build of instance aborted"
    broken = wait(member, make_server(make_volume(bootable=True), wait=False), "ERROR")

    assert broken.fault["message"] == "Build of instance aborted"
    assert make_server(make_volume(bootable=True)).status == "ACTIVE"


def test_two_writers_are_noticed_because_qemu_locks_the_volume(
    cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    root = make_volume(bootable=True)
    lock = subprocess.Popen(
        ["qemu-io", "-f", "raw", str(cloud.volume_file(root.id))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with lock:
        assert lock.stdout is not None
        assert lock.stdout.read(7) == b"qemu-io"
        server = wait(member, make_server(root, wait=False), "ERROR")
        lock.terminate()

    assert "lock" in server.fault["message"]


def test_stopping_the_cloud_ends_every_qemu(
    cloud: CloudServer, make_volume: VolumeMaker, make_server: ServerMaker
) -> None:
    pid = process_id(cloud, make_server(make_volume(bootable=True)))

    cloud.stop()

    assert not lives(pid)


OUTSIDE = """
import json, sys, time
from pathlib import Path
from lab.cloud.server import CloudServer
cloud = CloudServer(Path(sys.argv[1]))
cloud.start()
cloud.write_clouds_yaml(Path(sys.argv[1]) / "clouds.yaml")
print("started", flush=True)
for _ in range(400):
    time.sleep(0.05)
    if any(each.status == "ACTIVE" for each in list(cloud.cloud.servers.values())):
        print(json.dumps([each.machine.pid for each in cloud.cloud.servers.values()]), flush=True)
        time.sleep(20)
"""


@pytest.fixture
def cloud_outside(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-c", OUTSIDE, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.kill()


def test_a_killed_cloud_takes_its_qemus_with_it(cloud_outside: subprocess.Popen[str], tmp_path: Path) -> None:
    assert cloud_outside.stdout is not None
    assert cloud_outside.stdout.readline() == "started\n"
    with connect(tmp_path / "clouds.yaml") as connection:
        member = member_of(connection)
        volume_id = member.block_storage.create_volume(size=1).id
        volume = member.block_storage.get_volume(volume_id)
        wait_for(member, volume, "available")
        member.block_storage.set_volume_bootable_status(volume, True)  # noqa: FBT003 - the SDK's signature
        flavor = next(member.compute.flavors())
        member.compute.create_server(
            name="x", flavor_id=flavor.id, networks="none", block_device_mapping=boot_from(volume)
        )
        pids: list[int] = json.loads(cloud_outside.stdout.readline())
    assert pids
    assert all(lives(pid) for pid in pids)

    cloud_outside.kill()

    until(lambda: not any(lives(pid) for pid in pids), seconds=5)
