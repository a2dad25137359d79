"""xms migration report: a job's report in its three forms, from a terminal and into a file."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import House
from tests.report.test_forms import Read
from tests.workflows.world import failure
from xms.report.model import Report


def cut_over(house: House, job: str) -> None:
    house.xms("migration", "cutover", job, "--yes", "--wait", "--timeout", "60s")


def test_a_failed_and_a_completed_cutover_are_both_in_the_report_of_an_ended_job(house: House, tmp_path: Path) -> None:
    job = house.a_ready_job()
    house.place.fail["see_running"] = [failure("BootFailed")]
    cut_over(house, job)
    rolled_back = house.xms("migration", "report", job).out
    assert "db-prod-01: prod-vcenter -> infra" in rolled_back
    assert "Cutover 1: rolled back" in rolled_back
    assert "failed at  Evidence" in rolled_back
    house.eventually(lambda: house.status(job)["phase"] == "Ready")
    cut_over(house, job)

    told = Report.model_validate(house.xms("migration", "report", job, "--format", "json").json)
    assert [(attempt.number, attempt.outcome) for attempt in told.attempts] == [(1, "rolled back"), (2, "completed")]
    assert told.outcome == "completed"
    assert told.attempts[0].trouble is not None
    assert "cutover" in [event.kind for event in told.events]
    text = house.xms("migration", "report", job).out
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.index("Cutover 2: completed") < text.index("Cutover 1: rolled back")

    file = tmp_path / "report.html"
    written = house.xms("migration", "report", job, "--format", "html", "--output-file", str(file))
    assert (written.code, written.out) == (0, "")
    assert f"written: {file}" in written.err
    assert "Cutover 2 completed" in Read(file.read_text()).text


def test_a_job_that_was_just_submitted_has_a_report(house: House) -> None:
    house.place.streams_go_on.clear()
    house.submit()
    told = house.xms("migration", "report", "warm-prod-vcenter-db-prod-01", "--format", "json").json
    assert told["outcome"] == "under way"
    assert told["attempts"] == []
    house.place.streams_go_on.set()


def test_a_file_that_cannot_be_written_and_a_job_that_is_not_there_are_told(house: House) -> None:
    job = house.a_ready_job()
    refused = house.xms("migration", "report", job, "--output-file", "/no/such/directory/report.txt")
    assert refused.code == 2
    assert "--output-file: /no/such/directory/report.txt cannot be written" in refused.err
    assert "because: No such file or directory" in refused.err
    unknown = house.xms("migration", "report", "warm-nowhere", "--format", "json")
    assert unknown.code == 3
    assert json.loads(unknown.err)["error"]["kind"] == "JobNotFound"


def test_a_form_that_does_not_exist_is_refused_with_those_that_do(house: House) -> None:
    refused = house.xms("migration", "report", "warm-x", "--format", "pdf")
    assert refused.code == 2
    assert all(form in refused.err for form in ("text", "json", "html"))
