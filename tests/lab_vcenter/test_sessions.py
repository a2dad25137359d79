"""Who may call, and what ends with a session."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from lab.esxi.memory import MemoryHost, a_machine
from lab.vcenter import certificate
from lab.vcenter.server import VcenterServer
from tests.lab_vcenter.client import (
    PC,
    USERS,
    Remote,
    connected,
    disconnect,
    log_in,
    smart_connect,
    vim,
    vm_named,
    vmodl,
)
from tests.lab_vcenter.conftest import Lab


def test_a_log_in_gives_a_session_that_is_active_until_the_log_out(lab: Lab) -> None:
    with connected(lab.server.port, lab.certificate) as first, connected(lab.server.port, lab.certificate) as second:
        session = second.content.sessionManager.currentSession
        active = first.content.sessionManager.SessionIsActive
        assert session.userName == "xms@lab"
        assert active(session.key, session.userName)
        second.content.sessionManager.Logout()
        assert not active(session.key, session.userName)


@pytest.mark.parametrize(("user", "password"), [("xms@lab", "wrong"), ("nobody", "a secret"), ("nobody", "")])
def test_a_wrong_log_in_is_refused(lab: Lab, user: str, password: str) -> None:
    with pytest.raises(vim.fault.InvalidLogin, match="incorrect user name or password"):
        log_in(lab.server.port, lab.certificate, user=user, password=password)


def test_nothing_but_the_service_content_is_told_to_who_is_not_logged_in(service: Remote) -> None:
    service.content.sessionManager.Logout()
    assert service.RetrieveContent().about.apiType == "VirtualCenter"
    with pytest.raises(vim.fault.NotAuthenticated):
        service.CurrentTime()
    with pytest.raises(vim.fault.NotAuthenticated):
        vm_named(service, "web01")


def test_a_dropped_session_is_told_once_it_is_used(lab: Lab, web: Remote) -> None:
    lab.server.drop_sessions()
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = web.name


def test_a_dropped_session_ends_a_wait_for_updates(lab: Lab, service: Remote, web: Remote) -> None:
    collector = service.content.propertyCollector
    filter_spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=web)], propSet=[PC.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])]
    )
    collector.CreateFilter(filter_spec, partialUpdates=False)
    first = collector.WaitForUpdatesEx("", None)
    timer = threading.Timer(0.4, lab.server.drop_sessions)
    timer.start()
    with pytest.raises(vim.fault.NotAuthenticated):
        collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=5))
    timer.join()


def test_views_are_gone_with_their_session(lab: Lab) -> None:
    with connected(lab.server.port, lab.certificate) as first, connected(lab.server.port, lab.certificate) as second:
        manager = first.content.viewManager
        view = manager.CreateContainerView(first.content.rootFolder, [vim.VirtualMachine], recursive=True)
        foreign = vim.view.ContainerView(view._moId, second._stub)
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            _ = foreign.view
        view.DestroyView()
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            _ = view.view


def test_a_session_ends_after_its_idle_time_and_is_kept_alive_by_calls(tmp_path: Path) -> None:
    pem = tmp_path / "vcenter.pem"
    certificate.make(pem, ["127.0.0.1"])
    host = MemoryHost((a_machine("web01"),))
    server = VcenterServer(host, address="127.0.0.1", port=0, certificate=pem, users=USERS, idle_limit=0.5)
    server.start()
    try:
        with connected(server.port, pem) as service:
            for _ in range(4):
                time.sleep(0.2)
                service.CurrentTime()
            time.sleep(0.8)
            with pytest.raises(vim.fault.NotAuthenticated):
                service.CurrentTime()
    finally:
        server.stop()


def test_a_client_that_trusts_another_certificate_is_not_served(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    certificate.make(other, ["127.0.0.1"])
    with pytest.raises(ssl.SSLCertVerificationError):
        smart_connect(lab.server.port, other)


def test_a_silent_connection_stops_nobody_else(lab: Lab) -> None:
    with (
        socket.create_connection(("127.0.0.1", lab.server.port)),
        connected(lab.server.port, lab.certificate) as service,
    ):
        assert service.CurrentTime()


def test_a_stop_ends_open_connections_and_does_not_wait_for_them(lab: Lab) -> None:
    service = log_in(lab.server.port, lab.certificate)
    started = time.monotonic()
    lab.server.stop()
    assert time.monotonic() - started < 2
    disconnect(service)
