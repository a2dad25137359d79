"""xms vm: the VMs of a source."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import OutputOption

app = typer.Typer(help="VMs: what can be migrated from a source.")


@app.command("list")
def list_vms(
    source: Annotated[str, typer.Option(metavar="NAME", help="Registered source: xms source list.")],
    output: OutputOption = "table",
) -> None:
    """Show the VMs of a source, with their disks, networks and change tracking."""
    from cli.output import console, print_json, say
    from cli.parsing import required
    from cli.screens import columns
    from cli.session import ask
    from xms import quantities

    name = required(source, "--source")
    found = ask(lambda migrations: migrations.vms(name), f"asking {name}")
    if output == "json":
        print_json(found.model_dump(mode="json"))
        return
    if not found.vms:
        say(f"{name} has no VMs, or its account may not see them")
        return
    table = columns("VM", "POWER", "VCPUS", "MEMORY", "DISKS", "CBT", "NETWORKS", right=("VCPUS", "MEMORY"))
    table.columns[-1].no_wrap = False
    for vm in sorted(found.vms, key=lambda vm: (vm.name, vm.path)):
        capacity = quantities.size(sum(disk.capacity for disk in vm.disks))
        tracking = "on" if vm.change_tracking_enabled else "off" if vm.change_tracking_supported else "unsupported"
        table.add_row(
            vm.name,
            vm.power_state.removeprefix("powered").lower(),
            str(vm.cpus),
            quantities.size(vm.memory),
            f"{len(vm.disks)}, {capacity}",
            tracking,
            ", ".join(f"{nic.network}" for nic in vm.nics) or "-",
        )
    console().print(table)
