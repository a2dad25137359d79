"""What a job looks like on a terminal: the list of jobs, and one job with all its figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli import comparing, prediction, rehearsal
from cli.cutover_screens import ahead, cutover, earlier
from cli.figures import Progress, disk_progress, sync_progress
from cli.layout import INDENT, TROUBLE_STYLE, WIDE, columns, facts, whole
from cli.nics import nic_line
from xms import quantities
from xms.cutover import ConversionProgress
from xms.models import Disk, Phase, Trouble
from xms.quantities import ABSENT
from xms.status import JobStatus
from xms.visible import visible

if TYPE_CHECKING:
    from xms.client import Listed, Listing

PHASE_STYLES: Final = {
    Phase.READY: "green",
    Phase.COMPLETED: "bold green",
    Phase.FAILED: "bold red",
    Phase.CUTTING_OVER: "yellow",
    Phase.FULL_SYNC: "cyan",
    Phase.SYNCING: "cyan",
}
BAR: Final = 40

ALL_DISKS: Final = "all disks"

NEXT_COLUMNS: Final = 30
"""What the list's last column needs at least, so that a sentence in it can be read."""

# --- the list ---------------------------------------------------------------------------------------------------------


def listing(found: Listing, now: datetime, width: int) -> RenderableType:
    """All jobs, one a line; where the lines do not fit, each job id gets a line of its own above its figures."""
    headers = ("JOB", "PHASE", "LAST SYNC", "LAG", "CADENCE", "SYNCS", "NEXT")
    rows = [_row(job, now) for job in found.jobs]
    widths = [max(len(header), *(row[n].cell_len for row in rows)) for n, header in enumerate(headers)]
    widths[-1] = min(widths[-1], NEXT_COLUMNS)
    if sum(widths) + 2 * (len(headers) - 1) <= width:
        table = columns(*headers, right=("SYNCS",))
        table.columns[-1].no_wrap = False
        for row in rows:
            table.add_row(*row)
        return table
    return Group(*_stacked(headers, rows))


def _stacked(headers: Sequence[str], rows: Sequence[Sequence[Text]]) -> Iterator[RenderableType]:
    figures, next_column = headers[1:-1], len(headers) - 1
    widths = [max(len(header), *(row[n + 1].cell_len for row in rows)) for n, header in enumerate(figures)]
    yield Text(headers[0])
    yield Text("  " + "  ".join(header.ljust(wide) for header, wide in zip(figures, widths, strict=True)))
    for row in rows:
        yield Text(row[0].plain, no_wrap=True, overflow="ignore")
        line = Text("  ")
        for cell, wide in zip(row[1:-1], widths, strict=True):
            line += cell + Text(" " * (wide - cell.cell_len + 2))
        yield line
        if row[next_column].plain != ABSENT:
            yield Padding(row[next_column], INDENT, expand=False)


def _row(job: Listed, now: datetime) -> tuple[Text, ...]:
    status = job.status
    phase = phase_text(status) if status else _phase_word(job.phase, paused=job.paused)
    last_sync = Text(quantities.short_moment(job.last_sync_at, now))
    if status is None:
        unknown = Text(ABSENT)
        silence = Text(f"no answer: {job.no_answer}", style=TROUBLE_STYLE) if job.no_answer else unknown
        return (Text(job.job_id), phase, last_sync, unknown, unknown, unknown, silence)
    over = status.phase in {Phase.COMPLETED, Phase.ABANDONED}
    return (
        Text(job.job_id),
        phase,
        last_sync,
        Text(ABSENT if over else lag(status, now)),
        Text(quantities.cadence(status.cadence_seconds)),
        Text(str(status.sync_count)),
        what_is_next(status, now),
    )


def what_is_next(status: JobStatus, now: datetime) -> Text:
    """What a list says of a job's future: a time, a running sync's figures, or that somebody is needed."""
    progress = sync_progress(status)
    if status.phase is Phase.FAILED and status.trouble:
        return Text(f"needs you: {status.trouble.what}", style=TROUBLE_STYLE)
    compared = comparing.compared(status)
    if compared and status.sync:
        return Text(compared.words)
    if progress:
        return Text(progress_words(progress))
    if status.trouble and status.phase is Phase.READY:
        return Text(f"{_until(status, now)}; last try: {status.trouble.what}", style=TROUBLE_STYLE)
    if compared:
        return Text(compared.words)
    coming = [_until(status, now)] if status.next_sync_at else []
    coming += [planned] if (planned := prediction.is_next(status, now)) else []
    return Text("; ".join(coming) or status.doing or ABSENT)


