"""The wire vocabulary of a cutover and of its rehearsals: orders, predictions, and the records of what came of them.

The rules of `xms.models` hold here, too. What an order has by default is what jobs did before the field was there, so
that their histories replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from xms.models import Command, Model, NetworkMapping, Trouble


def _in_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


Utc = Annotated[datetime, AfterValidator(_in_utc)]
"""A time that people may write by hand: one without a zone is taken as UTC, so that times can always be compared."""

# --- what is asked for ------------------------------------------------------------------------------------------------


class Window(Model):
    """A time in which a cutover may run."""

    opens_at: Utc = Field(description="UTC")
    closes_at: Utc = Field(description="UTC; the target has to run by then")
    zone: str = Field(default="", description="time zone in which the operator gave it, for people; empty: UTC")


class OnFailure(StrEnum):
    """What becomes of a cutover that failed."""

    ROLL_BACK = "roll-back"
    KEEP_OFF = "keep-off"
    """All stays as it failed, the source off, for somebody to look at; `rollback` or `retry` takes it back."""


class Evidence(Model):
    """One sign of life that is awaited of a target, beside ACTIVE."""

    kind: Literal["console", "agent", "tcp", "ping", "command"]
    pattern: str = Field(default="", description="console: regular expression of a line")
    port: int | None = Field(default=None, ge=1, le=65535, description="tcp: the port that has to accept a connection")
    address: str = Field(default="", description="tcp, ping: instead of the addresses of the target's ports")
    command: str = Field(default="", description="command: a name of the workers' [evidence.commands]")


def awaited_of(evidence: Sequence[Evidence], console_evidence: str | None) -> tuple[Evidence, ...]:
    """All that an order asks for, once each; `console_evidence` is how orders said it before there were other kinds."""
    older = () if not console_evidence else (Evidence(kind="console", pattern=console_evidence),)
    return tuple(dict.fromkeys((*older, *evidence)))


class StaticAddress(Model):
    """What the guest's own configuration of one NIC is to be after the conversion (virt-v2v --mac)."""

    mac: str = Field(description="of the source's NIC, lower case, colons")
    address: str
    prefix_length: int = Field(ge=0, le=128)
    gateway: str = ""
    nameservers: tuple[str, ...] = ()


class ConversionOptions(Model):
    """How the guest is converted."""

    skip: bool = Field(default=False, description="the guest is ready for KVM: it is not changed")
    luks_keys: tuple[str, ...] = Field(
        default=(),
        description="names of files in the workers' conversion.keys_dir, each with one passphrase; DEVICE=NAME where "
        "the device is not found by itself",
    )
    static_addresses: tuple[StaticAddress, ...] = ()


class CutoverOrder(Command):
    """Move the workload: now, or at a time."""

    shutdown_timeout_seconds: int = Field(default=300, description="time for the guest to shut down")
    hard_power_off: bool = Field(default=True, description="power off hard when the guest does not answer in time")
    power_on_source_after_failure: bool = Field(
        default=True,
        description="False: after a failure all is rolled back but the source, which stays off; see `on_failure`",
    )
    on_failure: OnFailure = OnFailure.ROLL_BACK
    console_evidence: str | None = Field(default=None, description="regular expression awaited on the target's console")
    evidence: tuple[Evidence, ...] = Field(default=(), description="each has to be seen; none: any sign of life")
    evidence_timeout_seconds: int = Field(default=600, description="time for the target to be seen running")
    network_map: tuple[NetworkMapping, ...] = Field(
        default=(), description="for this cutover, instead of the submitted mappings of the same sources"
    )
    max_downtime_seconds: int | None = Field(
        default=None, gt=0, description="warm passes until the predicted downtime fits; None: one warm pass, any time"
    )
    force: bool = Field(default=False, description="begin although the prediction does not fit")
    at: Utc | None = Field(default=None, description="UTC; not before, and within an hour of it")
    window: Window | None = Field(default=None, description="neither before nor after; instead of `at`")
    require_rehearsal_seconds: int | None = Field(
        default=None, gt=0, description="a rehearsal has to have passed no longer ago; None: it need not be rehearsed"
    )
    conversion: ConversionOptions = ConversionOptions()
    rollback_period_seconds: int = Field(
        default=0, ge=0, description="how long a completed job waits for `rollback` or `finalize`; 0: it ends at once"
    )

    @property
    def awaited_evidence(self) -> tuple[Evidence, ...]:
        """All signs of life that the target has to give; none: any sign."""
        return awaited_of(self.evidence, self.console_evidence)


class WithdrawCutover(Command):
    """Take back a cutover that has not begun."""


class Rehearse(Command):
    """Convert and boot a copy of the replica in an isolated network; source, replica and syncs are left alone."""

    evidence: tuple[Evidence, ...] = Field(default=(), description="as of a cutover; nothing outside reaches the copy")
    evidence_timeout_seconds: int = Field(default=600, gt=0, description="time for the copy to be seen running")
    conversion: ConversionOptions = ConversionOptions()
    syncs_wait_seconds: int = Field(
        default=1800,
        gt=0,
        description="time for a back end that copies every byte; syncs wait for it, and are let go after it",
    )


class RollBackOrder(Command):
    """Take a cutover back that failed and was kept so, or one that is completed and not finalized."""


class FinalizeOrder(Command):
    """The completed cutover stands: what a roll-back would need is removed, and the job ends."""


# --- what is expected -------------------------------------------------------------------------------------------------


