"""`xms lab`: a newcomer brings the lab up, looks at it, and brings it down again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.stage import REPOSITORY
from tests.end_to_end.test_with_a_guest import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.lab]

XMS = str(Path(sys.executable).parent / "xms")


def xms(directory: Path, *words: str) -> str:
    done = subprocess.run(
        [XMS, *words],
        cwd=REPOSITORY,
        env=os.environ | {"XMS_LAB": str(directory)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_lab_comes_up_serves_the_product_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "lab"
    try:
        assert "export TEMPORAL_ADDRESS=" in xms(directory, "lab", "up", "--power-on", "web-03")
        status = json.loads(xms(directory, "lab", "status", "--output", "json"))
        assert {part["name"] for part in status["parts"] if part["running"]} == {
            "temporal",
            "vsphere",
            "cloud",
            "worker",
        }
        monkeypatch.setenv("TEMPORAL_ADDRESS", status["environment"]["TEMPORAL_ADDRESS"])
        vms = json.loads(xms(directory, "vm", "list", "--source", "prod-vcenter", "--output", "json"))["vms"]
        assert {vm["name"]: (vm["power_state"], len(vm["disks"]), len(vm["nics"])) for vm in vms} == {
            "db-prod-01": ("poweredOff", 2, 2),
            "web-03": ("poweredOn", 1, 1),
        }
        again = xms(directory, "lab", "up")
        assert str(next(part["pid"] for part in status["parts"] if part["name"] == "worker")) in again
    finally:
        xms(directory, "lab", "down")
    assert processes_of(directory) == []
    assert not directory.exists()
