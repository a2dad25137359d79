"""One session a source and worker process: shared, renewed, kept alive, given back; and a source that is left alone."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest
from pyVmomi.SoapAdapter import SoapStubAdapter

from lab.vcenter import collector_methods, dispatcher
from tests.vsphere.conftest import AVcenter, a_vcenter
from xms.errors import Interrupted, SourceRefusedLogin, SourceUnreachable, XmsError
from xms.pulse import no_pulse
from xms.vsphere import tasks
from xms.vsphere.bindings import vim
from xms.vsphere.inventory import list_vms
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession
from xms.vsphere.sessions import Sessions
from xms.vsphere.snapshots import remove_snapshots, take_snapshot

THREADS = 16


def together(work: Callable[[], object], threads: int = THREADS) -> list[object]:
    """The same in many threads at the same moment; an XmsError is a result, too."""
    barrier = threading.Barrier(threads)

    def one() -> object:
        barrier.wait()
        try:
            return work()
        except XmsError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(one) for _ in range(threads)]]


def eventually(seen: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def a_port_that_hangs_up() -> Iterator[tuple[int, list[int]]]:
    """A server that closes every connection at once, and a list with an entry for each."""
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                came.append(1)
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# --- shared -----------------------------------------------------------------------------------------------------------


def test_of_many_threads_one_logs_in_and_all_use_its_session(sessions: Sessions, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins

    def use() -> object:
        with sessions.session("lab", vcenter.config) as session:
            return len(list_vms(session))

    assert together(use) == [4] * THREADS
    assert (len(sent), vcenter.server.sessions) == (1, 1)


def test_a_log_in_that_fails_fails_for_all_who_waited_for_it(sessions: Sessions, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    vcenter.config.password_file.write_text("wrong\n")

    def use() -> object:
        with sessions.session("lab", vcenter.config):
            return "in"

    outcomes = together(use)
    assert all(isinstance(outcome, SourceRefusedLogin) for outcome in outcomes)
    assert len(set(map(id, outcomes))) == THREADS
    assert sent == ["wrong"]


def test_each_source_has_a_session_of_its_own(sessions: Sessions, vcenter: AVcenter) -> None:
    for name in ("lab", "other", "lab"):
        with sessions.session(name, vcenter.config):
            pass
    assert vcenter.server.sessions == 2


def test_a_changed_configuration_begins_a_new_session_and_the_old_one_ends_with_its_last_user(
    sessions: Sessions, vcenter: AVcenter
) -> None:
    changed = vcenter.config.model_copy(update={"timeout_seconds": 19.0})
    with sessions.session("lab", vcenter.config) as old:
        with sessions.session("lab", changed) as new:
            assert vcenter.server.sessions == 2
            assert (len(list_vms(old)), len(list_vms(new))) == (4, 4)
        assert vcenter.server.sessions == 2
    assert vcenter.server.sessions == 1


def test_at_the_end_every_session_is_logged_out_of_and_nobody_gets_another(vcenter: AVcenter) -> None:
    sessions = Sessions()
    for name in ("lab", "other"):
        with sessions.session(name, vcenter.config):
            pass
    sessions.close()
    assert vcenter.server.sessions == 0
    with pytest.raises(Interrupted), sessions.session("lab", vcenter.config):
        pass


# --- kept alive, and given back ---------------------------------------------------------------------------------------


def test_a_session_that_is_used_now_and_then_never_idles_out(tmp_path: Path) -> None:
    with (
        a_vcenter(tmp_path, idle_limit=1.0) as vcenter,
        closing(Sessions(keep_alive_seconds=0.2, idle_seconds=60)) as sessions,
    ):
        sent = vcenter.log_ins
        with sessions.session("lab", vcenter.config) as session:
            list_vms(session)
            time.sleep(1.6)
            list_vms(session)
        assert len(sent) == 1


def test_a_session_that_nobody_used_for_long_is_given_back_and_the_next_use_logs_in(vcenter: AVcenter) -> None:
    with closing(Sessions(keep_alive_seconds=60, idle_seconds=0.2)) as sessions:
        with sessions.session("lab", vcenter.config) as session:
            time.sleep(0.4)
            assert vcenter.server.sessions == 1
        eventually(lambda: vcenter.server.sessions == 0)
        with sessions.session("lab", vcenter.config) as session:
            assert len(list_vms(session)) == 4


def test_a_session_that_ended_while_it_was_kept_alive_is_begun_by_the_next_use(vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    with closing(Sessions(keep_alive_seconds=0.1, idle_seconds=60)) as sessions:
        with sessions.session("lab", vcenter.config):
            pass
        vcenter.server.drop_sessions()
        time.sleep(0.3)
        assert len(sent) == 1
        with sessions.session("lab", vcenter.config) as session:
            assert len(list_vms(session)) == 4
        assert len(sent) == 2


# --- renewed in the middle of anything --------------------------------------------------------------------------------


def test_a_session_may_end_at_any_call_of_a_read(
    sessions: Sessions, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_methods, "_MOST_OBJECTS", 2)
    with sessions.session("lab", vcenter.config) as session:
        expected = list_vms(session)
        sent = vcenter.log_ins
        for call in range(1, 40):
            vcenter.server.end_session_at_call(call)
            assert list_vms(session) == expected
            if len(sent) < call:
                break
        assert 5 < call < 39


def test_a_session_may_end_at_any_call_of_a_sync(
    sessions: Sessions, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "FIRST_POLL_SECONDS", 0.002)
    sent = vcenter.log_ins
    with sessions.session("lab", vcenter.config) as session:
        for call in range(1, 99):
            vcenter.server.end_session_at_call(call)
            take_snapshot(session, vcenter.order, pulse=no_pulse)
            assert len(vcenter.web.snapshots) == 1
            assert remove_snapshots(session, vcenter.order, pulse=no_pulse) == 1
            assert not vcenter.web.snapshots
            # Else each round would have more finished tasks to look at than the one before.
            vcenter.server._center.tasks._tasks.clear()
            if len(sent) < call:
                break
        assert 10 < call < 98


def test_a_read_goes_on_in_no_other_session_than_the_one_in_which_it_began(
    sessions: Sessions, vcenter: AVcenter
) -> None:
    begun = 0

    def use_elsewhere() -> None:
        with sessions.session("lab", vcenter.config) as other:
            list_vms(other)

    with sessions.session("lab", vcenter.config) as session:

        def seen() -> int:
            nonlocal begun
            begun += 1
            content = session.content
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], recursive=True)
            if begun == 1:
                vcenter.server.drop_sessions()
                thread = threading.Thread(target=use_elsewhere)
                thread.start()
                thread.join()
            return len(view.view)

        assert session.whole(seen) == 4
    assert begun == 2


def test_one_thread_logs_in_again_for_all(sessions: Sessions, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    ended = threading.Event()

    def use() -> object:
        with sessions.session("lab", vcenter.config) as session:
            for number in range(30):
                read(session, session.virtual_machine("vm-101"), ["name"])
                if number == 10 and not ended.is_set():
                    ended.set()
                    vcenter.server.drop_sessions()
            return "done"

    assert together(use) == ["done"] * THREADS
    assert (len(sent), vcenter.server.sessions) == (2, 1)


def test_a_rotated_password_is_used_at_the_next_log_in(sessions: Sessions, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    with sessions.session("lab", vcenter.config) as session:
        vcenter.server._center.sessions._users = {vcenter.config.username: "rotated"}
        vcenter.config.password_file.write_text("rotated\n")
        assert len(list_vms(session)) == 4
        vcenter.server.drop_sessions()
        assert len(list_vms(session)) == 4
    assert sent == ["secret", "rotated"]


# --- left alone -------------------------------------------------------------------------------------------------------


def refused(sessions: Sessions, vcenter: AVcenter) -> SourceRefusedLogin:
    with pytest.raises(SourceRefusedLogin) as error, sessions.session("lab", vcenter.config):
        pass
    return error.value


def test_a_rejected_password_is_not_sent_again_before_its_file_changed(sessions: Sessions, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    vcenter.config.password_file.write_text("wrong\n")
    for _ in range(1000):
        error = refused(sessions, vcenter)
    assert sent == ["wrong"]
    assert error.needs_person
    assert "not sent again" in error.because
    assert "InvalidLogin" in error.because
    assert "wrong" not in str(error).replace("some wrong ones", "")
    vcenter.config.password_file.write_text("secret\n")
    with sessions.session("lab", vcenter.config) as session:
        assert len(list_vms(session)) == 4
    assert sent == ["wrong", "secret"]


def test_a_rejected_password_is_sent_again_when_its_file_was_touched_or_the_configuration_changed(
    sessions: Sessions, vcenter: AVcenter
) -> None:
    sent = vcenter.log_ins
    vcenter.config.password_file.write_text("wrong\n")
    refused(sessions, vcenter)
    os.utime(vcenter.config.password_file, (1, 1))
    refused(sessions, vcenter)
    assert len(sent) == 2
    vcenter.config = vcenter.config.model_copy(update={"timeout_seconds": 19.0})
    refused(sessions, vcenter)
    refused(sessions, vcenter)
    assert len(sent) == 3


def test_a_source_that_is_down_is_not_hammered_by_a_thousand_jobs(sessions: Sessions, vcenter: AVcenter) -> None:
    with a_port_that_hangs_up() as (port, came):
        config = vcenter.config.model_copy(update={"port": port})
        begin = time.monotonic()
        texts = []
        for _ in range(1000):
            with pytest.raises(SourceUnreachable) as failed, sessions.session("lab", config):
                pass
            texts.append(failed.value.because)
        took = time.monotonic() - begin
        assert len(came) <= 2 + took
        assert re.search(r"tried again in \d+ s", texts[1])


def test_a_source_that_takes_connections_and_no_log_in_is_left_alone_too(
    sessions: Sessions, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def starting(*_: object, **__: object) -> None:
        asked.append(1)
        raise HTTPException("503 Service Unavailable")

    monkeypatch.setattr(SoapStubAdapter, "InvokeMethod", starting)
    for _ in range(100):
        with pytest.raises(SourceUnreachable) as failed, sessions.session("lab", vcenter.config):
            pass
    assert len(asked) == 1
    assert "503 Service Unavailable; it is tried again in 1 s" in failed.value.because


def test_a_call_that_is_not_answered_is_given_up_after_the_timeout(
    sessions: Sessions, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dispatcher._METHODS, "CurrentTime", lambda call: call.center.closing.wait(10))
    config = vcenter.config.model_copy(update={"timeout_seconds": 0.3})
    begin = time.monotonic()
    with pytest.raises(SourceUnreachable, match="cannot be reached"), sessions.session("lab", config) as session:
        _ = session.service.CurrentTime()
    assert 0.3 <= time.monotonic() - begin < 3


def test_a_source_that_came_back_is_used_at_once(sessions: Sessions, vcenter: AVcenter) -> None:
    with sessions.session("lab", vcenter.config) as session:
        shared = session._shared
        shared.outage.not_connected("Connection refused")
        with pytest.raises(SourceUnreachable, match="cannot be reached"):
            list_vms(session)
        eventually(lambda: admitted(session))
        assert len(list_vms(session)) == 4
        assert not shared.outage.lasts


def admitted(session: VsphereSession) -> bool:
    try:
        return len(list_vms(session)) == 4
    except SourceUnreachable:
        return False


def test_a_source_that_is_down_is_not_waited_for_at_the_end(vcenter: AVcenter) -> None:
    sessions = Sessions()
    with sessions.session("lab", vcenter.config) as session:
        vcenter.server._server.socket.close()
        vcenter.server._server.end_connections()
        with pytest.raises(SourceUnreachable):
            list_vms(session)
    begin = time.monotonic()
    sessions.close()
    assert time.monotonic() - begin < 1
