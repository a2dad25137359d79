"""xms source: what is registered, by whom it is trusted, and what a check says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.cli.conftest import House, Terminal
from tests.cli.test_documentation import ALL
from tests.vsphere.conftest import USER, AVcenter, a_vcenter


@pytest.fixture
def vcenter(tmp_path: Path) -> Iterator[AVcenter]:
    (tmp_path / "vcenter").mkdir()
    with a_vcenter(tmp_path / "vcenter") as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path) -> Terminal:
    """A worker's machine, from which Temporal is not reached."""
    return with_a_worker(Terminal("127.0.0.1:1", tmp_path), tmp_path)


def with_a_worker(terminal: Terminal, home: Path) -> Terminal:
    config = home / "config.toml"
    config.write_text('[target]\ncloud = "lab"\n[sources.by-hand]\nhost = "h"\nusername = "u"\npassword_file = "/p"\n')
    terminal.environment["XMS_CONFIG"] = str(config)
    return terminal


def create(vcenter: AVcenter, *more: str, name: str = "lab") -> tuple[str, ...]:
    endpoint = ("--host", vcenter.config.host, "--port", str(vcenter.config.port), "--username", USER)
    return ("source", "create", name, *endpoint, *more)


def registered(tmp_path: Path) -> set[str]:
    directory = tmp_path / "sources.d"
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_script_registers_a_source_with_thumbprint_and_password_file(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path
) -> None:
    trust = ("--thumbprint", str(vcenter.config.thumbprint), "--password-file", str(vcenter.config.password_file))
    done = machine.xms(*create(vcenter, *trust))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("registered: lab, VMware vCenter Server 8.0.3, build 24022515\n")
    assert f"in {tmp_path}/sources.d/lab.toml" in done.out
    assert "every other worker" in done.out
    assert registered(tmp_path) == {"lab.toml"}


def test_a_script_registers_a_source_with_a_password_of_its_environment(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path
) -> None:
    options = create(vcenter, "--thumbprint", str(vcenter.config.thumbprint), "--password-env", "VC", "-o", "json")
    assert machine.xms(*options).code == 2
    done = machine.xms(*options, VC="secret")
    assert done.json["product"].startswith("VMware vCenter Server")
    assert (tmp_path / "sources.d" / "lab.password").read_text() == "secret\n"
    assert "secret" not in done.out + done.err


def test_no_option_takes_a_password() -> None:
    options = {option for parameter in ALL["source", "create"].params for option in parameter.opts}
    assert "--password-file" in options
    assert "--password" not in options


def test_a_script_never_accepts_an_unknown_certificate(machine: Terminal, vcenter: AVcenter, tmp_path: Path) -> None:
    sent = vcenter.log_ins
    done = machine.xms(*create(vcenter, "--password-file", str(vcenter.config.password_file)))
    assert (done.code, done.out) == (2, "")
    assert f"its SHA-256 thumbprint is {vcenter.config.thumbprint}" in done.err
    assert "--thumbprint" in done.err
    assert (sent, registered(tmp_path)) == ([], set())
    assert machine.xms(*create(vcenter, "--yes")).code == 2


def at_the_prompts(machine: Terminal, vcenter: AVcenter, trust: str, password: str | None) -> pexpect.spawn[str]:
    terminal = machine.at_a_terminal(*create(vcenter), columns=140)
    terminal.expect("subject +CN=vcenter.lab")
    terminal.expect(r"issuer +CN=vcenter.lab \(signed by itself\)")
    terminal.expect(r"valid +\d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d")
    terminal.expect_exact(str(vcenter.config.thumbprint))
    terminal.expect("Type yes, or the thumbprint")
    terminal.sendline(trust)
    if password is not None:
        terminal.expect("Password of administrator@vsphere.local on 127.1")
        terminal.sendline(password)
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal


@pytest.mark.parametrize("answer", ["yes", "the thumbprint"])
def test_at_a_terminal_the_certificate_is_shown_and_accepted_and_the_password_is_asked_for(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path, answer: str
) -> None:
    trust = answer if answer == "yes" else str(vcenter.config.thumbprint).lower()
    terminal = at_the_prompts(machine, vcenter, trust, "secret")
    assert terminal.exitstatus == 0
    assert "registered: lab" in str(terminal.before)
    assert "secret" not in str(terminal.before)
    assert registered(tmp_path) == {"lab.toml", "lab.password"}
    assert str(vcenter.config.thumbprint) in (tmp_path / "sources.d" / "lab.toml").read_text()


