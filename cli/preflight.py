"""xms preflight: whether VMs could be migrated, and what stands in the way."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import ExitCode
from cli.options import OutputOption

if TYPE_CHECKING:
    from xms.orders.preflight import PreflightReport, VmPreflight


def preflight(  # noqa: PLR0913 - the command's options
    *,
    source: Annotated[str, typer.Option(metavar="NAME", help="Registered source: xms source list.")],
    vm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A VM by name or inventory path, or a pattern of them ('web-*'); may be repeated."
        ),
    ] = None,
    every_vm: Annotated[bool, typer.Option("--all", help="Every VM of the source; templates are none.")] = False,
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Configured target: xms target list; the default one unless given.")
    ] = "",
    target_project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Look whether this project's quota suffices; needs --flavor.")
    ] = None,
    flavor: Annotated[str | None, typer.Option(metavar="NAME", help="Look whether this flavor suffices.")] = None,
    volume_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="Look whether this volume type is there.")
    ] = None,
    network_map: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE=NETWORK", help="As of submit: look whether each NIC has a network there."),
    ] = None,
    availability_zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Look whether this zone is there.")
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Look whether VMs could be migrated, and tell what stands in the way. Nothing is changed.

    Rules of the target are looked at where its options are given. Ends with 8 where a VM's verdict is Block.
    """
    from cli import parsing
    from cli.network_map import parse_network_map
    from cli.session import ask
    from xms.errors import BadInput
    from xms.orders.preflight import TargetWanted

    name = parsing.required(source, "--source")
    wanted = [parsing.required(one, "--vm") for one in vm or []]
    if bool(wanted) == every_vm:
        both = "both are given" if every_vm else "neither --vm nor --all is given"
        raise BadInput("which VMs?", because=both, do="give --vm NAME (once or several times, or 'web-*'), or --all")
    where = TargetWanted(
        target=target,
        project=target_project,
        flavor=flavor,
        volume_type=volume_type,
        availability_zone=availability_zone,
        network_map=parse_network_map(network_map) if network_map else None,
    )
    report = ask(
        lambda migrations: migrations.preflight(name, wanted, every_vm=every_vm, target=where), f"looking at {name}"
    )
    _print(report, output)
    if report.verdict == "Block":
        raise typer.Exit(ExitCode.BLOCKED)


def _print(report: PreflightReport, output: str) -> None:
    from cli.findings import screen
    from cli.output import console, print_json, say

    if output == "json":
        print_json(
            {
                "source": report.source,
                "verdict": report.verdict,
                "vms": [as_json(one) for one in report.vms],
            }
        )
    elif report.vms:
        out = console()
        out.print(screen(report, out.width), crop=False)
    else:
        say(f"{report.source} has no VMs, or its account may not see them")


def as_json(preflight: VmPreflight) -> dict[str, object]:
    """One VM's preflight, as programs read it."""
    return {
        "vm": preflight.vm.model_dump(mode="json"),
        "verdict": preflight.verdict,
        "findings": [
            finding.model_dump(mode="json") | {"category": finding.category} for finding in preflight.findings
        ],
    }


def see_it_may_go(preflight: VmPreflight, source: str, *, accept_warnings: bool) -> None:
    """Refuse a VM whose verdict is Block; have warnings accepted, at the terminal or by the option.

    Raises:
        PreflightBlocked: something stands against the migration.
        BadInput, TargetNotFound: all that stands against it is what was typed.
        Refused: there are warnings, and nobody accepted them.
    """
    from cli.findings import findings, plainly, refusal
    from cli.output import console
    from xms.errors import Refused
    from xms.orders.preflight import Severity, Verdict

    if preflight.verdict is Verdict.BLOCK:
        raise refusal(preflight, source)
    warnings = preflight.of_severity(Severity.WARN)
    if not warnings or accept_warnings:
        return
    number = f"{len(warnings)} warning{'s' * (len(warnings) != 1)}"
    if not sys.stdin.isatty():
        raise Refused(
            f"the preflight of {preflight.vm.name} has {number}, and there is no terminal to ask at",
            because=plainly(warnings),
            means="nothing was started",
            do="mend them, or give --accept-warnings",
        )
    err = console(sys.stderr)
    err.print(findings(warnings, err.width))
    if not typer.confirm(f"Submit {preflight.vm.name} in spite of {number}?", err=True):
        raise Refused("not submitted", means="nothing was started")
