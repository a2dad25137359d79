"""What an operator says to a job: sync, pause, resume, cadence, rate limit, retry, abandon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.migration import app
from cli.options import JobArgument, JobOption, OutputOption, YesOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.output import Output
    from xms.client.migrations import Verb
    from xms.models import Command
    from xms.status import JobStatus


def give_order(job_id: str, verb: Verb, order: Command, output: Output, *, states_follow: bool = False) -> None:
    """Give a job an order, and print its receipt.

    Args:
        job_id: of the job.
        verb: the order's name.
        order: what is ordered.
        output: the form of what is printed.
        states_follow: states of the job will be printed. As JSON they are all that is: a receipt has another shape.
    """
    from cli.output import console, print_json
    from cli.session import ask

    receipt = ask(lambda migrations: migrations.command(job_id, verb, order))
    if output != "json":
        console().print(f"{job_id}: {receipt.text}", soft_wrap=True)
    elif not states_follow:
        print_json({"job_id": job_id, "text": receipt.text})


def order_and_follow(
    job_id: str,
    verb: Verb,
    order: Command,
    output: Output,
    *,
    follow: Callable[[JobStatus], None] | None,
    hint: str,
) -> None:
    """Give a job an order whose work takes long, and follow it, or say how that is done.

    Args:
        job_id: of the job.
        verb: the order's name.
        order: what is ordered.
        output: the form of what is printed.
        follow: is given the job as it was before the order; None: nobody waits.
        hint: for who does not wait, with "{job}" for the job's id.
    """
    from cli.output import console
    from cli.session import ask

    before = ask(lambda migrations: migrations.status(job_id)) if follow is not None else None
    if before is None or follow is None:
        give_order(job_id, verb, order, output)
        if output != "json":
            console().print(f"  {hint.format(job=job_id)}", soft_wrap=True)
        return
    give_order(job_id, verb, order, output, states_follow=True)
    follow(before)


@app.command()
def sync(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Run an incremental sync now, or another one after the one that runs."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import SyncNow

    give_order(one_job(job, job_option), "sync-now", SyncNow(who=who()), output)


@app.command()
def pause(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Let no sync start by itself; one that runs is finished."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Pause

    give_order(one_job(job, job_option), "pause", Pause(who=who()), output)


@app.command()
def resume(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Sync at once, and follow the cadence again."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Resume

    give_order(one_job(job, job_option), "resume", Resume(who=who()), output)


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
    give_order(one_job(job, job_option), "set-cadence", SetCadence(who=who(), cadence_seconds=seconds), output)


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
    give_order(one_job(job, job_option), "set-rate-limit", SetRateLimit(who=who(), rate_limit=limit), output)


@app.command()
def retry(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Go on with a Failed job where it stood, once its cause is mended."""
    from cli.parsing import one_job
    from cli.session import who
    from xms.models import Retry

    give_order(one_job(job, job_option), "retry", Retry(who=who()), output)


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
    give_order(job_id, "abandon", Abandon(who=who(), delete_volumes=delete_volumes), output)
