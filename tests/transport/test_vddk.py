"""Exports by nbdkit: what it is given, what it is not, how it ends, and what its failures mean."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import nbd
import pytest

from lab.esxi.memory import MemoryHost
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from tests.docs.pages import ROOT, rows
from tests.engine.rig import copy
from xms.config import SourceConfig, TransportConfig
from xms.errors import (
    ConfigurationError,
    Interrupted,
    ProgramMissing,
    SnapshotLost,
    SourceForbidden,
    SourceNotTrusted,
    SourceRefusedLogin,
    SourceUnreachable,
    TransportFailed,
    XmsError,
)
from xms.models import Model
from xms.transport import vddk
from xms.transport.nbdkit_log import MEANINGS, explain
from xms.transport.vddk import open_export

PLUGIN = Path(__file__).parent / "fake_vddk.py"
SECRET = "correct horse battery staple"
CONTENT = "the content of the disk".ljust(1024)


@dataclass
class Exporter:
    """A source, and a plugin that does what `script` says."""

    source: SourceConfig
    transport: TransportConfig
    directory: Path

    def script(
        self, *, config_error: str = "", open_error: str = "", read_error: str = "", failing_reads: int = 1000
    ) -> None:
        script = {
            "content": CONTENT,
            "config_error": config_error,
            "open_error": open_error,
            "read_error": read_error,
            "failing_reads": failing_reads,
        }
        (self.directory / "script.json").write_text(json.dumps(script))

    def open(self, **changes: Any) -> AbstractContextManager[str]:  # noqa: ANN401 - as open_export takes them
        arguments = {
            "source": self.source,
            "transport": self.transport,
            "vm_moref": "vm-101",
            "vm": "web",
            "snapshot": "snapshot-101-3",
            "path": "[ds1] web/web disk.vmdk",
        }
        return open_export(**{**arguments, **changes})

    def calls(self, what: str) -> int:
        return (self.directory / "calls").read_text().count(what)

    def given(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads((self.directory / "given.json").read_text())


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    thumbprint = make(tmp_path / "vcenter.pem", ["vcenter.lab"])
    server = VcenterServer(MemoryHost([]), address="127.0.0.1", port=0, certificate=tmp_path / "vcenter.pem", users={})
    server.start()
    password_file = tmp_path / "password"
    password_file.write_text(SECRET + "\n")
    password_file.chmod(0o600)
    source = SourceConfig(
        host="127.1", port=server.port, username="reader", password_file=password_file, thumbprint=thumbprint
    )
    transport = TransportConfig(plugin=f"python '{PLUGIN}'", libdir=tmp_path, compression="fastlz")
    made = Exporter(source, transport, tmp_path)
    made.script()
    yield made
    server.stop()


def read_by(uri: str, length: int = len(CONTENT)) -> str:
    connection = nbd.NBD()
    connection.connect_uri(uri)
    try:
        return bytes(connection.pread(length, 0)).decode()
    except nbd.Error as error:
        raise TransportFailed("the read failed", because=str(error)) from error
    finally:
        # libnbd would close it with its last reference, and the exception holds this frame.
        connection.shutdown()


def socket_of(uri: str) -> Path:
    return Path(parse_qs(urlsplit(uri).query)["socket"][0])


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_export_serves_the_disk(exporter: Exporter) -> None:
    with exporter.open() as uri:
        assert uri.startswith("nbd+unix:///?socket=/")
        assert read_by(uri) == CONTENT
        assert read_by(uri) == CONTENT


def test_nothing_can_be_written(exporter: Exporter) -> None:
    with exporter.open() as uri:
        connection = nbd.NBD()
        connection.connect_uri(uri)
        assert connection.is_read_only()
        connection.shutdown()


def test_the_plugin_is_given_what_vddk_takes(exporter: Exporter) -> None:
    with exporter.open():
        parameters = exporter.given()["parameters"]
    assert parameters == {
        "libdir": str(exporter.directory),
        "server": "127.1",
        "port": str(exporter.source.port),
        "user": "reader",
        "password": f"+{exporter.source.password_file}",
        "thumbprint": sha1_of(exporter),
        "vm": "moref=vm-101",
        "snapshot": "snapshot-101-3",
        "transports": "file:nbdssl:nbd",
        "compression": "fastlz",
        "file": "[ds1] web/web disk.vmdk",
    }


def test_the_password_is_in_no_argument_and_no_environment(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "another secret")
    with exporter.open():
        given = exporter.given()
    assert given["password"].splitlines()[0] == SECRET
    assert SECRET not in " ".join(given["command"])
    assert SECRET not in str(given["environment"])
    assert "another secret" not in str(given["environment"])


def sha1_of(exporter: Exporter) -> str:
    certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", exporter.source.port)))
    return hashlib.sha1(certificate, usedforsecurity=False).digest().hex(":").upper()


def test_a_vddk_that_takes_sha256_is_given_the_pinned_thumbprint(exporter: Exporter) -> None:
    transport = exporter.transport.model_copy(update={"thumbprint_hash": "sha256"})
    with exporter.open(transport=transport):
        assert exporter.given()["parameters"]["thumbprint"] == exporter.source.thumbprint


def test_vddk_is_given_its_own_configuration_file(exporter: Exporter) -> None:
    transport = exporter.transport.model_copy(update={"vddk_config": Path("/etc/xms/vddk.conf")})
    with exporter.open(transport=transport):
        assert exporter.given()["parameters"]["config"] == "/etc/xms/vddk.conf"


def test_nothing_secret_is_to_be_seen_of_the_process_while_it_runs(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "another secret")
    with exporter.open() as uri:
        read_by(uri)
        process = Path(f"/proc/{exporter.given()['pid']}")
        shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        files = [file for file in socket_of(uri).parent.iterdir() if file.is_file()]
        shown += b"".join(file.read_bytes() for file in files)
    assert b"password=+" in shown
    assert SECRET.encode() not in shown
    assert b"another secret" not in shown


def test_a_client_may_read_any_bytes_although_vddk_reads_sectors_and_has_one_connection(exporter: Exporter) -> None:
    with exporter.open() as uri:
        connection = nbd.NBD()
        connection.connect_uri(uri)
        assert bytes(connection.pread(7, 4)).decode() == CONTENT[4:11]
        assert connection.get_block_size(nbd.SIZE_MINIMUM) == 1
        assert not connection.can_multi_conn()
        connection.shutdown()
    assert exporter.calls("read 0+512\n") == exporter.calls("read")


@pytest.mark.parametrize("retry_filter", ["retry-request", "retry"])
def test_a_read_that_fails_once_is_repeated_before_the_client_hears_of_it(
    exporter: Exporter, retry_filter: str
) -> None:
    exporter.script(read_error="VixDiskLib_Read: the host connection has been lost", failing_reads=1)
    transport = exporter.transport.model_copy(update={"retry_filter": retry_filter})
    with exporter.open(transport=transport) as uri:
        opened = exporter.calls("open")
        assert read_by(uri) == CONTENT
        assert exporter.calls("read") == 2
        # The older filter opens the disk anew, the newer one does not.
        assert exporter.calls("open") - opened == (1 if retry_filter == "retry-request" else 2)


def test_how_often_a_read_is_repeated_is_bounded_and_configured(exporter: Exporter) -> None:
    exporter.script(read_error="VixDiskLib_Read: the host connection has been lost")
    for retry_filter, tries in (("none", 1), ("retry-request", 2)):
        transport = exporter.transport.model_copy(update={"retry_filter": retry_filter, "retries": 1})
        before = exporter.calls("read") if (exporter.directory / "calls").exists() else 0
        with pytest.raises(XmsError), exporter.open(transport=transport) as uri:
            read_by(uri)
        assert exporter.calls("read") - before == tries


@dataclass(frozen=True)
class Opened:
    uri: str


def test_the_engine_opens_the_disk_anew_when_repeating_a_read_does_not_help(exporter: Exporter, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.write_bytes(bytes(len(CONTENT)))
    exporter.script(read_error="VixDiskLib_Read: the host connection has been lost", failing_reads=4)
    transport = exporter.transport.model_copy(update={"retries": 1})
    with exporter.open(transport=transport) as uri:
        opened = exporter.calls("open")
        copy(Opened(uri), volume)
    assert volume.read_text() == CONTENT
    assert exporter.calls("open") - opened == 3
    assert exporter.calls("read") == 5


@pytest.mark.parametrize("retry_filter", ["retry-request", "retry", "none"])
def test_a_wrong_password_is_tried_once_whatever_is_repeated_else(exporter: Exporter, retry_filter: str) -> None:
    exporter.script(open_error="VixDiskLib_ConnectEx: Cannot connect to host: Incorrect user name or password")
    transport = exporter.transport.model_copy(update={"retry_filter": retry_filter, "retries": 5})
    with pytest.raises(SourceRefusedLogin), exporter.open(transport=transport):
        pytest.fail("it was opened")
    assert exporter.calls("open") == 1


def test_a_server_with_another_certificate_is_not_even_tried(exporter: Exporter) -> None:
    source = exporter.source.model_copy(update={"thumbprint": ":".join(["AB"] * 32)})
    with pytest.raises(SourceNotTrusted), exporter.open(source=source):
        pytest.fail("it was opened")
    assert not (exporter.directory / "given.json").exists()


def test_the_socket_is_in_a_private_directory_with_a_short_name(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(exporter.directory))
    with exporter.open() as uri:
        directory = socket_of(uri).parent
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert len(str(socket_of(uri))) < 60
    assert not directory.exists()


def test_the_process_ends_with_the_context(exporter: Exporter) -> None:
    with exporter.open():
        pid = exporter.given()["pid"]
        assert is_running(pid)
    assert not is_running(pid)


def test_the_process_ends_although_a_client_stays_connected(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vddk, "END_SECONDS", 0.5)
    connection = nbd.NBD()
    with exporter.open() as uri:
        connection.connect_uri(uri)
    assert not is_running(exporter.given()["pid"])


def test_the_process_ends_when_the_body_fails(exporter: Exporter) -> None:
    with pytest.raises(UnicodeDecodeError), exporter.open():
        b"\xff".decode()
    assert not is_running(exporter.given()["pid"])
    socket = next(word for word in exporter.given()["command"] if word.endswith("nbd.sock"))
    assert not Path(socket).parent.exists()


@pytest.fixture
def own_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other tests' exports, which run beside this one, would tidy up after ours."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


@pytest.mark.usefixtures("own_runtime_directory")
def test_the_process_ends_with_a_worker_that_is_killed(exporter: Exporter) -> None:
    worker = os.fork()
    if worker == 0:
        with exporter.open():
            time.sleep(60)
        os._exit(0)
    try:
        deadline = time.monotonic() + 20
        while not (exporter.directory / "given.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        pid = exporter.given()["pid"]
        assert is_running(pid)
    finally:
        os.kill(worker, 9)
        os.waitpid(worker, 0)
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)
    left = Path(next(word for word in exporter.given()["command"] if word.endswith("nbd.sock"))).parent
    assert left.exists()
    with exporter.open():
        assert not left.exists()


def test_two_exports_at_a_time_leave_each_other_alone(exporter: Exporter) -> None:
    with exporter.open() as first, exporter.open() as second:
        assert socket_of(first).parent != socket_of(second).parent
        assert read_by(first) == read_by(second) == CONTENT


def test_a_wrong_password_shows_when_the_export_is_opened(exporter: Exporter) -> None:
    exporter.script(open_error="VixDiskLib_ConnectEx: Cannot connect to host: Incorrect user name or password")
    with pytest.raises(SourceRefusedLogin) as failed, exporter.open():
        pytest.fail("it was opened")
    assert "Incorrect user name" in failed.value.because
    assert failed.value.needs_person


def test_a_failure_while_reading_is_told_in_vddks_words(exporter: Exporter) -> None:
    exporter.script(read_error="VixDiskLib_Read: NfcFssrvrProcessErrorMsg: the host ran out of buffers")
    with pytest.raises(TransportFailed) as failed, exporter.open() as uri:
        read_by(uri)
    assert "ran out of buffers" in failed.value.because
    assert failed.value.retryable


def test_a_snapshot_that_goes_away_while_it_is_read_is_lost(exporter: Exporter) -> None:
    exporter.script(read_error="the snapshot snapshot-101-3 no longer exists: not found")
    with pytest.raises(SnapshotLost), exporter.open() as uri:
        read_by(uri)


def test_other_errors_of_the_body_are_left_alone(exporter: Exporter) -> None:
    ours = Interrupted("the worker shuts down")
    with pytest.raises(Interrupted) as raised, exporter.open():
        raise ours
    assert raised.value is ours


def test_a_plugin_that_refuses_its_parameters_is_told(exporter: Exporter) -> None:
    exporter.script(config_error="unknown parameter 'colour'")
    with pytest.raises(TransportFailed) as failed, exporter.open():
        pytest.fail("it was opened")
    assert "unknown parameter 'colour'" in failed.value.because


def test_a_password_in_the_log_is_blotted_out(exporter: Exporter) -> None:
    exporter.script(open_error=f"error: the password {SECRET} is too long")
    with pytest.raises(XmsError) as failed, exporter.open():
        pytest.fail("it was opened")
    assert SECRET not in str(failed.value)
    assert "(password)" in failed.value.because


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nbdkit": "/no/such/nbdkit"}, "/no/such/nbdkit is not installed"),
        ({"plugin": "no-such"}, "cannot read VMware"),
    ],
)
def test_a_missing_program_is_named(exporter: Exporter, changes: dict[str, str], told: str) -> None:
    transport = exporter.transport.model_copy(update=changes)
    with pytest.raises(ProgramMissing, match=told), exporter.open(transport=transport):
        pytest.fail("it was opened")


def test_a_password_file_that_others_may_read_is_refused(exporter: Exporter) -> None:
    exporter.source.password_file.chmod(0o644)
    with pytest.raises(ConfigurationError), exporter.open():
        pytest.fail("it was opened")


def test_a_plugin_that_never_starts_is_given_up(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vddk, "START_SECONDS", 0.5)
    sleeper = exporter.directory / "nbdkit"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    transport = exporter.transport.model_copy(update={"nbdkit": str(sleeper)})
    with pytest.raises(TransportFailed, match="did not start"), exporter.open(transport=transport):
        pytest.fail("it was opened")


def test_opening_shows_life_and_can_be_interrupted(exporter: Exporter) -> None:
    def interrupting(detail: Model | None = None) -> None:
        del detail
        raise Interrupted("told to stop")

    with pytest.raises(Interrupted), exporter.open(pulse=interrupting):
        pytest.fail("it was opened")


LINES: Final[list[tuple[str, type[XmsError]]]] = [
    ("VixDiskLib_ConnectEx: Incorrect user name/password", SourceRefusedLogin),
    (
        "VixDiskLib_ConnectEx: Cannot connect to host: Cannot complete login due to an incorrect user name or password",
        SourceRefusedLogin,
    ),
    ("vim.fault.InvalidLogin", SourceRefusedLogin),
    ("the server answered 401", SourceRefusedLogin),
    ("VixDiskLib_Open: [ds] web.vmdk: You do not have access rights to this file", SourceForbidden),
    ("SSL: thumbprint does not match", SourceNotTrusted),
    ("VixDiskLib_Open: [ds] web.vmdk: Unknown error", SourceNotTrusted),
    (
        'Please verify whether the "thumbprint" parameter (AA:BB) matches the SHA1 fingerprint of the remote',
        SourceNotTrusted,
    ),
    ("The object has already been deleted or has not been completely created", SnapshotLost),
    ("ManagedObjectNotFound", SnapshotLost),
    ("snapshot-101-3 is not a snapshot of vm-101: unknown", SnapshotLost),
    ("VixDiskLib_Open: [ds] web-000002.vmdk: A file was not found", SnapshotLost),
    ("Connection refused", SourceUnreachable),
    ("VixDiskLib_Open: [ds] web.vmdk: The server refused connection", SourceUnreachable),
    ("[NFC ERROR]NfcNewAuthdConnectionEx: Failed to connect: Failed to connect to server esx1:902", SourceUnreachable),
    ("VixDiskLib_ConnectEx: Cannot connect to host", SourceUnreachable),
    ("VixDiskLib_Read: The host connection has been lost", SourceUnreachable),
    ("/opt/vddk/lib64/libvixDiskLib.so.8: cannot open shared object file: No such file or directory", ProgramMissing),
    ("realpath: /opt/vddk: No such file or directory", ProgramMissing),
    ("cannot open plugin 'vddk': nbdkit-vddk-plugin.so: cannot open shared object file", ProgramMissing),
    (
        "cannot open filter 'retry-request': nbdkit-retry-request-filter.so: cannot open shared object file",
        ProgramMissing,
    ),
    (
        "NfcFssrvrProcessErrorMsg: received NFC error 5 from server: Failed to allocate the requested 2097176 bytes",
        TransportFailed,
    ),
    (
        "NfcNewAuthdConnectionEx: Failed to connect: Error reading from vmware-authd socket. Reason: Resource busy",
        TransportFailed,
    ),
    ("VixDiskLib_Open: [ds] web.vmdk: Failed to lock the file", TransportFailed),
    ("VixDiskLib_Open: [ds] web.vmdk: The file is already in use", TransportFailed),
    ("something that nobody has seen before", TransportFailed),
]


@pytest.mark.parametrize(("line", "kind"), LINES)
def test_the_log_tells_what_a_failure_means(line: str, kind: type[XmsError]) -> None:
    failure = TransportFailed("the disk could not be opened", because="no export named ''")
    error = explain(failure, f"nbdkit: vddk[1]: error: {line}", vm="web", host="vcenter")
    assert type(error) is kind
    assert line in error.because
    assert error.do or "nobody" in line


def test_an_empty_log_leaves_the_failure_as_the_client_saw_it() -> None:
    failure = TransportFailed("the disk could not be opened", because="no export named ''")
    assert type(explain(failure, "", vm="web", host="vcenter")) is TransportFailed


def test_what_was_overcome_long_ago_explains_nothing() -> None:
    failure = TransportFailed("a read failed", because="Input/output error")
    log = "nbdkit: error: Connection refused\n" + "nbdkit: vddk[1]: error: VixDiskLib_Read: odd\n" * 30
    assert type(explain(failure, log, vm="web", host="vcenter")) is TransportFailed


def test_every_meaning_of_the_log_is_in_the_table_for_operators() -> None:
    documented = rows(ROOT / "docs" / "vddk.md", "## Errors")
    said = [re.sub(r"\{disk\}", "the disk of VM", meaning.what.replace("{host}", "HOST")) for meaning in MEANINGS]
    assert list(documented) == said
    assert [cells[-1].strip(" |") for cells in documented.values()] == [meaning.do for meaning in MEANINGS]
