"""What the Temporal Web UI alone tells an operator of a job: Markdown, made of the state, without a clock.

Lists and no tables: the Web UI shows this in a narrow column, and sets the cells of a table without any space between
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from xms import differences, outlook, prediction, schedule, verification
from xms.change_map import ByteRanges
from xms.cutover import Cutover, CutoverOrder, Prediction, StepRecord
from xms.job import JobState
from xms.models import Disk, MigrationSpec, Phase, Verification
from xms.quantities import duration, rate, short_duration, size
from xms.rehearsal import rehearsal_id

_LONGEST: Final = 1500
"""Characters of one line of a trouble: the details of a workflow end at 20 KiB, and the events have all of it."""

_STEP: Final = 200
"""Characters of what a step of a cutover came to."""

_DISKS_NAMED: Final = 10


def describe(spec: MigrationSpec, state: JobState) -> str:
    """The job on one screen: where it stands, how old the replica is, what can be said to it."""
    replica = [_metrics(state), _disks(state), _verification(state.verification)]
    cutover = [_cutover(state.cutover), _earlier(state)]
    cutover_matters_most = state.phase in {Phase.CUTTING_OVER, Phase.COMPLETED}
    parts = [
        f"## {spec.vm}: {_phase(state)}",
        _standing(state),
        _trouble(state),
        _ahead(state),
        *(cutover + replica if cutover_matters_most else replica + cutover),
        _target(spec),
        _verbs(state),
    ]
    return "\n\n".join(part for part in parts if part)


def _phase(state: JobState) -> str:
    return f"{state.phase} (paused)" if state.paused else str(state.phase)


def _standing(state: JobState) -> str:
    text = f"since {_time(state.since)}"
    if state.doing:
        text += f"; now: {state.doing}"
    if state.phase in {Phase.FULL_SYNC, Phase.SYNCING}:
        text += ". The tab *Pending Activities* has the running copies, with the bytes read and written so far"
    return text


def _metrics(state: JobState) -> str:
    rows = (
        ("Last Sync", _time(state.last_sync_at) if state.last_sync_at else "none yet"),
        ("Lag", _lag(state)),
        ("Bytes (Full)", size(state.bytes_full)),
        ("Bytes (Incr)", size(state.bytes_incremental)),
        ("Sync Count", str(state.sync_count)),
        ("Rate", f"{rate(state.last_rate)} in the last sync" if state.last_rate else "-"),
        ("Rate limit", rate(state.rate_limit) if state.rate_limit else "none"),
        ("Cadence", "manual" if state.cadence_seconds is None else f"every {duration(state.cadence_seconds)}"),
        ("Next sync", _next_sync(state)),
    )
    return "**Replica**\n\n" + "\n".join(f"- **{name}**: {value}" for name, value in rows)


def _lag(state: JobState) -> str:
    if state.replica_of is None:
        return "no complete replica yet"
    if state.phase is Phase.COMPLETED:
        return "none: the source was off for the last sync"
    return f"the time since {_time(state.replica_of)}; the replica is the VM as it was then"


def _next_sync(state: JobState) -> str:
    if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
        return "none"
    if state.paused:
        return "none while paused"
    if state.cadence_seconds is None:
        return "when asked for"
    if state.phase is not Phase.READY or state.next_sync_at is None:
        return "-"
    return _time(state.next_sync_at)


def _disks(state: JobState) -> str:
    return "\n".join(f"- **{disk.label}**, {size(disk.capacity)}: {_replica(disk, state)}" for disk in state.disks)


def _replica(disk: Disk, state: JobState) -> str:
    where = f"volume `{disk.volume_id}`" if disk.volume_id else "no volume yet"
    if state.phase is Phase.COMPLETED:
        return f"{where}, the target's now"
    if disk.baseline.change_id is None:
        return f"{where}, all of it still to copy" + (" if the cutover fails" if state.source_is_off else "")
    missing = disk.baseline.unseeded_bytes
    rest = f"{size(missing)} still to copy" if missing else "complete"
    return f"{where}, {rest}, last delta {size(disk.last_delta)}"


def _trouble(state: JobState) -> str:
    trouble = state.trouble
    if trouble is None:
        return ""
    lines = [f"**{'Needs you' if state.phase is Phase.FAILED else 'Trouble'}:** {_shortened(trouble.what)}", ""]
    said = (("because", trouble.because), ("means", trouble.means), ("do", trouble.do), ("at", _time(trouble.at)))
    lines += [f"- **{name}**: {_shortened(text)}" for name, text in said if text and text != "-"]
    return "\n".join(lines)


def _ahead(state: JobState) -> str:
    """What is to be expected: a cutover that was ordered, its prediction, rehearsals, the time for a roll-back."""
    lines, order = [], state.cutover_not_begun
    if order is not None:
        failed = "; it does not begin while the job is Failed" if state.phase is Phase.FAILED else ""
        lines.append(f"- **Cutover ordered**: {_shortened(outlook.scheduled(order, _time))}{failed}")
    if state.phase in {Phase.READY, Phase.SYNCING, Phase.FAILED}:
        if (predicted := _predicted(state)) is not None:
            lines.append(f"- **Predicted downtime**, right after a sync: {outlook.predicted(predicted)}")
        lines.append(f"- **Rehearsal**: {_shortened(outlook.rehearsed(state.rehearsal, state.rehearsed, _time))}")
    if state.rehearsal is not None and state.rehearsal.outcome == "running":
        lines.append(f"- **It runs in** the workflow `{rehearsal_id(state.job_id)}`")
    if state.roll_back_until is not None:
        lines.append(f"- **Roll-back possible until**: {_time(state.roll_back_until)}")
    return "\n".join(lines)


def _predicted(state: JobState) -> Prediction | None:
    """As it was right after the last sync, since nothing here knows what time it is now."""
    if state.last_sync_at is None:
        return None
    return prediction.predict(state, state.cutover_asked or CutoverOrder(), state.last_sync_at)


def _verification(found: Verification | None) -> str:
    if found is None:
        return ""
    asked = f"asked for by {found.asked_by or 'somebody'} {_time(found.asked_at)}"
    running = "" if found.ended_at else "running, "
    lines = [f"**Verification**, {asked}: {running}{verification.summary(found)}", ""]
    spoiled = [disk for disk in found.disks if disk.differing]
    lines += [
        f"- **{disk.label}** differed in {differences.told(ByteRanges.decode(disk.differing))}"
        for disk in spoiled[:_DISKS_NAMED]
    ]
    lines += [f"- and {len(spoiled) - _DISKS_NAMED} more disks"] if len(spoiled) > _DISKS_NAMED else []
    return "\n".join(lines)


def _cutover(cutover: Cutover | None) -> str:
    if cutover is None or not cutover.steps:
        return ""
    lines = [f"**Cutover**, begun {_time(cutover.steps[0].started_at)}:", ""]
    lines += [f"1. {step.name}: {_outcome(step, cutover)}{_took(step)}{_came_to(step)}" for step in cutover.steps]
    return "\n".join(lines) + _downtime(cutover)


def _earlier(state: JobState) -> str:
    lines = [f"- {_shortened(line)}" for line in outlook.earlier(state.earlier_cutovers, _time)]
    return "\n".join(["**Cutovers before it**", "", *lines]) if lines else ""


def _outcome(step: StepRecord, cutover: Cutover) -> str:
    return "failed, undone" if step.outcome == "undone" and step.name == cutover.failed_at else step.outcome


def _came_to(step: StepRecord) -> str:
    moved = f", {size(step.bytes)}" if step.bytes is not None else ""
    return f"{moved}, {_shortened(step.found, _STEP)}" if step.found else moved


def _took(step: StepRecord) -> str:
    seconds = None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds()
    return f" since {step.started_at:%H:%M:%S} UTC" if seconds is None else f", {short_duration(seconds)}"


def _downtime(cutover: Cutover) -> str:
    lines = []
    if cutover.downtime_started_at and cutover.downtime_ended_at:
        seconds = (cutover.downtime_ended_at - cutover.downtime_started_at).total_seconds()
        lines.append(f"- **Downtime**: {short_duration(seconds)}")
    elif cutover.downtime_started_at and cutover.source_on_at:
        seconds = (cutover.source_on_at - cutover.downtime_started_at).total_seconds()
        lines.append(f"- **Downtime**: {short_duration(seconds)}, until the source ran again")
    elif cutover.downtime_started_at:
        lines.append(f"- **Downtime**: began {_time(cutover.downtime_started_at)}")
    if cutover.server_id:
        lines.append(f"- **Target server**: `{cutover.server_id}`")
    if cutover.evidence:
        lines.append(f"- **Seen running by**: {_shortened(cutover.evidence)}")
    return "\n\n" + "\n".join(lines) if lines else ""


def _target(spec: MigrationSpec) -> str:
    zone = f", zone {spec.availability_zone}" if spec.availability_zone else ""
    return (
        f"- **From**: {spec.vm} of {spec.source}\n- **To**: {spec.instance_name} in project {spec.destination}, "
        f"flavor {spec.flavor}, volumes {spec.volume_type}{zone}"
    )


def _verbs(state: JobState) -> str:
    over = state.phase is Phase.COMPLETED and state.roll_back_until is None
    if over or state.phase is Phase.ABANDONED:
        return "The job is over."
    if state.phase is Phase.CUTTING_OVER and state.source_is_off:
        return "No command now. After a failure the source runs again, and the job is Ready."
    cadence = ("set-cadence", '`{"who": "you", "cadence_seconds": 900}`; null is manual')
    limit = ("set-rate-limit", '`{"who": "you", "rate_limit": 52428800}`, bytes a second; null is none')
    abandon = ("abandon", "ends the job; its volumes are kept")
    pause = ("resume", "syncs by the cadence again") if state.paused else ("pause", "no sync starts by itself")
    order = state.cutover_not_begun
    scheduled = order is not None and schedule.is_scheduled(order)
    free = not verification.runs(state) and (order is None or scheduled)
    verify = (("verify", "compares all of the replica with the source"),) if free else ()
    withdraw = (("withdraw-cutover", "takes back the cutover that has not begun"),) if order is not None else ()
    now, after = ("moves the VM now", "moves the VM after this sync")
    if scheduled:
        now, after = f"{now}, or at another time: it replaces the scheduled one", f"{after}, or at another time"
    verbs = {
        Phase.CUTTING_OVER: (("abandon", "breaks the cutover off, until the source is stopped, and ends the job"),),
        Phase.COMPLETED: (
            ("rollback", "removes the target, starts the source; what the target wrote is lost"),
            ("finalize", f"ends the job; it ends by itself {_time(state.roll_back_until)}"),
        ),
        # With the source off only the roll-back can go on: see refuse_unless_allowed.
        Phase.FAILED: (
            ("rollback", "removes the target, starts the source")
            if state.cutover is not None and state.cutover.kept
            else ("retry", "goes on where it stood"),
            *withdraw,
            *(() if state.source_is_off else (abandon,)),
        ),
        Phase.READY: (
            ("sync-now", "a sync at once"),
            *((("cutover", now),) if order is None or scheduled else ()),
            *withdraw,
            pause,
            cadence,
            limit,
            *verify,
            abandon,
        ),
        Phase.SYNCING: (
            ("sync-now", "another sync after this one"),
            *((("cutover", after),) if order is None or scheduled else ()),
            *withdraw,
            pause,
            cadence,
            limit,
            *verify,
            abandon,
        ),
    }.get(state.phase, (pause, cadence, limit, abandon))
    return _commands(verbs)


def _commands(verbs: Sequence[tuple[str, str]]) -> str:
    lines = ["**Commands now**, by *More Actions*, *Send an Update* (or *a Signal*, without an answer):", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in verbs]
    return "\n".join([*lines, "", 'The input of each is JSON, at least `{"who": "you"}`.'])


def _shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[:longest] + "..."


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
