"""What a report says of jobs that ended well, badly, or not at all."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

import pytest

from tests.docs.pages import ROOT
from tests.report.samples import (
    ABANDONED,
    COMPLETED,
    COMPLETED_CUTOVER,
    FAILED_CUTOVER,
    KEPT_OFF,
    MADE_AT,
    REHEARSAL,
    ROLLED_BACK,
    STORY,
    SUBMITTED,
    at,
    step,
)
from workflows.itinerary import ITINERARY
from xms.cutover import Cutover
from xms.models import Phase
from xms.report.build import report_of
from xms.report.downtime import PARTS, downtime
from xms.report.model import AttemptOutcome, EndOfDowntime, JobOutcome, Report
from xms.status import Events, JobStatus

ROLLED_BACK_HEADLINE: Final = (
    "The last cutover of db-prod-01 was rolled back after Guest Fixes failed; "
    "the source runs again, after a downtime of 1m 53s."
)
SCHEMA: Final = ROOT / "docs" / "migration-report.schema.json"


def told(status: JobStatus) -> Report:
    return report_of(status, STORY, MADE_AT)


@pytest.mark.parametrize(
    ("status", "outcome", "headline"),
    [
        (COMPLETED, JobOutcome.COMPLETED, "db-prod-01 runs as db-prod-01 in infra, after a downtime of 2m 31s."),
        (
            ROLLED_BACK,
            JobOutcome.ROLLED_BACK,
            ROLLED_BACK_HEADLINE,
        ),
        (
            KEPT_OFF,
            JobOutcome.FAILED,
            "The job of db-prod-01 waits for a person: db-prod-01 could not be converted. db-prod-01 is off.",
        ),
        (ABANDONED, JobOutcome.ABANDONED, "The job of db-prod-01 was abandoned before the VM was moved."),
        (SUBMITTED, JobOutcome.UNDER_WAY, "db-prod-01 is on its way to infra: Initializing."),
    ],
    ids=["completed", "rolled back", "kept off", "abandoned", "submitted"],
)
def test_the_headline_tells_the_outcome_and_where_the_workload_runs(
    status: JobStatus, outcome: JobOutcome, headline: str
) -> None:
    assert told(status).outcome is outcome
    assert told(status).headline == headline


def test_each_attempt_is_told_oldest_first_with_its_own_outcome() -> None:
    first, second = told(COMPLETED).attempts
    assert (first.number, first.outcome, first.failed_at) == (1, AttemptOutcome.ROLLED_BACK, "Guest Fixes")
    assert (second.number, second.outcome, second.failed_at) == (2, AttemptOutcome.COMPLETED, "")
    assert first.left == ("port 11d0 stays: somebody attached it to 'web-03'",)
    assert second.left == ()
    (kept,) = told(KEPT_OFF).attempts
    assert kept.outcome is AttemptOutcome.NOT_ROLLED_BACK


def test_the_downtime_is_divided_without_a_rest_and_the_product_has_what_no_part_claims() -> None:
    came = told(COMPLETED).attempts[-1].downtime
    assert came is not None
    parts = {part.name: (round(part.seconds, 1), part.predicted_seconds) for part in came.parts}
    assert parts == {
        "shutdown": (17.6, 20.0),
        "final delta": (7.7, 1.2),
        "conversion": (80.1, 92.0),
        "boot": (43.0, 45.0),
        "own share": (2.3, 4.0),
    }
    # Of the final delta, what was not copying.
    assert came.overhead_seconds == pytest.approx(2.3 + 2.6)
    assert sum(part.seconds for part in came.parts) == pytest.approx(came.seconds)
    assert came.ended_by is EndOfDowntime.TARGET


def test_a_rolled_back_downtime_ends_when_the_source_runs_again_and_tells_what_the_roll_back_took() -> None:
    came = told(ROLLED_BACK).attempts[-1].downtime
    assert came is not None
    assert came.ended_by is EndOfDowntime.SOURCE
    assert came.seconds == pytest.approx(113.3)
    assert {part.name: round(part.seconds, 1) for part in came.parts}["roll-back"] == 4.5


def test_a_downtime_that_goes_on_has_neither_end_nor_parts() -> None:
    came = told(KEPT_OFF).attempts[-1].downtime
    assert came is not None
    assert (came.seconds, came.ended_by, came.parts) == (None, EndOfDowntime.NOTHING, ())


def test_steps_without_work_of_their_own_count_whole_and_work_never_more_than_the_step() -> None:
    record = Cutover(
        ordered_at=at(0),
        steps=(
            step("Power Off Source", 0, 10),
            step("Final Delta", 10, 20, work_seconds=99.0),
            step("Guest Fixes", 20, 40),
            step("Boot Target", 40, 45),
            step("Evidence", 45, 50),
        ),
        downtime_started_at=at(0),
        downtime_ended_at=at(50),
    )
    came = downtime(record)
    assert came is not None
    assert {part.name: part.seconds for part in came.parts} == {
        "shutdown": 10.0,
        "final delta": 10.0,
        "conversion": 20.0,
        "boot": 10.0,
        "own share": 0.0,
    }


def test_the_parts_are_steps_of_the_itinerary() -> None:
    assert set(PARTS) <= {found.name for found in ITINERARY}


def test_a_predictions_error_is_a_share_of_what_came() -> None:
    made = told(COMPLETED).attempts[-1].prediction
    assert made is not None
    assert made.seconds == pytest.approx(162.2)
    assert made.error_percent == pytest.approx((162.2 - 150.7) / 150.7 * 100, abs=0.1)
    rolled_back = ROLLED_BACK.model_copy(
        update={"cutover": FAILED_CUTOVER.model_copy(update={"prediction": COMPLETED_CUTOVER.prediction})}
    )
    unproven = told(rolled_back).attempts[-1].prediction
    assert unproven is not None
    assert unproven.error_percent is None


def test_a_cutover_that_was_taken_back_after_completion_keeps_its_downtime_and_is_rolled_back() -> None:
    taken_back = COMPLETED.model_copy(
        update={
            "phase": Phase.READY,
            "cutover": COMPLETED_CUTOVER.model_copy(
                update={"rolled_back_at": at(9000), "rolled_back_by": "ann@jump-1", "source_on_at": at(8990)}
            ),
        }
    )
    report = told(taken_back)
    assert report.outcome is JobOutcome.ROLLED_BACK
    assert report.headline == "The last cutover of db-prod-01 was rolled back by ann@jump-1; the source runs again."
    came = report.attempts[-1].downtime
    assert came is not None
    assert came.seconds == pytest.approx(150.7)


def test_records_without_a_number_are_counted_on() -> None:
    unnumbered = FAILED_CUTOVER.model_copy(update={"number": 0})
    status = COMPLETED.model_copy(
        update={
            "earlier_cutovers": (unnumbered, unnumbered),
            "cutover": COMPLETED_CUTOVER.model_copy(update={"number": 1}),
        }
    )
    assert [attempt.number for attempt in told(status).attempts] == [1, 2, 3]


def test_a_record_of_an_older_worker_still_says_what_came_of_it() -> None:
    old = FAILED_CUTOVER.model_copy(
        update={
            "failed_at": "",
            "source_on_at": None,
            "rolled_back_at": None,
            "order": None,
            "steps": tuple(found.model_copy(update={"undone_at": None}) for found in FAILED_CUTOVER.steps),
        }
    )
    (attempt,) = told(ROLLED_BACK.model_copy(update={"cutover": old})).attempts
    assert attempt.outcome is AttemptOutcome.ROLLED_BACK
    assert attempt.downtime is not None
    assert attempt.downtime.seconds is None


def test_the_last_rehearsal_and_the_last_that_passed_are_told_once_each() -> None:
    assert [rehearsal.number for rehearsal in told(COMPLETED).rehearsals] == [3]
    failed = REHEARSAL.model_copy(update={"number": 4, "outcome": "failed"})
    assert [r.number for r in told(COMPLETED.model_copy(update={"rehearsal": failed})).rehearsals] == [3, 4]


def test_the_published_schema_is_that_of_the_report() -> None:
    expected = json.dumps(Report.model_json_schema(mode="serialization"), indent=2) + "\n"
    assert SCHEMA.exists(), f"write this into {SCHEMA.name}:\n{expected}"
    assert SCHEMA.read_text() == expected, f"write this into {SCHEMA.name}:\n{expected}"


def test_json_is_the_model_and_nothing_of_it_is_lost_on_the_way() -> None:
    report = told(COMPLETED)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert json.loads(report.model_dump_json())["format"] == 1


def test_a_report_tells_how_much_of_a_long_story_is_lost() -> None:
    report = report_of(COMPLETED, Events(events=STORY.events[-2:], dropped=10_000), MADE_AT + timedelta(days=900))
    assert (len(report.events), report.events_dropped) == (2, 10_000)
