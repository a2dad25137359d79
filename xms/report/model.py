"""The report as data: `xms migration report --format json` writes exactly this.

`format` counts changes that an older reader would misread. New fields come without a new number.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from xms.cutover import CutoverOrder, Decision, PredictedPart, Rehearsal, SyncFigures
from xms.models import Event, MigrationSpec, Model, Phase, Trouble

PartName = Literal["shutdown", "final delta", "conversion", "boot", "roll-back", "own share"]


class JobOutcome(StrEnum):
    """What has become of the job."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    ABANDONED = "abandoned"
    UNDER_WAY = "under way"


class AttemptOutcome(StrEnum):
    """What has become of one cutover."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled back"
    NOT_ROLLED_BACK = "failed, not rolled back"
    UNDER_WAY = "under way"


class EndOfDowntime(StrEnum):
    """What ended a downtime."""

    TARGET = "the target was seen running"
    SOURCE = "the source ran again"
    NOTHING = "it has not ended"


class StepReport(Model):
    """One step of a cutover's itinerary."""

    name: str
    began_at: datetime = Field(description="UTC")
    ended_at: datetime | None = Field(default=None, description="UTC; None: it runs")
    seconds: float | None = Field(default=None, description="None: it runs")
    outcome: str = Field(description="running, done, failed, undone")
    failed: bool = Field(default=False, description="the cutover failed here, also where it was undone since")
    in_downtime: bool = Field(default=False, description="it began with the source off, or took it off")
    bytes: int | None = Field(default=None, description="that it moved; None: it moves none, or nobody counted them")
    found: str = Field(default="", description="what it came to, in one line")
    work_seconds: float | None = Field(default=None, description="of the streams or of virt-v2v alone")
    undone_at: datetime | None = Field(default=None, description="UTC")


class DowntimePart(Model):
    """One part of a downtime as it came, beside what was predicted."""

    name: PartName
    seconds: float
    work_seconds: float | None = Field(
        default=None, description="of it the streams, or virt-v2v, alone; None: nobody measured that"
    )
    predicted_seconds: float | None = Field(default=None, description="None: it was not predicted")


class Downtime(Model):
    """The time for which nobody could use the workload."""

    began_at: datetime = Field(description="UTC")
    ended_at: datetime | None = Field(default=None, description="UTC")
    ended_by: EndOfDowntime
    seconds: float | None = Field(default=None, description="None: it has not ended, or nobody kept when")
    parts: tuple[DowntimePart, ...] = Field(
        default=(), description="together they are `seconds`; none where that is not known"
    )
    overhead_seconds: float | None = Field(
        default=None, description="what was neither shutdown, copying, conversion nor boot, nor a roll-back"
    )


class PredictionReport(Model):
    """What was predicted before the source was stopped, and how far off that was."""

    made_at: datetime = Field(description="UTC")
    seconds: float
    parts: tuple[PredictedPart, ...]
    error_percent: float | None = Field(
        default=None,
        description="of what came: 25 means that a quarter too much was predicted, -25 a quarter too little. "
        "None: the target was not seen running",
    )


class AttemptReport(Model):
    """One cutover that was tried."""

    number: int = Field(description="counts the job's cutovers from 1, those that the record no longer holds included")
    ordered_by: str
    ordered_at: datetime = Field(description="UTC; when it began after that order")
    outcome: AttemptOutcome
    ended_at: datetime | None = Field(default=None, description="UTC; of its last step, undone ones included")
    failed_at: str = Field(default="", description="name of the step that failed")
    trouble: Trouble | None = None
    order: CutoverOrder | None = Field(default=None, description="None: an older worker kept none")
    decisions: tuple[Decision, ...] = ()
    steps: tuple[StepReport, ...] = ()
    downtime: Downtime | None = Field(default=None, description="None: the source was not stopped")
    prediction: PredictionReport | None = None
    power_off: str = Field(default="", description="how the source went off")
    evidence: str = Field(default="", description="by what the target was seen running")
    server_id: str | None = Field(default=None, description="None: there is no target instance of it")
    verified_bytes: int = Field(default=0, description="of the final delta, read back from the volumes and compared")
    source_was_running: bool = True
    source_on_at: datetime | None = Field(default=None, description="UTC; when the roll-back had it running again")
    rolled_back_at: datetime | None = Field(default=None, description="UTC")
    rolled_back_by: str = Field(default="", description="empty: nobody ordered it")
    left: tuple[str, ...] = Field(default=(), description="one sentence for each thing that could not be removed")


class DiskReport(Model):
    """One disk, and what was copied of it."""

    key: int = Field(description="vSphere device key")
    label: str
    capacity: int = Field(description="bytes")
    volume_id: str | None
    bytes_full: int
    bytes_incremental: int
    differed_bytes: int = Field(description="found by a comparison, and not found mended since")


class PortReport(Model):
    """One NIC, and its port on the target."""

    label: str
    source_network: str
    network: str
    subnet: str | None
    mac: str = Field(description="of the port where it is made, else the NIC's")
    mac_kept: bool
    addresses: tuple[str, ...] = Field(description="of the port; none until it is made")
    port_id: str | None


class VerificationReport(Model):
    """The last comparison of the whole replica that somebody asked for."""

    asked_by: str
    asked_at: datetime = Field(description="UTC")
    ended_at: datetime | None = Field(description="UTC")
    ended_because: str = Field(description="why it ended before all was compared; empty where all was")
    snapshots: int
    bytes: int = Field(description="of all disks")
    compared_bytes: int
    differing_bytes: int


class Replica(Model):
    """The copy as the syncs left it."""

    last_sync_at: datetime | None = Field(description="UTC")
    replica_of: datetime | None = Field(description="UTC; time of that sync's snapshot")
    bytes_full: int
    bytes_incremental: int
    sync_count: int
    last_rate: float = Field(description="bytes a second")
    disks: tuple[DiskReport, ...]
    recent_syncs: tuple[SyncFigures, ...] = Field(description="the last ones that were committed, oldest first")
    verification: VerificationReport | None


class Report(Model):
    """What became of one migration, and how."""

    format: Literal[1] = 1
    made_at: datetime = Field(description="UTC; the report tells the job as it was then")
    job_id: str
    vm: str
    source: str
    destination: str = Field(description="project, and target unless it is the default one")
    instance_name: str
    outcome: JobOutcome
    headline: str = Field(description="the outcome in one sentence")
    phase: Phase
    since: datetime = Field(description="the phase's beginning, UTC")
    requested_by: str
    trouble: Trouble | None = Field(description="what stands against the job now")
    roll_back_until: datetime | None = Field(description="UTC; None: it cannot be rolled back from Completed")
    spec: MigrationSpec
    attempts: tuple[AttemptReport, ...] = Field(description="oldest first; the job's record holds the last five")
    rehearsals: tuple[Rehearsal, ...] = Field(
        description="the last one, and before it the last one that passed, where that is another one"
    )
    replica: Replica
    ports: tuple[PortReport, ...]
    events: tuple[Event, ...] = Field(description="oldest first")
    events_dropped: int = Field(description="older events that the job's bounded log no longer holds")

    @property
    def last_attempt(self) -> AttemptReport | None:
        """The cutover that was tried last."""
        return self.attempts[-1] if self.attempts else None

    @property
    def other_trouble(self) -> Trouble | None:
        """What stands against the job now, where it is not what the last cutover tells already."""
        last = self.last_attempt
        return None if last is not None and last.trouble == self.trouble else self.trouble
