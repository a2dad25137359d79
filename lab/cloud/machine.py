"""One QEMU process: what a server of the stand-in Nova runs on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOT_PLUG_SLOTS = 8
UNPLUG_SECONDS = 20.0
OVMF_DIRECTORY = Path("/usr/share/OVMF")


class MachineError(Exception):
    """QEMU did not start, ended, or refused a command; the text is QEMU's."""


@dataclass(frozen=True)
class Drive:
    """A disk. `bus` is Nova's name of it: virtio, scsi, sata, ide or usb; `serial` what the guest sees."""

    file: Path
    serial: str
    bus: str

    @property
    def node(self) -> str:
        """QEMU's name of the disk; at most 31 characters, and not beginning with a digit."""
        return f"d-{self.serial}"


@dataclass(frozen=True)
class Card:
    """A network adapter on a network of its own: DHCP gives the guest the port's address, and nothing leads outside."""

    mac: str
    model: str
    cidr: str
    gateway: str
    address: str | None


@dataclass(frozen=True)
class Hardware:
    """What the machine is made of. `machine` is QEMU's machine type; memory in MiB."""

    machine: str
    firmware: str
    cpus: int
    memory: int
    drives: tuple[Drive, ...]
    cards: tuple[Card, ...]
    random_generator: bool = False

    @property
    def has_root_ports(self) -> bool:
        """Whether its slots are PCI Express, where only a root port takes a device while the machine runs."""
        return "q35" in self.machine


CARD_MODELS = {
    "virtio": "virtio-net-pci",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "vmxnet3": "vmxnet3",
    "pcnet": "pcnet",
    "ne2k_pci": "ne2k_pci",
    "igb": "e1000e",
}
DISK_DEVICES = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "sata": "ide-hd", "ide": "ide-hd", "usb": "usb-storage"}


def _drive_device(drive: Drive, **more: object) -> dict[str, Any]:
    device: dict[str, Any] = {"driver": DISK_DEVICES[drive.bus], "id": f"{drive.node}-dev", "drive": drive.node}
    if drive.bus == "scsi":
        device["bus"] = "scsi0.0"
    return device | {"serial": drive.serial} | more


def _drive_node(drive: Drive) -> dict[str, Any]:
    return {
        "driver": "raw",
        "node-name": drive.node,
        "discard": "unmap",
        "file": {"driver": "file", "filename": str(drive.file), "discard": "unmap"},
    }


