"""What is asked of the streams, and of the budget of the hosts that they read from."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.models import Model
from xms.orders.source import SnapshotDisk, VmOrder


class JobRuns(Model):
    """Runs of workflows."""

    runs: tuple[tuple[str, str], ...] = Field(description="workflow id and run id")


class StreamDisk(Model):
    """Bring a volume up to a snapshot: read the ranges, write them at the same offsets, flush, tell what is flushed."""

    vm: VmOrder
    snapshot: str = Field(description="moref")
    disk: SnapshotDisk
    volume_id: str
    target_project: str
    ranges: str
    bytes: int
    skip_zeroes: bool = False
    verify: bool = Field(default=False, description="read back what was written and compare its digest")
    give_up_at: datetime | None = Field(
        default=None, description="end cleanly with a rest when the snapshot is this old"
    )
    compare: str = Field(default="", description="ranges of the volume to compare with the snapshot when all is copied")
    bytes_in_flight: int = Field(default=16 << 20, description="bytes that may be asked for and not answered yet")
    rate_limit: int | None = Field(
        default=None, description="bytes a second until the job is asked for a newer limit; None: no limit"
    )
    target_name: str = Field(default="", description="which of the configured targets; empty: the default one")


class StreamRate(Model):
    """What one stream of a job may read, as the job says while it runs."""

    bytes_a_second: int | None = Field(default=None, description="None: no limit")


class StreamResult(Model):
    """All that counts is flushed."""

    disk_key: int
    bytes_read: int
    bytes_written: int
    remaining: str = Field(default="", description="ranges not copied because the snapshot grew too old or was lost")
    remaining_bytes: int = 0
    seconds: float = 0.0
    verified: bool = False
    cut_short: str = Field(default="", description="why something remains")
    given_up: str = Field(
        default="", description="why the source needs a rest before the next sync; empty: it does not"
    )
    flushed_bytes: int | None = Field(
        default=None, description="what the volume's own account says was flushed; None: an older worker kept none"
    )
    compared: str = Field(default="", description="ranges that were compared; less than asked for where time ran out")
    differing: str = Field(default="", description="ranges in which the volume was not what the snapshot is")
    differing_bytes: int = 0