@pytest.mark.parametrize("answer", ["no", "", "y", ":".join(["AB"] * 32)])
def test_at_a_terminal_anything_but_yes_or_the_thumbprint_is_a_no(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path, answer: str
) -> None:
    sent = vcenter.log_ins
    terminal = at_the_prompts(machine, vcenter, answer, None)
    assert terminal.exitstatus == 3
    assert "the certificate is not trusted" in str(terminal.before)
    assert (sent, registered(tmp_path)) == ([], set())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--thumbprint", "AB:CD", "--password-env", "VC"), "is no SHA-256 thumbprint"),
        (
            ("--thumbprint", "AB", "--ca-file", "/x", "--password-env", "VC"),
            "--ca-file and --thumbprint are both given",
        ),
        (("--password-file", "/x", "--password-env", "VC"), "--password-file and --password-env are both given"),
        (("--thumbprint", "AB" * 32), "the password is missing"),
        (("--thumbprint", "AB" * 32, "--password-env", "EMPTY"), "EMPTY is empty or not set"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    done = machine.xms(*create(vcenter, *more), VC="secret")
    assert done.code == 2
    assert words in done.err
    assert registered(tmp_path) == set()


def test_without_a_check_a_source_that_is_not_there_yet_can_be_registered(
    machine: Terminal, vcenter: AVcenter, tmp_path: Path
) -> None:
    vcenter.server.stop()
    options = create(vcenter, "--thumbprint", "AB" * 32, "--password-env", "VC")
    refused = machine.xms(*options, VC="secret")
    assert refused.code == 5
    assert "cannot be reached" in refused.err
    assert registered(tmp_path) == set()
    done = machine.xms(*options, "--no-check", VC="secret")
    assert (done.code, "registered: lab, not checked" in done.out) == (0, True)


# --- remove -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(machine: Terminal, vcenter: AVcenter) -> Terminal:
    options = create(vcenter, "--thumbprint", str(vcenter.config.thumbprint), "--password-env", "VC", "--no-check")
    assert machine.xms(*options, VC="secret").code == 0
    return machine


def test_remove_asks_before_and_says_where_temporal_was_not_reached(lab: Terminal, tmp_path: Path) -> None:
    refused = lab.xms("source", "remove", "lab")
    assert refused.code == 2
    assert "give --yes" in refused.err
    assert registered(tmp_path) == {"lab.toml", "lab.password"}
    terminal = lab.at_a_terminal("source", "remove", "lab", columns=140)
    terminal.expect("whether jobs of lab run is not known: no Temporal server answers")
    terminal.expect("Remove source lab")
    terminal.sendline("n")
    terminal.expect("not confirmed")
    terminal.expect(pexpect.EOF)
    assert registered(tmp_path) == {"lab.toml", "lab.password"}
    done = lab.xms("source", "remove", "lab", "--yes")
    assert done.code == 0
    assert "removed: lab" in done.out
    assert registered(tmp_path) == set()


def test_a_source_of_the_configuration_file_is_not_removed(lab: Terminal) -> None:
    done = lab.xms("source", "remove", "by-hand", "--yes")
    assert done.code == 3
    assert "registered by hand" in done.err
    assert "take [sources.by-hand] out of that file" in done.err
    assert lab.xms("source", "remove", "moon", "--yes").code == 2


@pytest.mark.slow
def test_a_source_with_jobs_is_not_removed_unless_forced(house: House, vcenter: AVcenter, tmp_path: Path) -> None:
    with_a_worker(house, tmp_path)
    options = create(vcenter, "--thumbprint", "AB" * 32, "--password-env", "VC", "--no-check", name="prod-vcenter")
    assert house.xms(*options, VC="secret").code == 0
    house.a_ready_job()
    done = house.xms("source", "remove", "prod-vcenter", "--yes")
    assert done.code == 3
    assert "1 job of it has not ended: warm-prod-vcenter-db-prod-01" in done.err
    assert registered(tmp_path) == {"prod-vcenter.toml", "prod-vcenter.password"}
    assert house.xms("source", "remove", "prod-vcenter", "--yes", "--force").code == 0
    assert registered(tmp_path) == set()


# --- show and check ---------------------------------------------------------------------------------------------------


def test_what_a_source_lacks_is_told_by_name_and_the_exit_code_says_so(house: House) -> None:
    done = house.xms("source", "check", "poor-vcenter")
    assert done.code == 5
    assert "VirtualMachine.State.CreateSnapshot  Frankfurt  every sync" in done.out
    assert "1 of 2 reached by worker mover-1" in done.out
    assert "esx-02  connected   port 902: Connection refused" in done.out
    assert "error: poor-vcenter is not ready: 1 privilege missing, 1 host not reached" in done.err
    told = house.xms("source", "check", "poor-vcenter", "-o", "json")
    assert told.code == 5
    assert told.err == ""
    assert told.json["missing_privileges"][0]["privilege"] == "VirtualMachine.State.CreateSnapshot"
    assert [host["reachable"] for host in told.json["hosts"]] == [True, False]
    shown = house.xms("source", "show", "prod-vcenter")
    assert shown.out.startswith("prod-vcenter: vc.example:443\n  user         xms@vsphere.local\n")
    assert house.xms("source", "show", "prod-vcenter", "-o", "json").json["username"] == "xms@vsphere.local"
    unknown = house.xms("source", "show", "moon", "-o", "json")
    assert unknown.code == 2
    assert json.loads(unknown.err)["error"]["because"] == "the worker's sources are: prod-vcenter"
