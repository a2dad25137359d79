"""What the Temporal Web UI alone tells an operator of a job: Markdown, made of the state, without a clock."""

from __future__ import annotations

from datetime import datetime

from xms.job import JobState
from xms.models import Disk, MigrationSpec, Phase

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def describe(spec: MigrationSpec, state: JobState) -> str:
    """The job on one screen: where it stands, how old the replica is, what can be said to it."""
    parts = [
        f"## {spec.vm}: {spec.source} → {spec.target_project}",
        f"**{state.phase}{' (paused)' if state.paused else ''}** since {_time(state.since)}"
        + (f", {state.doing}" if state.doing else ""),
        _trouble(state),
        _metrics(state),
        _disks(state.disks),
        _cutover(state),
        _verbs(state),
    ]
    return "\n\n".join(part for part in parts if part)


def _metrics(state: JobState) -> str:
    cadence = "manual" if state.cadence_seconds is None else f"every {state.cadence_seconds} s"
    next_sync = state.next_sync_at
    rows = (
        ("Last Sync", _time(state.last_sync_at)),
        ("Lag", f"the target is as the source was at {_time(state.replica_of)}" if state.replica_of else "-"),
        ("Bytes (Full)", _size(state.bytes_full)),
        ("Bytes (Incr)", _size(state.bytes_incremental)),
        ("Sync Count", str(state.sync_count)),
        ("Rate", f"{_size(state.last_rate)}/s in the last sync" if state.last_rate else "-"),
        ("Cadence", cadence),
        ("Next sync", _time(next_sync) if state.phase is Phase.READY and next_sync else "-"),
    )
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)


def _disks(disks: tuple[Disk, ...]) -> str:
    if not disks:
        return ""
    head = "| Disk | Size | Volume | Last delta | Still to copy |\n|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {disk.label} | {_size(disk.capacity)} | `{disk.volume_id}` | {_size(disk.last_delta)} | {_missing(disk)} |"
        for disk in disks
    )


def _missing(disk: Disk) -> str:
    return "everything" if disk.baseline.change_id is None else _size(disk.baseline.unseeded_bytes)


def _trouble(state: JobState) -> str:
    trouble = state.trouble
    if trouble is None:
        return ""
    lines = [f"**Needs you:** {trouble.what}" if trouble.needs_person else f"**Trouble:** {trouble.what}"]
    lines += [f"- because: {trouble.because}"] if trouble.because else []
    lines += [f"- means: {trouble.means}"] if trouble.means else []
    lines += [f"- do: {trouble.do}"] if trouble.do else []
    return "\n".join(lines)


def _cutover(state: JobState) -> str:
    if state.cutover is None or not state.cutover.steps:
        return ""
    head = "| Cutover step | Began | Took | Outcome |\n|---|---|---|---|\n"
    rows = []
    for step in state.cutover.steps:
        took = "-" if step.ended_at is None else f"{(step.ended_at - step.started_at).total_seconds():.1f} s"
        rows.append(f"| {step.name} | {_time(step.started_at)} | {took} | {step.outcome} |")
    return head + "\n".join(rows)


def _verbs(state: JobState) -> str:
    if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
        return "The job is over."
    verbs = {
        Phase.FAILED: "`retry` goes on where it stood, `abandon` ends the job",
        Phase.CUTTING_OVER: "none; after a failure the source runs again and the job is Ready",
        Phase.READY: "`sync-now`, `cutover`, `pause` or `resume`, `set-cadence`, `abandon`",
        Phase.SYNCING: "`cutover` (after this sync), `sync-now` (another one), `pause`, `set-cadence`, `abandon`",
    }.get(state.phase, "`pause`, `set-cadence`, `abandon`")
    return (
        f"What it takes now, by *Send a Signal* or *Send an Update*: {verbs}. The input is a JSON object, for example "
        '`{"who": "ann"}`.'
    )


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _size(number: float) -> str:
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - binary units
        number /= 1024
        unit += 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"
