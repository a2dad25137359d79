"""Times as operators type them: 02:00, 2026-11-30 02:00, a window 01:00-04:00, in time zones with their summers."""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from xms.cutover import Window
from xms.errors import BadInput

_CLOCK: Final = r"(\d{1,2}):(\d{2})"
_AT: Final = re.compile(rf"(?:(\d{{4}}-\d{{2}}-\d{{2}})[ T])?{_CLOCK}(?::00)?(Z|[+-]\d{{2}}:?\d{{2}})?")
_WINDOW: Final = re.compile(rf"(?:(\d{{4}}-\d{{2}}-\d{{2}})[ T])?{_CLOCK}\s*-\s*{_CLOCK}")
_TIMES_ALLOWED: Final = "allowed: 02:00, '2026-11-30 02:00', or with an offset 2026-11-30T02:00+01:00"
_WINDOWS_ALLOWED: Final = "allowed: 01:00-04:00, 22:00-02:00, or with a date '2026-11-30 01:00-04:00'"


class Zone:
    """A time zone: one that is named, or the terminal's."""

    def __init__(self, name: str | None) -> None:
        """Look it up.

        Raises:
            BadInput: there is none of that name.
        """
        try:
            self._zone = None if name is None else zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            raise BadInput(
                f"--time-zone '{name}' is unknown",
                because="allowed: names of the time zone database, for example Europe/Berlin or UTC",
            ) from None
        self.name = name or ""

    def local(self, at: datetime) -> datetime:
        """The same moment on this zone's clocks."""
        return at.astimezone(self._zone)

    def utc(self, day: date, hour: int, minute: int) -> datetime:
        """The moment at which this zone's clocks show that; the first one where they are put back and show it twice.

        Raises:
            BadInput: they never show it, because they are put forward over it.
        """
        shown = datetime.combine(day, time(hour, minute))
        moment = (shown if self._zone is None else shown.replace(tzinfo=self._zone)).astimezone(UTC)
        if self.local(moment).replace(tzinfo=None) != shown:
            raise BadInput(
                f"there is no {shown:%H:%M} on {shown:%Y-%m-%d} in {self.name or 'this time zone'}",
                because="the clocks are put forward over it",
                do="give another time, or one that every day has: --time-zone UTC",
            )
        return moment


def parse_at(text: str, zone: Zone, now: datetime) -> datetime:
    """The moment (UTC) of a time, or of a clock's next time.

    Raises:
        BadInput: it is none, or it is past.
    """
    found = _AT.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"--at '{text}' is no time", because=_TIMES_ALLOWED)
    day, hour, minute, offset = found.groups()
    if offset is not None:
        moment = _with_offset(text, day)
    elif day is not None:
        moment = _moment(zone, _date(day, "--at", text), (hour, minute), "--at", text)
    else:
        moment = _next(zone, (hour, minute), now, text)
    if moment <= now:
        raise BadInput(f"--at '{text}' is past", because=f"it is {zone.local(now):%Y-%m-%d %H:%M %Z}")
    return moment


def parse_window(text: str, zone: Zone, now: datetime) -> Window:
    """The window, or its next occurrence; one that is open now is that. It may go over midnight.

    Raises:
        BadInput: it is none, or it is over.
    """
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"--window '{text}' is no window", because=_WINDOWS_ALLOWED)
    day, *clock = found.groups()
    opening, closing = (clock[0], clock[1]), (clock[2], clock[3])
    if opening == closing:
        raise BadInput(f"--window '{text}' is no time at all", because=_WINDOWS_ALLOWED)
    over_midnight = timedelta(days=1 if (int(closing[0]), int(closing[1])) < (int(opening[0]), int(opening[1])) else 0)
    today = zone.local(now)
    # One that went over the last midnight may be open still; one that was over by the clock needs no such moment.
    over = time(int(closing[0]) % 24, int(closing[1]) % 60) <= today.time()
    first = (0 if over else -1) if over_midnight else (1 if over else 0)
    days = [_date(day, "--window", text)] if day else [today.date() + timedelta(days=first + n) for n in range(2)]
    for begins in days:
        closes_at = _moment(zone, begins + over_midnight, closing, "--window", text)
        if closes_at > now:
            opens_at = _moment(zone, begins, opening, "--window", text)
            return Window(opens_at=opens_at, closes_at=closes_at, zone=zone.name)
    raise BadInput(f"--window '{text}' is over", because=f"it is {zone.local(now):%Y-%m-%d %H:%M %Z}")


def told(opens: datetime, closes: datetime | None, zone: Zone) -> str:
    """A time or a window for a person to check: 'Mon 2026-11-30 01:00 CET (00:00 UTC)'."""
    local = zone.local(opens)
    if closes is None:
        return f"{local:%a %Y-%m-%d %H:%M %Z} ({opens.astimezone(UTC):%H:%M} UTC)"
    until = zone.local(closes)
    utc = f"{opens.astimezone(UTC):%H:%M} to {closes.astimezone(UTC):%H:%M} UTC"
    day = "" if until.date() == local.date() else f"{until:%a %Y-%m-%d} "
    return f"{local:%a %Y-%m-%d %H:%M} to {day}{until:%H:%M %Z} ({utc})"


def _next(zone: Zone, clock: tuple[str, str], now: datetime, text: str) -> datetime:
    today = zone.local(now)
    tomorrow = today.date() + timedelta(days=1)
    if time(int(clock[0]) % 24, int(clock[1]) % 60) <= today.time():
        return _moment(zone, tomorrow, clock, "--at", text)
    moment = _moment(zone, today.date(), clock, "--at", text)
    # Where the clocks were put back, this time may have been before, although they show an earlier one now.
    return moment if moment > now else _moment(zone, tomorrow, clock, "--at", text)


def _with_offset(text: str, day: str | None) -> datetime:
    if day is None:
        raise BadInput(f"--at '{text}' has an offset and no date", because=_TIMES_ALLOWED)
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except ValueError:
        raise BadInput(f"--at '{text}' is no time", because=_TIMES_ALLOWED) from None


def _date(day: str, option: str, text: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise BadInput(f"{option} '{text}' has no such date", because=str(error)) from None


def _moment(zone: Zone, day: date, clock: tuple[str, str], option: str, text: str) -> datetime:
    hour, minute = int(clock[0]), int(clock[1])
    if hour > 23 or minute > 59:  # noqa: PLR2004 - a clock's
        raise BadInput(f"{option} '{text}' has no time of a clock", because="allowed: 00:00 to 23:59")
    return zone.utc(day, hour, minute)
