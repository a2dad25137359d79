"""xms migration cutover: move the workload, and what is said about a cutover before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.conversion_options import LuksKeyOption, SkipConversionOption, StaticIpOption
from cli.migration import app, finish
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption, YesOption
from cli.verbs import give_order

if TYPE_CHECKING:
    from cli.output import Output
    from cli.times import Zone
    from xms.cutover import CutoverOrder
    from xms.status import JobStatus


@app.command()
def cutover(  # noqa: PLR0913 - the command's options
    job: JobArgument = None,
    job_option: JobOption = None,
    shutdown_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long the guest may take to shut down.")
    ] = "5m",
    *,
    no_hard_power_off: Annotated[
        bool, typer.Option("--no-hard-power-off", help="Give up when the guest does not shut down in time.")
    ] = False,
    evidence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[=VALUE]",
            help="Wait for this before calling the target running: console=REGEX, tcp=PORT, ping, command=NAME; "
            "may be repeated, and each has to be seen.",
        ),
    ] = None,
    console_evidence: Annotated[
        str | None, typer.Option(metavar="REGEX", help="The same as --evidence console=REGEX.")
    ] = None,
    evidence_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long the target may take to be seen running.")
    ] = "10m",
    network_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=NETWORK", help="As of submit: this cutover maps these networks otherwise; may be repeated."
        ),
    ] = None,
    require_rehearsal: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only if a rehearsal passed no longer ago than this: 14d, 12h."),
    ] = None,
    on_failure: Annotated[
        Literal["roll-back", "keep-off"],
        typer.Option(help="After a failure start the source again, or keep all as it is until `rollback`."),
    ] = "roll-back",
    rollback_period: Annotated[
        str, typer.Option(metavar="TIME", help="How long `rollback` is possible after Completed; none: not at all.")
    ] = "7d",
    skip_conversion: SkipConversionOption = False,
    luks_key: LuksKeyOption = None,
    static_ip: StaticIpOption = None,
    max_downtime: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Warm passes until the predicted downtime fits; if it cannot, ask, or end."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin although the prediction does not fit.")] = False,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin then: 02:00, '2026-11-30 02:00'; within an hour of it.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="FROM-TO", help="Begin and end in it: 01:00-04:00, '2026-11-30 01:00-04:00'."),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Of --at and --window, for example Europe/Berlin; else the terminal's."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at the gates and the predicted downtime; order and change nothing.")
    ] = False,
    yes: YesOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until the target runs or it is rolled back.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Move the workload, now or at a time: last delta, power-off, conversion, boot of the target."""
    from cli.conversion_options import parse_conversion_options
    from cli.evidence_options import parse_console_evidence, parse_evidence
    from cli.network_map import parse_network_map
    from cli.parsing import one_job, parse_duration, parse_period
    from cli.session import ask, who
    from xms.cutover import CutoverOrder, OnFailure

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    order = CutoverOrder(
        who=who(),
        shutdown_timeout_seconds=parse_duration(shutdown_timeout, "--shutdown-timeout"),
        hard_power_off=not no_hard_power_off,
        on_failure=OnFailure(on_failure),
        rollback_period_seconds=parse_period(rollback_period, "--rollback-period"),
        console_evidence=parse_console_evidence(console_evidence),
        evidence=parse_evidence(evidence or []),
        evidence_timeout_seconds=parse_duration(evidence_timeout, "--evidence-timeout"),
        network_map=parse_network_map(network_map or []),
        conversion=parse_conversion_options(skip_conversion=skip_conversion, luks_key=luks_key, static_ip=static_ip),
        require_rehearsal_seconds=(
            None if require_rehearsal is None else parse_duration(require_rehearsal, "--require-rehearsal")
        ),
        max_downtime_seconds=None if max_downtime is None else parse_duration(max_downtime, "--max-downtime"),
        force=force,
    )
    zone = _zone(time_zone, at, window)
    order = _at_its_time(order, at, window, zone)
    if dry_run:
        from cli.dry_run import dry_run as try_it

        try_it(job_id, order, output)
        return
    before = ask(lambda migrations: migrations.status(job_id))
    if order.evidence:
        # The gates ask again. But they may open at night, when nobody is there to mend the name of a command.
        ask(lambda migrations: migrations.check_evidence(order.evidence, before.nics))
    if not yes:
        _confirm_cutover(before, order, zone)
    give_order(job_id, "cutover", order, output, states_follow=wait)
    if _may_ask(order, output):
        before = _ask_about_downtime(job_id, before, order, output, seconds, wait=wait)
    if wait:
        _follow_cutover(job_id, before, output, seconds)


