"""The QEMU process behind a machine: its command line, its start, its end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from lab.esxi.interface import MachineSpec

LONGEST_SOCKET_PATH: Final = 90
"""The kernel takes 107 bytes; the rest is for the sockets' own names."""

ENDING_SECONDS: Final = 5.0

ACCELERATORS: Final = {
    # A CPU model that the distribution's kernels boot on without hardware support; one thread a virtual CPU.
    "tcg": ("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Nehalem"),
    "kvm": ("-accel", "kvm", "-cpu", "host"),
}


class QemuEndedError(Exception):
    """QEMU ended by itself; the text is what it said."""


class QemuProcess:
    """One QEMU, which never outlives this process.

    Args:
        spec: the machine.
        directory: for its console and log.
        accelerator: a key of ACCELERATORS.
        spawner: runs in a thread that lives as long as the host: the kernel ends QEMU together with the THREAD that
            started it (PR_SET_PDEATHSIG), which is what also ends it when this process is killed.

    Attributes:
        control: our end of the connection to its monitor. QEMU is born with the other end: where it listens instead,
            its main thread and its monitor's thread may both wake for the first client, and the one that comes second
            blocks in accept(2) for ever (QEMU 7.2, about one start in 1,500 on a busy machine).
        nbd_socket: where it is to serve disks.
    """

    def __init__(self, spec: MachineSpec, directory: Path, *, accelerator: str, spawner: Executor) -> None:
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        place = directory
        if len(str(directory)) > LONGEST_SOCKET_PATH:
            self._sockets = tempfile.TemporaryDirectory(prefix="xms-esxi-", dir="/tmp")  # made private, and short
            place = Path(self._sockets.name)
        self.nbd_socket = place / "nbd.sock"
        self.nbd_socket.unlink(missing_ok=True)
        self._log = directory / "qemu.log"
        self.control, monitor = socket.socketpair()
        with monitor, contextlib.ExitStack() as undo:
            undo.callback(self.control.close)
            command = self._command(spec, directory / "console.log", accelerator, monitor.fileno())
            self._process = spawner.submit(self._spawn, command, monitor.fileno()).result()
            undo.pop_all()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def complaint(self) -> QemuEndedError:
        """What it said when it ended by itself, which it did or is about to do: it has closed its connections."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_SECONDS)
        return QemuEndedError(f"QEMU ended with code {self._process.poll()}: {self._log.read_text()[-2000:].strip()}")

    def end(self) -> None:
        """Kill it and remove its socket. What a guest had flushed is in the disks' files already."""
        self._process.kill()
        self._process.wait()
        self.nbd_socket.unlink(missing_ok=True)
        if self._sockets is not None:
            self._sockets.cleanup()

    def _spawn(self, command: list[str], monitor: int) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[monitor],
            )

    def _command(self, spec: MachineSpec, console: Path, accelerator: str, monitor: int) -> list[str]:
        command = ["qemu-system-x86_64", "-name", spec.name, "-nodefaults", "-display", "none", "-S"]
        command += ["-chardev", f"socket,id=control,fd={monitor}", "-mon", "chardev=control,mode=control"]
        command += ["-no-shutdown", "-no-user-config"]
        for disk in spec.disks:
            file = f"file.driver=file,file.filename={_escaped(disk.file)}"
            command += ["-blockdev", f"driver=raw,node-name={live_node(disk.key)},discard=unmap,{file}"]
        if not spec.guest:
            return [*command, "-machine", "none"]
        command += ["-machine", "q35", *ACCELERATORS[accelerator]]
        command += ["-smp", str(spec.cpus), "-m", f"{spec.memory >> 20}M", "-device", "pvscsi,id=scsi0"]
        command += ["-chardev", f"file,id=console,path={_escaped(console)},append=on", "-serial", "chardev:console"]
        for number, disk in enumerate(spec.disks):
            # ESXi's controller leaves number 7 to itself.
            target = number if number < 7 else number + 1  # noqa: PLR2004
            place = f"bus=scsi0.0,scsi-id={target},bootindex={number}"
            command += ["-device", f"scsi-hd,drive={live_node(disk.key)},{place}"]
        for number, nic in enumerate(spec.nics):
            # A guest of the lab gets an address, and reaches nothing outside.
            command += ["-netdev", f"user,id=nic{number},restrict=on"]
            command += ["-device", f"vmxnet3,netdev=nic{number},mac={nic.mac},romfile="]
        return command


def live_node(key: int) -> str:
    """QEMU's name for a disk's live data."""
    return f"disk-{key}"


def _escaped(path: Path) -> str:
    """QEMU's options are separated by commas."""
    return str(path).replace(",", ",,")
