"""One disk of a snapshot as an NBD export: nbdkit with VMware's VDDK plugin, on a private Unix socket.

The password goes by file, the server's certificate is pinned, and the process ends with the worker. VDDK logs in only
when a client connects, and tells the client nothing of use when that fails; the reason is in nbdkit's log. So an export
is tried once before it is handed out, and the log is read.

VDDK verifies the server by its thumbprint alone. nbdkit's manual describes SHA-1; vSphere as a whole is moving to
SHA-256. `transport.thumbprint_hash` says which one is passed. Either is computed of the certificate that the worker
itself has just verified.

Three of nbdkit's filters stand before the plugin. `blocksize` gives VDDK whole sectors, and reads of 2 MiB at most:
more exhaust the memory of the host's NFC service (nbdkit-vddk-plugin(1)). `multi-conn` keeps a client to one
connection: each has a VDDK handle of its own, and several are slower than one with many reads under way.
`retry-request` repeats a read that failed while the others go on. The older `retry` opens the disk anew instead; but it
lets one request through at a time, whatever the plugin can do, and a copy is four times slower for it at 2 ms of
latency. A new connection, which opens the disk anew, too, is what the engine makes by itself when repeating does not
help.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import nbd
from pydantic import SecretStr

from xms.config import SourceConfig, TransportConfig
from xms.errors import ProgramMissing, TransportFailed
from xms.pulse import Pulse, no_pulse
from xms.transport.nbdkit_log import NbdkitLog, explain, no_retry_helps
from xms.transport.private_directory import private_directory
from xms.vsphere.trust import verified_certificate

START_SECONDS: Final = 25.0
CONNECT_SECONDS: Final = 120.0
"""VDDK's log-in by way of vCenter to an ESXi host that is busy."""

END_SECONDS: Final = 5.0
"""nbdkit waits for clients that are still connected, and VDDK needs a moment to log out. Nothing is lost by a kill: it
only reads; but VDDK may keep the snapshot's disks locked for a while then."""

NFC_PORT: Final = 902
"""Where VDDK looks for the hosts' disks by itself."""

POLL_SECONDS: Final = 0.05
RETRY_DELAY_SECONDS: Final = 1
"""All tries of a read together stay well below the engine's patience with a source that gives no answer."""

PASSED_ENVIRONMENT: Final = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR")
"""All that nbdkit and its plugins need: the worker's environment may hold keys that are not theirs to see."""


@dataclass(frozen=True)
class ExportedDisk:
    """Which disk an export is of.

    Attributes:
        vm: the VM's name, for messages.
        path: datastore path, as the snapshot's disk backing gives it.
    """

    vm_moref: str
    vm: str
    snapshot: str
    path: str


@contextlib.contextmanager
def open_export(
    *,
    source: SourceConfig,
    transport: TransportConfig,
    vm_moref: str,
    vm: str,
    snapshot: str,
    path: str,
    pulse: Pulse = no_pulse,
) -> Iterator[str]:
    """Serve a snapshot's disk read-only and yield its NBD URI; the server ends with the context.

    A TransportFailed that leaves the context's body is replaced by what nbdkit's log knows better, if it does.

    Args:
        source: where the disk is.
        transport: how nbdkit and VDDK are called.
        vm_moref: managed object reference of the VM.
        vm: the VM's name, for messages.
        snapshot: managed object reference of the snapshot.
        path: datastore path of the disk, as the snapshot has it.
        pulse: called while the export is opened.

    Raises:
        TransportFailed: nbdkit or VDDK could not open the disk, or the connection to it broke.
        SnapshotLost: the snapshot is gone.
        SourceRefusedLogin, SourceNotTrusted, SourceUnreachable: as for a session.
        ProgramMissing: nbdkit, its plugin or the VDDK library is not installed.
        ConfigurationError: the password file cannot be used.
        Interrupted: from `pulse`.
    """
    disk = ExportedDisk(vm_moref=vm_moref, vm=vm, snapshot=snapshot, path=path)
    password = source.password()
    thumbprint = _thumbprint(source, transport)
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(private_directory()) / "nbd.sock"
        command = _command(source, transport, disk, socket=socket, thumbprint=thumbprint)
        process, log = stack.enter_context(_running(command, secret=password))
        try:
            _wait_until_ready(process, ready_file(socket), pulse=pulse)
            _try_connection(process, socket, log, pulse=pulse)
            yield f"nbd+unix:///?socket={quote(str(socket))}"
        except TransportFailed as failure:
            raise explain(failure, log.text(), vm=vm, host=source.host) from failure