@app.command()
def withdraw(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Take back a cutover that has not begun; the job goes on with its syncs."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.cutover import WithdrawCutover

    give_order(one_job(job, job_option), "withdraw-cutover", WithdrawCutover(who=who()), output)


def _zone(name: str | None, at: str | None, window: str | None) -> Zone:
    from cli.times import Zone
    from xms.errors import BadInput

    if name is not None and at is None and window is None:
        raise BadInput("--time-zone is given without a time", because="it is that of --at and of --window")
    return Zone(name)


def _at_its_time(order: CutoverOrder, at: str | None, window: str | None, zone: Zone) -> CutoverOrder:
    from datetime import UTC, datetime

    from cli.times import parse_at, parse_window
    from xms.errors import BadInput

    now = datetime.now(UTC)
    if at is not None and window is not None:
        raise BadInput("--at and --window are both given", because="a window has its own beginning", do="give one")
    if at is not None:
        return order.model_copy(update={"at": parse_at(at, zone, now)})
    if window is not None:
        return order.model_copy(update={"window": parse_window(window, zone, now)})
    return order


def _confirm_cutover(before: JobStatus, order: CutoverOrder, zone: Zone) -> None:
    from cli.session import confirm
    from cli.times import told
    from xms import schedule

    opens = schedule.opens_at(order)
    when = f" {told(opens, schedule.closes_at(order), zone)}" if opens else ""
    question = f"Shut {before.spec.vm} down and run it as {before.spec.instance_name} on the target{when}?"
    confirm(question, yes=False)


def _may_ask(order: CutoverOrder, output: Output) -> bool:
    """Whether somebody is there to decide, and something that may have to be decided now."""
    import sys

    from xms import schedule

    undecided = order.max_downtime_seconds is not None and not order.force and not schedule.is_scheduled(order)
    return undecided and output == "table" and sys.stdin.isatty()


def _ask_about_downtime(
    job_id: str, before: JobStatus, order: CutoverOrder, output: Output, seconds: int | None, *, wait: bool
) -> JobStatus:
    """Follow the warm passes until the job has decided; where it is too long, let the operator decide instead.

    Nothing waits for the answer: the job has ended that cutover, and another one is ordered.

    Returns:
        The job's status before the cutover that counts.

    Raises:
        Refused: the operator says no.
    """
    from cli import watching
    from cli.session import ask, confirm
    from xms import quantities
    from xms.errors import DowntimeTooLong

    goal = watching.cutover_decides(before.cutover.ordered_at if before.cutover else None)
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    record = status.cutover
    if record is None or record.trouble is None or record.trouble.kind != DowntimeTooLong.__name__:
        return before
    allowed = quantities.short_duration(order.max_downtime_seconds or 0)
    predicted = quantities.short_duration(record.prediction.seconds) if record.prediction else "unknown"
    confirm(f"predicted {predicted}, allowed {allowed}: cut over all the same?", yes=False)
    give_order(job_id, "cutover", order.model_copy(update={"force": True}), output, states_follow=wait)
    return status


def _follow_cutover(job_id: str, before: JobStatus, output: Output, seconds: int | None) -> None:
    from cli import watching
    from cli.session import ask
    from xms.models import Phase

    goal = watching.cutover_ends(before.cutover.ordered_at if before.cutover else None)
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    if status.phase is Phase.COMPLETED:
        return
    _tell_what_was_not_begun(status, before)
    # A sync that follows the roll-back clears the trouble from the status; the story still has it.
    story = ask(lambda migrations: migrations.events(job_id)).events
    because = next((event.text for event in reversed(story) if event.kind == "cutover failed"), "")
    finish(status, reached=False, output=output, because=f"the cutover failed {because}".strip())


def _tell_what_was_not_begun(status: JobStatus, before: JobStatus) -> None:
    """A cutover that ended before it touched anything is refused, and has not failed."""
    from xms.client.failures import error_of
    from xms.errors import DowntimeTooLong, Refused, WindowMissed
    from xms.models import Phase

    record = status.cutover
    if record is None or (before.cutover is not None and record.ordered_at == before.cutover.ordered_at):
        if status.phase is Phase.READY and status.cutover_ordered is None:
            raise Refused(
                f"the cutover of {status.spec.vm} was withdrawn",
                means="the source was not touched, and the job goes on with its syncs",
                do=f"see who did it with: xms migration events {status.job_id}",
            )
        return
    if record.trouble is not None and record.trouble.kind in {DowntimeTooLong.__name__, WindowMissed.__name__}:
        raise error_of(record.trouble)
