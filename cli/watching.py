"""Following a job until it is where one waits for it to be: live at a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Group
from rich.live import Live
from rich.text import Text

from cli import comparing, rehearsal, screens
from cli.figures import as_json, sync_progress
from cli.layout import TROUBLE_STYLE
from cli.output import Output, console, print_json_line
from xms.errors import NoWorker, OperationFailed, TemporalUnreachable, WaitedTooLong
from xms.models import Phase
from xms.status import JobStatus

if TYPE_CHECKING:
    from xms.client import Migrations

POLL_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 5.0
"""Without a terminal, how often a line is written while only figures change."""

OVER: Final = frozenset({Phase.COMPLETED, Phase.ABANDONED, Phase.FAILED})
"""Where a job goes no further by itself."""


@dataclass(frozen=True)
class Until:
    """What is waited for. A job that is over, or waits for a person, ends every wait."""

    words: str
    reached: Callable[[JobStatus], bool]


END: Final = Until("its end", lambda status: status.phase is Phase.COMPLETED)
COMPLETED: Final = Until("phase Completed", lambda status: status.phase is Phase.COMPLETED)
READY: Final = Until("phase Ready", lambda status: status.phase in {Phase.READY, Phase.COMPLETED})


def cutover_ends(ordered_before: datetime | None) -> Until:
    """The end of a cutover that was just ordered: the target runs, or it was rolled back and the job is Ready.

    Args:
        ordered_before: time of the cutover that the job's record held before.
    """

    def reached(status: JobStatus) -> bool:
        if status.phase is not Phase.READY:
            return status.phase is Phase.COMPLETED
        return _ended_or_withdrawn(status, ordered_before)

    return Until("the cutover's end", reached)


def cutover_decides(ordered_before: datetime | None) -> Until:
    """The moment at which a cutover that was just ordered stops its source, or has ended without that.

    Args:
        ordered_before: time of the cutover that the job's record held before.
    """

    def reached(status: JobStatus) -> bool:
        if status.phase is Phase.CUTTING_OVER:
            return status.cutover is not None and status.cutover.downtime_started_at is not None
        return _ended_or_withdrawn(status, ordered_before)

    return Until("the decision whether the cutover begins", reached)


def _ended_or_withdrawn(status: JobStatus, ordered_before: datetime | None) -> bool:
    """Of a job that does not cut over now: its last cutover is a new one, or the ordered one is there no more."""
    ordered = status.cutover.ordered_at if status.cutover else None
    return (ordered is not None and ordered != ordered_before) or status.cutover_ordered is None


def verification_ends(asked_before: datetime | None) -> Until:
    """The end of a verification that was just asked for.

    Args:
        asked_before: time of the verification that the job's record held before.
    """

    def reached(status: JobStatus) -> bool:
        found = status.verification
        return found is not None and found.asked_at != asked_before and found.ended_at is not None

    return Until("the verification's end", reached)


def rehearsal_ends(number_before: int) -> Until:
    """The end of a rehearsal that was just ordered.

    Args:
        number_before: of the job's last rehearsal before it; 0: there was none.
    """

    def reached(status: JobStatus) -> bool:
        found = status.rehearsal
        return found is not None and found.number > number_before and found.outcome != "running"

    return Until("the rehearsal's end", reached)


class Screen(Protocol):
    """Where a job's states are shown as they come."""

    def show(self, status: JobStatus, silence: str) -> None:
        """Show one state.

        Args:
            status: the last one that is known.
            silence: why no newer one is known; empty when it is new.
        """


class LiveScreen:
    """What moves of the job, redrawn in place."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def show(self, status: JobStatus, silence: str) -> None:
        """Redraw it."""
        width = self.live.console.width
        parts = [screens.live(status, datetime.now(UTC), width)]
        if silence:
            parts.append(Text(f"  no news: {silence}", style=TROUBLE_STYLE))
        self.live.update(Group(*parts), refresh=True)


class Lines:
    """A line whenever something changes, and now and then while only figures do."""

    def __init__(self) -> None:
        self.last: tuple[object, ...] = ()
        self.written_at = 0.0
        self.console = console()

    def show(self, status: JobStatus, silence: str) -> None:
        """Write a line where there is something new to say."""
        progress = sync_progress(status)
        compared = comparing.compared(status)
        trouble = status.trouble.what if status.trouble else ""
        converting = status.conversion
        stage = converting.stage if converting else ""
        rehearsed = rehearsal.running(status)
        state = (status.phase, status.paused, status.doing, stage, trouble, silence, rehearsed)
        if state == self.last and not (
            (progress or compared or converting) and time.monotonic() - self.written_at >= QUIET_SECONDS
        ):
            return
        self.last, self.written_at = state, time.monotonic()
        now = datetime.now(UTC)
        words = [screens.phase_text(status).plain]
        words += [status.doing] if status.doing else []
        words += [screens.progress_words(progress)] if progress else []
        words += [compared.words] if compared else []
        words += [screens.conversion_words(converting)] if converting else []
        words += [rehearsed] if rehearsed else []
        words += [f"lag {screens.lag(status, now)}"]
        words += [f"trouble: {trouble}"] if trouble else []
        words += [f"no news: {silence}"] if silence else []
        self.console.print(f"{now.astimezone():%H:%M:%S}  {'; '.join(words)}", soft_wrap=True)


class JsonLines:
    """Each state that differs from the one before as a line of JSON."""

    def __init__(self) -> None:
        self.last: JobStatus | None = None

    def show(self, status: JobStatus, silence: str) -> None:
        """Write it."""
        # What is predicted changes with every second that passes.
        told = status.model_copy(update={"prediction": None})
        if not silence and told != self.last:
            self.last = told
            print_json_line(as_json(status, datetime.now(UTC)))


async def follow(
    migrations: Migrations, job_id: str, until: Until, *, output: Output, timeout_seconds: int | None = None
) -> JobStatus:
    """Show a job until it is where one waits for it to be, or goes no further by itself; give its last state.

    A worker or server that falls silent on the way is waited for: jobs outlive both.

    Raises:
        WaitedTooLong: it did not come in time.
        JobNotFound: there is no such job.
        NoWorker, TemporalUnreachable: nobody answers at the beginning.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    status = await migrations.status(job_id)
    with _screen(output) as screen:
        silence = ""
        while True:
            screen.show(status, silence)
            if until.reached(status) or status.phase in OVER:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitedTooLong(
                    f"job {job_id} did not reach {until.words} within {timeout_seconds} s",
                    because=f"it is in phase {status.phase}",
                    means="the job goes on",
                    do=f"see it with: xms migration show {job_id}",
                )
            await asyncio.sleep(POLL_SECONDS)
            try:
                status, silence = await migrations.status(job_id), ""
            except (NoWorker, TemporalUnreachable, OperationFailed) as error:
                silence = error.because or error.what
            if interrupted():
                raise asyncio.CancelledError


def interrupted() -> bool:
    """Whether Ctrl-C was pressed: a call that it hits may end as one that the server did not answer."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _screen(output: Output) -> AbstractContextManager[Screen]:
    if output == "json":
        return nullcontext(JsonLines())
    terminal = console()
    return _Redrawn() if terminal.is_terminal else nullcontext(Lines())


class _Redrawn:
    """A live display that leaves its last picture behind."""

    def __init__(self) -> None:
        self.live = Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Screen:
        self.live.__enter__()
        return LiveScreen(self.live)

    def __exit__(self, *reason: object) -> None:
        self.live.stop()
