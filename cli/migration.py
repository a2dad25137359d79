"""xms migration: submit a warm migration and look at jobs. What is said to a job is in cli.verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.exit_codes import ExitCode
from cli.options import JobArgument, JobOption, OutputOption, TimeoutOption

if TYPE_CHECKING:
    from xms.models import MigrationSpec
    from xms.orders.preflight import VmPreflight
    from xms.status import JobStatus

app = typer.Typer(help="Warm migrations: jobs that keep a VM's volumes in step with it until cutover.")


@app.command()
def submit(  # noqa: PLR0913 - the command's options
    *,
    source: Annotated[str, typer.Option(metavar="NAME", help="Registered source: xms source list.")],
    vm: Annotated[str, typer.Option(metavar="NAME", help="The VM, by name or inventory path: xms vm list.")],
    target_project: Annotated[str, typer.Option(metavar="NAME", help="Project that will own the instance.")],
    flavor: Annotated[str, typer.Option(metavar="NAME", help="Flavor; it must match or exceed the VM.")],
    volume_type: Annotated[str, typer.Option(metavar="NAME", help="Volume type of every target volume.")],
    network_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=NETWORK",
            help="Where the NICs of a source network go, or SOURCE=NETWORK/SUBNET; then ,mac=new ,ip=keep "
            ",ip=ADDRESS+ADDRESS ,security-groups=NAME:NAME ,port-security=off; may be repeated.",
        ),
    ] = None,
    sync_cadence: Annotated[
        str, typer.Option(metavar="CADENCE", help="manual, 15m, 1h, 1d, or any duration from 1m.")
    ] = "manual",
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Configured target: xms target list; the default one unless given.")
    ] = "",
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="Kind of migration; warm is the one that there is.")
    ] = "warm",
    instance_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the target instance; the VM's name unless given.")
    ] = None,
    availability_zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone of the instance; the cloud chooses unless given.")
    ] = None,
    volume_availability_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Zone of the volumes; the instance's unless given, where the volumes have such a zone."
        ),
    ] = None,
    key_pair: Annotated[
        str | None, typer.Option(metavar="NAME", help="Key pair for the instance, one of the workers' account.")
    ] = None,
    user_data: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="User data for the instance: a file in the workers' target.user_data_dir."),
    ] = None,
    config_drive: Annotated[
        bool, typer.Option("--config-drive", help="Give the instance its metadata on a disk, too.")
    ] = False,
    guest_agent: Annotated[
        bool, typer.Option("--guest-agent", help="The guest has the QEMU guest agent, or gets it: give it its device.")
    ] = False,
    secure_boot: Annotated[
        Literal["required", "optional", "disabled"] | None,
        typer.Option(
            help="Of a UEFI guest; optional where the source has Secure Boot on, else disabled, unless given."
        ),
    ] = None,
    max_snapshot_age: Annotated[
        str, typer.Option(metavar="TIME", help="A sync's snapshot is given up after this time; the next goes on.")
    ] = "60m",
    verify_syncs: Annotated[
        bool,
        typer.Option("--verify-syncs", help="Read back what every sync wrote, and compare; the last delta always is."),
    ] = False,
    scrub: Annotated[
        str,
        typer.Option(metavar="PERCENT", help="Share of each disk that every sync compares with its snapshot, in turn."),
    ] = "0%",
    rate_limit: Annotated[
        str, typer.Option(metavar="RATE", help="What all streams may read in a second: none, 500KiB, 50MiB, 1GiB.")
    ] = "none",
    accept_warnings: Annotated[
        bool, typer.Option("--accept-warnings", help="Submit in spite of the preflight's warnings; what blocks stays.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Make the preflight of a warm migration, and start its full sync."""
    from cli import parsing
    from cli.network_map import parse_network_map
    from cli.output import print_json
    from cli.preflight import as_json, see_it_may_go
    from cli.rates import parse_rate
    from cli.session import ask, who
    from xms.errors import BadInput
    from xms.models import MigrationSpec, SecureBoot

    if kind != "warm":
        raise BadInput(f"--kind '{kind}' is unknown", because="allowed: warm")
    name = parsing.required(vm, "--vm")
    spec = MigrationSpec(
        source=parsing.required(source, "--source"),
        vm=name,
        kind=kind,
        target=target,
        target_project=parsing.required(target_project, "--target-project"),
        instance_name=parsing.required(instance_name or name.rpartition("/")[2], "--instance-name"),
        flavor=parsing.required(flavor, "--flavor"),
        volume_type=parsing.required(volume_type, "--volume-type"),
        availability_zone=availability_zone,
        volume_availability_zone=volume_availability_zone,
        key_pair=key_pair,
        user_data=user_data,
        config_drive=config_drive,
        guest_agent=guest_agent,
        secure_boot=SecureBoot(secure_boot) if secure_boot else None,
        network_map=parse_network_map(network_map or []),
        cadence_seconds=parsing.parse_cadence(sync_cadence),
        max_snapshot_age_seconds=parsing.parse_duration(max_snapshot_age, "--max-snapshot-age"),
        verify_syncs=verify_syncs,
        scrub_percent=parsing.parse_percent(scrub, "--scrub"),
        rate_limit=parse_rate(rate_limit, "--rate-limit"),
        requested_by=who(),
    )
    report = ask(
        lambda migrations: migrations.preflight_of(spec), f"checking {spec.vm} on {spec.source} and the target"
    )
    (found,) = report.vms
    see_it_may_go(found, spec.source, accept_warnings=accept_warnings)
    job_id = ask(lambda migrations: migrations.submit(spec))
    if output == "json":
        checked = found.model_dump(mode="json", include={"vm", "target"})
        print_json({"job_id": job_id, "checked": checked, "findings": as_json(found)["findings"]})
    else:
        _print_submitted(job_id, spec, found)


