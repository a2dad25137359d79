"""The disk library's stand-in, run by nbdkit, against a door of the test and a real export of QEMU."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbd
import pytest

from lab import vddk_library
from lab.esxi.machine import LabMachine
from lab.vcenter.certificate import make
from tests.lab_esxi.conftest import MEBIBYTE, ROOT, SIZE

PLUGIN = Path(__file__).parents[2] / "lab" / "vddk_plugin.py"
PASSWORD = "secret of the test"
DISK = "[ds1] db-prod-01/root.vmdk"


@dataclass
class Door:
    """Stands for the lab's vCenter: what it was asked, and what it answers."""

    port: int
    thumbprint: str
    asked: list[dict[str, str]] = field(default_factory=list)
    lease: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    thumbprint = make(tmp_path / "door.pem", ["127.0.0.1"])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.asked.append(wanted)
            status, answer = 200, stand_in.lease
            if wanted["password"] != PASSWORD:
                status, answer = 401, {"error": "the user name or the password is wrong"}
            elif wanted["snapshot"] != "snapshot-101-1":
                status, answer = 404, {"error": f"no snapshot {wanted['snapshot']}"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "door.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hangs up is a test's subject
        server.socket = context.wrap_socket(server.socket, server_side=True)
        stand_in = Door(server.server_address[1], thumbprint)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield stand_in
        server.shutdown()
        thread.join()


@dataclass
class Served:
    """A running nbdkit."""

    socket: Path
    log: Path

    def connect(self) -> nbd.NBD:
        handle = nbd.NBD()
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        handle.connect_unix(str(self.socket))
        return handle

    def refusal(self) -> str:
        with pytest.raises(nbd.Error):
            self.connect()
        return self.log.read_text()


Serve = Callable[..., contextlib.AbstractContextManager[Served]]


def parameters(door: Door, tmp_path: Path, changes: dict[str, str | None]) -> list[str]:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    given: dict[str, str | None] = {
        "libdir": str(vddk_library.make(tmp_path / "vddk")),
        "server": "127.0.0.1",
        "port": str(door.port),
        "user": "xms",
        "password": f"+{password}",
        "thumbprint": door.thumbprint,
        "vm": "moref=vm-101",
        "snapshot": "snapshot-101-1",
        "transports": "file:nbdssl:nbd",
        "file": DISK,
    }
    return [f"{key}={value}" for key, value in (given | changes).items() if value is not None]


@pytest.fixture
def serve(door: Door, machine: LabMachine, tmp_path: Path) -> Serve:
    machine.write(ROOT, MEBIBYTE, b"data of the root disk")
    export = machine.export(ROOT, machine.create_snapshot())
    door.lease = {"socket": str(export.socket), "export": export.name}

    @contextlib.contextmanager
    def serve(**changes: str | None) -> Iterator[Served]:
        directory = Path(tempfile.mkdtemp(prefix="xms-test-", dir="/tmp"))
        served = Served(directory / "nbd.sock", tmp_path / "nbdkit.log")
        ready = directory / "pid"  # nbdkit writes it once it listens, which the socket's presence does not tell
        command = [
            "nbdkit",
            "--pidfile",
            str(ready),
            "--readonly",
            "--foreground",
            "--exit-with-parent",
            "--unix",
            str(served.socket),
        ]
        command += ["python", str(PLUGIN), *parameters(door, tmp_path, changes)]
        with served.log.open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                end = time.monotonic() + 20
                while not ready.exists() and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
                yield served
            finally:
                # Not SIGTERM: nbdkit would wait for the clients of a test that failed.
                process.kill()
                process.wait()
                shutil.rmtree(directory)

    return serve


def test_a_disk_of_a_snapshot_is_served(serve: Serve, door: Door, machine: LabMachine) -> None:
    with serve() as served:
        machine.write(ROOT, MEBIBYTE, b"later")
        handle = served.connect()
        assert handle.get_size() == SIZE
        assert handle.is_read_only()
        assert not handle.can_multi_conn()
        assert bytes(handle.pread(512, MEBIBYTE)[:21]) == b"data of the root disk"
        handle.shutdown()
    assert door.asked[0] == {
        "user": "xms",
        "password": PASSWORD,
        "vm": "vm-101",
        "snapshot": "snapshot-101-1",
        "file": DISK,
    }


def test_sectors_only_are_read(serve: Serve) -> None:
    with serve() as served:
        handle = served.connect()
        handle.set_strict_mode(0)  # libnbd would refuse it by itself
        assert handle.get_block_size(nbd.SIZE_MINIMUM) == 512
        with pytest.raises(nbd.Error):
            handle.pread(100, 0)
        with pytest.raises(nbd.Error):
            handle.pread(512, 100)
        handle.shutdown()
        assert "read is not aligned to sectors" in served.log.read_text()


def test_what_is_not_allocated_is_told(serve: Serve) -> None:
    found: list[tuple[int, int, int]] = []

    def take(_context: str, start: int, entries: list[int], _error: object) -> int:
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            found.append((start, length, flags))
            start += length
        return 0

    with serve() as served:
        handle = served.connect()
        at = 0
        while at < SIZE:
            handle.block_status(SIZE - at, at, take)
            at = found[-1][0] + found[-1][1]
        handle.shutdown()
    assert [(start, flags & nbd.STATE_ZERO) for start, _, flags in found if start <= MEBIBYTE] == [
        (0, nbd.STATE_ZERO),
        (MEBIBYTE, 0),
    ]


def test_the_thumbprint_may_be_of_either_hash(serve: Serve, door: Door) -> None:
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", door.port)))
    with serve(thumbprint=hashlib.sha1(certificate).digest().hex(":")) as served:  # noqa: S324 - what old VDDK takes
        served.connect().shutdown()


def test_a_wrong_thumbprint_is_refused_before_the_password_is_sent(serve: Serve, door: Door) -> None:
    with serve(thumbprint=":".join(["AA"] * 32)) as served:
        log = served.refusal()
    assert "VixDiskLib_ConnectEx: Cannot connect to host: the thumbprint" in log
    assert door.asked == []


def test_a_wrong_password_shows_in_the_log_when_a_client_connects(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("of yesterday\n")
    with serve(password=f"+{tmp_path / 'wrong'}") as served:
        log = served.refusal()
    assert "VixDiskLib_ConnectEx: Cannot connect to host: Cannot complete login" in log
    assert "of yesterday" not in log


def test_an_unknown_snapshot_shows_in_the_log(serve: Serve) -> None:
    with serve(snapshot="snapshot-101-9") as served:
        assert "VixDiskLib_Open: no snapshot snapshot-101-9" in served.refusal()


def test_a_host_that_is_not_there_shows_in_the_log(serve: Serve) -> None:
    with serve(port="1") as served:
        assert "VixDiskLib_ConnectEx: Cannot connect to host: [Errno 111] Connection refused" in served.refusal()


def test_a_snapshot_that_goes_away_breaks_the_reads(serve: Serve, machine: LabMachine) -> None:
    with serve() as served:
        handle = served.connect()
        machine.remove_snapshot(1)
        with pytest.raises(nbd.Error):
            handle.pread(512, 0)
        handle.shutdown()
        assert "VixDiskLib_Read: " in served.log.read_text()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"password": "in clear"}, "only password=+FILE"),
        ({"thumbprint": "AA:BB"}, "thumbprint: 'AA:BB'"),
        ({"vm": "db-prod-01"}, "vm: 'db-prod-01'"),
        ({"transports": "carrier-pigeon"}, "transports: 'carrier-pigeon'"),
        ({"file": "root.vmdk"}, "file: 'root.vmdk'"),
        ({"server": None}, "remote connection requested, missing parameter: server"),
        ({"vm": None}, "missing parameter: vm"),
        ({"thumbprint": None}, "missing parameter: thumbprint"),
        ({"snapshot": None}, "missing parameter: snapshot"),
        ({"file": None}, "you must supply the file=<FILENAME> parameter"),
        ({"compression": "gzip"}, "unknown compression type: gzip"),
        ({"port": "443s"}, "port: could not parse number"),
        ({"port": "65536"}, "port: could not parse number"),
        ({"libdir": "/no/such/place"}, "realpath: /no/such/place: No such file or directory"),
        ({"libdir": "/usr"}, "/usr/lib64/libvixDiskLib.so.8: cannot open shared object file"),
        ({"config": "/no/such/file"}, "realpath: /no/such/file: No such file or directory"),
        ({"cookie": "x"}, "unknown parameter 'cookie'"),
    ],
)
def test_parameters_are_checked_at_the_start(serve: Serve, changes: dict[str, str | None], complaint: str) -> None:
    with serve(**changes) as served:
        assert not served.socket.exists()
        assert complaint in served.log.read_text()


def test_it_runs_on_the_systems_python_alone() -> None:
    """nbdkit's interpreter has the standard library and libnbd's binding, none of this project's packages."""
    imported = {
        line.split()[1].split(".")[0]
        for line in PLUGIN.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"nbd", "nbdkit"}