def _until(status: JobStatus, now: datetime) -> str:
    if status.next_sync_at is None:
        return "no sync planned"
    seconds = (status.next_sync_at - now).total_seconds()
    return f"in {quantities.duration(seconds)}" if seconds >= 1 else "now"


# --- one job ----------------------------------------------------------------------------------------------------------


def job(status: JobStatus, now: datetime, width: int) -> RenderableType:
    """One job with everything that is known of it."""
    return Group(*_job(status, now, width))


def live(status: JobStatus, now: datetime, width: int) -> RenderableType:
    """What moves: the phase, the metrics, the sync's bars, the cutover's steps, trouble. It fits 24 lines."""
    parts: list[RenderableType] = [heading(status, now, width), Text("")]
    parts += [metrics(status, now, per_row=3 if width >= WIDE else 2), *running(status, now)]
    if status.verification and comparing.is_running(status):
        parts += [facts(comparing.facts(status.verification, TROUBLE_STYLE)[:1])]
    if rehearsed := rehearsal.running(status):
        parts += [facts([("beside it", Text(rehearsed))])]
    if status.cutover and status.phase in {Phase.CUTTING_OVER, Phase.COMPLETED}:
        parts += [Text(""), *cutover(status.cutover, status.phase, width, found=False)]
    if status.trouble:
        parts += [Text(""), facts(list(trouble(status.trouble)))]
    return Group(*parts)


def _job(status: JobStatus, now: datetime, width: int) -> Iterator[RenderableType]:
    yield heading(status, now, width)
    yield whole("job", status.job_id)
    yield facts([("target", Text(_target(status)))])
    if status.rate_limit:
        yield facts([("limit", Text(f"{quantities.rate(status.rate_limit)} for all streams together"))])
    yield Text("")
    yield metrics(status, now, per_row=3 if width >= WIDE else 2)
    yield from running(status, now)
    if status.disks:
        yield Text("")
        yield Padding(disks(status, wide=width >= WIDE), INDENT, expand=False)
    if status.nics:
        yield Text("")
        yield facts([("NIC", Text(nic_line(nic))) for nic in status.nics])
    if expected := ahead(status, now):
        yield Text("")
        yield facts(expected)
    if status.verification:
        yield Text("")
        yield facts(comparing.facts(status.verification, TROUBLE_STYLE))
    if status.cutover:
        yield Text("")
        yield from cutover(status.cutover, status.phase, width)
        if status.earlier_cutovers:
            yield facts(earlier(status, now))
    if status.trouble:
        yield Text("")
        yield facts(list(trouble(status.trouble)))
    yield Text("")
    labels = itertools.chain(["next"], itertools.repeat(""))
    yield from (whole(label, line) for label, line in zip(labels, advice(status, now), strict=False))


def heading(status: JobStatus, now: datetime, width: int) -> Text:
    """Which VM goes where, and the phase at the right margin, or below where the line is too short for both."""
    spec = status.spec
    left = Text(f"{spec.vm}: {spec.source} -> {spec.destination}", style="bold")
    right = phase_text(status) + Text(f", since {quantities.short_moment(status.since, now)}")
    gap = min(width, WIDE) - left.cell_len - right.cell_len
    return left + (Text(" " * gap) if gap >= 2 else Text("\n")) + right  # noqa: PLR2004 - a visible gap


def _target(status: JobStatus) -> str:
    spec = status.spec
    target = [spec.instance_name, spec.flavor, spec.volume_type]
    target += [spec.availability_zone] if spec.availability_zone else []
    return ", ".join(target)


