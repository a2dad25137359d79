"""Where output goes: data to stdout, everything else to stderr; tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from xms.errors import XmsError

Output = Literal["table", "json"]

PIPE_WIDTH: Final = 400
"""Columns where there is no terminal: no line of a table is broken for a program that reads it."""


def console(stream: TextIO | None = None) -> Console:
    """A console that knows its terminal, or that it has none."""
    from rich.console import Console

    target = stream or sys.stdout
    # Numbers and paths get no colours of their own: a colour means a phase or trouble.
    return Console(
        file=target,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        width=None if target.isatty() else PIPE_WIDTH,
    )


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line of stdout, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A remark beside the data, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def error_lines(error: XmsError) -> list[str]:
    """An error on up to four lines: what, because, means, do. Causes of several lines are indented."""
    parts = (("because", error.because), ("means", error.means), ("do", error.do))
    lines = [f"error: {error.what}"]
    for label, text in parts:
        if text:
            first, *others = text.splitlines()
            lines.append(f"  {label}: {first}")
            lines += [f"    {other}" for other in others]
    return lines


def print_error(lines: list[str], fields: dict[str, Any], *, as_json: bool) -> None:
    """An error on stderr: for people the lines, the first in red at a terminal; for programs one JSON object."""
    if as_json:
        sys.stderr.write(json.dumps({"error": fields}, indent=2, ensure_ascii=False) + "\n")
        return
    from rich.text import Text

    out = console(sys.stderr)
    for number, line in enumerate(lines):
        out.print(Text(line, style="bold red" if number == 0 else ""), soft_wrap=True)


def wants_json(arguments: list[str]) -> bool:
    """Whether the command line asks for JSON, as far as it can be told before it is parsed."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(
        this in {"--output=json", "--format=json"} or (this in {"--output", "-o", "--format"} and following == "json")
        for this, following in pairs
    )
