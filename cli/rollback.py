"""xms migration rollback, finalize: take a cutover back, or let it stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.migration import app, finish
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption, YesOption
from cli.verbs import give_order

if TYPE_CHECKING:
    from cli.watching import Until
    from xms.status import JobStatus


@app.command()
def rollback(
    job: JobArgument = None,
    job_option: JobOption = None,
    *,
    yes: YesOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until the source runs again.")] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Take a cutover back: the target is removed, the source runs as it was when it was shut down."""
    from cli import watching
    from cli.output import say
    from cli.parsing import one_job, parse_duration
    from cli.session import ask, confirm, who
    from xms.cutover import RollBackOrder

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    before = ask(lambda migrations: migrations.status(job_id))
    if not yes:
        say("\n".join(_what_it_means(before)))
        confirm(f"Remove the target and start {before.spec.vm} again?", yes=yes)
    order = RollBackOrder(who=who())
    if wait and output == "json":
        # The JSON lines that follow are all states of the job; a receipt among them would be another shape.
        ask(lambda migrations: migrations.command(job_id, "rollback", order))
    else:
        give_order(job_id, "rollback", order, output)
    if wait:
        goal = _rolled_back()
        status = ask(
            lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds)
        )
        done = status.cutover is not None and status.cutover.rolled_back_at is not None
        finish(status, reached=done, output=output)


def _what_it_means(status: JobStatus) -> list[str]:
    from xms import quantities

    cutover = status.cutover
    if cutover is None or cutover.completed_at is None:
        return [f"{status.job_id}: the cutover failed, and all was kept as it is."]
    ran = quantities.moment(cutover.downtime_ended_at or cutover.completed_at)
    off = quantities.moment(cutover.downtime_started_at)
    return [
        f"{status.job_id}: {status.spec.instance_name} runs on the target since {ran}.",
        "  What it has written since then is LOST.",
        f"  The disks of {status.spec.vm} are as it left them when it was shut down, {off}.",
        "  The job is paused then: until you resume it, the volumes keep what the target wrote.",
    ]


def _rolled_back() -> Until:
    from cli.watching import Until
    from xms.models import Phase

    def reached(status: JobStatus) -> bool:
        if status.phase is Phase.COMPLETED:
            return status.trouble is not None
        return status.phase is not Phase.CUTTING_OVER and bool(status.cutover and status.cutover.rolled_back_at)

    return Until("the end of the roll-back", reached)


@app.command()
def finalize(
    job: JobArgument = None, job_option: JobOption = None, *, yes: YesOption = False, output: OutputOption = "table"
) -> None:
    """Let a completed cutover stand: what a roll-back would need is removed, and the job ends."""
    from cli.parsing import one_job
    from cli.session import ask, confirm, who
    from xms.cutover import FinalizeOrder

    job_id = one_job(job, job_option)
    if not yes:
        vm = ask(lambda migrations: migrations.status(job_id)).spec.vm
        confirm(f"End {job_id}? XMS cannot take {vm}'s cutover back after that.", yes=yes)
    give_order(job_id, "finalize", FinalizeOrder(who=who()), output)