def metrics(status: JobStatus, now: datetime, per_row: int) -> RenderableType:
    """The specification's sync metrics, by its names."""
    progress = sync_progress(status)
    last = f"(last {quantities.rate(status.last_rate)})" if status.last_rate else ""
    figures = [
        ("Last Sync", quantities.moment(status.last_sync_at)),
        ("Bytes (Full)", quantities.size(status.bytes_full)),
        ("Sync Count", str(status.sync_count)),
        ("Lag", lag(status, now)),
        ("Bytes (Incr)", quantities.size(status.bytes_incremental)),
        ("Rate", quantities.rate(progress.rate) if progress else f"{ABSENT}  {last}".strip()),
    ]
    if per_row == 2:  # noqa: PLR2004 - the narrow form: what belongs together stays in a column
        figures = [figures[n] for n in (0, 1, 3, 4, 2, 5)]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(per_row):
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, min_width=14)
    for start in range(0, len(figures), per_row):
        grid.add_row(*(part for figure in figures[start : start + per_row] for part in figure))
    return Padding(grid, INDENT, expand=False)


def running(status: JobStatus, now: datetime) -> Iterator[RenderableType]:
    """The work in progress: the sync with its bar, each stream with its own, calls that are tried again."""
    progress = sync_progress(status)
    if status.doing or progress:
        yield Text("")
        reason = f"{status.sync.reason} sync: " if status.sync else ""
        yield facts([("now", Text(f"{reason}{status.doing or 'copying'}{_eta_clock(progress, now)}"))])
    if progress:
        labels = {disk.key: disk.label for disk in status.disks}
        parts = [(labels.get(stream.disk_key, str(stream.disk_key)), stream.disk_key) for stream in status.progress]
        wide = max([len(label) for label, _ in parts] + [len(ALL_DISKS)])
        for label, key in parts:
            yield from _progress_lines(label.ljust(wide), disk_progress(status, key))
        if len(parts) != 1:
            yield from _progress_lines(ALL_DISKS.ljust(wide), progress)
    if compared := comparing.compared(status):
        yield Padding(Text(compared.words), (0, 0, 0, 4), expand=False)
    if status.conversion:
        yield Padding(Text(conversion_words(status.conversion)), (0, 0, 0, 4), expand=False)
    for attempt in status.attempts:
        because = attempt.because.splitlines()[0] if attempt.because else "it failed before"
        yield facts([("again", Text(f"try {attempt.number} of {attempt.call}: {because}", style=TROUBLE_STYLE))])


def conversion_words(progress: ConversionProgress) -> str:
    """What the conversion does, how far that is where anybody knows, and how long all of it has taken so far."""
    share = f" {progress.percent:.0f} %" if progress.percent is not None else ""
    so_far = f", {quantities.short_duration(progress.seconds)} so far" if progress.seconds >= 1 else ""
    return f"{progress.stage}{share}{so_far}"


def _progress_lines(label: str, progress: Progress | None) -> Iterator[RenderableType]:
    """Two lines, since the bar and the words do not fit beside each other on a terminal of 80 columns."""
    if progress:
        yield Padding(Text(f"{label}  ") + bar(progress), INDENT, expand=False)
        yield Padding(Text(progress_words(progress)), (0, 0, 0, 4), expand=False)


def bar(progress: Progress) -> Text:
    """A bar of characters that every terminal has, and the share in percent."""
    full = int(progress.share * BAR)
    return Text(f"[{'#' * full}{'.' * (BAR - full)}] {quantities.percent(progress.share):>5}")


def progress_words(progress: Progress) -> str:
    """Bytes read and written of those planned, the rate, and the time left."""
    words = f"read {quantities.size(progress.read)} of {quantities.size(progress.planned)}"
    words += f", written {quantities.size(progress.written)}, {quantities.rate(progress.rate)}"
    left = progress.seconds_left
    return words if left is None else f"{words}, ETA {quantities.duration(left)}"


def _eta_clock(progress: Progress | None, now: datetime) -> str:
    if progress is None or progress.seconds_left is None:
        return ""
    return f", done about {quantities.short_moment(now + timedelta(seconds=progress.seconds_left), now)}"


