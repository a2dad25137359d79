"""What a job answers: its status, its story, and how it ended. The rules of `xms.models` hold here, too."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.cutover import ConversionProgress, Cutover, CutoverOrder, Measured, Prediction, Rehearsal, SyncFigures
from xms.models import (
    Attempt,
    Disk,
    DiskProgress,
    Event,
    MigrationSpec,
    Model,
    Nic,
    Phase,
    SyncRecord,
    Trouble,
    Verification,
)


def unseeded_bytes(disks: tuple[Disk, ...]) -> int:
    """What the replicas of these disks lack; a disk without a baseline lacks all of it."""
    return sum(disk.capacity if disk.baseline.change_id is None else disk.baseline.unseeded_bytes for disk in disks)


class JobStatus(Model):
    """All that a person may ask of a job; the answer to the query `status`."""

    job_id: str
    spec: MigrationSpec
    phase: Phase
    paused: bool = False
    since: datetime = Field(description="the phase's beginning, UTC")
    doing: str = Field(default="", description="the step in progress, in words")
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    cadence_seconds: int | None = None
    next_sync_at: datetime | None = None
    last_sync_at: datetime | None = Field(default=None, description="when the last committed sync was completed")
    replica_of: datetime | None = Field(
        default=None, description="time of that sync's snapshot; lag is reckoned from it"
    )
    bytes_full: int = 0
    bytes_incremental: int = 0
    sync_count: int = 0
    last_rate: float = Field(default=0.0, description="bytes a second, of the last sync's streams")
    sync: SyncRecord | None = None
    rate_limit: int | None = Field(default=None, description="bytes a second; None: no limit")
    verification: Verification | None = Field(default=None, description="the last one that was asked for")
    progress: tuple[DiskProgress, ...] = Field(default=(), description="running streams; added by the client")
    conversion: ConversionProgress | None = Field(
        default=None, description="one that runs or waits; added by the client"
    )
    attempts: tuple[Attempt, ...] = Field(default=(), description="calls that are tried again; added by the client")
    trouble: Trouble | None = None
    cutover: Cutover | None = Field(default=None, description="the last one that was tried")
    earlier_cutovers: tuple[Cutover, ...] = Field(default=(), description="those before it, oldest first")
    cutover_ordered: CutoverOrder | None = Field(default=None, description="one that has not begun")
    prediction: Prediction | None = Field(
        default=None, description="of a cutover that began now; None: too early, or too late; added by the client"
    )
    recent_syncs: tuple[SyncFigures, ...] = Field(default=(), description="what the last ones took, oldest first")
    measured: Measured = Measured()
    source_power: str = Field(default="", description="the VM's power state at its last snapshot")
    moref: str = Field(default="", description="the VM's id in the source")
    rehearsal: Rehearsal | None = Field(default=None, description="the last one")
    rehearsed: Rehearsal | None = Field(default=None, description="the last one that passed")
    roll_back_until: datetime | None = Field(
        default=None, description="a completed job can be rolled back until then (UTC); None: it cannot"
    )

    def lag_seconds(self, now: datetime) -> float | None:
        """Seconds that the replica is behind the source at `now` (UTC); None before the first committed sync."""
        return None if self.replica_of is None else (now - self.replica_of).total_seconds()

    @property
    def unseeded_bytes(self) -> int:
        """What the replica lacks; a disk without a baseline lacks all of it."""
        return unseeded_bytes(self.disks)


class Events(Model):
    """The answer to the query `events`, oldest first."""

    events: tuple[Event, ...] = ()
    dropped: int = Field(default=0, description="older events that the bounded log no longer holds")


class JobReport(Model):
    """How a job ended; the workflow's result."""

    job_id: str
    outcome: str = Field(description="'completed' or 'abandoned'")
    status: JobStatus
    events: tuple[Event, ...] = ()
    dropped: int = Field(default=0, description="older events that the bounded log no longer held")
