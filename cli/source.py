"""xms source: the vCenters and ESXi hosts that the workers know."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import OutputOption

app = typer.Typer(help="Sources: the vCenters and ESXi hosts that are registered with the workers.")


@app.command("list")
def list_sources(output: OutputOption = "table") -> None:
    """Show the registered sources; none of them is asked anything."""
    from cli.output import console, print_json, say
    from cli.screens import columns
    from cli.session import ask

    found = ask(lambda migrations: migrations.sources())
    if output == "json":
        print_json(found.model_dump(mode="json"))
        return
    if not found.sources:
        say("no sources: register one in the worker's configuration, [sources.NAME]")
        return
    table = columns("SOURCE", "ENDPOINT", "USER", "DATACENTER", "TRUST")
    for source in found.sources:
        trust = source.trust if len(source.trust) <= 32 else f"{source.trust[:32]}.."  # noqa: PLR2004 - JSON has it all
        table.add_row(source.name, f"{source.host}:{source.port}", source.username, source.datacenter or "-", trust)
    console().print(table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="The source's name: xms source list.")],
    output: OutputOption = "table",
) -> None:
    """Test the connection: log in, and tell product, version and build."""
    from cli.output import console, print_json
    from cli.parsing import required
    from cli.session import ask

    source = required(name, "SOURCE")
    report = ask(lambda migrations: migrations.check_source(source), f"logging in to {source}")
    if output == "json":
        print_json(report.model_dump(mode="json"))
        return
    console().print(
        f"{report.source}: {report.product} {report.version}, build {report.build}, "
        f"answered in {report.milliseconds} ms",
        soft_wrap=True,
    )
