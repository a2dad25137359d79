"""The guest as virt-v2v reads it: libvirt's XML, with the overlays for disks."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from xms.orders.conversion import Convert

KIB = 1024


def describe(order: Convert, overlays: Sequence[Path]) -> str:
    """The domain, with the disks in the order of the source's, on its SCSI bus, and its NICs.

    virt-v2v reads memory in KiB whatever the unit says.
    """
    domain = ET.Element("domain", type="kvm")
    ET.SubElement(domain, "name").text = order.vm.vm
    ET.SubElement(domain, "memory", unit="KiB").text = str(order.memory // KIB)
    ET.SubElement(domain, "vcpu").text = str(order.cpus)
    uefi = order.firmware in ("efi", "uefi")
    boot = ET.SubElement(domain, "os", {"firmware": "efi"} if uefi else {})
    ET.SubElement(boot, "type", arch="x86_64", machine="q35" if uefi else "pc").text = "hvm"
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(devices, "controller", type="scsi", model="vmpvscsi")
    for place, path in enumerate(overlays):
        disk = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="qcow2")
        ET.SubElement(disk, "source", file=str(path))
        ET.SubElement(disk, "target", dev=disk_name(place), bus="scsi")
    for nic in order.nics:
        interface = ET.SubElement(devices, "interface", type="network")
        ET.SubElement(interface, "mac", address=nic.mac)
        ET.SubElement(interface, "source", network=nic.source_network)
        ET.SubElement(interface, "model", type="vmxnet3")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def disk_name(place: int) -> str:
    """'sda' for 0, 'sdz' for 25, 'sdaa' for 26: Linux's own counting."""
    letters = ""
    place += 1
    while place:
        place, digit = divmod(place - 1, 26)
        letters = string.ascii_lowercase[digit] + letters
    return f"sd{letters}"


def disk_place(device: str) -> int | None:
    """The reverse, for a device or partition of the appliance ('/dev/sda1', '/dev/vdb'); None for anything else."""
    name = device.removeprefix("/dev/").rstrip(string.digits)
    if name[:2] not in ("sd", "vd", "hd") or not name[2:].isalpha() or not name.islower():
        return None
    place = 0
    for letter in name[2:]:
        place = place * 26 + string.ascii_lowercase.index(letter) + 1
    return place - 1
