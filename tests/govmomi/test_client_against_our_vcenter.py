"""govmomi's types and serializer against the stand-in vCenter: what pyVmomi at both ends would hide."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from lab.esxi.memory import MemoryHost, MemoryMachine, a_machine
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from tests.govmomi import building
from tests.govmomi.calls import calls_of_the_product
from xms.vsphere.change_tracking import STATE
from xms.vsphere.inventory import LEAVES

pytestmark = pytest.mark.slow

USER = "xms@lab"
PASSWORD = 'a <secret> & "more"'

OTHER_PATHS = ("config.annotation", "recentTask", "runtime.host", "summary.config.name")
SCENES = (
    "sessions",
    "expiry",
    "inventory",
    "properties",
    "updates",
    "power",
    "settings",
    "snapshots",
    "change tracking",
    "malformed",
)


@dataclass(frozen=True)
class Check:
    scene: str
    check: str
    calls: list[str]
    error: str


@dataclass(frozen=True)
class Report:
    """What the client told; `printed` is all that it wrote."""

    checks: list[Check]
    exit_code: int
    printed: str


@dataclass
class Stage:
    """What the client may ask of the outside of the server."""

    server: VcenterServer
    web: MemoryMachine

    def fulfil(self, wish: str, arguments: list[int]) -> None:
        wishes: dict[str, Callable[[], None]] = {
            "drop the sessions": self.server.drop_sessions,
            "write": lambda: self.write(arguments),
            "need consolidation": lambda: self.server.faults.consolidation_needed.add("web"),
            "set the page size": lambda: setattr(self.server.faults, "page_size", arguments[0]),
            "give empty pages": lambda: setattr(self.server.faults, "empty_pages", bool(arguments[0])),
        }
        wishes[wish]()

    def write(self, offsets: list[int]) -> None:
        for offset in offsets:
            self.web.write(2000, offset, b"new")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """One run of the client against a server of its own."""
    web, database = a_machine("web"), a_machine("db", disks=2, networks=["VM Network"], plays_tools=False)
    pem = tmp_path_factory.mktemp("govmomi") / "vcenter.pem"
    make(pem, ["127.0.0.1"])
    server = VcenterServer(
        MemoryHost((web, database)), address="127.0.0.1", port=0, certificate=pem, users={USER: PASSWORD}
    )
    server.start()
    try:
        yield play(Stage(server, web), pem)
    finally:
        server.stop()


def play(stage: Stage, pem: Path) -> Report:
    scenario = {
        "Address": f"127.0.0.1:{stage.server.port}",
        "Certificate": str(pem),
        "User": USER,
        "Password": PASSWORD,
        "Version": "7.0",
        "MachinePaths": sorted({*LEAVES, *STATE, *OTHER_PATHS}),
        "SnapshotPaths": ["config.hardware.device"],
    }
    checks, printed = [], []
    with subprocess.Popen(
        [building.program("client")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        tell(client.stdin, json.dumps(scenario))
        for line in client.stdout:
            printed.append(line)
            told = json.loads(line)
            if "ask" in told:
                stage.fulfil(told["ask"], told["arguments"] or [])
                tell(client.stdin, "done")
            else:
                checks.append(Check(told["scene"], told["check"], told["calls"] or [], told["error"]))
    return Report(checks, client.returncode, "".join(printed))


def tell(stdin: IO[str], line: str) -> None:
    stdin.write(line + "\n")
    stdin.flush()


@pytest.mark.parametrize("scene", SCENES)
def test_every_answer_is_as_the_schema_says(report: Report, scene: str) -> None:
    played = [check for check in report.checks if check.scene == scene]
    assert len(played) > 1
    assert [f"{check.check}: {check.error}" for check in played if check.error] == []


def test_every_scene_was_played_to_its_end(report: Report) -> None:
    assert {check.scene for check in report.checks} == set(SCENES)
    assert report.exit_code == 0


def test_every_call_that_the_product_makes_was_made_from_outside(report: Report) -> None:
    made = {call for check in report.checks for call in check.calls}
    wanted = calls_of_the_product()
    assert {call: module for call, module in wanted.items() if call not in made} == {}


def test_the_report_has_no_secret_in_it(report: Report) -> None:
    assert PASSWORD not in report.printed
    assert json.dumps(PASSWORD) not in report.printed


def test_the_products_calls_are_found_in_its_code() -> None:
    found = calls_of_the_product()
    assert {"Login", "QueryChangedDiskAreas", "RetrievePropertiesEx", "DestroyView", "RemoveSnapshot_Task"} <= set(
        found
    )
    assert found["QueryChangedDiskAreas"] == "change_tracking.py"


@pytest.mark.parametrize("name", ["client", "simulator"])
def test_the_go_programs_are_formatted(name: str) -> None:
    formatter = building.go().with_name("gofmt")
    told = subprocess.run([formatter, "-l", *building.sources(name)], capture_output=True, text=True, check=True)
    assert told.stdout == ""
