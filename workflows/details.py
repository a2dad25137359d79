"""What the Temporal Web UI alone tells an operator of a job: Markdown, made of the state, without a clock.

Lists and not tables wherever a value may be long: the Web UI shows this in a narrow column, and sets table cells
without any space between them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from xms.job import JobState
from xms.models import Cutover, Disk, MigrationSpec, Phase, StepRecord

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

_GAP: Final = "&nbsp;&nbsp;&nbsp;"
"""Between two columns of a table."""

_LONGEST: Final = 1500
"""Characters of one line of a trouble: the details of a workflow end at 20 KiB, and the events have all of it."""


def describe(spec: MigrationSpec, state: JobState) -> str:
    """The job on one screen: where it stands, how old the replica is, what can be said to it."""
    parts = [
        f"## {_phase(state)}",
        _standing(state),
        _trouble(state),
        _metrics(state),
        _disks(state.disks),
        _cutover(state.cutover),
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
        ("Bytes (Full)", _size(state.bytes_full)),
        ("Bytes (Incr)", _size(state.bytes_incremental)),
        ("Sync Count", str(state.sync_count)),
        ("Rate", f"{_size(state.last_rate)}/s in the last sync" if state.last_rate else "-"),
        ("Cadence", "manual" if state.cadence_seconds is None else f"every {_duration(state.cadence_seconds)}"),
        ("Next sync", _next_sync(state)),
    )
    return "\n".join(f"- **{name}**: {value}" for name, value in rows)


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


def _disks(disks: tuple[Disk, ...]) -> str:
    return "\n".join(f"- **{disk.label}**, {_size(disk.capacity)}: {_replica(disk)}" for disk in disks)


def _replica(disk: Disk) -> str:
    where = f"volume `{disk.volume_id}`" if disk.volume_id else "no volume yet"
    if disk.baseline.change_id is None:
        return f"{where}, nothing known of its content"
    missing = disk.baseline.unseeded_bytes
    rest = f"{_size(missing)} still to copy" if missing else "complete"
    return f"{where}, {rest}, last delta {_size(disk.last_delta)}"


def _trouble(state: JobState) -> str:
    trouble = state.trouble
    if trouble is None:
        return ""
    lines = [f"**{'Needs you' if state.phase is Phase.FAILED else 'Trouble'}:** {_shortened(trouble.what)}", ""]
    said = (("because", trouble.because), ("means", trouble.means), ("do", trouble.do), ("at", _time(trouble.at)))
    lines += [f"- {name}: {_shortened(text)}" for name, text in said if text and text != "-"]
    return "\n".join(lines)


def _cutover(cutover: Cutover | None) -> str:
    if cutover is None or not cutover.steps:
        return ""
    lines = [f"| Cutover | Began |{_GAP}Took | Outcome |", "|---|---|--:|---|"]
    lines += [
        f"| {step.name}{_GAP} | {step.started_at:%H:%M:%S} UTC{_GAP} | {_took(step)}{_GAP} | {step.outcome} |"
        for step in cutover.steps
    ]
    return "\n".join(lines) + _downtime(cutover)


def _took(step: StepRecord) -> str:
    return "" if step.ended_at is None else _duration((step.ended_at - step.started_at).total_seconds())


def _downtime(cutover: Cutover) -> str:
    lines = []
    if cutover.downtime_started_at and cutover.downtime_ended_at:
        seconds = (cutover.downtime_ended_at - cutover.downtime_started_at).total_seconds()
        lines.append(f"- **Downtime**: {_duration(seconds)}")
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
        f"- **Target**: {spec.instance_name} in project {spec.target_project}, "
        f"flavor {spec.flavor}, volumes {spec.volume_type}{zone}"
    )


def _verbs(state: JobState) -> str:
    if state.phase in {Phase.COMPLETED, Phase.ABANDONED}:
        return "The job is over."
    if state.phase is Phase.CUTTING_OVER:
        return "No command now: after a failure the source runs again and the job is Ready."
    cadence = ("set-cadence", '`{"who": "you", "cadence_seconds": 900}`; null is manual')
    abandon = ("abandon", "ends the job; its volumes are kept")
    pause = ("resume", "syncs by the cadence again") if state.paused else ("pause", "no sync starts by itself")
    verbs = {
        Phase.FAILED: (("retry", "goes on where it stood"), abandon),
        Phase.READY: (("sync-now", "a sync at once"), ("cutover", "moves the VM now"), pause, cadence, abandon),
        Phase.SYNCING: (
            ("sync-now", "another sync after this one"),
            ("cutover", "moves the VM after this sync"),
            pause,
            cadence,
            abandon,
        ),
    }.get(state.phase, (pause, cadence, abandon))
    lines = ["**Commands now**, by *More Actions*, *Send an Update* (or *a Signal*, without an answer):", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in verbs]
    return "\n".join([*lines, "", 'The input of each is JSON, at least `{"who": "you"}`.'])


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    """The two largest units: 1d 6h, 15m, 38s; a decimal below ten seconds where there is one."""
    if seconds < 10 and seconds != int(seconds):  # noqa: PLR2004 - see above
        return f"{seconds:.1f}s"
    rest, parts = round(seconds), []
    for unit, length in _TIMES:
        number, rest = divmod(rest, length)
        parts.append(f"{number}{unit}" if number else "")
    first = next((place for place, part in enumerate(parts) if part), len(parts) - 1)
    return " ".join(part for part in parts[first : first + 2] if part) or "0s"


def _size(number: float) -> str:
    """Bytes in binary units with one decimal, which is left out where it is zero: 412.7 GiB, 3 TiB."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - binary units
        number /= 1024
        unit += 1
    return f"{number:.0f} B" if unit == 0 else f"{f'{number:.1f}'.removesuffix('.0')} {_UNITS[unit]}"
