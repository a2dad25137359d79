"""The job record: all that a workflow knows of one migration, and carries over when it continues as new."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from xms.cutover import Cutover, CutoverOrder, FinalizeOrder, Measured, Rehearsal, Rehearse, RollBackOrder, SyncFigures
from xms.host_budget import HostLimits, SlotAnswer
from xms.models import Abandon, Disk, Event, MigrationSpec, Nic, Phase, SyncRecord, Trouble, Verification, job_id
from xms.orders.source import VmDetails, VmOrder
from xms.orders.target import TargetOrder, VolumeSnapshot
from xms.status import Events, JobStatus, unseeded_bytes

SYNCS_REMEMBERED: Final = 12
"""So many say what the next one takes; more would be of another time of the day."""

CUTOVERS_KEPT: Final = 4
"""Records of cutovers before the last one: a report tells of each attempt."""

EVENTS_KEPT: Final = 200
"""The log is bounded, since it travels with the job; older lines are counted, not kept."""

TEXT_LIMIT: Final = 2000
"""Characters of one line of the log, and of one line of a trouble: virt-v2v and consoles have much to say."""

UNSEEDED_LIMIT: Final = 1 << 20
"""Bytes that the unseeded ranges of all disks may take in a record, encoded: Temporal's payloads end at 2 MiB."""


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text, or its beginning and its end where it is longer than `limit` characters: the end tells the failure."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"


