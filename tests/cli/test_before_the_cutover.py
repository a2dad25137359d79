"""What is typed before a cutover: a look without an order, a budget, a time, and second thoughts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import House, Terminal
from tests.cli.test_terminal import picture
from tests.workflows.world import failure

CUTOVER = ("migration", "cutover")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-downtime", "short"), "--max-downtime 'short' is no duration"),
        (("--at", "soon"), "--at 'soon' is no time"),
        (("--at", "2020-01-01 02:00"), "--at '2020-01-01 02:00' is past"),
        (("--window", "1-4"), "--window '1-4' is no window"),
        (("--at", "02:00", "--window", "01:00-04:00"), "--at and --window are both given"),
        (("--at", "02:00", "--time-zone", "Berlin"), "--time-zone 'Berlin' is unknown"),
        (("--time-zone", "Europe/Berlin"), "--time-zone is given without a time"),
    ],
)
def test_times_that_cannot_be_are_refused_before_temporal_is_asked(
    without_server: Terminal, options: tuple[str, ...], words: str
) -> None:
    done = without_server.xms(*CUTOVER, "a", "--yes", *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "because:" in done.err


@pytest.mark.slow
def test_a_dry_run_looks_predicts_and_decides_and_orders_nothing(house: House) -> None:
    job = house.a_ready_job()
    calls = len(house.place.calls)
    fits = house.xms(*CUTOVER, job, "--dry-run", "--max-downtime", "10m")
    assert (fits.code, fits.err) == (0, "")
    for words in ("gates      passed", "rehearsal  never rehearsed", "assumed, never seen", "it would begin"):
        assert words in fits.out
    assert house.place.calls[calls:] == ["inspect_vm", "check_target"]
    too_long = house.xms(*CUTOVER, job, "--dry-run", "--max-downtime", "1m", "--output", "json")
    assert too_long.code == 3
    found = too_long.json
    assert found["starts"] is False
    assert "allowed 1m" in found["because"]
    assert found["prediction"]["seconds"] == pytest.approx(
        sum(part["seconds"] for part in found["prediction"]["parts"]), abs=0.1
    )
    forced = house.xms(*CUTOVER, job, "--dry-run", "--max-downtime", "1m", "--force")
    assert (forced.code, "forced" in forced.out) == (0, True)
    unrehearsed = house.xms(*CUTOVER, job, "--dry-run", "--require-rehearsal", "14d")
    assert unrehearsed.code == 3
    assert "was not rehearsed in the last 14d" in unrehearsed.out
    house.place.fail["check_target"] = [failure("QuotaExceeded", needs_person=True)]
    refused = house.xms(*CUTOVER, job, "--dry-run")
    assert refused.code == 3
    assert "gates      QuotaExceeded happened" in refused.out
    assert "it would not begin" in refused.out
    status = house.status(job)
    assert (status["phase"], status["cutover"], status["cutover_ordered"]) == ("Ready", None, None)
    assert "power_off" not in house.place.calls


@pytest.mark.slow
def test_a_script_whose_downtime_is_too_long_gets_the_message_and_the_exit_code(house: House) -> None:
    job = house.a_ready_job()
    shown = house.xms("migration", "show", job).out
    assert "downtime of 3m" in shown
    assert "shutdown 30s, final delta" in shown
    assert "(assumed, not measured: shutdown" in shown
    done = house.xms(*CUTOVER, job, "--yes", "--wait", "--max-downtime", "1m")
    assert done.code == 3
    assert "was not begun" in done.err
    assert "allowed 1m" in done.err
    assert "the source was not touched" in done.err
    assert "--force" in done.err
    assert "power_off" not in house.place.calls
    house.eventually(lambda: bool(house.status(job)["phase"] == "Ready"))
    forced = house.xms(*CUTOVER, job, "--yes", "--wait", "--max-downtime", "1m", "--force", "--timeout", "40s")
    assert forced.code == 0
    decisions: Any = house.status(job)["cutover"]["decisions"]
    assert "forced" in decisions[-1]["because"]


@pytest.mark.slow
def test_at_a_terminal_the_operator_decides_about_a_downtime_that_is_too_long(house: House) -> None:
    job = house.a_ready_job()
    asked = picture(house, *CUTOVER, job, "--yes", "--max-downtime", "1m", columns=100)
    assert asked.shows("predicted 3m", "allowed 1m: cut over all the same? [y/N]:"), asked.text
    house.eventually(lambda: bool(house.status(job)["phase"] == "Ready"))
    assert not house.place.snapshots
    asked.child.sendline("n")
    assert asked.ends() == 3
    assert "power_off" not in house.place.calls
    again = picture(house, *CUTOVER, job, "--yes", "--wait", "--max-downtime", "1m", columns=100)
    assert again.shows("cut over all the same? [y/N]:"), again.text
    again.child.sendline("y")
    assert again.ends(seconds=40) == 0, again.text
    assert house.status(job)["phase"] == "Completed"


@pytest.mark.slow
def test_a_cutover_is_scheduled_shown_changed_and_withdrawn(house: House) -> None:
    job = house.a_ready_job()
    window = ("--window", "2099-12-05 22:00-02:00", "--time-zone", "Europe/Berlin")
    asked = picture(house, *CUTOVER, job, *window, columns=140)
    assert asked.shows("on the target Sat 2099-12-05 22:00 to Sun 2099-12-06", "(21:00 to 01:00 UTC)? [y/N]:"), (
        asked.text
    )
    asked.child.sendline("y")
    assert asked.ends() == 0
    shown = house.xms("migration", "show", job).out
    assert "cutover    between 2099-12-05 21:00 and 2099-12-06 01:00 (given in Europe/Berlin), ordered by" in shown
    assert f"take it back with: xms migration withdraw {job}" in shown
    assert "cutover in " in house.xms("migration", "list").out
    changed = house.xms(*CUTOVER, job, "--yes", "--at", "2099-12-07 02:00", "--output", "json").json
    assert "it replaces the one of 2099-12-05 21:00 UTC" in changed["text"]
    assert house.status(job)["cutover_ordered"]["at"] == "2099-12-07T02:00:00Z"
    waiting = picture(house, *CUTOVER, job, "--yes", "--wait", "--at", "2099-12-08 02:00")
    assert waiting.shows("Ready, since"), waiting.text
    assert house.xms("migration", "withdraw", job).code == 0
    assert waiting.ends() == 3
    assert "was withdrawn" in waiting.text
    nothing = house.xms("migration", "withdraw", job)
    assert nothing.code == 3
    assert "has no cutover to withdraw" in nothing.err
