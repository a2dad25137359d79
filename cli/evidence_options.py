"""What operators type for --evidence: the signs of life that a booted target has to give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

from cli.parsing import parse_pattern
from xms.cutover import Evidence
from xms.errors import BadInput
from xms.evidence import refuse_unusable

Kind = Literal["console", "agent", "tcp", "ping", "command"]

FORMS: Final = "console=REGEX, tcp=PORT, ping, command=NAME; tcp and ping also with ,address=ADDRESS"
LAST_PORT: Final = 65535


def parse_evidence(texts: Sequence[str], option: str = "--evidence") -> tuple[Evidence, ...]:
    """'console=login:', 'tcp=22', 'tcp=22,address=10.20.0.15', 'ping', 'command=NAME', each once.

    All behind 'console=' is the regular expression, commas included.

    Raises:
        BadInput: a text is not of one of these forms, a value cannot be, or one is given twice.
    """
    found: list[Evidence] = []
    for text in texts:
        evidence = _evidence(text, option)
        try:
            refuse_unusable((evidence,))
        except BadInput as refusal:
            raise BadInput(f"{option} '{text}': {refusal.what}", because=refusal.because, do=refusal.do) from None
        if evidence in found:
            raise BadInput(f"{option} '{text}' is given twice")
        found.append(evidence)
    refuse_unusable(found)
    return tuple(found)


def parse_console_evidence(text: str | None, option: str = "--console-evidence") -> str | None:
    """A regular expression of a line of the console; None stays None.

    Raises:
        BadInput: it cannot be compiled, or every line matches it.
    """
    if parse_pattern(text, option) is not None:
        parse_evidence([f"console={text}"], option)
    return text


def _evidence(text: str, option: str) -> Evidence:
    if text.strip().startswith("console="):
        return Evidence(kind="console", pattern=text.strip().removeprefix("console="))
    head, *options = (part.strip() for part in text.split(","))
    name, divider, value = (part.strip() for part in head.partition("="))
    kind = next((known for known in get_args(Kind) if known == name.lower()), None)
    with_value = kind in ("tcp", "command")
    if kind in (None, "console") or bool(value) != with_value or bool(divider) != with_value:
        raise BadInput(
            f"{option} '{text}' is no evidence", because=f"allowed: {FORMS}", do=f"for example: {option} tcp=22"
        )
    return Evidence(
        kind=kind,
        port=_port(text, value, option) if kind == "tcp" else None,
        command=value if kind == "command" else "",
        address=_address(text, options, option),
    )


def _port(text: str, value: str, option: str) -> int:
    port = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(LAST_PORT)) else 0
    if not 1 <= port <= LAST_PORT:
        raise BadInput(f"{option} '{text}' has no port", because=f"allowed: a number from 1 to {LAST_PORT}")
    return port


def _address(text: str, options: Sequence[str], option: str) -> str:
    address = ""
    for word in options:
        name, _, value = (part.strip() for part in word.partition("="))
        if name.lower() != "address" or not value or address:
            raise BadInput(
                f"{option} '{text}' has the unknown option '{word}'", because="allowed, once: address=ADDRESS"
            )
        address = value
    return address
