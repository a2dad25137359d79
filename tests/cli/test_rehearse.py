"""xms migration rehearse, and what a rehearsal looks like on screens and in JSON."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cli import screens
from cli.cutover_screens import ahead
from tests.cli.conftest import House
from tests.cli.test_screens import NOW, READY, drawn
from tests.workflows.world import failure
from xms.cutover import Rehearsal, StepRecord
from xms.models import Trouble

PASSED = Rehearsal(
    number=3,
    asked_by="ann@ops",
    started_at=NOW - timedelta(minutes=9),
    ended_at=NOW - timedelta(minutes=5),
    outcome="passed",
    replica_of=NOW - timedelta(minutes=10),
    conversion_seconds=130.0,
    boot_seconds=48.0,
    evidence="console: db-prod-01 login:",
    steps=(
        StepRecord(
            name="Copies",
            started_at=NOW - timedelta(minutes=9),
            ended_at=NOW - timedelta(seconds=537),
            outcome="done",
        ),
    ),
)


def lines_of(status_changes: dict[str, object]) -> list[str]:
    return [f"{label}: {text.plain}" for label, text in ahead(READY.model_copy(update=status_changes), NOW)]


# --- as it is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rehearsal_that_passes_ends_with_its_steps_and_exit_code_0(house: House) -> None:
    job = house.a_ready_job()
    done = house.xms(
        "migration", "rehearse", job, "--wait", "--timeout", "60s", "--console-evidence", "SEQ", "--syncs-wait", "1m"
    )
    assert (done.code, done.err) == (0, "")
    assert f"{job}: a rehearsal begins now" in done.out
    assert "REHEARSAL STEP" in done.out
    assert "Boot Copy" in done.out
    assert "evidence: SEQ 42 on the console" in done.out
    shown = house.xms("migration", "show", job).out
    assert "rehearsal  rehearsed " in shown
    assert ", passed, conversion" in shown
    assert house.status(job)["rehearsed"]["number"] == 1


@pytest.mark.slow
def test_a_rehearsal_that_fails_says_why_by_exit_code_5(house: House) -> None:
    job = house.a_ready_job()
    house.place.fail["see_running"] = [failure("BootFailed")]
    done = house.xms("migration", "rehearse", job, "--wait", "--timeout", "60s", "--output", "json")
    assert done.code == 5
    error = json.loads(done.err)["error"]
    assert (error["kind"], error["what"], error["exit_code"]) == ("BootFailed", "BootFailed happened", 5)
    assert json.loads(done.out.splitlines()[-1])["rehearsal"]["outcome"] == "failed"
    asked = house.xms("migration", "cutover", job, "--require-rehearsal", "14d", "--yes", "--wait", "--timeout", "60s")
    assert asked.code == 5
    assert "the cutover failed at Gates: no rehearsal of it has passed, and number 1 failed" in asked.err
    assert house.place.power == "poweredOn"


def test_a_pattern_that_is_none_is_refused_at_the_door(house: House) -> None:
    refused = house.xms("migration", "rehearse", "warm-lab-x", "--console-evidence", "(")
    assert refused.code == 2
    assert "--console-evidence '(' is no regular expression" in refused.err


# --- as it looks ------------------------------------------------------------------------------------------------------


def test_show_says_whether_the_job_is_rehearsed() -> None:
    shown = drawn(screens.job(READY.model_copy(update={"rehearsal": PASSED, "rehearsed": PASSED}), NOW, 100), 100)
    assert "rehearsal  rehearsed " in shown
    assert "passed, conversion 2m 10s, boot 48s" in shown


def test_a_failed_rehearsal_stands_beside_the_last_one_that_passed() -> None:
    failed = PASSED.model_copy(
        update={
            "number": 4,
            "outcome": "failed",
            "trouble": Trouble(kind="BootFailed", what="instance 1 gave no evidence"),
            "left": ("the rehearsal's copies could not be removed: busy",),
        }
    )
    told = lines_of({"rehearsal": failed, "rehearsed": PASSED})
    assert "failed (instance 1 gave no evidence); the last one that passed: " in told[-2]
    assert told[-1] == "left: the rehearsal's copies could not be removed: busy"


def test_one_that_runs_shows_its_step() -> None:
    step = StepRecord(name="Guest Fixes", started_at=NOW - timedelta(seconds=12))
    runs = PASSED.model_copy(update={"outcome": "running", "ended_at": None, "steps": (step,)})
    assert ": Guest Fixes since " in lines_of({"rehearsal": runs})[-1]
    waits = runs.model_copy(update={"steps": ()})
    assert lines_of({"rehearsal": waits})[-1] == "rehearsal: rehearsal 3 waits with its copies for the sync that runs"
