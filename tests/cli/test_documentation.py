"""docs/cli.md against the code: its commands, options, exit codes and JSON keys."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import typer.main

from cli.exit_codes import ExitCode
from cli.figures import as_json
from cli.main import app
from tests.cli.conftest import ROOT, House
from tests.cli.test_screens import READY
from xms.report.model import Report

PAGE = (ROOT / "docs" / "cli.md").read_text()
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - typer's own
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(leaves(typer.main.get_command(app)))


def path_of(line: str) -> tuple[str, ...]:
    """The command of a line: ('migration', 'show'), or ('preflight',)."""
    words = tuple(shlex.split(line, comments=True))[1:]
    return words[:1] if words[:1] in ALL else words[:2]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_documented_command_can_be_parsed(line: str) -> None:
    path, words = path_of(line), shlex.split(line)
    assert words[0] == "xms"
    ALL[path].make_context(" ".join(("xms", *path)), words[1 + len(path) :])


def test_every_command_and_option_of_the_product_is_documented() -> None:
    shown = {path_of(line) for line in COMMANDS}
    assert {path for path in ALL if path[0] != "lab"} == shown
    for path, command in ALL.items():
        if path[0] == "lab":
            continue
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            assert not options or any(option in PAGE for option in options), (path, options)


def test_the_exit_codes_are_documented() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


def keys(command: str) -> set[str]:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{command}` |"))
    return set(re.findall(r"`(\w+)`", row.split("|")[2]))


def test_the_keys_of_a_report_are_documented() -> None:
    assert set(Report.model_fields) == keys("xms migration report")


def test_the_keys_of_show_are_documented() -> None:
    assert set(as_json(READY, datetime.now(UTC))) == keys("xms migration show")


@pytest.mark.slow
def test_the_keys_of_the_other_commands_are_documented(house: House) -> None:
    answers: dict[str, Callable[[], Any]] = {
        "xms migration submit": lambda: house.submit("db-prod-01", "-o", "json").json,
        "xms source list": lambda: house.xms("source", "list", "-o", "json").json,
        "xms source show": lambda: house.xms("source", "show", "prod-vcenter", "-o", "json").json,
        "xms source check": lambda: house.xms("source", "check", "prod-vcenter", "-o", "json").json,
        "xms target list": lambda: house.xms("target", "list", "-o", "json").json,
        "xms target check": lambda: house.xms("target", "check", "-o", "json").json,
        "xms vm list": lambda: house.xms("vm", "list", "--source", "prod-vcenter", "-o", "json").json,
        "xms preflight": lambda: (
            house.xms("preflight", "--source", "prod-vcenter", "--vm", "web-03", "-o", "json").json
        ),
        "xms migration sync": lambda: house.xms("migration", "sync", "warm-prod-vcenter-db-prod-01", "-o", "json").json,
        "xms migration list": lambda: house.xms("migration", "list", "-o", "json").json,
        "xms migration events": lambda: (
            house.xms("migration", "events", "warm-prod-vcenter-db-prod-01", "-o", "json").json
        ),
    }
    for command, answer in answers.items():
        assert set(answer()) == keys(command), command
