from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest
from temporalio.envconfig import ClientConfigProfile
from typer.main import get_command
from typer.testing import CliRunner

from lab.programs import find_program
from tests.cli.test_documentation import ALL, path_of
from tests.docs.pages import PAGES, ROOT, blocks, lines, name, rows

README: Final = ROOT / "README.md"
OTHERS: Final = [page for page in PAGES if page.name != "cli.md"]  # that one has its own test
COMMANDS: Final = [(name(page), line) for page in OTHERS for line in lines(page, "xms")]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_the_pages_can_be_parsed(page: str, line: str) -> None:
    path, words = path_of(line), shlex.split(line, comments=True)
    assert words[0] == "xms", page
    ALL[path].make_context(" ".join(("xms", *path)), words[1 + len(path) :])


def test_the_readme_leads_through_a_whole_migration() -> None:
    shown = [tuple(shlex.split(line)[1:3]) for line in lines(README, "xms")]
    steps = [
        ("lab", "up"),
        ("preflight", "--source"),
        ("migration", "submit"),
        ("migration", "sync"),
        ("migration", "rehearse"),
        ("migration", "cutover"),
        ("migration", "report"),
        ("migration", "finalize"),
        ("lab", "down"),
    ]
    in_order = [step for step in shown if step in steps]
    assert list(dict.fromkeys(in_order)) == steps


def test_every_make_target_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = {shlex.split(line)[1] for line in lines(page, "make")} | set(
            re.findall(r"`make (\w+)`", page.read_text())
        )
        assert named <= targets, name(page)
    assert {"demo", "test", "setup", "check"} <= {shlex.split(line)[1] for line in lines(README, "make")} | set(
        re.findall(r"`make (\w+)`", README.read_text())
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_of_shell_names_only_programs_that_are_explained(page: Path) -> None:
    known = {"make", "xms", "xms-worker", "export", "docker", ".", "temporal"}
    for language in ("bash", "console"):
        for block in blocks(page, language):
            assert {line.split(" ", 1)[0] for line in block.splitlines() if line and line[0] != " "} <= known


@pytest.mark.parametrize("line", [line for page in PAGES for line in lines(page, "temporal")])
def test_a_command_of_temporals_own_cli_has_these_options(line: str) -> None:
    words = shlex.split(line)[1:]
    verbs = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    shown = subprocess.run([find_program("temporal"), *verbs, "--help"], check=True, capture_output=True, text=True)
    assert [word for word in words if word.startswith("--") and word not in shown.stdout] == []


def test_the_options_of_the_worker_exist() -> None:
    import typer  # noqa: PLC0415

    from worker import start  # noqa: PLC0415 - it imports every activity

    app = typer.Typer()
    app.command()(start)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for page in PAGES:
        for line in lines(page, "xms-worker"):
            options = [word for word in shlex.split(line) if word.startswith("--")]
            assert all(option in shown for option in options), line
    assert get_command(app).name


def test_the_documented_variables_are_those_of_the_sdk(tmp_path: Path) -> None:
    certificate = tmp_path / "file.pem"
    certificate.write_text("x")
    variables = [word for cell in rows(README, "## Your own Temporal") for word in cell.replace("`", "").split(", ")]
    assert len(variables) == 10
    for variable in variables:
        if variable in {"TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"}:
            continue
        value = str(certificate) if variable.endswith("_PATH") else "true"
        nothing, something = (
            ClientConfigProfile.load(disable_file=True, override_env_vars=environment)
            for environment in ({}, {variable: value})
        )
        assert something != nothing, variable


def test_the_documented_profile_of_a_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.far]\naddress = "far:7233"\n')
    variables = {"TEMPORAL_PROFILE": "far", "TEMPORAL_CONFIG_FILE": str(file)}
    assert ClientConfigProfile.load(override_env_vars=variables).address == "far:7233"
