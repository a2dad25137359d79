"""xms migration cutover --dry-run: what a cutover would look at and decide, while nothing is ordered or changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from cli import prediction as screens
from cli.exit_codes import ExitCode
from cli.output import Output, console, print_json
from cli.session import ask
from xms import go_no_go, quantities, schedule
from xms.cutover import CutoverOrder, Prediction
from xms.errors import NotRehearsed, Refused, TemporalRefusedLogin, TemporalUnreachable, XmsError
from xms.go_no_go import Verdict
from xms.models import Phase
from xms.prediction import predict
from xms.rehearsal import refuse_unless_rehearsed
from xms.status import JobStatus

if TYPE_CHECKING:
    from xms.client import Migrations


@dataclass(frozen=True)
class Tried:
    """What a dry run came to."""

    status: JobStatus
    gates: XmsError | None
    """What stands against the cutover at its gates; None: nothing."""

    prediction: Prediction | None
    starts: bool
    because: str
    rehearsal: str


def dry_run(job_id: str, order: CutoverOrder, output: Output) -> None:
    """Look, print, and end with ExitCode.REFUSED where the cutover would not be begun.

    Raises:
        typer.Exit: it would not.
        XmsError: the job cannot be asked.
    """
    tried = ask(lambda migrations: _look(migrations, job_id, order), "looking at the VM and the target")
    if output == "json":
        print_json(_as_json(tried))
    else:
        _show(tried)
    if not tried.starts:
        raise typer.Exit(ExitCode.REFUSED)


async def _look(migrations: Migrations, job_id: str, order: CutoverOrder) -> Tried:
    status = await migrations.status(job_id)
    now = datetime.now(UTC)
    if status.phase not in {Phase.READY, Phase.SYNCING}:
        raise Refused(
            f"job {job_id} cannot cut over now",
            because=f"it is in phase {status.phase}",
            means="nothing was ordered or changed",
        )
    gates: XmsError | None = None
    try:
        checked = await migrations.check_cutover(status, order)
    except (TemporalUnreachable, TemporalRefusedLogin):
        raise
    except XmsError as error:
        gates = error
    else:
        # As it is now, and not as it was at the last snapshot.
        status = status.model_copy(update={"source_power": checked.vm.power_state})
    try:
        refuse_unless_rehearsed(status, status.spec.vm, order, now)
    except NotRehearsed as error:
        gates = gates or error
    predicted = predict(status, order, now)
    starts, because = _decide(status, order, now)
    if gates is not None:
        starts, because = False, gates.what
    return Tried(status, gates, predicted, starts, because, _rehearsal(status, now))


def _decide(status: JobStatus, order: CutoverOrder, now: datetime) -> tuple[bool, str]:
    """As the job decides at the opening: for a later one, as if it were now."""
    opening = max(now, schedule.opens_at(order) or now)
    found = go_no_go.at_opening(_caught_up(status, opening, now), order, opening)
    if found.verdict is Verdict.AGAIN:
        return True, f"warm passes come first, until it fits: {found.because}"
    return found.verdict is Verdict.GO, found.because or "nothing limits the downtime"


def _caught_up(status: JobStatus, opening: datetime, now: datetime) -> JobStatus:
    """A sync comes shortly before an opening, so that it finds the job no further behind than now."""
    if status.last_sync_at is None or opening <= now:
        return status
    return status.model_copy(update={"last_sync_at": status.last_sync_at + (opening - now)})


def _rehearsal(status: JobStatus, now: datetime) -> str:
    if status.rehearsed is None:
        return "never rehearsed"
    at = status.rehearsed.ended_at or status.rehearsed.started_at
    return f"passed {quantities.duration((now - at).total_seconds())} ago ({quantities.moment(at)})"


def _show(tried: Tried) -> None:
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    out.print(
        Text(f"{tried.status.spec.vm}: what a cutover would decide; nothing was ordered or changed", style="bold")
    )
    gates = "passed" if tried.gates is None else tried.gates.what
    out.print(Text(f"  gates      {gates}", style="red" if tried.gates else ""), soft_wrap=True)
    for label, text in (("because", tried.gates.because), ("do", tried.gates.do)) if tried.gates else ():
        if text:
            out.print(Text(f"  {label:<9}  {text}"), soft_wrap=True)
    out.print(Text(f"  rehearsal  {tried.rehearsal}"), soft_wrap=True)
    if tried.prediction is not None:
        out.print()
        out.print(Padding(screens.table(tried.prediction), (0, 0, 0, 2), expand=False))
        out.print()
    else:
        out.print(Text("  downtime   too early to predict: no replica is complete"))
    decision = "it would begin" if tried.starts else "it would not begin"
    out.print(Text(f"  decision   {decision}: {tried.because}", style="" if tried.starts else "red"), soft_wrap=True)


def _as_json(tried: Tried) -> dict[str, object]:
    return {
        "job_id": tried.status.job_id,
        "gates": None if tried.gates is None else tried.gates.trouble().model_dump(mode="json"),
        "prediction": screens.as_json(tried.prediction),
        "rehearsal": tried.rehearsal,
        "starts": tried.starts,
        "because": tried.because,
    }
