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
    from xms.models import Command
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
    yes: YesOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until the target runs or it is rolled back.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Move the workload now: last delta, power-off, conversion, boot of the target."""
    from cli.conversion_options import parse_conversion_options
    from cli.evidence_options import parse_console_evidence, parse_evidence
    from cli.network_map import parse_network_map
    from cli.parsing import one_job, parse_duration, parse_period
    from cli.session import ask, confirm, who
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
    )
    before = ask(lambda migrations: migrations.status(job_id))
    if not yes:
        confirm(f"Shut {before.spec.vm} down and run it as {before.spec.instance_name} on the target?", yes=yes)
    _order_cutover(job_id, order, output, wait=wait)
    if wait:
        _follow_cutover(job_id, before, output, seconds)


def _order_cutover(job_id: str, order: Command, output: Output, *, wait: bool) -> None:
    if not (wait and output == "json"):
        give_order(job_id, "cutover", order, output)
        return
    # The JSON lines that follow are all states of the job; a receipt among them would be another shape.
    from cli.session import ask

    ask(lambda migrations: migrations.command(job_id, "cutover", order))


def _follow_cutover(job_id: str, before: JobStatus, output: Output, seconds: int | None) -> None:
    from cli import watching
    from cli.session import ask
    from xms.models import Phase

    goal = watching.cutover_ends(before.cutover.ordered_at if before.cutover else None)
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    if status.phase is Phase.COMPLETED:
        return
    # A sync that follows the roll-back clears the trouble from the status; the story still has it.
    story = ask(lambda migrations: migrations.events(job_id)).events
    because = next((event.text for event in reversed(story) if event.kind == "cutover failed"), "")
    finish(status, reached=False, output=output, because=f"the cutover failed {because}".strip())
