"""xms target: the clouds that the workers know."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.exit_codes import ExitCode
from cli.options import OutputOption

app = typer.Typer(help="Targets: the clouds that the workers are configured for.")


@app.command("list")
def list_targets(output: OutputOption = "table") -> None:
    """Show the configured targets; none of them is asked anything."""
    from cli.output import console, print_json
    from cli.session import ask
    from cli.target_screens import listing

    found = ask(lambda migrations: migrations.targets())
    if output == "json":
        print_json(found.model_dump(mode="json"))
        return
    console().print(listing(found), soft_wrap=True)


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The target: xms target list; the default one unless given."),
    ] = "",
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Project to log in to; the cloud's own unless given.")
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Log in, and tell project, roles, services, regions, and what is left of the quotas."""
    from cli.output import console, print_error, print_json
    from cli.session import ask
    from cli.target_screens import report, spoken

    found = ask(lambda migrations: migrations.check_target(name, project), f"checking {spoken(name)}")
    if output == "json":
        print_json(found.model_dump(mode="json") | {"notes": found.notes, "problems": found.problems})
    else:
        console().print(report(found), soft_wrap=True)
    if found.problems:
        if output != "json":
            print_error([f"error: {spoken(name)} is not ready: {'; '.join(found.problems)}"], {}, as_json=False)
        raise typer.Exit(ExitCode.FAILED)