class JobState(BaseModel):
    """The record of one job. Only the workflow that owns it changes it."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    job_id: str
    phase: Phase = Phase.INITIALIZING
    since: datetime
    submitted_at: datetime | None = None
    """None: by a worker that did not note it yet."""

    doing: str = ""
    paused: bool = False
    cadence_seconds: int | None = None

    moref: str = ""
    vm_name: str = ""
    firmware: str = "bios"
    secure_boot: bool = False
    cpus: int = 1
    memory: int = 1 << 30
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    cloud: str = ""
    zeroed_volumes: bool = False
    former_volumes: tuple[str, ...] = ()
    """Volumes of disks that were taken out of the VM; kept, and deleted only with the others."""

    source_host: str = ""
    """The ESXi host that the VM was on at its last snapshot."""

    source_power: str = ""
    """The VM's power state at its last snapshot."""

    consistency: str = ""
    """How the last snapshot froze the disks, and why not otherwise."""

    last_sync_at: datetime | None = None
    replica_of: datetime | None = None
    bytes_full: int = 0
    bytes_incremental: int = 0
    sync_count: int = 0
    last_rate: float = 0.0
    sync: SyncRecord | None = None
    rate_limit: int | None = None
    streaming: int = 0
    """Streams that run now; they share the limit."""

    host: HostLimits | None = None
    """Of the ESXi host that the last snapshot was on; None: it has no limits."""

    slots: dict[str, SlotAnswer] = Field(default_factory=dict)
    """What the host's budget last said to each request that waits or has a slot, by the request's id."""

    reserved_slot: SlotAnswer | None = None
    """A slot that the next sync begins with."""

    verification: Verification | None = None
    verify_at: datetime | None = None
    """When a verification goes on whose last sync failed; None: at once."""

    failures: int = 0
    not_before: datetime | None = None
    clean_up_at: datetime | None = None
    """When to try again to remove a snapshot or an attachment that could not be removed; None: nothing is left."""

    trouble: Trouble | None = None
    failed_in: Phase | None = None
    cutover: Cutover | None = None
    earlier_cutovers: tuple[Cutover, ...] = ()
    """Those before it, oldest first; `CUTOVERS_KEPT` of them."""

    source_is_off: bool = False
    rolling_back: bool = False
    """Somebody ordered the roll-back: the source runs then, whatever the cutover's own order says."""

    recent_syncs: tuple[SyncFigures, ...] = ()
    """The last `SYNCS_REMEMBERED` that were committed, oldest first."""

    measured: Measured = Measured()
    rehearsal: Rehearsal | None = None
    """The last one, whatever came of it."""

    rehearsed: Rehearsal | None = None
    """The last one that passed."""

    rehearsal_waits: bool = False
    """The one that runs waits for copies of the volumes, which are made between two syncs."""

    volume_snapshots: tuple[VolumeSnapshot, ...] = ()
    """Of the volumes as the last replica left them; a roll-back goes back to them."""

    snapshots_of_volumes: bool = False
    """There may be some in the cloud, known ones and others; set before the first one is asked for."""

    roll_back_until: datetime | None = None
    """A completed job waits until then for `rollback` or `finalize`; None: it does not wait."""

    sync_asked_by: str | None = None
    cutover_asked: CutoverOrder | None = None
    pass_not_before: datetime | None = None
    """When the sync before a scheduled cutover is tried again that failed; None: at once."""

    retry_asked: bool = False
    abandon_asked: Abandon | None = None
    rehearsal_asked: Rehearse | None = None
    roll_back_asked: RollBackOrder | None = None
    finalize_asked: FinalizeOrder | None = None

    report_due: bool = False
    """Something ended, and the report has to be kept as the job stands now."""

    events: tuple[Event, ...] = ()
    events_dropped: int = 0

    @classmethod
    def fresh(cls, spec: MigrationSpec, now: datetime) -> JobState:
        """The record of a job that was just submitted."""
        state = cls(job_id=job_id(spec.source, spec.vm), since=now, cadence_seconds=spec.cadence_seconds)
        state.rate_limit, state.submitted_at = spec.rate_limit, now
        state.note(now, "submitted", f"{spec.vm}: {spec.source} -> {spec.destination}", spec.requested_by)
        return state

    def note(self, at: datetime, kind: str, text: str, who: str = "") -> None:
        """Add a line to the job's story."""
        events = (*self.events, Event(at=at, kind=kind, text=shortened(text), who=shortened(who, 100)))
        excess = max(0, len(events) - EVENTS_KEPT)
        self.events = events[excess:]
        self.events_dropped += excess

    def enter(self, phase: Phase, now: datetime, doing: str = "") -> None:
        """Change the phase; entering the one that it is in keeps its beginning."""
        if phase is not self.phase:
            self.phase = phase
            self.since = now
        self.doing = doing

    def replace_disk(self, disk: Disk) -> None:
        """Put the new record of a disk in the place of the old one, or at the end."""
        if any(known.key == disk.key for known in self.disks):
            self.disks = tuple(disk if known.key == disk.key else known for known in self.disks)
        else:
            self.disks = (*self.disks, disk)

    def disk(self, key: int) -> Disk:
        """The record of a disk by its device key.

        Raises:
            KeyError: the job has no such disk.
        """
        for disk in self.disks:
            if disk.key == key:
                return disk
        raise KeyError(key)

    @property
    def volume_ids(self) -> tuple[str, ...]:
        """The volumes of the VM's disks."""
        return tuple(disk.volume_id for disk in self.disks if disk.volume_id)

    @property
    def unseeded_bytes(self) -> int:
        """What the replica lacks; a disk without a baseline lacks all of it."""
        return unseeded_bytes(self.disks)

    @property
    def unseeded_limit(self) -> int:
        """Bytes that one disk's encoded ranges may take, so that those of all disks fit into one message."""
        return min(256 << 10, UNSEEDED_LIMIT // max(1, len(self.disks)))

    @property
    def seeded(self) -> bool:
        """Whether every disk has a baseline and nothing is missing from its replica."""
        return bool(self.disks) and all(
            disk.baseline.change_id is not None and not disk.baseline.unseeded_bytes for disk in self.disks
        )

    def rate_of_a_stream(self, streams: int | None = None) -> int | None:
        """Bytes a second that one stream may read, of as many as run now; None: as many as it can.

        The final delta is not held back: the source is off, and every second of it is downtime.

        Args:
            streams: that will run; None: those that do.
        """
        if self.rate_limit is None or self.source_is_off:
            return None
        return max(1, self.rate_limit // max(1, self.streaming if streams is None else streams))

    @property
    def next_sync_at(self) -> datetime | None:
        """When the cadence asks for the next sync: reckoned from the last one, or from the last try that failed."""
        if self.cadence_seconds is None or self.paused or self.last_sync_at is None:
            return None
        due = self.last_sync_at + timedelta(seconds=self.cadence_seconds)
        return due if self.not_before is None else max(due, self.not_before)

    @property
    def cutover_not_begun(self) -> CutoverOrder | None:
        """A cutover that is ordered and has not begun; None: there is none, or it is begun already."""
        begun = Phase.CUTTING_OVER in {self.phase, self.failed_in if self.phase is Phase.FAILED else None}
        return None if begun else self.cutover_asked

    def take_in(self, vm: VmDetails) -> None:
        """Remember what the source says of the VM."""
        self.moref, self.vm_name = vm.moref, vm.name
        self.firmware, self.cpus, self.memory = vm.firmware, vm.cpus, vm.memory
        self.secure_boot = vm.secure_boot

    def vm_order(self, spec: MigrationSpec) -> VmOrder:
        """How activities are told which VM is meant."""
        return VmOrder(job_id=self.job_id, source=spec.source, moref=self.moref, vm=self.vm_name or spec.vm)

    def target_order(self, spec: MigrationSpec) -> TargetOrder:
        """How activities are told which project is meant."""
        return TargetOrder(job_id=self.job_id, target_project=spec.target_project, target_name=spec.target)

    def status(self, spec: MigrationSpec) -> JobStatus:
        """What a person may know of the job."""
        return JobStatus(
            job_id=self.job_id,
            spec=spec,
            phase=self.phase,
            paused=self.paused,
            since=self.since,
            doing=self.doing,
            disks=self.disks,
            nics=self.nics,
            cadence_seconds=self.cadence_seconds,
            next_sync_at=self.next_sync_at if self.phase is Phase.READY else None,
            last_sync_at=self.last_sync_at,
            replica_of=self.replica_of,
            bytes_full=self.bytes_full,
            bytes_incremental=self.bytes_incremental,
            sync_count=self.sync_count,
            last_rate=self.last_rate,
            sync=self.sync,
            rate_limit=self.rate_limit,
            verification=self.verification,
            trouble=self.trouble,
            cutover=self.cutover,
            earlier_cutovers=self.earlier_cutovers,
            cutover_ordered=self.cutover_not_begun,
            rehearsal=self.rehearsal,
            rehearsed=self.rehearsed,
            roll_back_until=self.roll_back_until,
            recent_syncs=self.recent_syncs,
            measured=self.measured,
            source_power=self.source_power,
            moref=self.moref,
        )

    def story(self) -> Events:
        """The bounded log."""
        return Events(events=self.events, dropped=self.events_dropped)


class JobInput(MigrationSpec):
    """A workflow's only argument: a MigrationSpec as submitted, to which a run that continues as new adds its record.

    One argument, not two, since Temporal decodes an argument that was left out, and then all others, without their
    types.
    """

    carried: JobState | None = None

    def spec(self) -> MigrationSpec:
        """What was submitted."""
        return MigrationSpec.model_validate(self.model_dump(exclude={"carried"}))
