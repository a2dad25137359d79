"""xms migration verify: compare every byte of a replica with its source, and say what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import ExitCode
from cli.migration import app, finish
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption
from cli.verbs import order_and_follow

if TYPE_CHECKING:
    from cli.output import Output
    from xms.models import Verification
    from xms.status import JobStatus


@app.command()
def verify(
    job: JobArgument = None,
    job_option: JobOption = None,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it to its end; exit code 7 where something differed.")
    ] = False,
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Compare every byte of the replica with a snapshot of the source. What differs is copied again."""
    from cli.parsing import one_job, parse_duration
    from cli.session import who
    from xms.models import Verify

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    follow = (lambda before: _follow(job_id, before, output, seconds)) if wait else None
    order_and_follow(
        job_id, "verify", Verify(who=who()), output, follow=follow, hint="follow it with: xms migration watch {job}"
    )


def _follow(job_id: str, before: JobStatus, output: Output, seconds: int | None) -> None:
    from cli import watching
    from cli.session import ask

    goal = watching.verification_ends(before.verification.asked_at if before.verification else None)
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    found = status.verification
    if found is None or not goal.reached(status):
        finish(status, reached=False, output=output, because="its verification has not ended")
        return
    _tell(job_id, found, output)


def _tell(job_id: str, found: Verification, output: Output) -> None:
    """The report, and the exit code that it has.

    Raises:
        typer.Exit: something differed, or it ended before everything was compared.
    """
    from cli import comparing
    from cli.output import console, print_error

    if output != "json":
        for line in comparing.report(found):
            console().print(line, soft_wrap=True)
    if comparing.differs(found):
        code, kind, what = ExitCode.DIFFERS, "ReplicaDiffers", f"the replica of {job_id} differed from its source"
        because = "the report names the ranges"
        means = "they are copied again, and compared again after that"
        do = f"see docs/operating.md, and: xms migration show {job_id}"
    elif found.ended_because:
        code, kind, what = ExitCode.FAILED, "VerificationEnded", f"the verification of {job_id} is incomplete"
        because, means, do = found.ended_because, "what was compared is equal", f"xms migration verify {job_id}"
    else:
        return
    fields = {"kind": kind, "what": what, "because": because, "means": means, "do": do, "exit_code": int(code)}
    lines = [f"error: {what}", f"  because: {because}", f"  means: {means}", f"  do: {do}"]
    print_error(lines, fields, as_json=output == "json")
    raise typer.Exit(code)