def _print_submitted(job_id: str, spec: MigrationSpec, found: VmPreflight) -> None:
    from cli.nics import nic_line
    from cli.output import console
    from xms import quantities
    from xms.orders.preflight import Severity

    out = console()
    disks = found.vm.disks
    capacity = quantities.size(sum(disk.capacity for disk in disks))
    out.print(f"{found.vm.name}: {len(disks)} disk{'s' * (len(disks) != 1)}, {capacity}", soft_wrap=True)
    warnings = [finding.rule for finding in found.of_severity(Severity.WARN)]
    notes = len(found.of_severity(Severity.NOTE))
    accepted = f", accepted: {', '.join(warnings)}" if warnings else ""
    noted = f", {notes} note{'s' * (notes != 1)}" if notes else ""
    out.print(f"  preflight: {found.verdict}{accepted}{noted}", soft_wrap=True)
    for nic in found.target.nics if found.target else ():
        out.print(f"  {nic_line(nic)}", soft_wrap=True)
    out.print(f"  syncs: {quantities.cadence(spec.cadence_seconds)}", soft_wrap=True)
    out.print(f"submitted: {job_id}", soft_wrap=True)
    out.print(f"  follow it with: xms migration watch {job_id}", soft_wrap=True)


@app.command("list")
def list_jobs(
    phase: Annotated[str | None, typer.Option(metavar="PHASE", help="Only jobs in this phase.")] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this source.")] = None,
    vm: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this VM.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this target project.")] = None,
    *,
    active: Annotated[bool, typer.Option("--active", help="Only jobs that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many jobs.")] = 200,
    output: OutputOption = "table",
) -> None:
    """Show all jobs: phase, last sync, lag, cadence, and what comes next."""
    from datetime import UTC, datetime

    from cli import screens
    from cli.figures import as_json
    from cli.output import console, print_json, say
    from cli.session import ask

    wanted = _known_phase(phase)
    found = ask(
        lambda migrations: migrations.list(
            phase=wanted, source=source, vm=vm, project=project, active=active, limit=limit
        )
    )
    now = datetime.now(UTC)
    if output == "json":
        jobs = [
            job.model_dump(mode="json", exclude={"status"})
            | {"status": as_json(job.status, now) if job.status else None}
            for job in found.jobs
        ]
        silent = found.silent.model_dump(mode="json") if found.silent else None
        print_json({"jobs": jobs, "more": found.more, "silent": silent})
        return
    if found.jobs:
        out = console()
        out.print(screens.listing(found, now, out.width), crop=False)
    else:
        say("no jobs" + (" of that kind" if wanted or source or vm or project or active else ""))
    if found.more:
        say(f"there are more than {limit}: narrow the search, or raise --limit")
    if found.silent:
        say(f"{found.silent.what}: {found.silent.because}; {found.silent.do}")


