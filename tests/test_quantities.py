from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing import parse_duration
from xms import quantities


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1 MiB"),
        (443_133_250_765, "412.7 GiB"),
        (100 << 30, "100 GiB"),
        (5 << 60, "5 EiB"),
    ],
)
def test_sizes_are_binary_with_one_decimal_at_most(count: int, text: str) -> None:
    assert quantities.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0.4, "0s"), (6, "6s"), (252, "4m 12s"), (1140, "19m"), (3600, "1h"), (183_600, "2d 3h")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@given(st.integers(1, 59))
def test_a_duration_that_is_shown_can_be_typed(count: int) -> None:
    for unit in (1, 60, 3600, 86_400):
        assert parse_duration(quantities.duration(count * unit), "--x") == count * unit


def test_a_hundred_percent_is_said_only_when_nothing_is_missing() -> None:
    assert quantities.percent(0.9999) == "99 %"
    assert quantities.percent(1.0) == "100 %"


def test_a_moment_is_a_time_today_and_a_date_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert quantities.short_moment(datetime(2026, 11, 22, 1, 15, 7, tzinfo=UTC), now) == "01:15:07"
    assert quantities.short_moment(datetime(2026, 11, 2, 1, 15, 7, tzinfo=UTC), now) == "Nov 2"
    assert quantities.short_moment(datetime(2025, 11, 2, 1, 15, 7, tzinfo=UTC), now) == "2025-11-02"
    assert quantities.short_moment(None, now) == "-"
    assert quantities.moment(datetime(2026, 11, 22, 1, 15, 7, tzinfo=UTC)) == "2026-11-22 01:15:07 UTC"
