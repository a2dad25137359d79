"""xms vm: the VMs of a source."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import OutputOption

app = typer.Typer(help="VMs: what can be migrated from a source.")


@app.command("list")
def list_vms(
    source: Annotated[str, typer.Option(metavar="NAME", help="Registered source: xms source list.")],
    match: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only VMs of such a name ('web-*'), or of such a path ('/dc/vm/web/*')."),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Show the VMs of a source: power, disks, guest, firmware, change tracking, tools and networks."""
    from cli.machines import listing
    from cli.output import console, print_json, say
    from cli.parsing import required
    from cli.session import ask

    name = required(source, "--source")
    pattern = "" if match is None else required(match, "--match")
    found = ask(lambda migrations: migrations.vms(name, pattern), f"asking {name}")
    if output == "json":
        print_json({"vms": [vm.model_dump(mode="json") for vm in found.vms]})
        return
    if not found.vms:
        say(
            f"no VM of {name} matches '{pattern}'" if pattern else f"{name} has no VMs, or its account may not see them"
        )
        return
    out = console()
    vms = sorted(found.vms, key=lambda vm: (vm.name, vm.path))
    out.print(listing(vms, out.width), crop=False)
