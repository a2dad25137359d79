from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.parsing import (
    one_job,
    parse_cadence,
    parse_duration,
    parse_pattern,
    parse_percent,
    required,
)
from cli.rates import SMALLEST, parse_rate
from xms.commands import SMALLEST_RATE_LIMIT
from xms.errors import BadInput


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("manual", None), ("Manual", None), ("15m", 900), ("1h", 3600), ("1d", 86400), ("90s", 90), ("1h30m", 5400)],
)
def test_a_cadence_is_manual_or_a_duration(text: str, seconds: int | None) -> None:
    assert parse_cadence(text) == seconds


@pytest.mark.parametrize("text", ["", "hourly", "5", "59s", "0m", "-1h", "1.5h", "15 minutes", "367d", "1m1h"])
def test_what_is_no_cadence_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_cadence(text)
    assert f"'{text}'" in refused.value.what
    assert "manual, 15m, 1h, 1d" in refused.value.because


def test_a_duration_without_a_unit_is_refused_with_the_unit_that_it_lacks() -> None:
    with pytest.raises(BadInput) as refused:
        parse_duration("300", "--shutdown-timeout")
    assert refused.value.do == "--shutdown-timeout 300s"


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_every_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s", "--x") == expected
    assert parse_duration(f" {days}D {hours}h {minutes}m {seconds}s ", "--x") == expected


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused_and_never_anything_else(text: str) -> None:
    with suppress(BadInput):
        assert parse_duration(text, "--x") > 0


def test_a_pattern_has_to_be_a_regular_expression() -> None:
    assert parse_pattern("SEQ [0-9]+", "--console-evidence") == "SEQ [0-9]+"
    with pytest.raises(BadInput, match="unterminated"):
        parse_pattern("SEQ [0-9", "--console-evidence")


@pytest.mark.parametrize(("text", "share"), [("1%", 1.0), (" 0.5 % ", 0.5), ("0%", 0.0), ("100", 100.0), ("20", 20.0)])
def test_a_share_is_given_in_percent(text: str, share: float) -> None:
    assert parse_percent(text, "--scrub") == share


@pytest.mark.parametrize(
    "text", ["", "%", "-1%", "101%", "100.1", "1e2", "nan", "inf", "a lot", "1%%", "1,5%", ".5", "٣%"]
)
def test_what_is_no_share_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_percent(text, "--scrub")
    assert f"--scrub '{text}'" in refused.value.what
    assert "0% to 100%" in refused.value.because


def test_a_name_is_not_blank() -> None:
    with pytest.raises(BadInput, match="--source is empty"):
        required("  ", "--source")


def test_a_job_is_named_once_or_twice_the_same() -> None:
    assert one_job("a", None) == one_job(None, "a") == one_job("a", "a") == "a"
    with pytest.raises(BadInput, match="two jobs"):
        one_job("a", "b")
    with pytest.raises(BadInput, match="no job"):
        one_job(None, None)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("none", None),
        ("50MiB", 50 << 20),
        ("50 mib/s", 50 << 20),
        ("64K", 64 << 10),
        ("1.5GiB", 3 << 29),
        ("2TiB", 2 << 40),
    ],
)
def test_a_rate_is_none_or_a_size_a_second(text: str, rate: int | None) -> None:
    assert parse_rate(text, "--rate-limit") == rate


@pytest.mark.parametrize(
    "text", ["", "50", "63KiB", "0MiB", "-1MiB", "50 miles", "50MiB/min", "nothing", "1e9", "50Mbit"]
)
def test_what_is_no_rate_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_rate(text, "--rate-limit")
    assert f"'{text}'" in refused.value.what
    assert "none, or at least 64KiB" in refused.value.because


def test_the_smallest_rate_is_the_jobs_own() -> None:
    assert SMALLEST == SMALLEST_RATE_LIMIT