def arguments(hardware: Hardware, directory: Path, accelerator: str, monitor: int) -> list[str]:
    """QEMU's command line. `monitor` is the open file descriptor that it speaks QMP on.

    Under TCG the flags are those that were measured to boot a Debian guest fastest on two cores.
    """
    tcg = accelerator == "tcg"
    line = ["-machine", hardware.machine, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"]
    line += ["-accel", "tcg,thread=multi,tb-size=256" if tcg else accelerator, "-cpu", "Nehalem" if tcg else "host"]
    line += ["-smp", str(hardware.cpus), "-m", str(hardware.memory)]
    line += ["-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "chardev=qmp,mode=control"]
    line += ["-chardev", f"file,id=console,path={directory / 'console.log'},append=on", "-serial", "chardev:console"]
    if hardware.firmware == "uefi":
        code, variables = OVMF_DIRECTORY / "OVMF_CODE_4M.fd", directory / "variables.fd"
        line += [
            "-drive",
            f"if=pflash,format=raw,readonly=on,file={code}",
            "-drive",
            f"if=pflash,format=raw,file={variables}",
        ]
    if hardware.has_root_ports:
        for slot in range(HOT_PLUG_SLOTS):
            line += ["-device", f"pcie-root-port,id=slot{slot},chassis={slot + 1}"]
    buses = {drive.bus for drive in hardware.drives}
    if "scsi" in buses:
        line += ["-device", "virtio-scsi-pci,id=scsi0"]
    if "usb" in buses:
        line += ["-device", "qemu-xhci,id=usb0"]
    for index, drive in enumerate(hardware.drives):
        line += ["-blockdev", json.dumps(_drive_node(drive))]
        line += ["-device", json.dumps(_drive_device(drive, bootindex=index + 1))]
    for index, card in enumerate(hardware.cards):
        lease = f",dhcpstart={card.address}" if card.address else ""
        line += ["-netdev", f"user,id=net{index},restrict=on,net={card.cidr},host={card.gateway}{lease}"]
        line += ["-device", f"{CARD_MODELS[card.model]},netdev=net{index},mac={card.mac},romfile="]
    if hardware.random_generator:
        line += ["-device", "virtio-rng-pci"]
    return line


class Machine:
    """A running QEMU. All of it happens on one event loop, whose thread lives as long as the stand-in.

    That thread is the one that forks QEMU, so `setpriv --pdeathsig KILL`, which the kernel ties to the forking
    thread, ends QEMU exactly when the stand-in's process dies, however it dies.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._deleted: dict[str, asyncio.Event] = {}
        self._turn = asyncio.Lock()
        self._root_ports: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls, hardware: Hardware, directory: Path, accelerator: str, ended: Callable[[Machine], None]
    ) -> Machine:
        """Start QEMU and wait until it answers; `ended` is called when it is gone, whatever ended it.

        Raises:
            MachineError: QEMU ended at once; the text is what it wrote.
        """
        _prepare(directory, hardware)
        ours, its = socket.socketpair()
        log = directory / "qemu.log"
        with its, log.open("ab") as output:
            line = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
            line += arguments(hardware, directory, accelerator, its.fileno())
            process = await asyncio.create_subprocess_exec(
                *line, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(its.fileno(),)
            )
        machine = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            await machine._greet()
        except MachineError:
            await machine.kill()
            raise MachineError(_tail(log)) from None
        machine._spawn(machine._wait(ended))
        return machine

    @property
    def pid(self) -> int:
        """Of the QEMU process."""
        return self._process.pid

    async def _greet(self) -> None:
        if not await self._next_line():
            raise MachineError("QEMU ended")
        self._spawn(self._listen())
        await self._command("qmp_capabilities")

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine of whatever kind
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, ended: Callable[[Machine], None]) -> None:
        await self._process.wait()
        self._writer.close()
        ended(self)

    async def _listen(self) -> None:
        while line := await self._next_line():
            message = json.loads(line)
            if "event" not in message:
                self._answers.put_nowait(message)
            elif message["event"] == "DEVICE_DELETED" and (
                gone := self._deleted.get(message["data"].get("device", ""))
            ):
                gone.set()
        self._answers.put_nowait({"error": {"desc": "QEMU ended"}})

    async def _next_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def _command(self, name: str, **what: object) -> None:
        async with self._turn:
            try:
                self._writer.write(json.dumps({"execute": name, "arguments": what}).encode() + b"\n")
                await self._writer.drain()
            except ConnectionError as error:
                raise MachineError("QEMU ended") from error
            answer = await self._answers.get()
        if "error" in answer:
            raise MachineError(answer["error"]["desc"])

    async def power_down(self, seconds: float) -> None:
        """Ask the guest to shut down; after `seconds` without an end, pull the plug."""
        try:
            await self._command("system_powerdown")
            await asyncio.wait_for(self._process.wait(), seconds)
        except (TimeoutError, MachineError):
            await self.kill()

    async def reset(self) -> None:
        """Press the reset button. Raises MachineError when QEMU is gone."""
        await self._command("system_reset")

    async def kill(self) -> None:
        """End QEMU at once and wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._writer.close()

    async def plug(self, drive: Drive, *, root_ports: bool) -> None:
        """Add a disk to the running machine.

        Raises:
            MachineError: no slot is free, or QEMU refused.
        """
        bus: dict[str, object] = {}
        if root_ports and drive.bus == "virtio":
            free = [f"slot{slot}" for slot in range(HOT_PLUG_SLOTS) if f"slot{slot}" not in self._root_ports.values()]
            if not free:
                raise MachineError("No more available PCI slots")
            bus["bus"] = self._root_ports[drive.node] = free[0]
        await self._command("blockdev-add", **_drive_node(drive))
        try:
            await self._command("device_add", **_drive_device(drive, **bus))
        except MachineError:
            self._root_ports.pop(drive.node, None)
            await self._command("blockdev-del", **{"node-name": drive.node})
            raise

    async def unplug(self, drive: Drive) -> None:
        """Take a disk away from the running machine; on PCI the guest has to let go of it.

        Raises:
            MachineError: the guest did not let go in time, or QEMU refused.
        """
        device = f"{drive.node}-dev"
        gone = self._deleted.setdefault(device, asyncio.Event())
        try:
            await self._command("device_del", id=device)
            await asyncio.wait_for(gone.wait(), UNPLUG_SECONDS)
            await self._command("blockdev-del", **{"node-name": drive.node})
        except TimeoutError:
            raise MachineError("the guest did not release the disk") from None
        finally:
            del self._deleted[device]
        self._root_ports.pop(drive.node, None)


def _prepare(directory: Path, hardware: Hardware) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if hardware.firmware != "uefi":
        return
    source, variables = OVMF_DIRECTORY / "OVMF_VARS_4M.fd", directory / "variables.fd"
    if not source.is_file():
        raise MachineError("UEFI is not supported")
    if not variables.exists():
        variables.write_bytes(source.read_bytes())


def _tail(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split("\n")[-4:]).strip() or "QEMU ended without a word"
