"""Commands as they are typed: without a server, without a worker, and what is asked of sources."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, SUBMIT, House, Terminal

JOB = "warm-prod-vcenter-db-prod-01"


# --- without Temporal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["migration"], ["migration", "submit"], ["source"], ["vm"], ["preflight"]])
def test_help_imports_neither_temporal_nor_vsphere_nor_openstack(command: list[str]) -> None:
    probe = (
        "import sys; from cli.main import run; code = run([*sys.argv[1:], '--help']); "
        "sys.stdout.write(str([m for m in ('temporalio', 'pyVmomi', 'openstack', 'hypothesis') if m in sys.modules])); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: xms" in done.stdout
    assert done.stdout.endswith("[]")


def test_the_version_is_told(without_server: Terminal) -> None:
    assert without_server.xms("--version").out.startswith("xms 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["migration", "shw"], "No such command 'shw'"),
        (["migration", "show", "--colour"], "No such option: --colour"),
        (["migration", "submit"], "Missing option '--source'"),
        (["migration", "show"], "no job is named"),
        (["migration", "sync", "a", "--job", "b"], "two jobs are named"),
        (["migration", "cadence", "5s", "--job", "a"], "cadence '5s' is too short"),
        (["migration", "rate-limit", "5KiB", "--job", "a"], "rate limit '5KiB' is too small"),
        (["migration", "submit", *SUBMIT, "--vm", "v", "--rate-limit", "fast"], "--rate-limit 'fast' is no rate"),
        (["migration", "list", "--phase", "Redy"], "--phase 'Redy' is unknown"),
        (["migration", "watch", "a", "--timeout", "soon"], "--timeout 'soon' is no duration"),
        (["migration", "cutover", "a", "--yes", "--console-evidence", "["], "is no regular expression"),
        (["migration", "cutover", "a", "--yes", "--console-evidence", ".*"], "every line matches it"),
        (["migration", "cutover", "a", "--yes", "--evidence", "tcp"], "--evidence 'tcp' is no evidence"),
        (["migration", "cutover", "a", "--yes", "--evidence", "ping", "--evidence", "agent"], "agent cannot be had"),
        (["migration", "cutover", "a", "--yes", "--on-failure", "pray"], "--on-failure"),
        (["migration", "cutover", "a", "--yes", "--rollback-period", "long"], "--rollback-period 'long' is no period"),
        (["migration", "cutover", "a", "--yes", "--rollback-period", "400d"], "'400d' is too long"),
        (["migration", "rollback", "a", "--wait", "--timeout", "soon"], "--timeout 'soon' is no duration"),
        (["migration", "submit", *SUBMIT, "--vm", "v", "--kind", "cold"], "--kind 'cold' is unknown"),
        (["migration", "submit", *SUBMIT, "--vm", "v", "--sync-cadence", "often"], "'often' is no cadence"),
        (["migration", "submit", *SUBMIT, "--vm", "v", "--network-map", "LAN"], "--network-map 'LAN' is no mapping"),
        (["migration", "submit", *SUBMIT, "--vm", "v", "--scrub", "101%"], "--scrub '101%' is no share"),
        (["migration", "verify", "a", "--wait", "--timeout", "soon"], "--timeout 'soon' is no duration"),
        (["migration", "submit", *SUBMIT, "--vm", " "], "--vm is empty"),
    ],
)
def test_bad_input_is_refused_before_temporal_is_asked(
    without_server: Terminal, arguments: list[str], words: str
) -> None:
    done = without_server.xms(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.parametrize("arguments", [["migration", "list"], ["migration", "show", JOB], ["source", "list"]])
def test_no_server_is_told_with_its_address(without_server: Terminal, arguments: list[str]) -> None:
    done = without_server.xms(*arguments)
    assert (done.code, done.out) == (4, "")
    assert "error: no Temporal server answers at 127.0.0.1:1\n  because: the connection is refused" in done.err
    assert "TEMPORAL_ADDRESS" in done.err


def test_an_error_is_json_where_json_is_asked_for(without_server: Terminal) -> None:
    error = json.loads(without_server.xms("migration", "list", "-o", "json").err)["error"]
    assert (error["kind"], error["exit_code"]) == ("TemporalUnreachable", 4)
    usage = json.loads(without_server.xms("migration", "shw", "--output=json").err)["error"]
    assert (usage["exit_code"], usage["do"]) == (2, "xms migration --help")
    assert error["what"]
    assert error["because"]
    assert error["do"]


def test_a_profile_that_does_not_exist_is_a_mistake_of_the_settings(without_server: Terminal) -> None:
    done = without_server.xms("migration", "list", TEMPORAL_PROFILE="nope")
    assert done.code == 2
    assert "nope" in done.err


SABOTAGE = """
import cli.session

def ask(*_, **__):
    raise ZeroDivisionError("nobody planned this")

cli.session.ask = ask
"""


def test_a_mistake_of_ours_is_a_short_message_and_a_log(without_server: Terminal, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    done = without_server.xms("migration", "list", PYTHONPATH=str(tmp_path))
    assert done.code == 1
    assert "error: xms itself failed: ZeroDivisionError" in done.err
    log = tmp_path / ".local" / "state" / "xms" / "xms.log"
    assert str(log) in done.err
    assert log.stat().st_mode & 0o077 == 0
    text = log.read_text()
    assert "Traceback" in text
    assert "xms migration list" in text


# --- without a worker -------------------------------------------------------------------------------------------------


def test_without_a_worker_a_question_is_answered_at_once_with_what_is_missing(without_worker: Terminal) -> None:
    for arguments in (
        ["source", "list"],
        ["vm", "list", "--source", "s"],
        ["migration", "submit", *SUBMIT, "--vm", "v"],
    ):
        done = without_worker.xms(*arguments)
        assert done.code == 4
        assert "no worker serves task queue 'xms'" in done.err
        assert "xms-worker" in done.err


def test_a_namespace_that_does_not_exist_is_named(without_worker: Terminal) -> None:
    done = without_worker.xms("migration", "list", TEMPORAL_NAMESPACE="nowhere")
    assert done.code == 4
    assert "has no namespace 'nowhere'" in done.err


def test_an_unknown_job_is_named(without_worker: Terminal) -> None:
    for verb in ("show", "watch", "sync", "pause", "resume", "retry", "verify", "events"):
        done = without_worker.xms("migration", verb, "warm-no-such-job")
        assert done.code == 3
        assert "there is no job 'warm-no-such-job'" in done.err


# --- sources and VMs --------------------------------------------------------------------------------------------------


def test_sources_and_vms_are_listed_and_checked(house: House) -> None:
    assert "prod-vcenter  vc.example:443" in house.xms("source", "list").out
    assert house.xms("source", "list", "-o", "json").json["sources"][0]["name"] == "prod-vcenter"
    assert "VMware vCenter Server 8.0.3, build 24022515" in house.xms("source", "check", "prod-vcenter").out
    assert house.xms("source", "check", "prod-vcenter", "-o", "json").json["version"] == "8.0.3"
    assert "web-03" in house.xms("vm", "list", "--source", "prod-vcenter").out
    assert len(house.xms("vm", "list", "--source", "prod-vcenter", "-o", "json").json["vms"]) == 2


def test_what_a_source_says_no_to_is_told_in_its_own_words(house: House) -> None:
    done = house.xms("source", "check", "locked-vcenter")
    assert done.code == 5
    assert "error: locked-vcenter does not let xms@vsphere.local in" in done.err
    assert "because: InvalidLogin" in done.err
    assert house.xms("source", "check", "nowhere").code == 2
