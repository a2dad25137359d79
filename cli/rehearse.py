"""xms migration rehearse: convert and boot a copy of the replica, and say what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.conversion_options import LuksKeyOption, SkipConversionOption, StaticIpOption
from cli.exit_codes import ExitCode
from cli.migration import app, finish
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption
from cli.verbs import order_and_follow

if TYPE_CHECKING:
    from cli.output import Output
    from xms.cutover import Rehearsal
    from xms.status import JobStatus


@app.command()
def rehearse(  # noqa: PLR0913 - the command's options
    job: JobArgument = None,
    job_option: JobOption = None,
    *,
    console_evidence: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Wait for this on the copy's console before calling it running."),
    ] = None,
    evidence_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long the copy may take to be seen running.")
    ] = "10m",
    skip_conversion: SkipConversionOption = False,
    luks_key: LuksKeyOption = None,
    static_ip: StaticIpOption = None,
    syncs_wait: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long syncs may wait for a back end that copies every byte."),
    ] = "30m",
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit code 5 where it did not pass.")] = (
        False
    ),
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Convert and boot a copy of the replica in an isolated network. The source is not touched, syncs go on."""
    from cli.conversion_options import parse_conversion_options
    from cli.evidence_options import parse_console_evidence
    from cli.parsing import one_job, parse_duration
    from cli.session import who
    from xms.cutover import Evidence, Rehearse

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    pattern = parse_console_evidence(console_evidence)
    order = Rehearse(
        who=who(),
        evidence=() if pattern is None else (Evidence(kind="console", pattern=pattern),),
        evidence_timeout_seconds=parse_duration(evidence_timeout, "--evidence-timeout"),
        conversion=parse_conversion_options(skip_conversion=skip_conversion, luks_key=luks_key, static_ip=static_ip),
        syncs_wait_seconds=parse_duration(syncs_wait, "--syncs-wait"),
    )
    follow = (lambda before: _follow(job_id, before, output, seconds)) if wait else None
    order_and_follow(
        job_id, "rehearse", order, output, follow=follow, hint="see how far it is with: xms migration show {job}"
    )


def _follow(job_id: str, before: JobStatus, output: Output, seconds: int | None) -> None:
    from cli import watching
    from cli.session import ask

    number = before.rehearsal.number if before.rehearsal else 0
    goal = watching.rehearsal_ends(number)
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    found = status.rehearsal
    if found is None or not goal.reached(status):
        finish(status, reached=False, output=output, because="its rehearsal has not ended")
        return
    _tell(job_id, found, output)


def _tell(job_id: str, found: Rehearsal, output: Output) -> None:
    """The report, and the exit code that it has.

    Raises:
        typer.Exit: it did not pass.
    """
    from cli import rehearsal
    from cli.output import console, print_error

    if output != "json":
        for part in rehearsal.report(found):
            console().print(part, soft_wrap=True)
    if found.outcome == "passed":
        return
    trouble = found.trouble
    fields = {
        "kind": trouble.kind if trouble else "RehearsalBrokenOff",
        "what": trouble.what if trouble else f"the rehearsal of {job_id} was broken off",
        "because": trouble.because if trouble else "a cutover or the end of the job came first",
        "means": (trouble.means if trouble else "") or "the source and the replica were not touched",
        "do": (trouble.do if trouble else "") or f"xms migration events {job_id}",
    }
    lines = [f"error: {fields['what']}", *(f"  {name}: {fields[name]}" for name in ("because", "means", "do"))]
    print_error(lines, {**fields, "exit_code": int(ExitCode.FAILED)}, as_json=output == "json")
    raise typer.Exit(ExitCode.FAILED)
