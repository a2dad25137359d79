"""Sizes, rates, durations and times for people: binary units, two units of time, the local time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_TIMES: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

ABSENT: Final = "-"


def size(count: float) -> str:
    """Bytes in binary units with one decimal, which is left out where it is zero: 412.7 GiB, 3 TiB."""
    value = float(count)
    unit = 0
    while round(value, 1) >= 1024 and unit < len(_SIZES) - 1:  # noqa: PLR2004 - the unit's factor
        value /= 1024
        unit += 1
    number = f"{value:.1f}".removesuffix(".0") if unit else f"{value:.0f}"
    return f"{number} {_SIZES[unit]}"


def rate(bytes_a_second: float) -> str:
    """Bytes a second: 208.3 MiB/s."""
    return f"{size(bytes_a_second)}/s"


def duration(seconds: float) -> str:
    """The two largest units of a time: 2d 3h, 10m 48s, 19m, 6s. Less than nothing counts as nothing."""
    rest = max(0, round(seconds))
    for place, (unit, length) in enumerate(_TIMES):
        if rest >= length:
            number, below = divmod(rest, length)
            if place + 1 == len(_TIMES):
                return f"{number}{unit}"
            next_unit, next_length = _TIMES[place + 1]
            second = below // next_length
            return f"{number}{unit} {second}{next_unit}" if second else f"{number}{unit}"
    return "0s"


def short_duration(seconds: float) -> str:
    """As `duration`, but with a decimal below ten seconds, where it matters: 0.4s, 2m 31s."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 10 else duration(seconds)  # noqa: PLR2004 - see above


def cadence(seconds: int | None) -> str:
    """A cadence as it is given: manual, 15m, 1h."""
    return "manual" if seconds is None else duration(seconds)


def moment(when: datetime | None) -> str:
    """A point in time in full, local, with its zone: 2026-11-22 01:15:07 UTC."""
    return ABSENT if when is None else f"{when.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def moment_utc(when: datetime | None) -> str:
    """A point in time in full and in UTC, for what is read elsewhere than where it was written."""
    return ABSENT if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_moment(when: datetime | None, now: datetime) -> str:
    """A point in time for a column, local: 01:15:07 today, Nov 20 in another day, 2025-11-20 in another year."""
    if when is None:
        return ABSENT
    local, today = when.astimezone(), now.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%b} {local.day}" if local.year == today.year else f"{local:%Y-%m-%d}"


def percent(share: float) -> str:
    """A share from 0 to 1, rounded down, so that 100 % is said only when nothing is missing."""
    return f"{int(share * 100)} %"


def counted(number: int, thing: str) -> str:
    """A number of things whose plural has an s: 1 disk, 2 disks."""
    return f"{number} {thing}{'s' * (number != 1)}"