class PredictedPart(Model):
    """One part of a predicted downtime."""

    name: Literal["shutdown", "final delta", "conversion", "boot", "own share"]
    seconds: float
    basis: str = Field(description="what it is reckoned from, in words")
    measured: bool = Field(default=False, description="from this job's own history; else it is an assumption")


class Prediction(Model):
    """How long the source would be off before the target is seen running."""

    made_at: datetime = Field(description="UTC")
    parts: tuple[PredictedPart, ...]

    @property
    def seconds(self) -> float:
        """All parts together."""
        return sum(part.seconds for part in self.parts)

    @property
    def measured(self) -> bool:
        """Whether no part is a mere assumption."""
        return all(part.measured for part in self.parts)


class SyncFigures(Model):
    """What a committed sync took: the base of predictions."""

    snapshot_at: datetime = Field(description="UTC")
    bytes: int = Field(description="that it had to copy")
    streaming_seconds: float
    seconds: float = Field(description="all of it, from the snapshot's order to the removal")
    full: bool = False
    final: bool = Field(default=False, description="with the source off; it was verified")
    verified: bool = Field(default=False, description="what it wrote was read back")
    compared: int = Field(default=0, description="bytes of the replica that were compared with the snapshot")
    waited_seconds: float = Field(
        default=0.0, description="of the streaming: until a stream of the source's host was free"
    )


class Measured(Model):
    """Seconds that the parts of a downtime last took, and when; None: never seen."""

    shutdown: float | None = None
    conversion: float | None = None
    boot: float | None = Field(default=None, description="from the order to the evidence")
    own: float | None = Field(default=None, description="what the product itself did with the source off, in cutovers")
    at: datetime | None = Field(default=None, description="UTC; the last of them")
    conversion_at: datetime | None = Field(default=None, description="UTC; None: `at`")
    boot_at: datetime | None = Field(default=None, description="UTC; None: `at`")
    by: str = Field(default="", description="'rehearsal' or 'cutover'")


# --- what came of it --------------------------------------------------------------------------------------------------


class ConversionProgress(Model):
    """How far a conversion is that runs now: what its worker says with every heartbeat."""

    stage: str = Field(description="what it does, in words")
    percent: float | None = Field(default=None, description="of the stage; None: nobody knows")
    seconds: float = Field(default=0.0, description="since the conversion began on this worker")
    worker_queue: str = Field(default="", description="task queue of the worker that has its log")


class StepRecord(Model):
    """One step of the cutover's itinerary as it ran."""

    name: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str = Field(default="running", description="running, done, failed, undone")
    bytes: int | None = Field(default=None, description="that the step moved; None: it moves none")
    found: str = Field(default="", description="what the step came to, in one line")
    work_seconds: float | None = Field(
        default=None,
        description="of the streams, or of virt-v2v with the commit, without what the product does around them",
    )
    undone_at: datetime | None = Field(default=None, description="UTC; when the roll-back had undone it")


class Decision(Model):
    """Something that was decided on the way, and why."""

    at: datetime = Field(description="UTC")
    what: str
    because: str = ""


class Cutover(Model):
    """The record of one cutover that was tried."""

    number: int = Field(default=0, description="counts the job's cutovers from 1; 0: an older worker counted none")
    ordered_by: str = ""
    ordered_at: datetime
    order: CutoverOrder | None = Field(default=None, description="None: an older worker kept none")
    prediction: Prediction | None = Field(default=None, description="the last one before the source was stopped")
    decisions: tuple[Decision, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    downtime_started_at: datetime | None = None
    downtime_ended_at: datetime | None = None
    converted_by: str = Field(default="", description="task queue of the worker that converted last: it has the log")
    power_off: str = Field(default="", description="'guest shut down', 'powered off hard', 'was off'")
    evidence: str = ""
    server_id: str | None = None
    source_was_running: bool = Field(default=True, description="before the cutover; a roll-back brings it back to that")
    verified_bytes: int = Field(default=0, description="of the final delta, read back from the volumes and compared")
    failed_at: str = Field(default="", description="name of the step that failed; its outcome may be 'undone' by now")
    source_on_at: datetime | None = Field(default=None, description="UTC; when a roll-back had it running again")
    completed_at: datetime | None = Field(default=None, description="when the target was left to itself, UTC")
    kept: bool = Field(default=False, description="it failed, and nothing was undone: its order said keep-off")
    rolled_back_at: datetime | None = None
    rolled_back_by: str = Field(default="", description="empty: nobody ordered it, the cutover had failed")
    trouble: Trouble | None = Field(default=None, description="what it failed with; it outlives the sync that follows")

    @property
    def running(self) -> StepRecord | None:
        """The step that runs; None between steps, and when the walk is over."""
        last = self.steps[-1] if self.steps else None
        return last if last is not None and last.outcome == "running" else None

    def with_running(self, **changes: object) -> Cutover:
        """The record with these fields of the step that runs changed; itself where none runs."""
        if self.running is None:
            return self
        return self.model_copy(update={"steps": (*self.steps[:-1], self.running.model_copy(update=changes))})


class Rehearsal(Model):
    """The record of one rehearsal."""

    number: int = Field(description="counts the job's rehearsals from 1")
    asked_by: str = ""
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["running", "passed", "failed", "broken off"] = "running"
    replica_of: datetime | None = Field(default=None, description="time of the snapshot that the copy equals")
    steps: tuple[StepRecord, ...] = ()
    conversion_seconds: float | None = None
    boot_seconds: float | None = None
    evidence: str = ""
    trouble: Trouble | None = None
    left: tuple[str, ...] = Field(default=(), description="one sentence for each thing that could not be removed")
