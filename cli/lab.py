"""xms lab: a vCenter, an ESXi host with two VMs, a cloud, Temporal and a worker on this machine, to play with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xms.errors import XmsError

if TYPE_CHECKING:
    from lab.lab import Lab

app = typer.Typer(
    help="A lab on this machine: stand-ins for vCenter, ESXi and the cloud, with real guests.", no_args_is_help=True
)

Directory = Annotated[Path | None, typer.Option(help="Where the lab lives; $XMS_LAB, else .lab here.")]


class LabTrouble(XmsError):
    """The lab could not be brought up."""


@app.command()
def up(
    directory: Directory = None,
    power_on: Annotated[
        list[str] | None, typer.Option(help="VM to start with it; may be repeated. Default: both.")
    ] = None,
) -> None:
    """Start the lab, and wait until it is ready. The first time builds the guest image (some minutes)."""
    from lab.lab import LabError

    lab = _lab(directory)
    try:
        lab.up(power_on or ["db-prod-01", "web-03"], _tell)
    except LabError as error:
        raise LabTrouble("the lab is not up", because=str(error), do="look there, then: xms lab down") from None
    _print_status(lab)
    exports = "\n".join(f"export {name}={value}" for name, value in lab.environment().items())
    sys.stdout.write(f"\nTo use it from here:\n{exports}\n")


@app.command()
def status(
    directory: Directory = None,
    output: Annotated[str, typer.Option(help="table or json")] = "table",
) -> None:
    """Show which parts run, and where they are reached."""
    lab = _lab(directory)
    if output == "json":
        parts = [vars(part) for part in lab.status()]
        sys.stdout.write(json.dumps({"parts": parts, "environment": lab.environment()}, indent=2) + "\n")
    else:
        _print_status(lab)


@app.command()
def down(
    directory: Directory = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep its files: disks, logs, database.")] = False,  # noqa: FBT002 - typer's way
) -> None:
    """End every process of the lab, and remove its files."""
    _lab(directory).down(wipe=not keep)


def _lab(directory: Path | None) -> Lab:
    from lab.lab import Lab
    from lab.layout import default_cache, default_directory

    return Lab(directory.absolute() if directory else default_directory(), default_cache())


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _print_status(lab: Lab) -> None:
    for part in lab.status():
        state = f"runs, pid {part.pid}" if part.running else "is down"
        sys.stdout.write(f"{part.name:<9} {state:<18} {part.where if part.running else ''}\n".rstrip() + "\n")
