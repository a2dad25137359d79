"""What operators type: cadences, durations, shares. Refusals name the value and what is allowed."""

from __future__ import annotations

import re
from typing import Final

from xms.errors import BadInput

SHORTEST_CADENCE: Final = 60
LONGEST_CADENCE: Final = 366 * 86_400
LONGEST_PERIOD: Final = 366 * 86_400

_DURATION: Final = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%?")


def parse_duration(text: str, option: str) -> int:
    """Seconds of '90s', '15m', '1h30m', '1d 12h'.

    Raises:
        BadInput: it is no duration, or it is zero.
    """
    compact = "".join(text.lower().split())
    match = _DURATION.fullmatch(compact)
    if not compact or match is None:
        raise BadInput(
            f"{option} '{text}' is no duration",
            because="allowed: whole numbers with d, h, m or s, for example 90s, 15m, 1h30m",
            do=f"{option} {compact}s" if compact.isdigit() else "",
        )
    days, hours, minutes, seconds = (int(number or 0) for number in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise BadInput(f"{option} '{text}' is no time at all", because="allowed: one second or more")
    return total


def parse_period(text: str, option: str) -> int:
    """Seconds of a period; 0 for 'none'.

    Raises:
        BadInput: it is neither 'none' nor a duration of a year at most.
    """
    if text.strip().lower() == "none":
        return 0
    allowed = "allowed: none, or a duration of 366d at most, for example 12h or 7d"
    try:
        seconds = parse_duration(text, option)
    except BadInput:
        raise BadInput(f"{option} '{text}' is no period", because=allowed) from None
    if seconds > LONGEST_PERIOD:
        raise BadInput(f"{option} '{text}' is too long", because=allowed)
    return seconds


def parse_cadence(text: str, option: str = "--sync-cadence") -> int | None:
    """Seconds between syncs; None for 'manual'.

    Raises:
        BadInput: it is neither 'manual' nor a duration from one minute to a year.
    """
    allowed = "allowed: manual, 15m, 1h, 1d, or any duration from 1m to 366d"
    if text.strip().lower() == "manual":
        return None
    try:
        seconds = parse_duration(text, option)
    except BadInput:
        raise BadInput(f"{option} '{text}' is no cadence", because=allowed) from None
    if seconds < SHORTEST_CADENCE:
        raise BadInput(f"{option} '{text}' is too short", because=allowed)
    if seconds > LONGEST_CADENCE:
        raise BadInput(f"{option} '{text}' is too long", because=allowed)
    return seconds


def parse_percent(text: str, option: str) -> float:
    """The share of '1%', '0.5 %' or '20', from 0 to 100.

    Raises:
        BadInput: it is none.
    """
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) if match else -1.0
    if not 0 <= share <= 100:  # noqa: PLR2004 - percent
        raise BadInput(f"{option} '{text}' is no share", because="allowed: 0% to 100%, for example 1% or 0.5%")
    return share


def parse_pattern(text: str | None, option: str) -> str | None:
    """A regular expression, seen to be one; None stays None.

    Raises:
        BadInput: it cannot be compiled.
    """
    if text is None:
        return None
    try:
        re.compile(text)
    except re.error as error:
        raise BadInput(f"{option} '{text}' is no regular expression", because=str(error)) from None
    return text


def required(text: str, option: str) -> str:
    """The text without the space around it.

    Raises:
        BadInput: nothing is left of it.
    """
    if not text.strip():
        raise BadInput(f"{option} is empty", because="it needs a name")
    return text.strip()


def one_job(argument: str | None, option: str | None) -> str:
    """The job that a command is about, given as an argument or with --job.

    Raises:
        BadInput: it is given in neither way, or in both and not the same.
    """
    if argument and option and argument != option:
        raise BadInput("two jobs are named", because=f"'{argument}' and --job '{option}'", do="name one")
    found = argument or option
    if not found or not found.strip():
        raise BadInput("no job is named", do="name it, or give --job; the jobs are in: xms migration list")
    return found.strip()
