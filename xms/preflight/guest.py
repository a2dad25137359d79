"""The operating system in it: whether it can be converted, and whether it answers."""

from __future__ import annotations

from typing import Final

from xms.orders.preflight import Subject
from xms.preflight.guests import Conversion, conversion_of
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule, unknown


@rule(
    "guest.system",
    WARN,
    BLOCK,
    finds="a guest that virt-v2v does not name (a warning), or one that it cannot convert (FreeBSD, Solaris, macOS, "
    "Windows 2000 and older)",
    do="where the VM's guest OS setting is wrong, correct it; else try the conversion on a copy of the VM first",
)
def system(subject: Subject) -> Found | None:
    """A guest that cannot be converted would be found out during the downtime."""
    vm = subject.vm
    if not vm.guest_id:
        return unknown("its guest OS setting")
    name = vm.guest_name or vm.guest_id
    match conversion_of(vm.guest_id):
        case Conversion.NEVER:
            return Found(f"{name}: virt-v2v does not convert it", BLOCK)
        case Conversion.OPEN:
            return Found(f"{name}: virt-v2v does not name it, so only the conversion will tell")
        case _:
            return None


@rule(
    "guest.windows-drivers",
    NOTE,
    finds="a Windows guest: its conversion needs drivers on the worker",
    do="install virtio-win on every worker that converts; without it the instance gets slow emulated devices",
)
def windows_drivers(subject: Subject) -> Found | None:
    """virt-v2v brings the drivers of Windows guests from virtio-win; whether it is installed is not looked at."""
    if conversion_of(subject.vm.guest_id) is not Conversion.WINDOWS:
        return None
    return Found("a Windows guest: virt-v2v takes its drivers from virtio-win on the worker")


@rule(
    "guest.tools",
    WARN,
    finds="VMware Tools do not run in a VM that does: no quiesced snapshots, no clean shutdown at the cutover",
    do="install or start open-vm-tools or VMware Tools in the guest; else the cutover has to pull the plug",
)
def tools(subject: Subject) -> Found | None:
    """The tools freeze file systems for a snapshot, and shut the guest down."""
    vm = subject.vm
    if vm.power_state != "poweredOn" or vm.tools_running:
        return None
    if not vm.tools:
        return unknown("the state of VMware Tools")
    return Found(
        f"VMware Tools: {vm.tools}; its file systems are not frozen for snapshots, nor is it shut down cleanly"
    )


@rule(
    "guest.device-names",
    NOTE,
    finds="a Linux guest, or an unknown one, may name disks by /dev/sdX in /etc/fstab: that cannot be known before the "
    "conversion",
    do="see that /etc/fstab and the boot loader use UUID=, LABEL= or LVM; virt-v2v rewrites some /dev/sdX, not all",
)
def device_names(subject: Subject) -> Found | None:
    """Of file systems vSphere tells where they are mounted, not how /etc/fstab names them."""
    if conversion_of(subject.vm.guest_id) in {Conversion.WINDOWS, Conversion.NEVER}:
        return None
    return Found("whether /etc/fstab names disks by device cannot be known before the conversion")


RULES: Final[tuple[Rule, ...]] = (system, windows_drivers, tools, device_names)
