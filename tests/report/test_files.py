"""A report that is kept is a page and its JSON, whole at any time, and for nobody else's eyes."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.reports import ReportActivities
from tests.report.samples import COMPLETED, MADE_AT, NIGHT, ROLLED_BACK, STORY
from xms import report_files
from xms.config import Config, TargetConfig, WorkerConfig
from xms.errors import ReportNotKept
from xms.orders.report import KeepReport
from xms.report.build import report_of
from xms.report.model import Report

NAME = "warm-prod-vcenter-db-prod-01-20261122T020000Z"


def test_a_later_state_of_the_job_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    directory = tmp_path / "kept" / "reports"
    first = report_files.keep(report_of(ROLLED_BACK, STORY, MADE_AT), NIGHT, directory)
    then = report_of(COMPLETED, STORY, MADE_AT)
    assert report_files.keep(then, NIGHT, directory) == first == directory / f"{NAME}.html"
    assert {file.name for file in directory.iterdir()} == {f"{NAME}.html", f"{NAME}.json"}
    assert Report.model_validate_json((directory / f"{NAME}.json").read_text()) == then
    assert then.headline in first.read_text()


def test_another_migration_of_the_vm_has_files_of_its_own(tmp_path: Path) -> None:
    report = report_of(COMPLETED, STORY, MADE_AT)
    assert report_files.keep(report, NIGHT, tmp_path) != report_files.keep(report, MADE_AT, tmp_path)


def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    kept = report_files.keep(report_of(COMPLETED, STORY, MADE_AT), NIGHT, tmp_path / "reports")
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in kept.parent.iterdir()} == {0o600}


def test_a_write_that_breaks_leaves_what_was_there_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = report_files.keep(report_of(ROLLED_BACK, STORY, MADE_AT), NIGHT, tmp_path)
    before = kept.read_text()

    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportNotKept, match="was not kept") as told:
        report_files.keep(report_of(COMPLETED, STORY, MADE_AT), NIGHT, tmp_path)
    assert told.value.because == f"{tmp_path}: No space left on device"
    assert "xms migration report warm-prod-vcenter-db-prod-01" in told.value.do
    assert kept.read_text() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(ReportNotKept) as told:
        report_files.keep(report_of(COMPLETED, STORY, MADE_AT), NIGHT, tmp_path / "reports")
    assert str(tmp_path / "reports") in told.value.because


@pytest.mark.parametrize("named", [False, True], ids=["below data_dir", "named"])
def test_a_worker_keeps_them_where_its_configuration_says(tmp_path: Path, *, named: bool) -> None:
    worker = WorkerConfig(name="control-1", data_dir=tmp_path, reports_dir=tmp_path / "named" if named else None)
    activities = ReportActivities(Config(worker=worker, target=TargetConfig(cloud="lab")))
    order = KeepReport(status=COMPLETED, story=STORY, submitted_at=NIGHT)
    kept = ActivityEnvironment().run(activities.keep_report, order)
    directory = tmp_path / ("named" if named else "reports")
    assert (kept.worker, kept.file) == ("control-1", str(directory / f"{NAME}.html"))
    report = Report.model_validate_json((directory / f"{NAME}.json").read_text())
    assert report.made_at <= datetime.now(UTC)
    assert report.outcome == "completed"
