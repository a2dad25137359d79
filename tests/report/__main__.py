"""Writes the pages of the sample jobs, to be looked at: python -m tests.report DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.report.samples import ABANDONED, COMPLETED, KEPT_OFF, MADE_AT, ROLLED_BACK, STORY, SUBMITTED
from xms.report.build import report_of
from xms.report.page import page

if __name__ == "__main__":
    for status in (COMPLETED, ROLLED_BACK, KEPT_OFF, ABANDONED, SUBMITTED):
        report = report_of(status, STORY, MADE_AT)
        (Path(sys.argv[1]) / f"{report.outcome.replace(' ', '-')}.html").write_text(page(report))
