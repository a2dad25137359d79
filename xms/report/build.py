"""A job's status and its story become its report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from xms.cutover import Cutover, Rehearsal, StepRecord
from xms.models import Event, Phase, Verification
from xms.quantities import short_duration
from xms.report.downtime import compared, downtime
from xms.report.model import (
    AttemptOutcome,
    AttemptReport,
    DiskReport,
    EndOfDowntime,
    JobOutcome,
    PortReport,
    Replica,
    Report,
    StepReport,
    VerificationReport,
)
from xms.status import Events, JobStatus

LEFT_BEHIND: Final = frozenset({"port left", "finishing touches failed", "clean-up failed"})
"""Kinds of events that tell of something which could not be removed."""


def report_of(status: JobStatus, story: Events, made_at: datetime) -> Report:
    """The report of a job in any phase, as it is at `made_at` (UTC)."""
    attempts = _attempts(status, story.events)
    outcome = _outcome(status, attempts)
    return Report(
        made_at=made_at,
        job_id=status.job_id,
        vm=status.spec.vm,
        source=status.spec.source,
        destination=status.spec.destination,
        instance_name=status.spec.instance_name,
        outcome=outcome,
        headline=_headline(status, outcome, attempts[-1] if attempts else None),
        phase=status.phase,
        since=status.since,
        requested_by=status.spec.requested_by,
        trouble=status.trouble,
        roll_back_until=status.roll_back_until,
        spec=status.spec,
        attempts=attempts,
        rehearsals=tuple(_rehearsals(status)),
        replica=_replica(status),
        ports=tuple(_ports(status)),
        events=story.events,
        events_dropped=story.dropped,
    )


# --- the cutovers -----------------------------------------------------------------------------------------------------


def _attempts(status: JobStatus, events: tuple[Event, ...]) -> tuple[AttemptReport, ...]:
    records = [*status.earlier_cutovers, *([status.cutover] if status.cutover else [])]
    until = [record.ordered_at for record in records[1:]]
    found: list[AttemptReport] = []
    for place, record in enumerate(records):
        end = until[place] if place < len(until) else None
        left = [
            event.text
            for event in events
            if event.kind in LEFT_BEHIND and record.ordered_at <= event.at and (end is None or event.at < end)
        ]
        outcome = _attempt_outcome(record, status.phase, last=place + 1 == len(records))
        # Records of older workers have no number, and those that came after them began to count anew.
        number = max(record.number, found[-1].number + 1 if found else 1)
        found.append(_attempt(record, number, outcome, tuple(left)))
    return tuple(found)


def _attempt_outcome(record: Cutover, phase: Phase, *, last: bool) -> AttemptOutcome:
    if record.rolled_back_at is not None:
        return AttemptOutcome.ROLLED_BACK
    if last and phase is Phase.COMPLETED:
        return AttemptOutcome.COMPLETED
    if last and phase is Phase.CUTTING_OVER:
        return AttemptOutcome.UNDER_WAY
    if last and phase is Phase.FAILED and (record.kept or _is_to_be_undone(record)):
        return AttemptOutcome.NOT_ROLLED_BACK
    # Older workers did not keep when. A job goes on from a cutover that is not completed only when it was undone.
    return AttemptOutcome.ROLLED_BACK


def _is_to_be_undone(record: Cutover) -> bool:
    """Whether a step that stopped the source, or came after it, still stands."""
    began = record.downtime_started_at
    return began is not None and record.source_on_at is None


def _attempt(record: Cutover, number: int, outcome: AttemptOutcome, left: tuple[str, ...]) -> AttemptReport:
    came = downtime(record)
    return AttemptReport(
        number=number,
        ordered_by=record.ordered_by,
        ordered_at=record.ordered_at,
        outcome=outcome,
        ended_at=None if outcome is AttemptOutcome.UNDER_WAY else _ended_at(record),
        failed_at=record.failed_at or next((step.name for step in record.steps if step.outcome == "failed"), ""),
        trouble=record.trouble,
        order=record.order,
        decisions=record.decisions,
        steps=tuple(_step(step, record) for step in record.steps),
        downtime=came,
        prediction=compared(record.prediction, came),
        power_off=record.power_off,
        evidence=record.evidence,
        server_id=record.server_id,
        verified_bytes=record.verified_bytes,
        source_was_running=record.source_was_running,
        source_on_at=record.source_on_at,
        rolled_back_at=record.rolled_back_at,
        rolled_back_by=record.rolled_back_by,
        left=left,
    )


def _ended_at(record: Cutover) -> datetime | None:
    ends = [moment for step in record.steps for moment in (step.ended_at, step.undone_at) if moment is not None]
    ends += [moment for moment in (record.rolled_back_at, record.source_on_at) if moment is not None]
    return max(ends, default=None)


def _step(step: StepRecord, record: Cutover) -> StepReport:
    began, ended = record.downtime_started_at, record.downtime_ended_at
    in_downtime = began is not None and began <= step.started_at and (ended is None or step.started_at < ended)
    return StepReport(
        name=step.name,
        began_at=step.started_at,
        ended_at=step.ended_at,
        seconds=None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds(),
        outcome=step.outcome,
        failed=step.outcome == "failed" or (bool(record.failed_at) and step.name == record.failed_at),
        in_downtime=in_downtime,
        bytes=step.bytes,
        found=step.found,
        work_seconds=step.work_seconds,
        undone_at=step.undone_at,
    )


# --- the job ----------------------------------------------------------------------------------------------------------


def _outcome(status: JobStatus, attempts: tuple[AttemptReport, ...]) -> JobOutcome:
    match status.phase:
        case Phase.COMPLETED:
            return JobOutcome.COMPLETED
        case Phase.ABANDONED:
            return JobOutcome.ABANDONED
        case Phase.FAILED:
            return JobOutcome.FAILED
        case Phase.CUTTING_OVER:
            return JobOutcome.UNDER_WAY
    if attempts and attempts[-1].outcome is AttemptOutcome.ROLLED_BACK:
        return JobOutcome.ROLLED_BACK
    return JobOutcome.UNDER_WAY


def _headline(status: JobStatus, outcome: JobOutcome, last: AttemptReport | None) -> str:
    vm, spec = status.spec.vm, status.spec
    match outcome:
        case JobOutcome.COMPLETED:
            off = _off(last)
            return f"{vm} runs as {spec.instance_name} in {spec.destination}{', after ' + off if off else ''}."
        case JobOutcome.ABANDONED:
            return f"The job of {vm} was abandoned before the VM was moved."
        case JobOutcome.FAILED:
            off = f" {vm} is off." if last and last.outcome is AttemptOutcome.NOT_ROLLED_BACK else ""
            what = status.trouble.what if status.trouble else "it failed"
            return f"The job of {vm} waits for a person: {what}.{off}"
        case JobOutcome.ROLLED_BACK:
            return f"The last cutover of {vm} was rolled back{_because(last)}; {_source_now(last)}."
        case JobOutcome.UNDER_WAY:
            return f"{vm} is on its way to {spec.destination}: {status.phase}."


def _off(last: AttemptReport | None) -> str:
    seconds = last.downtime.seconds if last and last.downtime else None
    return "" if seconds is None else f"a downtime of {short_duration(seconds)}"


def _because(last: AttemptReport | None) -> str:
    if last is None:
        return ""
    if last.rolled_back_by:
        return f" by {last.rolled_back_by}"
    return f" after {last.failed_at} failed" if last.failed_at else ""


def _source_now(last: AttemptReport | None) -> str:
    if last is None or last.downtime is None:
        return "the source was never stopped"
    if last.source_on_at is None:
        return "the source stays off" if last.source_was_running else "the source stays off, as it was before"
    off = _off(last) if last.downtime.ended_by is EndOfDowntime.SOURCE else ""
    return f"the source runs again{', after ' + off if off else ''}"


def _rehearsals(status: JobStatus) -> Iterator[Rehearsal]:
    last, passed = status.rehearsal, status.rehearsed
    if passed is not None and (last is None or passed.number != last.number):
        yield passed
    if last is not None:
        yield last


def _replica(status: JobStatus) -> Replica:
    return Replica(
        last_sync_at=status.last_sync_at,
        replica_of=status.replica_of,
        bytes_full=status.bytes_full,
        bytes_incremental=status.bytes_incremental,
        sync_count=status.sync_count,
        last_rate=status.last_rate,
        disks=tuple(
            DiskReport(
                key=disk.key,
                label=disk.label,
                capacity=disk.capacity,
                volume_id=disk.volume_id,
                bytes_full=disk.bytes_full,
                bytes_incremental=disk.bytes_incremental,
                differed_bytes=disk.differed_bytes,
            )
            for disk in status.disks
        ),
        recent_syncs=status.recent_syncs,
        verification=_verification(status.verification),
    )


def _verification(found: Verification | None) -> VerificationReport | None:
    if found is None:
        return None
    return VerificationReport(
        asked_by=found.asked_by,
        asked_at=found.asked_at,
        ended_at=found.ended_at,
        ended_because=found.ended_because,
        snapshots=found.snapshots,
        bytes=sum(disk.capacity for disk in found.disks),
        compared_bytes=sum(disk.compared for disk in found.disks),
        differing_bytes=sum(disk.differing_bytes for disk in found.disks),
    )


def _ports(status: JobStatus) -> Iterator[PortReport]:
    for nic in status.nics:
        yield PortReport(
            label=nic.label,
            source_network=nic.source_network,
            network=nic.network,
            subnet=nic.subnet,
            mac=nic.port_mac or nic.mac,
            mac_kept=nic.mac_kept,
            addresses=nic.port_ips,
            port_id=nic.port_id,
        )