def _command(
    source: SourceConfig, transport: TransportConfig, disk: ExportedDisk, *, socket: Path, thumbprint: str
) -> list[str]:
    return [
        transport.nbdkit,
        "--readonly",
        "--foreground",
        "--exit-with-parent",
        "--unix",
        str(socket),
        "--pidfile",
        str(ready_file(socket)),
        *_filters(transport),
        *shlex.split(transport.plugin),
        f"libdir={transport.libdir}",
        f"server={source.host}",
        f"port={source.port}",
        *([] if source.nfc_port == NFC_PORT else [f"nfchostport={source.nfc_port}"]),
        f"user={source.username}",
        # nbdkit reads the first line, as we do. No copy is made that a crash could leave behind.
        f"password=+{source.password_file.absolute()}",
        f"thumbprint={thumbprint}",
        f"vm=moref={disk.vm_moref}",
        f"snapshot={disk.snapshot}",
        f"transports={transport.transports}",
        *([f"compression={transport.compression}"] if transport.compression else []),
        *([f"config={transport.vddk_config}"] if transport.vddk_config else []),
        f"file={disk.path}",
        *_filter_parameters(transport),
    ]


def _filters(transport: TransportConfig) -> list[str]:
    retry = [] if transport.retry_filter == "none" else [f"--filter={transport.retry_filter}"]
    return ["--filter=blocksize", "--filter=multi-conn", *retry]


def _filter_parameters(transport: TransportConfig) -> list[str]:
    """What nbdkit takes out of the plugin's parameters for its filters."""
    sizes = ["minblock=512", "maxdata=2M", "multi-conn-mode=disable"]
    match transport.retry_filter:
        case "retry-request":
            # A disk that does not open is the worker's to try again: vCenter locks accounts that fail too often.
            return [
                *sizes,
                f"retry-request-retries={transport.retries}",
                f"retry-request-delay={RETRY_DELAY_SECONDS}",
                "retry-request-open=false",
            ]
        case "retry":
            return [*sizes, f"retries={transport.retries}", f"retry-delay={RETRY_DELAY_SECONDS}"]
        case "none":
            return sizes


def _thumbprint(source: SourceConfig, transport: TransportConfig) -> str:
    certificate = verified_certificate(source.host, source)
    # SHA-1 names the certificate to an old VDDK; what is trusted was decided above, by SHA-256 or by a CA.
    return hashlib.new(transport.thumbprint_hash, certificate, usedforsecurity=False).digest().hex(":").upper()


@contextlib.contextmanager
def _running(command: list[str], *, secret: SecretStr) -> Iterator[tuple[subprocess.Popen[bytes], NbdkitLog]]:
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment()
        )
    except FileNotFoundError:
        raise ProgramMissing(
            f"{command[0]} is not installed on this worker",
            because="it serves the disks of snapshots",
            do="install nbdkit, or configure transport.nbdkit",
        ) from None
    log = NbdkitLog(process, secret=secret)
    log.start()
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}


def ready_file(socket: Path) -> Path:
    """What nbdkit writes once it listens (nbdkit(1), --pidfile); the socket's file is there a moment earlier."""
    return socket.with_suffix(".pid")


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, *, pulse: Pulse) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        pulse()
        _refuse_ended(process)
        if time.monotonic() > deadline:
            raise TransportFailed("nbdkit did not start", because=f"it did not listen within {START_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _try_connection(process: subprocess.Popen[bytes], socket: Path, log: NbdkitLog, *, pulse: Pulse) -> None:
    """Connect once and go away again: that makes VDDK log in and open the disk."""
    deadline = time.monotonic() + CONNECT_SECONDS
    connection = nbd.NBD()
    try:
        connection.aio_connect_unix(str(socket))
        while connection.aio_is_connecting():
            pulse()
            _refuse_ended(process)
            if no_retry_helps(log.so_far()):
                raise TransportFailed("the disk could not be opened", because="trying again would not help")
            if time.monotonic() > deadline:
                raise TransportFailed("the disk could not be opened", because=f"not within {CONNECT_SECONDS:.0f} s")
            connection.poll(500)
        connection.shutdown()
    except nbd.Error as error:
        raise TransportFailed("the disk could not be opened", because=str(error)) from error


def _refuse_ended(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise TransportFailed("nbdkit ended before it served the disk", because=f"exit code {process.returncode}")
