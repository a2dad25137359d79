"""What an operator says to a job: sync, pause, resume, cadence, rate limit, cutover, retry, abandon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.migration import app, finish
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption, YesOption

if TYPE_CHECKING:
    from cli.output import Output
    from xms.client.migrations import Verb
    from xms.models import Command
    from xms.status import JobStatus


def _order(job_id: str, verb: Verb, order: Command, output: Output) -> None:
    from cli.output import console, print_json
    from cli.session import ask

    receipt = ask(lambda migrations: migrations.command(job_id, verb, order))
    if output == "json":
        print_json({"job_id": job_id, "text": receipt.text})
    else:
        console().print(f"{job_id}: {receipt.text}", soft_wrap=True)


@app.command()
def sync(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Run an incremental sync now, or another one after the one that runs."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import SyncNow

    _order(one_job(job, job_option), "sync-now", SyncNow(who=who()), output)


@app.command()
def pause(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Let no sync start by itself; one that runs is finished."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Pause

    _order(one_job(job, job_option), "pause", Pause(who=who()), output)


@app.command()
def resume(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Sync at once, and follow the cadence again."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Resume

    _order(one_job(job, job_option), "resume", Resume(who=who()), output)


@app.command()
def cadence(
    first: Annotated[str, typer.Argument(metavar="JOB", help="The job's id; left out where --job is given.")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="CADENCE", help="manual, 15m, 1h, 1d, or any duration from 1m.", show_default=False),
    ] = None,
    job_option: JobOption = None,
    output: OutputOption = "table",
) -> None:
    """Change how often syncs start, reckoned from the last sync."""
    from cli.parsing import one_job, parse_cadence
    from cli.session import who
    from xms.models import SetCadence

    job, text = (None, first) if second is None else (first, second)
    seconds = parse_cadence(text, "cadence")
    _order(one_job(job, job_option), "set-cadence", SetCadence(who=who(), cadence_seconds=seconds), output)


@app.command("rate-limit")
def rate_limit(
    first: Annotated[str, typer.Argument(metavar="JOB", help="The job's id; left out where --job is given.")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="RATE", help="none, 500KiB, 50MiB, 1GiB a second, at least 64KiB.", show_default=False),
    ] = None,
    job_option: JobOption = None,
    output: OutputOption = "table",
) -> None:
    """Limit how fast the job's streams read from the source, those that run included."""
    from cli.parsing import one_job
    from cli.rates import parse_rate
    from cli.session import who
    from xms.models import SetRateLimit

    job, text = (None, first) if second is None else (first, second)
    limit = parse_rate(text, "rate limit")
    _order(one_job(job, job_option), "set-rate-limit", SetRateLimit(who=who(), rate_limit=limit), output)


@app.command()
def retry(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Go on with a Failed job where it stood, once its cause is mended."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Retry

    _order(one_job(job, job_option), "retry", Retry(who=who()), output)


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
    console_evidence: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Wait for this on the target's console before calling it running."),
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
    keep_source_off: Annotated[
        bool, typer.Option("--keep-source-off", help="After a failure, do not power the source on again.")
    ] = False,
    yes: YesOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until the target runs or it is rolled back.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Move the workload now: last delta, power-off, conversion, boot of the target."""
    from cli.network_map import parse_network_map
    from cli.parsing import one_job, parse_duration, parse_pattern
    from cli.session import ask, confirm, who
    from xms.cutover import CutoverOrder

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    order = CutoverOrder(
        who=who(),
        shutdown_timeout_seconds=parse_duration(shutdown_timeout, "--shutdown-timeout"),
        hard_power_off=not no_hard_power_off,
        power_on_source_after_failure=not keep_source_off,
        console_evidence=parse_pattern(console_evidence, "--console-evidence"),
        evidence_timeout_seconds=parse_duration(evidence_timeout, "--evidence-timeout"),
        network_map=parse_network_map(network_map or []),
    )
    before = ask(lambda migrations: migrations.status(job_id))
    if not yes:
        confirm(f"Shut {before.spec.vm} down and run it as {before.spec.instance_name} on the target?", yes=yes)
    _order_cutover(job_id, order, output, wait=wait)
    if wait:
        _follow_cutover(job_id, before, output, seconds)


def _order_cutover(job_id: str, order: Command, output: Output, *, wait: bool) -> None:
    if not (wait and output == "json"):
        _order(job_id, "cutover", order, output)
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


@app.command()
def abandon(
    job: JobArgument = None,
    job_option: JobOption = None,
    *,
    delete_volumes: Annotated[
        bool, typer.Option("--delete-volumes", help="Delete the job's volumes too; they are kept unless this is given.")
    ] = False,
    yes: YesOption = False,
    output: OutputOption = "table",
) -> None:
    """End a job without a cutover. Its snapshots are removed, its volumes are kept."""
    from cli.output import say
    from cli.parsing import one_job
    from cli.session import ask, confirm, who
    from xms import quantities
    from xms.models import Abandon

    job_id = one_job(job, job_option)
    if not yes:
        status = ask(lambda migrations: migrations.status(job_id))
        question = f"End {job_id} and keep its volumes?"
        if delete_volumes:
            volumes = [
                f"  {disk.volume_id}  {disk.label}, {quantities.size(disk.volume_size)}"
                for disk in status.disks
                if disk.volume_id
            ]
            say("\n".join([f"volumes of {job_id}:", *volumes]))
            question = f"End {job_id} and DELETE these {len(volumes)} volumes?"
        confirm(question, yes=yes)
    _order(job_id, "abandon", Abandon(who=who(), delete_volumes=delete_volumes), output)
