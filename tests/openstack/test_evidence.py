"""Seeing that a target runs: real sockets and programs, and the stand-in cloud with a guest of one boot sector."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.target import TargetActivities
from lab.cloud.server import CloudServer
from tests.openstack.conftest import a_spec, a_vm
from xms import signs
from xms.config import EvidenceConfig, TargetConfig, load_config
from xms.cutover import Evidence
from xms.errors import BadInput, BootFailed, ConfigurationError, Interrupted, OutOfSight, ProgramMissing, TargetRejected
from xms.models import Model, Nic
from xms.openstack import servers
from xms.openstack.cloud import Cloud
from xms.openstack.evidence import see_running
from xms.orders.target import BootServer, CheckTarget, SeeRunning, ServerOrder
from xms.pulse import no_pulse

pytestmark = pytest.mark.lab

GREETING = Evidence(kind="console", pattern="guest of the .* runs")
NIC = Nic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", source_network="LAN", network="internal-net")
HERE = ("127.0.0.1",)


def seeing(
    order: BootServer,
    *evidence: Evidence,
    timeout: int = 60,
    console: str | None = None,
    addresses: tuple[str, ...] = HERE,
) -> SeeRunning:
    return SeeRunning(
        server=ServerOrder(target=order.target),
        evidence=evidence,
        console_evidence=console,
        addresses=addresses,
        vm="tiny",
        timeout_seconds=timeout,
    )


def a_command(*argv: str, seconds: float = 30.0) -> EvidenceConfig:
    return EvidenceConfig(commands={"mine": argv}, command_seconds=seconds)


MINE = Evidence(kind="command", command="mine")


@contextmanager
def a_listener(address: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        yield int(server.getsockname()[1])


def a_closed_port() -> int:
    with a_listener() as port:
        return port


@pytest.fixture
def booted(cloud: Cloud, booting: BootServer) -> BootServer:
    servers.boot(cloud, booting, no_pulse)
    return booting


# --- the wait ---------------------------------------------------------------------------------------------------------


def test_a_line_of_the_console_is_seen_in_the_old_spelling_and_in_the_new(cloud: Cloud, booted: BootServer) -> None:
    seen = see_running(cloud, seeing(booted, console=GREETING.pattern), no_pulse)
    assert seen.evidence == "console: the guest of the test runs"
    assert see_running(cloud, seeing(booted, GREETING), no_pulse) == seen
    assert see_running(cloud, seeing(booted, GREETING, console=GREETING.pattern), no_pulse) == seen


def test_a_pattern_matches_what_a_person_reads_between_the_colours(
    cloud: Cloud, cloud_server: CloudServer, booted: BootServer
) -> None:
    server_id = servers.of_job(cloud, booted.target.job_id)[0].id
    reached = b"[\033[0;32m  OK  \033[0m] Reached target \033[0;1;39mMulti-User System\033[0m.\r\n"
    with cloud_server.console_file(server_id).open("ab") as console:
        console.write(reached)
    for pattern in (r"\[  OK  \] Reached target Multi-User", r"Reached target \x1b\[0;1;39mMulti-User"):
        seen = see_running(cloud, seeing(booted, Evidence(kind="console", pattern=pattern)), no_pulse)
        assert seen.evidence == "console: [  OK  ] Reached target Multi-User System."


def test_without_anything_that_is_asked_for_any_sign_will_do(cloud: Cloud, booted: BootServer) -> None:
    assert "ACTIVE" in see_running(cloud, seeing(booted), no_pulse).evidence


def test_of_several_signs_each_has_to_be_seen(cloud: Cloud, booted: BootServer) -> None:
    port = a_closed_port()
    tcp = Evidence(kind="tcp", port=port)
    see_running(cloud, seeing(booted, GREETING), no_pulse)
    with pytest.raises(BootFailed, match=rf"no evidence of a running guest within 2 s: port {port};") as error:
        see_running(cloud, seeing(booted, GREETING, tcp, timeout=2), no_pulse, worker="mover-1")
    assert f"console '{GREETING.pattern}': console: the guest of the test runs" in error.value.because
    assert f"port {port}: not seen, last: 127.0.0.1: connection refused" in error.value.because
    assert "looked for from worker mover-1" in error.value.because
    assert "the console ends with:\nthe guest of the test runs" in error.value.because
    with a_listener() as port:
        seen = see_running(
            cloud, seeing(booted, GREETING, Evidence(kind="tcp", port=port), MINE), no_pulse, a_command("true")
        )
    assert seen.evidence.split("; ") == [
        "console: the guest of the test runs",
        f"tcp: port {port} of 127.0.0.1 accepts connections",
        "command mine: exit code 0",
    ]


def test_a_sign_that_comes_late_is_waited_for_and_one_that_was_seen_need_not_stay(
    cloud: Cloud, booted: BootServer, tmp_path: Path
) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    early.touch()
    threading.Timer(1.0, late.touch).start()
    config = EvidenceConfig(commands={"early": ("rm", str(early)), "late": ("test", "-e", str(late))})
    both = (Evidence(kind="command", command="late"), Evidence(kind="command", command="early"))
    seen = see_running(cloud, seeing(booted, *both), no_pulse, config)
    assert seen.evidence == "command late: exit code 0; command early: exit code 0"


def test_a_guest_whose_console_never_says_it_failed_and_the_console_is_told(cloud: Cloud, booted: BootServer) -> None:
    see_running(cloud, seeing(booted, GREETING), no_pulse)
    with pytest.raises(BootFailed, match="no evidence of a running guest within 1 s") as error:
        see_running(cloud, seeing(booted, Evidence(kind="console", pattern="never said"), timeout=1), no_pulse)
    assert "not seen, last: none of its last" in error.value.because
    assert "the guest of the test runs" in error.value.because
    assert "worker" not in error.value.because


def test_a_server_that_is_no_longer_active_failed_at_once_even_in_the_middle_of_a_command(
    cloud: Cloud, cloud_server: CloudServer, booted: BootServer
) -> None:
    server_id = servers.of_job(cloud, booted.target.job_id)[0].id
    threading.Timer(1.0, lambda: setattr(cloud_server.cloud.servers[server_id], "status", "SHUTOFF")).start()
    began = time.monotonic()
    with pytest.raises(BootFailed, match="SHUTOFF instead of ACTIVE"):
        see_running(cloud, seeing(booted, MINE), no_pulse, a_command("sleep", "40", seconds=60))
    assert time.monotonic() - began < 20


def test_a_wait_that_is_broken_off_ends_the_command_that_runs(cloud: Cloud, booted: BootServer, tmp_path: Path) -> None:
    number = tmp_path / "number"

    def broken_off(detail: Model | None = None) -> None:
        del detail
        if number.exists() and number.read_text():
            raise Interrupted("the work was cancelled")

    script = f"echo $$ > {number}; exec sleep 40"
    with pytest.raises(Interrupted):
        see_running(cloud, seeing(booted, MINE), broken_off, a_command("sh", "-c", script))
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), signal.SIG_DFL)


def test_a_wrong_regular_expression_is_refused_as_such(cloud: Cloud, booted: BootServer) -> None:
    with pytest.raises(TargetRejected, match="no regular expression"):
        see_running(cloud, seeing(booted, console="("), no_pulse)


# --- the looks --------------------------------------------------------------------------------------------------------


def look(
    evidence: Evidence, *addresses: str, config: EvidenceConfig | None = None, seconds: float = 10.0
) -> signs.Sign:
    sign = signs.sign_of(evidence, addresses, config or EvidenceConfig(), {"XMS_VM": "tiny"})
    sign.last = sign.look(no_pulse, seconds) or f"not seen: {sign.last}"
    return sign


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_accepts_is_seen_by_ipv4_and_by_ipv6_and_nothing_is_sent(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = int(server.getsockname()[1])
        assert (
            look(Evidence(kind="tcp", port=port), address).last == f"tcp: port {port} of {address} accepts connections"
        )
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(1) == b""


def test_one_address_of_several_is_enough_and_one_that_is_named_counts_alone() -> None:
    with a_listener("127.0.0.2") as port:
        tcp = Evidence(kind="tcp", port=port)
        assert look(tcp, "127.0.0.1", "127.0.0.2").last.startswith(f"tcp: port {port} of 127.0.0.2")
        named = look(Evidence(kind="tcp", port=port, address="127.0.0.1"), "127.0.0.2")
        assert named.last == "not seen: 127.0.0.1: connection refused"


def test_a_port_that_does_not_answer_is_given_up_after_a_while() -> None:
    # A listener whose queue is full lets nobody in, and refuses nobody.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = int(server.getsockname()[1])
        crowd = [socket.socket() for _ in range(3)]
        for one in crowd:
            one.setblocking(False)  # noqa: FBT003 - the library's own
            one.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        assert look(Evidence(kind="tcp", port=port), *HERE, seconds=1.0).last == "not seen: 127.0.0.1: no answer"
        assert 0.9 < time.monotonic() - began < 3
        for one in crowd:
            one.close()


def test_a_target_without_an_address_is_not_seen_at_one() -> None:
    assert look(Evidence(kind="tcp", port=22)).last == "not seen: the target has no address"
    assert look(Evidence(kind="ping")).last == "not seen: the target has no address"


def a_ping_works() -> bool:
    return shutil.which("ping") is not None and os.system("ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1") == 0  # noqa: S605


@pytest.mark.skipif(not a_ping_works(), reason="this machine has no ping, or may not use it")
def test_an_address_that_answers_a_ping_is_seen() -> None:
    assert look(Evidence(kind="ping"), "127.0.0.1").last == "ping: 127.0.0.1 answers"


def a_program(path: Path, name: str, script: str) -> None:
    program = path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "192.0.2.7: no answer"),
        ("echo 'ping: connect: Network is unreachable'; exit 2", "192.0.2.7: ping: connect: Network is unreachable"),
        ("exit 2", "192.0.2.7: exit code 2"),
    ],
)
def test_an_address_without_an_answer_is_told_apart_from_a_ping_that_could_not_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    a_program(tmp_path, "ping", f'[ "$*" = "-c 1 -W 2 192.0.2.7" ] || exit 9\n{script}')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert look(Evidence(kind="ping"), "192.0.2.7").last == f"not seen: {words}"


def test_a_command_is_seen_by_its_exit_code_and_tells_what_it_said_last() -> None:
    assert look(MINE, config=a_command("true")).last == "command mine: exit code 0"
    said = "seq 1 5; printf 'six \\033[31mred\\n\\n'"
    assert look(MINE, config=a_command("sh", "-c", said)).last == "command mine: 4 | 5 | six red"
    failed = look(MINE, config=a_command("sh", "-c", "echo down >&2; exit 3"))
    assert failed.last == "not seen: exit code 3: down"
    assert look(MINE, config=a_command("sh", "-c", "kill -9 $$")).last == "not seen: ended by signal 9"


def test_a_command_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    slow = look(MINE, config=a_command("sh", "-c", "echo waiting; sleep 30", seconds=1.0))
    assert slow.last == "not seen: not finished after 1 s: waiting"
    assert time.monotonic() - began < 10


def test_of_what_a_command_says_a_few_lines_are_kept_however_much_it_is() -> None:
    much = look(MINE, config=a_command(sys.executable, "-c", "print('x' * 50_000_000); print('the end')"))
    assert much.last.endswith(" | the end")
    assert len(much.last) < 300


def test_what_a_command_leaves_running_holds_nobody_up() -> None:
    began = time.monotonic()
    assert look(MINE, config=a_command("sh", "-c", "sleep 20 & echo left")).last == "command mine: left"
    assert time.monotonic() - began < 5


def test_a_command_is_told_where_to_look_and_nothing_of_the_worker(
    cloud: Cloud, booted: BootServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_PASSWORD", "secret")
    told = tmp_path / "told"
    config = a_command("sh", "-c", f"env > {told}")
    see_running(cloud, seeing(booted, MINE, addresses=("10.20.0.15", "2001:db8::15")), no_pulse, config)
    found = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert {name: value for name, value in found.items() if name.startswith("XMS_")} == {
        "XMS_SERVER_ID": servers.of_job(cloud, booted.target.job_id)[0].id,
        "XMS_ADDRESSES": "10.20.0.15 2001:db8::15",
        "XMS_VM": "tiny",
        "XMS_JOB": booted.target.job_id,
    }
    of_the_shell = {"PWD", "SHLVL", "OLDPWD", "_"}
    passed_on = {name for name in found if not name.startswith("XMS_")} - of_the_shell
    assert passed_on <= {"PATH", "HOME", "LD_LIBRARY_PATH", "LANG"}


def test_a_worker_without_the_command_leaves_it_to_another_one() -> None:
    with pytest.raises(OutOfSight, match="has no command 'mine'") as error:
        look(MINE)
    assert error.value.retryable
    with pytest.raises(OutOfSight, match="no-such-program is missing"):
        look(MINE, config=a_command("no-such-program"))


# --- the gates --------------------------------------------------------------------------------------------------------


def refuse(*evidence: Evidence, nics: tuple[Nic, ...] = (NIC,), config: EvidenceConfig | None = None) -> None:
    signs.refuse_impossible(evidence, config or a_command("true"), nics, "mover-1")


def test_what_can_be_seen_passes_the_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    refuse(GREETING, Evidence(kind="tcp", port=22), Evidence(kind="ping"), MINE)
    refuse(GREETING, MINE, nics=())


@pytest.mark.parametrize("evidence", [Evidence(kind="tcp", port=22), Evidence(kind="ping")])
def test_without_a_nic_nothing_is_looked_for_at_an_address(evidence: Evidence) -> None:
    with pytest.raises(BadInput, match="cannot be seen") as refused:
        refuse(evidence, nics=())
    assert "has no NIC" in refused.value.because
    assert f"{evidence.kind},address=ADDRESS" in refused.value.do


def test_an_unknown_command_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BadInput, match="command other cannot be seen") as refused:
        refuse(Evidence(kind="command", command="other"))
    assert refused.value.because == "the commands of worker mover-1 are: mine"
    with pytest.raises(BadInput) as refused:
        refuse(MINE, config=EvidenceConfig())
    assert refused.value.because == "the commands of worker mover-1 are: none"


def test_a_program_that_is_not_installed_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProgramMissing) as refused:
        refuse(MINE, config=a_command("no-such-program"))
    assert refused.value.because == "worker mover-1 has no program 'no-such-program' on its PATH"
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ping" else name)
    with pytest.raises(ProgramMissing, match="ping cannot be seen"):
        refuse(Evidence(kind="ping"))


def test_an_address_that_no_route_leads_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(BadInput) as refused:
        refuse(Evidence(kind="tcp", port=22, address="10.20.0.15"), nics=())
    assert refused.value.because == "worker mover-1 has no route to 10.20.0.15"


def test_what_no_door_lets_in_does_not_pass_the_gates_either() -> None:
    for evidence in (Evidence(kind="agent"), Evidence(kind="console", pattern="["), Evidence(kind="tcp")):
        with pytest.raises(BadInput):
            refuse(evidence)


# --- the activities ---------------------------------------------------------------------------------------------------


def test_a_workers_configured_command_is_run_by_the_activity_and_an_unknown_one_refused_by_the_gates(
    target_config: TargetConfig, booted: BootServer, tmp_path: Path
) -> None:
    a_program(tmp_path, "db-answers", '[ "$XMS_VM" = tiny ] && echo "$1 rows"')
    file = tmp_path / "config.toml"
    command_line = json.dumps([str(tmp_path / "db-answers"), "17"])
    file.write_text(
        f'[target]\ncloud = "lab"\nclouds_file = "{target_config.clouds_file}"\n'
        f"[evidence]\ncommand_seconds = 20\ncommands = {{ db-answers = {command_line} }}\n"
    )
    activities, run = TargetActivities(load_config(file)), ActivityEnvironment().run
    mine = Evidence(kind="command", command="db-answers")
    assert run(activities.see_running, seeing(booted, mine)).evidence == "command db-answers: 17 rows"
    spec = a_spec(flavor="m1.nano", vm="tiny")
    gates = CheckTarget(spec=spec, vm=a_vm(memory=64 << 20), for_cutover=True, evidence=(mine, GREETING))
    assert len(run(activities.check_target, gates).nics) == 2
    other = gates.model_copy(update={"evidence": (Evidence(kind="command", command="other"),)})
    with pytest.raises(BadInput, match="command other cannot be seen"):
        run(activities.check_target, other)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("commands = { 'a b' = ['true'] }", "evidence.commands.a b"),
        ("commands = { ok = [] }", "evidence.commands.ok"),
        ("commands = { ok = [''] }", "commands.ok names no program"),
        ("commands = { ok = 'true' }", "evidence.commands.ok"),
        ("command_seconds = 0", "evidence.command_seconds"),
    ],
)
def test_a_wrong_configuration_of_commands_is_refused_with_its_key(tmp_path: Path, section: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[target]\ncloud = "lab"\n[evidence]\n{section}\n')
    with pytest.raises(ConfigurationError) as refused:
        load_config(file)
    assert words in refused.value.because
