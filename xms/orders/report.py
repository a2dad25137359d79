"""What is asked for a job's report to be kept."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.models import Model
from xms.status import Events, JobStatus


class KeepReport(Model):
    """Keep the report of a job as it stands now, in the place of the one kept before."""

    status: JobStatus
    story: Events
    submitted_at: datetime = Field(description="tells the job from an earlier one of the same VM; UTC")


class ReportKept(Model):
    """Where it is."""

    worker: str
    file: str = Field(description="the page, on that worker's machine; the JSON beside it has the same name")
