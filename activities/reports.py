"""Keeps the reports of jobs as files."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio import activity

from xms import report_files
from xms.config import Config
from xms.orders.report import KeepReport, ReportKept
from xms.report.build import report_of


class ReportActivities:
    """Both files of a job are written anew at each call, so that it may be repeated."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn(no_thread_cancel_exception=True)
    def keep_report(self, order: KeepReport) -> ReportKept:
        """Write the report of the job as it stands."""
        worker = self.config.worker
        report = report_of(order.status, order.story, datetime.now(UTC))
        file = report_files.keep(report, order.submitted_at, worker.reports)
        return ReportKept(worker=worker.name, file=str(file))
