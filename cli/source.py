"""xms source: the vCenters and ESXi hosts that the workers know. Registering them is in cli.registration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import ExitCode
from cli.options import OutputOption

if TYPE_CHECKING:
    from xms.orders.source import SourceList, SourceReport, SourceSummary

app = typer.Typer(help="Sources: the vCenters and ESXi hosts that are registered with the workers.")

SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE", help="The source's name: xms source list.")]


@app.command("list")
def list_sources(output: OutputOption = "table") -> None:
    """Show the registered sources; none of them is asked anything."""
    from cli.output import console, print_json, say
    from cli.session import ask
    from cli.source_screens import listing

    found = ask(lambda migrations: migrations.sources())
    if output == "json":
        print_json(found.model_dump(mode="json"))
        return
    if not found.sources:
        say("no sources: register one on the worker's machine with: xms source create NAME")
        return
    console().print(listing(found))


@app.command()
def show(name: SourceArgument, output: OutputOption = "table") -> None:
    """Show how a source is registered; it is not asked anything."""
    from cli.output import console, print_json
    from cli.parsing import required
    from cli.session import ask
    from cli.source_screens import registration

    source = required(name, "SOURCE")
    found = ask(lambda migrations: migrations.sources())
    shown = _find(found, source)
    if output == "json":
        print_json(shown.model_dump(mode="json") | {"worker": found.worker})
        return
    console().print(registration(shown, found.worker), soft_wrap=True)


def _find(found: SourceList, name: str) -> SourceSummary:
    from xms.errors import BadInput

    for source in found.sources:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in found.sources) or "none"
    raise BadInput(
        f"no source is called '{name}'",
        because=f"the worker's sources are: {known}",
        do="register it on the worker's machine with: xms source create",
    )


@app.command()
def check(name: SourceArgument, output: OutputOption = "table") -> None:
    """Log in, and tell product, version, clock, missing privileges, and which ESXi hosts a data worker reaches."""
    from cli.output import console, print_error, print_json
    from cli.parsing import required
    from cli.session import ask
    from cli.source_screens import report

    source = required(name, "SOURCE")
    found = ask(lambda migrations: migrations.check_source(source), f"checking {source}")
    if output == "json":
        print_json(found.model_dump(mode="json"))
    else:
        console().print(report(found), soft_wrap=True)
    if lacks := _lacks(found):
        if output != "json":
            print_error([f"error: {source} is not ready: {lacks}"], {}, as_json=False)
        raise typer.Exit(ExitCode.FAILED)


def _lacks(found: SourceReport) -> str:
    """What stands against migrations from this source, in a few words."""
    from xms.quantities import counted

    unreached = sum(host.reachable is False for host in found.hosts)
    parts = [
        found.missing_privileges and f"{counted(len(found.missing_privileges), 'privilege')} missing",
        unreached and f"{counted(unreached, 'host')} not reached",
        found.hosts_not_tried and "no data worker tried the hosts",
    ]
    return ", ".join(str(part) for part in parts if part)
