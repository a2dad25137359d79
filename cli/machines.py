"""What the VMs of a source look like on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.layout import INDENT, columns
from xms import quantities
from xms.orders.source import VmDetails
from xms.quantities import ABSENT

HEADERS = ("VM", "POWER", "VCPUS", "MEMORY", "DISKS", "GUEST", "FIRMWARE", "CBT", "TOOLS", "NETWORKS")
POWER_STYLES = {"on": "green", "suspended": "yellow"}

FOLDED = ("GUEST", "NETWORKS")
"""Columns whose words may go on in the next line."""

FOLDED_COLUMNS = 26
"""What such a column needs at least."""

SHOWN_DISKS = 3
"""Disks whose sizes are shown one by one; of more their number and their sum."""


def listing(vms: Sequence[VmDetails], width: int) -> RenderableType:
    """All VMs, one a line; where the lines do not fit, a VM has some lines of its own."""
    names = shown_names(vms)
    rows = [_row(names[vm.moref], vm) for vm in vms]
    widths = [_needed(header, [row[number].cell_len for row in rows]) for number, header in enumerate(HEADERS)]
    if sum(widths) + 2 * (len(HEADERS) - 1) > width:
        return Group(*(part for vm in vms for part in _block(names[vm.moref], vm)))
    table = columns(*HEADERS, right=("VCPUS", "MEMORY"))
    for column in table.columns:
        column.no_wrap = column.header not in FOLDED
    for row in rows:
        table.add_row(*row)
    return table


def _needed(header: str, lengths: Sequence[int]) -> int:
    needed = max(len(header), *lengths)
    return min(needed, FOLDED_COLUMNS) if header in FOLDED else needed


def shown_names(vms: Sequence[VmDetails]) -> dict[str, str]:
    """Names by managed object reference; those that several VMs have are told apart by their inventory paths."""
    count = Counter(vm.name for vm in vms)
    return {vm.moref: vm.name if count[vm.name] == 1 else vm.path or f"{vm.name} ({vm.moref})" for vm in vms}


def _row(name: str, vm: VmDetails) -> tuple[Text, ...]:
    return (
        Text(name),
        _power(vm),
        Text(str(vm.cpus)),
        Text(quantities.size(vm.memory)),
        Text(_disks(vm)),
        Text(vm.guest_name or vm.guest_id or ABSENT),
        Text(_firmware(vm)),
        Text(_tracking(vm)),
        Text(vm.tools or ABSENT),
        Text(_networks(vm)),
    )


def _block(name: str, vm: VmDetails) -> Iterator[RenderableType]:
    yield Text(f"{name}  ", no_wrap=True, overflow="ignore") + _power(vm)
    shape = f"{vm.cpus} vCPU{'s' * (vm.cpus != 1)}, {quantities.size(vm.memory)}, {_firmware(vm)}"
    lines = (
        ", ".join(part for part in (vm.guest_name or vm.guest_id, shape) if part),
        f"disks: {_disks(vm)}; CBT {_tracking(vm)}, tools {vm.tools or 'not known'}",
        f"networks: {_networks(vm)}",
    )
    for line in lines:
        yield Padding(Text(line), INDENT, expand=False)


def _power(vm: VmDetails) -> Text:
    word = vm.power_state.removeprefix("powered").lower()
    return Text(word, style=POWER_STYLES.get(word, ""))


def _disks(vm: VmDetails) -> str:
    sizes = [quantities.size(disk.capacity) for disk in vm.disks]
    if len(sizes) <= SHOWN_DISKS:
        return " + ".join(sizes) or ABSENT
    return f"{len(sizes)}, {quantities.size(sum(disk.capacity for disk in vm.disks))}"


def _firmware(vm: VmDetails) -> str:
    return f"{vm.firmware}, secure boot" if vm.secure_boot else vm.firmware


def _tracking(vm: VmDetails) -> str:
    return "on" if vm.change_tracking_enabled else "off" if vm.change_tracking_supported else "unsupported"


def _networks(vm: VmDetails) -> str:
    return ", ".join(nic.network or nic.label for nic in vm.nics) or ABSENT
