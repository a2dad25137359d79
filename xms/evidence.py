"""What may be asked for as evidence of a boot, and how it is called. Pure: what is seen is `xms.openstack.evidence`'s.

The rules hold at every door: the command line, the workflow's updates and signals, and the cutover's gates.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final

from xms.cutover import Evidence
from xms.errors import BadInput

AT_MOST: Final = 10
"""Signs that one order may ask for: each is looked for one after the other, again and again."""

LONGEST_PATTERN: Final = 500

COMMAND_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

LONGEST_LINE: Final = 200
"""Characters of one line that a guest or a program printed, as far as it becomes part of a record."""

TERMINAL_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[0-Z\\-~])")
"""ECMA-48: a control sequence, as systemd colours its console by, or a single escape."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "console": ("pattern",),
    "tcp": ("port", "address"),
    "ping": ("address",),
    "command": ("command",),
}
"""What each kind may be told; what another kind needs is a mistake."""

NO_AGENT: Final = (
    "Nova has no call by which a project's member could ask a guest's agent: what reaches the agent freezes the "
    "guest's file systems for volume snapshots, or changes a password"
)


def refuse_unusable(awaited: Sequence[Evidence]) -> None:
    """Check what is asked for by itself; whether a worker and a target can give it is looked at in the gates.

    Raises:
        BadInput: a kind lacks what it needs or has what it does not know, a value cannot be, or the kind is `agent`.
    """
    if len(awaited) > AT_MOST:
        raise BadInput(f"{len(awaited)} signs are too much evidence", because=f"allowed are {AT_MOST}")
    for evidence in awaited:
        _refuse_unusable(evidence)


def _refuse_unusable(evidence: Evidence) -> None:
    if evidence.kind == "agent":
        raise BadInput(
            "evidence by the guest's agent cannot be had",
            because=NO_AGENT,
            do="take tcp=PORT or ping, or command=NAME with a command of yours that asks the guest",
        )
    given = {name for name in ("pattern", "port", "address", "command") if getattr(evidence, name)}
    strange = sorted(given - set(FIELDS[evidence.kind]))
    if strange:
        raise BadInput(
            f"evidence {evidence.kind} has no {strange[0]}",
            because=f"it may be told: {', '.join(FIELDS[evidence.kind])}",
        )
    match evidence.kind:
        case "console":
            refuse_pattern(evidence.pattern)
        case "tcp" if evidence.port is None:
            raise BadInput("evidence tcp has no port", because="allowed: 1 to 65535", do="for example: tcp=22")
        case "command" if not COMMAND_NAME.fullmatch(evidence.command):
            raise BadInput(
                f"evidence command '{evidence.command}' is no name of a command",
                because="allowed: a name of the workers' [evidence.commands], of letters, digits, '.', '_' and '-'",
                do="have the command line written there; a job takes its name alone",
            )
        case _:
            pass
    if evidence.address:
        _refuse_address(evidence)


def refuse_pattern(pattern: str) -> None:
    """Check a regular expression that a line of the console has to match.

    Raises:
        BadInput: it is none, it is too long, or every line matches it, so that it tells nothing.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise BadInput("evidence console has too long a pattern", because=f"allowed: {LONGEST_PATTERN} characters")
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise BadInput(f"evidence console: '{pattern}' is no regular expression", because=str(error)) from None
    if found.search(""):
        raise BadInput(
            f"evidence console: '{pattern}' shows nothing",
            because="every line matches it, an empty one too",
            do="give what only a booted system prints, for example: console=login:",
        )


def _refuse_address(evidence: Evidence) -> None:
    what = f"evidence {evidence.kind}: '{evidence.address}' is no address of a target"
    try:
        address = ipaddress.ip_address(evidence.address)
    except ValueError:
        raise BadInput(what, because="allowed: an IPv4 or IPv6 address, not a name") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise BadInput(what, because="the worker itself, or nobody in particular, would answer at it")


def described(evidence: Evidence) -> str:
    """What is awaited, as people read it: "port 22 of 10.20.0.15"."""
    of = f" of {evidence.address}" if evidence.address else ""
    match evidence.kind:
        case "console":
            return f"console '{evidence.pattern}'"
        case "tcp":
            return f"port {evidence.port}{of}"
        case "command":
            return f"command {evidence.command}"
        case _:
            return f"{evidence.kind}{of}"


def needs_address(evidence: Evidence) -> bool:
    """Whether it is looked for at an address of the target that the order does not name."""
    return evidence.kind in ("tcp", "ping") and not evidence.address


def plain(line: str) -> str:
    """What a guest or a program printed, without what a terminal would obey."""
    return "".join(letter for letter in TERMINAL_SEQUENCE.sub("", line) if letter.isprintable()).strip()


def last_lines(output: str, count: int) -> list[str]:
    """The last lines that say anything, plain, each `LONGEST_LINE` characters long at most."""
    lines = [plain(line) for line in output.splitlines()]
    return [line[:LONGEST_LINE] for line in lines if line][-count:]
