"""What stands between Nova's API and QEMU: building, stopping, starting, attaching and deleting servers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

from lab.cloud import volumes
from lab.cloud.machine import Card, Drive, Hardware, Machine, MachineError
from lab.cloud.state import BlockDevice, Cloud, Port, Server, now

CONNECTOR = {"host": "compute-1", "ip": "127.0.0.1", "platform": "x86_64", "os_type": "linux", "multipath": False}
SERIAL_LENGTH = 20
NOWHERE = ("192.0.2.0/24", "192.0.2.1")
"""The network of a card without an IPv4 address; the guest's IPv6 leads nowhere."""
NO_HOST = "No valid host was found. "


def run(cloud: Cloud, work: Coroutine[None, None, None]) -> None:
    """Do something beside the API call that asked for it."""
    task = asyncio.get_running_loop().create_task(work)
    cloud.tasks.add(task)
    task.add_done_callback(cloud.tasks.discard)


def image_metadata(server: Server) -> dict[str, str]:
    """What the root volume says about the hardware that its guest wants."""
    return server.devices[0].attachment.volume.image_metadata


def _drive(server: Server, device: BlockDevice) -> Drive:
    volume = device.attachment.volume
    bus = device.bus or image_metadata(server).get("hw_disk_bus", "virtio")
    return Drive(volume.file, volume.id[:SERIAL_LENGTH], bus)


def _card(cloud: Cloud, port: Port, model: str) -> Card:
    for subnet_id, address in port.fixed_ips:
        subnet = cloud.subnets[subnet_id]
        if subnet.range.version == 4:  # noqa: PLR2004 - QEMU's own network has DHCP for IPv4
            # QEMU's own network cannot be without a host; `restrict` lets nothing through it.
            host = subnet.gateway or str(subnet.range[1])
            return Card(port.mac, model, subnet.cidr, host, address)
    return Card(port.mac, model, *NOWHERE, None)


def hardware(cloud: Cloud, server: Server) -> Hardware:
    """The machine that flavor, volumes, ports and image metadata make together."""
    wishes = image_metadata(server)
    return Hardware(
        machine=wishes.get("hw_machine_type", "q35"),
        firmware=wishes.get("hw_firmware_type", "bios"),
        cpus=server.flavor.vcpus,
        memory=server.flavor.ram,
        drives=tuple(_drive(server, device) for device in server.devices),
        cards=tuple(_card(cloud, port, wishes.get("hw_vif_model", "virtio")) for port in server.ports),
        random_generator="hw_rng_model" in wishes,
    )


def _set(server: Server, status: str, task: str | None = None) -> None:
    server.status, server.task, server.updated = status, task, now()


def _fail(server: Server, text: str) -> None:
    server.fault = {"code": 500, "created": f"{now():%Y-%m-%dT%H:%M:%SZ}", "message": text}
    _set(server, "ERROR")


async def build(cloud: Cloud, server: Server) -> None:
    """From BUILD to ACTIVE, or to ERROR with a fault."""
    async with server.turn:
        await asyncio.sleep(cloud.faults.server_seconds)
        if server.task != "deleting":
            await _build(cloud, server)


async def _build(cloud: Cloud, server: Server) -> None:
    running = sum(each.flavor.ram for each in cloud.servers.values() if each.machine is not None)
    text = cloud.faults.take_server_fault()
    if not text and running + server.flavor.ram > cloud.host_memory_mib:
        text = NO_HOST
    server.placed = not text.startswith(NO_HOST.strip())
    if text:
        _fail(server, text)
        return
    for port in server.ports:
        port.device_id, port.device_owner = server.id, "compute:nova"
    server.task = "block_device_mapping"
    for index, device in enumerate(server.devices):
        device.attachment.device = f"/dev/vd{chr(ord('a') + index)}"
        volumes.connect(device.attachment, CONNECTOR)
    server.task = "spawning"
    try:
        await _boot(cloud, server)
    except MachineError as error:
        _fail(server, str(error))
        return
    for device in server.devices:
        volumes.complete(device.attachment)
    server.launched = now()


async def _boot(cloud: Cloud, server: Server) -> None:
    def ended(machine: Machine) -> None:
        if server.machine is machine:
            server.machine = None
            _ports_are(server, "DOWN")
            if server.task not in {"deleting", "powering-on"}:
                _set(server, "SHUTOFF")

    server.machine = await Machine.start(
        hardware(cloud, server), server.directory / server.id, cloud.accelerator, ended
    )
    _ports_are(server, "ACTIVE")
    _set(server, "ACTIVE")


