"""Sessions: who is trusted, who is let in, what breaks, and what is renewed."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyVmomi.SoapAdapter import SoapStubAdapter

from lab.vcenter.certificate import make
from tests.vsphere.conftest import AVcenter
from xms.config import SourceConfig
from xms.errors import (
    ConfigurationError,
    SourceFault,
    SourceNotTrusted,
    SourceRefusedLogin,
    SourceUnreachable,
    VmNotFound,
    XmsError,
)
from xms.vsphere.faults import explained
from xms.vsphere.inventory import list_vms
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.trust import thumbprint_of, verified_certificate

OTHER_THUMBPRINT = ":".join(["AB"] * 32)


def with_trust(config: SourceConfig, *, thumbprint: str | None = None, ca_file: Path | None = None) -> SourceConfig:
    return config.model_copy(update={"thumbprint": thumbprint, "ca_file": ca_file})


def log_in(config: SourceConfig) -> str:
    with connect("lab", config) as session:
        return str(session.content.about.name)


@contextmanager
def a_server_that(answers: bytes, certificate: Path) -> Iterator[int]:
    """A TLS server that answers every connection with the same bytes, or not at all where there are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not ended.is_set():
            try:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as client:
                    client.recv(65536)
                    if answers:
                        client.sendall(answers)
                    else:
                        ended.wait(10)
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def test_a_pinned_source_is_logged_in_to(vcenter: AVcenter) -> None:
    assert log_in(vcenter.config) == "VMware vCenter Server"


def test_a_thumbprint_in_lower_case_is_the_same(vcenter: AVcenter) -> None:
    assert vcenter.config.thumbprint is not None
    assert log_in(with_trust(vcenter.config, thumbprint=vcenter.config.thumbprint.lower()))


@pytest.mark.parametrize("host", ["127.1", "127.0.0.1", "localhost"])
def test_a_wrong_thumbprint_is_refused_and_the_shown_one_is_told(vcenter: AVcenter, host: str) -> None:
    config = with_trust(vcenter.config, thumbprint=OTHER_THUMBPRINT).model_copy(update={"host": host})
    with pytest.raises(SourceNotTrusted) as refused:
        log_in(config)
    assert str(vcenter.config.thumbprint) in refused.value.because
    assert OTHER_THUMBPRINT in refused.value.because


@pytest.mark.parametrize("host", ["127.1", "127.0.0.1", "localhost"])
def test_without_a_pin_a_self_signed_server_is_refused(vcenter: AVcenter, host: str) -> None:
    with pytest.raises(SourceNotTrusted):
        log_in(with_trust(vcenter.config).model_copy(update={"host": host}))


def test_a_ca_bundle_verifies_the_name_too(vcenter: AVcenter, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text(ssl.get_server_certificate(("127.0.0.1", vcenter.server.port)))
    with pytest.raises(SourceNotTrusted, match="not trusted") as refused:
        log_in(with_trust(vcenter.config, ca_file=bundle))
    assert "127.1" in refused.value.because


def test_a_missing_ca_bundle_is_named(vcenter: AVcenter, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.pem"):
        log_in(with_trust(vcenter.config, ca_file=tmp_path / "nothing.pem"))


def test_the_certificate_for_other_tools_is_verified_first(vcenter: AVcenter) -> None:
    assert thumbprint_of(verified_certificate("lab", vcenter.config)) == vcenter.config.thumbprint
    with pytest.raises(SourceNotTrusted):
        verified_certificate("lab", with_trust(vcenter.config))


def test_a_wrong_password_needs_a_person_and_is_not_told(vcenter: AVcenter) -> None:
    vcenter.config.password_file.write_text("hunter2\n")
    with pytest.raises(SourceRefusedLogin) as refused:
        log_in(vcenter.config)
    assert refused.value.needs_person
    assert "hunter2" not in str(refused.value)


def test_a_password_file_that_others_may_read_is_refused(vcenter: AVcenter) -> None:
    vcenter.config.password_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        log_in(vcenter.config)


def test_a_source_that_is_not_there_is_unreachable(vcenter: AVcenter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnreachable) as failed:
        log_in(vcenter.config.model_copy(update={"port": port}))
    assert failed.value.retryable


def test_a_source_that_does_not_answer_is_given_up(tmp_path: Path, vcenter: AVcenter) -> None:
    thumbprint = make(tmp_path / "silent.pem", ["silent"])
    with (
        a_server_that(b"", tmp_path / "silent.pem") as port,
        pytest.raises(SourceUnreachable, match="cannot be reached"),
    ):
        log_in(vcenter.config.model_copy(update={"port": port, "thumbprint": thumbprint, "timeout_seconds": 0.5}))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<p>hello\n",
        b"who are you?",
    ],
)
def test_a_server_that_is_no_vcenter_is_unreachable(tmp_path: Path, vcenter: AVcenter, answer: bytes) -> None:
    thumbprint = make(tmp_path / "other.pem", ["other"])
    with a_server_that(answer, tmp_path / "other.pem") as port, pytest.raises(SourceUnreachable):
        log_in(vcenter.config.model_copy(update={"port": port, "thumbprint": thumbprint}))


