"""The VM itself: its hardware, its state, and what of it cannot be taken along."""

from __future__ import annotations

import re
from typing import Final

from xms.orders.preflight import Subject
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule, unknown

LOWEST_HARDWARE: Final = 7
"""Virtual hardware (vmx-07) that knows change tracking."""

FIRMWARE: Final = {"bios", "efi"}


@rule(
    "compute.template",
    BLOCK,
    finds="it is a template",
    do="deploy a VM from it and migrate that, or convert the template to a VM: a template never runs",
)
def template(subject: Subject) -> Found | None:
    """Nothing has to be kept warm of what never runs."""
    return Found("it is a template") if subject.vm.template else None


@rule(
    "compute.connection",
    BLOCK,
    WARN,
    finds="vCenter does not reach the VM (disconnected, orphaned, inaccessible, invalid)",
    do="bring its host and its datastores back, or remove the VM from the inventory and register it again",
)
def connection(subject: Subject) -> Found | None:
    """Whether vCenter has the VM in hand."""
    state = subject.vm.connection
    if not state:
        return unknown("the VM's connection state")
    return None if state == "connected" else Found(f"vCenter calls it {state}")


@rule(
    "compute.suspended",
    BLOCK,
    WARN,
    finds="it is suspended",
    do="power it on, or shut it down: what it holds in memory cannot be taken along",
)
def suspended(subject: Subject) -> Found | None:
    """A suspended VM takes no setting, and its memory is on no disk."""
    state = subject.vm.power_state
    if state not in {"poweredOn", "poweredOff", "suspended"}:
        return unknown(f"its power state ({state or 'none told'})")
    return Found("it is suspended") if state == "suspended" else None


@rule(
    "compute.hardware-version",
    BLOCK,
    finds=f"virtual hardware older than vmx-{LOWEST_HARDWARE:02}, or of an unknown version",
    do="upgrade the VM's compatibility in vSphere; it has to be powered off for that",
)
def hardware_version(subject: Subject) -> Found | None:
    """Change tracking needs vmx-07 or newer."""
    version = subject.vm.hardware_version
    number = re.fullmatch(r"vmx-(\d+)", version)
    if number and int(number[1]) >= LOWEST_HARDWARE:
        return None
    return Found(f"its virtual hardware is {version or 'of an unknown version'}; change tracking needs vmx-07 or newer")


@rule(
    "compute.change-tracking",
    BLOCK,
    finds="its host says that it cannot track changed blocks (CBT)",
    do="move the VM to a host and a datastore that can",
)
def change_tracking(subject: Subject) -> Found | None:
    """Without change tracking there is no incremental sync."""
    if subject.vm.change_tracking_supported:
        return None
    return Found("its host does not support change tracking (CBT) for it")


@rule(
    "compute.fault-tolerance",
    BLOCK,
    WARN,
    finds="Fault Tolerance is on",
    do="turn Fault Tolerance off for as long as the migration lasts",
)
def fault_tolerance(subject: Subject) -> Found | None:
    """Of a VM that has a shadow no snapshots as ours are taken."""
    state = subject.vm.fault_tolerance
    if not state:
        return unknown("its Fault Tolerance state")
    return None if state == "notConfigured" else Found(f"Fault Tolerance is on ({state})")


@rule(
    "compute.encryption",
    BLOCK,
    finds="the VM or one of its disks is encrypted by vSphere",
    do="decrypt it in vSphere (storage policy 'Datastore Default'), and encrypt on the target by the volume type",
)
def encryption(subject: Subject) -> Found | None:
    """What is read of an encrypted disk would lie in plain on the target, against what somebody decided."""
    disks = [disk.label for disk in subject.vm.disks if disk.encrypted]
    if disks:
        return Found(f"encrypted by vSphere: {', '.join(disks)}")
    return Found("the VM is encrypted by vSphere") if subject.vm.encrypted else None


@rule(
    "compute.vtpm",
    BLOCK,
    finds="it has a virtual TPM",
    do="in the guest take off what is sealed to it (suspend BitLocker, LUKS by passphrase), then remove the vTPM",
)
def trusted_platform_module(subject: Subject) -> Found | None:
    """The secrets of a TPM cannot be read out, so what is sealed to it would never open again."""
    return Found("it has a virtual TPM, whose content cannot be moved") if subject.vm.trusted_platform_module else None


@rule(
    "compute.passthrough",
    BLOCK,
    finds="devices of its host are passed through to it (PCI, vGPU, SR-IOV, SCSI, persistent memory)",
    do="remove them from the VM: with them vSphere makes no snapshots, and the target does not have them",
)
def passthrough(subject: Subject) -> Found | None:
    """Such a VM can be neither snapshotted nor moved."""
    devices = [*subject.vm.passthrough, *(nic.label for nic in subject.vm.nics if nic.kind == "sriov")]
    return Found(f"passed through from its host: {', '.join(devices)}") if devices else None


@rule(
    "compute.firmware",
    NOTE,
    WARN,
    finds="it boots with UEFI (a note), or with a firmware that is not known (a warning)",
    do="see that the target's hypervisors have UEFI firmware (OVMF)",
)
def firmware(subject: Subject) -> Found | None:
    """The target boots it with the same firmware, where it has it."""
    name = subject.vm.firmware
    if name not in FIRMWARE:
        return Found(f"its firmware '{name}' is not known", WARN, do="find out how it boots before it is cut over")
    return Found("it boots with UEFI") if name == "efi" else None


@rule(
    "compute.secure-boot",
    WARN,
    finds="UEFI Secure Boot is on",
    do="see that the guest boots with Secure Boot off, or with the keys of Microsoft alone; BitLocker may ask for its "
    "recovery key, so have it ready; --secure-boot disabled or required leaves nothing to the host",
)
def secure_boot(subject: Subject) -> Found | None:
    """Keys of the VM's own stay behind with its NVRAM, and the conversion may install drivers that are not signed."""
    return Found("Secure Boot is on; the target has it only where its host can") if subject.vm.secure_boot else None


RULES: Final[tuple[Rule, ...]] = (
    template,
    connection,
    suspended,
    hardware_version,
    change_tracking,
    fault_tolerance,
    encryption,
    trusted_platform_module,
    passthrough,
    firmware,
    secure_boot,
)
