from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not among our dependencies

from tests.docs.pages import ROOT

FILE: Final = ROOT / "docker-compose.temporal.yml"
PINNED: Final = re.compile(r"^[\w./-]+:\d+\.\d+(\.\d+)?$")


@pytest.fixture
def composition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def a_compose_client() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], check=False, capture_output=True).returncode
        ):
            return command
    return None


def test_every_image_is_pinned_to_a_version(composition: dict[str, Any]) -> None:
    images = [service["image"] for service in composition["services"].values()]
    assert [image for image in images if not PINNED.match(image)] == []
    assert {image.split(":")[0] for image in images} == {
        "postgres",
        "temporalio/admin-tools",
        "temporalio/server",
        "temporalio/ui",
    }


def test_server_and_schema_are_of_one_version(composition: dict[str, Any]) -> None:
    versions = {
        service["image"].split(":")[1]
        for service in composition["services"].values()
        if service["image"].startswith(("temporalio/admin-tools", "temporalio/server"))
    }
    assert len(versions) == 1


def test_nothing_is_published_beyond_this_machine(composition: dict[str, Any]) -> None:
    ports = [port for service in composition["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:7233:7233", "127.0.0.1:8233:8080"]


def test_the_database_is_kept_and_its_password_comes_from_outside(composition: dict[str, Any]) -> None:
    database = composition["services"]["postgresql"]
    assert database["volumes"] == ["database:/var/lib/postgresql/data"]
    assert "database" in composition["volumes"]
    passwords = re.findall(r"(?:PASSWORD|PWD): (.+)", FILE.read_text())
    assert len(passwords) == 3
    assert all(password.startswith("${XMS_TEMPORAL_DB_PASSWORD:-") for password in passwords)


def test_what_waits_for_a_healthy_service_can_see_its_health(composition: dict[str, Any]) -> None:
    services = composition["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[name]


def test_every_file_that_is_mounted_exists(composition: dict[str, Any]) -> None:
    mounts = [mount for service in composition["services"].values() for mount in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    assert all((ROOT / file).is_file() for file in files)
    assert all(isinstance(yaml.safe_load((ROOT / file).read_text()), dict) for file in files)


@pytest.mark.skipif(a_compose_client() is None, reason="no docker compose here; the other tests read the file")
def test_compose_accepts_the_file() -> None:
    command = a_compose_client() or []
    environment = os.environ | {"XMS_TEMPORAL_DB_PASSWORD": "a-password-of-this-test"}
    done = subprocess.run(
        [*command, "-f", str(FILE), "config"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["services"]["temporal"]["environment"]["POSTGRES_PWD"] == "a-password-of-this-test"