def test_an_ended_session_is_opened_again(vcenter: AVcenter, session: VsphereSession) -> None:
    assert len(list_vms(session)) == 4
    vcenter.server.drop_sessions()
    assert len(list_vms(session)) == 4


def test_an_ended_session_is_not_opened_again_with_a_wrong_password(vcenter: AVcenter) -> None:
    with connect("lab", vcenter.config) as session:
        vcenter.server.drop_sessions()
        vcenter.config.password_file.write_text("rotated\n")
        with pytest.raises(SourceRefusedLogin), explained("lab", "the VMs could not be listed"):
            list_vms(session)


def test_the_session_is_closed_at_the_end(vcenter: AVcenter) -> None:
    before = len(vcenter.server._center.sessions.described())
    with connect("lab", vcenter.config):
        assert len(vcenter.server._center.sessions.described()) == before + 1
    assert len(vcenter.server._center.sessions.described()) == before


def test_a_fault_that_nobody_knows_leaves_the_session_as_a_source_fault(vcenter: AVcenter) -> None:
    with pytest.raises(SourceFault) as failed, connect("lab", vcenter.config) as session:
        read(session, session.content.rootFolder, ["noSuchProperty"])
    assert "InvalidProperty" in failed.value.because


def test_a_vm_that_is_gone_is_told_as_such(vcenter: AVcenter) -> None:
    with pytest.raises(VmNotFound), connect("lab", vcenter.config) as session:
        read(session, session.virtual_machine("vm-999"), ["name"])


def test_a_connection_that_breaks_is_unreachable(vcenter: AVcenter) -> None:
    with connect("lab", vcenter.config) as session:
        vcenter.server._server.socket.close()
        vcenter.server._server.end_connections()
        with pytest.raises(SourceUnreachable):
            read(session, session.content.rootFolder, ["name"])


def test_an_error_of_ours_passes_the_session_unchanged(vcenter: AVcenter) -> None:
    ours = XmsError("ours")
    with pytest.raises(XmsError) as raised, connect("lab", vcenter.config):
        raise ours
    assert raised.value is ours


def test_after_a_broken_connection_no_log_out_is_waited_for(vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def note_and_break(*_: object, **__: object) -> None:
        calls.append("call")
        raise TimeoutError("timed out")

    with connect("lab", vcenter.config) as session:
        monkeypatch.setattr(SoapStubAdapter, "InvokeMethod", note_and_break)
        with pytest.raises(SourceUnreachable):
            read(session, session.content.rootFolder, ["name"])
    assert calls == ["call"]


def test_a_call_that_broke_is_not_made_twice(vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect("lab", vcenter.config) as session:
        monkeypatch.setattr(SoapStubAdapter, "GetConnection", lambda _: ConnectionThatBreaks())
        with pytest.raises(SourceUnreachable):
            session.virtual_machine("vm-101").CreateSnapshot(name="x", description="", memory=False, quiesce=False)
    assert ConnectionThatBreaks.requests == 1


class ConnectionThatBreaks:
    """Takes a request and breaks before its answer."""

    requests = 0

    def request(self, *_: object) -> None:
        ConnectionThatBreaks.requests += 1

    def getresponse(self) -> None:
        raise ConnectionResetError("reset by peer")

    def close(self) -> None:
        """Nothing is open."""