def disks(status: JobStatus, *, wide: bool) -> Table:
    """The disks and their volumes."""
    table = columns(
        "DISK", "SIZE", "VOLUME", "ALLOCATED", "LAST DELTA", "UNSEEDED", right=("SIZE", "ALLOCATED", "LAST DELTA")
    )
    for disk in status.disks:
        volume = disk.volume_id or ABSENT
        table.add_row(
            f"{disk.label} ({disk.key})" if wide else disk.label,
            quantities.size(disk.capacity),
            volume if wide or len(volume) <= 12 else f"{volume[:8]}..",  # noqa: PLR2004 - a whole id is longer
            quantities.size(disk.allocated) if disk.allocated else ABSENT,
            quantities.size(disk.last_delta),
            ABSENT if status.phase is Phase.COMPLETED else _unseeded(disk),
        )
    return table


def _unseeded(disk: Disk) -> str:
    if disk.baseline.change_id is None:
        return "all"
    return quantities.size(disk.baseline.unseeded_bytes) if disk.baseline.unseeded_bytes else ABSENT


def trouble(found: Trouble) -> Iterator[tuple[str, Text]]:
    """An error on four lines."""
    yield ("needs you" if found.needs_person else "trouble", Text(visible(found.what), style=TROUBLE_STYLE))
    for label, text in (("because", found.because), ("means", found.means), ("do", found.do)):
        if text:
            yield (label, Text(visible(text)))


def _volumes_are_the_targets(status: JobStatus) -> bool:
    """Whether a completed cutover was taken back, and no sync has undone since what the target wrote."""
    back = status.cutover is not None and status.cutover.completed_at is not None and status.cutover.rolled_back_at
    return bool(back) and any(disk.baseline.change_id is None for disk in status.disks)


def _until_the_next_sync(status: JobStatus, now: datetime) -> Iterator[str]:
    name = status.job_id
    if status.paused and _volumes_are_the_targets(status):
        yield "paused: the volumes hold what the target wrote, until the next sync"
        yield f"undo that, and go on, with: xms migration resume {name}"
    elif status.paused:
        yield f"paused; go on with: xms migration resume {name}"
    elif status.cadence_seconds is None:
        yield f"manual; sync with: xms migration sync {name}"
    else:
        yield f"sync {_until(status, now)} (every {quantities.cadence(status.cadence_seconds)})"


def advice(status: JobStatus, now: datetime) -> Iterator[str]:
    """What happens next, and what the operator can do."""
    name = status.job_id
    match status.phase:
        case Phase.READY:
            yield from _until_the_next_sync(status, now)
            yield from prediction.advice(status)
        case Phase.FAILED if status.trouble and status.trouble.kind == "BrokenOff":
            yield "see above"
        case Phase.FAILED if status.cutover and status.cutover.kept:
            yield f"take the cutover back with: xms migration rollback {name}"
        case Phase.FAILED:
            yield f"mend the cause, then: xms migration retry {name}"
            yield f"or end the job with: xms migration abandon {name}"
        case Phase.COMPLETED if status.roll_back_until is not None:
            yield f"roll-back is possible until {quantities.moment(status.roll_back_until)}"
            yield f"let it stand with: xms migration finalize {name}"
            yield f"take it back with: xms migration rollback {name}"
        case Phase.COMPLETED:
            yield "nothing: the target runs, the source stays off"
        case Phase.ABANDONED:
            yield "nothing: the job is over"
        case _:
            yield f"see it live with: xms migration watch {name}"


# --- parts ------------------------------------------------------------------------------------------------------------


def phase_text(status: JobStatus) -> Text:
    """The phase in its colour, with how far it is, and the mark of a pause."""
    progress = sync_progress(status)
    share = quantities.percent(progress.share) if progress else ""
    return _phase_word(status.phase, paused=status.paused, share=share)


def _phase_word(phase: str, *, paused: bool, share: str = "") -> Text:
    known = phase in set(Phase)
    text = Text(f"{phase} {share}".strip(), style=PHASE_STYLES.get(Phase(phase), "") if known else TROUBLE_STYLE)
    return text + Text(" (paused)") if paused else text


def lag(status: JobStatus, now: datetime) -> str:
    """How far the replica is behind; nothing to say before the first committed sync and after the end."""
    seconds = status.lag_seconds(now)
    over = status.phase in {Phase.COMPLETED, Phase.ABANDONED}
    return ABSENT if seconds is None or over else quantities.duration(seconds)