def _known_phase(text: str | None) -> str | None:
    from xms.errors import BadInput
    from xms.models import Phase

    if text is None:
        return None
    for phase in Phase:
        if phase.lower() == text.strip().lower().replace("-", " "):
            return phase
    raise BadInput(f"--phase '{text}' is unknown", because=f"allowed: {', '.join(Phase)}")


@app.command()
def show(job: JobArgument = None, job_option: JobOption = None, output: OutputOption = "table") -> None:
    """Show one job with all its figures: metrics, disks, NICs, trouble, cutover."""
    from datetime import UTC, datetime

    from cli import screens
    from cli.figures import as_json
    from cli.output import console, print_json
    from cli.parsing import one_job
    from cli.session import ask

    job_id = one_job(job, job_option)
    status = ask(lambda migrations: migrations.status(job_id))
    now = datetime.now(UTC)
    if output == "json":
        print_json(as_json(status, now))
        return
    out = console()
    out.print(screens.job(status, now, out.width), crop=False)


@app.command()
def watch(
    job: JobArgument = None,
    job_option: JobOption = None,
    until: Annotated[
        Literal["end", "ready", "completed"],
        typer.Option(help="What to wait for. A job that fails or is abandoned ends every wait."),
    ] = "end",
    timeout: TimeoutOption = None,
    output: OutputOption = "table",
) -> None:
    """Follow one job live: bytes read and written, rate, estimated completion, lag. Ends when the job does."""
    from cli import watching
    from cli.parsing import one_job, parse_duration
    from cli.session import ask

    job_id = one_job(job, job_option)
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    goal = {"end": watching.END, "ready": watching.READY, "completed": watching.COMPLETED}[until]
    status = ask(lambda migrations: watching.follow(migrations, job_id, goal, output=output, timeout_seconds=seconds))
    finish(status, reached=goal.reached(status), output=output)


def finish(status: JobStatus, *, reached: bool, output: OutputOption, because: str = "") -> None:
    """End a command that followed a job: silently where it came to what was waited for, else with why it did not.

    Args:
        status: the job's last state.
        reached: whether it is what was waited for.
        output: the form of the explanation.
        because: the explanation where the state has none.

    Raises:
        typer.Exit: with ExitCode.FAILED.
    """
    if reached:
        return
    from cli.output import error_lines, print_error
    from xms.client.failures import error_of

    if status.trouble is None:
        words = f"job {status.job_id} is {status.phase}"
        lines, fields = [f"error: {words}"], {"kind": str(status.phase), "what": words, "because": because}
        lines += [f"  because: {because}"] if because else []
    else:
        lines, fields = error_lines(error_of(status.trouble)), status.trouble.model_dump(mode="json")
    print_error(lines, fields | {"exit_code": int(ExitCode.FAILED)}, as_json=output == "json")
    raise typer.Exit(ExitCode.FAILED)


@app.command()
def events(
    job: JobArgument = None,
    job_option: JobOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
    output: OutputOption = "table",
) -> None:
    """Show a job's story: what happened, when, and who ordered it."""
    from datetime import UTC, datetime

    from rich.text import Text

    from cli.layout import TROUBLE_STYLE, columns
    from cli.output import console, print_json, say
    from cli.parsing import one_job
    from cli.session import ask
    from xms import quantities

    job_id = one_job(job, job_option)
    found = ask(lambda migrations: migrations.events(job_id))
    chosen = found.events if limit is None else found.events[-limit:]
    left_out = found.dropped + len(found.events) - len(chosen)
    if output == "json":
        print_json(
            {"job_id": job_id, "events": [event.model_dump(mode="json") for event in chosen], "dropped": left_out}
        )
        return
    table = columns("TIME", "EVENT", "WHAT", "WHO")
    table.columns[2].no_wrap = False
    now = datetime.now(UTC)
    for event in chosen:
        day = (
            ""
            if event.at.astimezone().date() == now.astimezone().date()
            else quantities.short_moment(event.at, now) + " "
        )
        style = TROUBLE_STYLE if "failed" in event.kind else ""
        table.add_row(
            f"{day}{event.at.astimezone():%H:%M:%S}", Text(event.kind, style=style), Text(event.text), event.who
        )
    console().print(table)
    if left_out:
        say(f"{left_out} older event{'s' * (left_out != 1)} left out")
