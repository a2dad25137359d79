"""Reports as files, which are there when Temporal has forgotten the job.

A job has two files, a page for people and JSON for programs, which are replaced whenever something ends in it: a
cutover, a roll-back, the job itself. A reader finds the old file or the new one, and never a part of either.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from xms import durable_files
from xms.errors import ReportNotKept
from xms.report.model import Report
from xms.report.page import page


def keep(report: Report, submitted_at: datetime, directory: Path) -> Path:
    """Write both files, which only the worker's user may read: a report has addresses and ends of consoles.

    Args:
        report: as the job stands now.
        submitted_at: the beginning of the job (UTC): its name alone is an earlier job's, too, when a VM is migrated
            once more.
        directory: made where it is missing, with mode 0700.

    Returns:
        The page's path.

    Raises:
        ReportNotKept: a file cannot be written; what was kept before stays.
    """
    name = f"{report.job_id.replace('/', '-')}-{submitted_at:%Y%m%dT%H%M%SZ}"
    kept = directory / f"{name}.html"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable_files.replace(directory / f"{name}.json", report.model_dump_json(indent=2) + "\n")
        durable_files.replace(kept, page(report))
    except OSError as error:
        raise ReportNotKept(
            f"the report of {report.vm} was not kept",
            because=f"{directory}: {error.strerror or error}",
            means="the job and its replica are as they are; the report is in Temporal until it forgets the job",
            do=f"keep it elsewhere with: xms migration report {report.job_id} --format html --output-file FILE",
        ) from error
    return kept