def _ports_are(server: Server, status: str) -> None:
    for port in server.ports:
        port.status = status


async def stop(cloud: Cloud, server: Server) -> None:
    """Shut the guest down, hard when it does not answer in time."""
    async with server.turn:
        if server.machine is not None:
            await server.machine.power_down(cloud.shutdown_seconds)
        _set(server, "SHUTOFF")


async def start(cloud: Cloud, server: Server) -> None:
    """Boot a server that was off."""
    async with server.turn:
        try:
            await _boot(cloud, server)
        except MachineError as error:
            _fail(server, str(error))


async def reboot(server: Server) -> None:
    """Reset it."""
    async with server.turn:
        if server.machine is not None:
            await server.machine.reset()
        _set(server, server.status)


async def delete(cloud: Cloud, server: Server) -> None:
    """Pull the plug, give volumes and ports back, forget the server; its console's file stays."""
    async with server.turn:
        if server.id not in cloud.servers:
            return
        if server.machine is not None:
            await server.machine.kill()
        for device in server.devices:
            volumes.release(cloud, device.attachment)
            if device.delete_on_termination:
                volumes.delete(cloud, device.attachment.volume)
        for port in server.ports:
            if port.made_by_nova:
                cloud.ports.pop(port.id, None)
            port.device_id, port.device_owner, port.status = "", "", "DOWN"
        del cloud.servers[server.id]


async def attach(server: Server, device: BlockDevice) -> None:
    """Plug a volume into a server; one that QEMU refuses is given back by the caller. Raises MachineError."""
    device.attachment.device = f"/dev/vd{chr(ord('a') + len(server.devices))}"
    volumes.connect(device.attachment, CONNECTOR)
    if server.machine is not None:
        root_ports = "q35" in image_metadata(server).get("hw_machine_type", "q35")
        await server.machine.plug(_drive(server, device), root_ports=root_ports)
    server.devices.append(device)
    volumes.complete(device.attachment)


async def detach(cloud: Cloud, server: Server, device: BlockDevice) -> None:
    """Unplug a volume; where the guest does not let go of it, it stays in use, as with the real Nova."""
    volumes.set_status(device.attachment.volume, "detaching")
    try:
        if server.machine is not None:
            await server.machine.unplug(_drive(server, device))
    except MachineError:
        volumes.set_status(device.attachment.volume, "in-use")
        return
    server.devices.remove(device)
    volumes.release(cloud, device.attachment)


async def attach_here(cloud: Cloud, server: Server, device: BlockDevice) -> None:
    """Attach a volume to the server that is this machine: a link to its file appears, in a while, as udev makes one."""
    volume, faults = device.attachment.volume, cloud.faults
    server.devices.append(device)
    await asyncio.sleep(faults.attach_seconds / 2)
    if faults.stick_in == "reserved":
        return
    volumes.connect(device.attachment, CONNECTOR)
    await asyncio.sleep(faults.attach_seconds / 2)
    if faults.stick_in == "attaching":
        return
    if faults.attach_fails:
        faults.attach_fails = False
        server.devices.remove(device)
        volumes.release(cloud, device.attachment)
        return
    volumes.complete(device.attachment)
    # Last, as in life: the guest sees a disk some time after Cinder says in-use.
    await asyncio.sleep(faults.attach_seconds / 2)
    _link(server, device).symlink_to(volume.file)


async def detach_here(cloud: Cloud, server: Server, device: BlockDevice) -> None:
    """Detach a volume from the server that is this machine."""
    volumes.set_status(device.attachment.volume, "detaching")
    await asyncio.sleep(cloud.faults.attach_seconds)
    if cloud.faults.stick_in == "detaching":
        return
    _link(server, device).unlink(missing_ok=True)
    server.devices.remove(device)
    volumes.release(cloud, device.attachment)


def _link(server: Server, device: BlockDevice) -> Path:
    if server.links is None:
        raise ValueError(f"server {server.id} is not this machine")
    return server.links / f"virtio-{device.attachment.volume.id[:SERIAL_LENGTH]}"


def console_tail(console: Path, lines: int | None) -> str:
    """The last lines of a console, within Nova's limit of 100 KiB."""
    if not console.exists():
        return ""
    text = console.read_bytes()[-102_400:].decode(errors="replace")
    if lines is None or lines < 0:
        return text
    return "\n".join(text.split("\n")[-lines:]) if lines else ""
