"""Times and windows as they are typed, in zones whose clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.times import Zone, parse_at, parse_window, told
from xms.errors import BadInput

BERLIN: Final = Zone("Europe/Berlin")
EVENING: Final = datetime(2026, 11, 29, 19, 30, tzinfo=UTC)
"""20:30 in Berlin, a Sunday."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("02:00", "2026-11-30 01:00"),
        ("21:00", "2026-11-29 20:00"),
        ("20:30", "2026-11-30 19:30"),
        ("2:00", "2026-11-30 01:00"),
        ("2026-12-05 02:00", "2026-12-05 01:00"),
        ("2026-12-05T02:00:00", "2026-12-05 01:00"),
        ("2026-12-05T02:00Z", "2026-12-05 02:00"),
        ("2026-12-05T02:00-05:00", "2026-12-05 07:00"),
        ("2026-07-01 02:00", None),
        ("2027-07-01 02:00", "2027-07-01 00:00"),
    ],
)
def test_a_time_is_the_next_one_of_the_clock_or_that_of_its_date(text: str, moment: str | None) -> None:
    if moment is None:
        with pytest.raises(BadInput, match="is past"):
            parse_at(text, BERLIN, EVENING)
    else:
        assert parse_at(text, BERLIN, EVENING) == utc(moment)


@pytest.mark.parametrize(
    ("text", "opens", "closes"),
    [
        ("01:00-04:00", "2026-11-30 00:00", "2026-11-30 03:00"),
        ("1:00 - 4:00", "2026-11-30 00:00", "2026-11-30 03:00"),
        ("20:00-21:00", "2026-11-29 19:00", "2026-11-29 20:00"),
        ("22:00-02:00", "2026-11-29 21:00", "2026-11-30 01:00"),
        ("20:00-02:00", "2026-11-29 19:00", "2026-11-30 01:00"),
        ("2026-12-05 22:00-02:00", "2026-12-05 21:00", "2026-12-06 01:00"),
        ("19:00-20:00", "2026-11-30 18:00", "2026-11-30 19:00"),
    ],
)
def test_a_window_is_the_next_one_and_may_go_over_midnight_or_be_open_already(
    text: str, opens: str, closes: str
) -> None:
    window = parse_window(text, BERLIN, EVENING)
    assert (window.opens_at, window.closes_at) == (utc(opens), utc(closes))
    assert window.zone == "Europe/Berlin"


def test_a_window_that_went_over_the_last_midnight_is_still_open() -> None:
    window = parse_window("22:00-04:00", BERLIN, utc("2026-11-30 01:30"))
    assert window.opens_at == utc("2026-11-29 21:00")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tomorrow", "is no window"),
        ("01:00-01:00", "is no time at all"),
        ("01:00-25:00", "has no time of a clock"),
        ("2026-02-30 01:00-02:00", "has no such date"),
        ("2026-11-28 01:00-02:00", "is over"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_window(text, BERLIN, EVENING)
    assert words in str(refused.value)
    assert "--window" in str(refused.value)


@pytest.mark.parametrize("text", ["soon", "24:00", "02:00+01:00", "2026-13-01 02:00", "02:00:59"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--at"):
        parse_at(text, BERLIN, EVENING)


def test_a_zone_that_does_not_exist_is_refused() -> None:
    for name in ("Europe/Bonn", "../etc/passwd", ""):
        with pytest.raises(BadInput, match="--time-zone"):
            Zone(name)


def test_a_time_that_the_clocks_are_put_forward_over_is_refused() -> None:
    before = utc("2027-03-27 20:00")
    with pytest.raises(BadInput, match=r"there is no 02:30 on 2027-03-28 in Europe/Berlin") as refused:
        parse_at("02:30", BERLIN, before)
    assert "--time-zone UTC" in str(refused.value)
    # By the next noon it is the next day's that is meant.
    assert parse_at("02:30", BERLIN, utc("2027-03-28 10:00")) == utc("2027-03-29 00:30")
    assert parse_window("22:00-02:30", BERLIN, utc("2027-03-28 10:00")).closes_at == utc("2027-03-29 00:30")


def test_of_a_time_that_the_clocks_show_twice_the_first_one_is_meant() -> None:
    before = utc("2026-10-24 20:00")
    assert parse_at("02:30", BERLIN, before) == utc("2026-10-25 00:30")
    window = parse_window("01:00-04:00", BERLIN, before)
    assert window.closes_at - window.opens_at == timedelta(hours=4)
    # Between the two, the first one is past and the next day's is the next.
    assert parse_at("02:30", BERLIN, utc("2026-10-25 01:10")) == utc("2026-10-26 01:30")


def test_a_person_reads_a_window_in_their_zone_and_in_utc() -> None:
    window = parse_window("22:00-02:00", BERLIN, EVENING)
    assert told(window.opens_at, window.closes_at, BERLIN) == (
        "Sun 2026-11-29 22:00 to Mon 2026-11-30 02:00 CET (21:00 to 01:00 UTC)"
    )
    assert told(utc("2026-11-30 01:00"), None, BERLIN) == "Mon 2026-11-30 02:00 CET (01:00 UTC)"


ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])


@settings(deadline=None, max_examples=300)
@given(
    ZONES,
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1)),  # noqa: DTZ001 - made UTC below
    st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59)),
)
def test_the_next_window_closes_in_the_future_and_opens_at_its_clock_time(
    zone: str, now: datetime, clock: tuple[int, int, int, int]
) -> None:
    moment = now.replace(tzinfo=UTC)
    text = f"{clock[0]:02}:{clock[1]:02}-{clock[2]:02}:{clock[3]:02}"
    if clock[:2] == clock[2:]:
        return
    try:
        window = parse_window(text, Zone(zone), moment)
    except BadInput as refused:
        words = str(refused)
    else:
        words = ""
    if words:
        assert "there is no" in words
        return
    opens, closes = (at.astimezone(ZoneInfo(zone)) for at in (window.opens_at, window.closes_at))
    assert (opens.hour, opens.minute, closes.hour, closes.minute) == clock
    assert moment < window.closes_at
    assert window.opens_at < window.closes_at <= window.opens_at + timedelta(hours=25)
    assert window.opens_at - moment <= timedelta(hours=25)
