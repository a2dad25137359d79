"""Which disk the firmware boots: the one whose volume becomes bootable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from xms.conversion.guest_description import disk_place
from xms.conversion.partitions import has_efi_system_partition

BOOT_CODE: Final = 440
"""Bytes of a boot sector before the partition table that hold code; all zero on a disk that only holds data."""
SIGNATURE: Final = slice(510, 512)


def root_disk(
    paths: Sequence[str], *, root_device: str = "", system_partitions: Sequence[str] = (), uefi: bool = False
) -> int:
    """The place of the disk to boot from.

    With UEFI it is the disk of the EFI system partition. With BIOS it is a disk with a boot sector: that of the root
    file system where it has one, else the first that has, since BIOSes try the disks in their order. Only where no disk
    has a boot sector, the root file system's disk decides, and then the first one.

    Args:
        paths: the volumes, in the order of the guest's disks, as the conversion found them.
        root_device: the root file system as virt-v2v names it ('/dev/sda1', '/dev/vg/root'); empty: it was not asked.
        system_partitions: EFI system partitions as virt-v2v names them; empty with BIOS, or where it was not asked.
        uefi: the guest's firmware; where virt-v2v was not asked, the partition tables are.

    Raises:
        OSError: a volume cannot be read.
    """
    for device in system_partitions:
        place = disk_place(device)
        if place is not None and place < len(paths):
            return place
    if uefi:
        for place, path in enumerate(paths):
            if has_efi_system_partition(path):
                return place
    root = disk_place(root_device)
    root = root if root is not None and root < len(paths) else None
    bootable = [place for place, path in enumerate(paths) if has_boot_sector(path)]
    if root is not None and (root in bootable or not bootable):
        return root
    return bootable[0] if bootable else 0


def has_boot_sector(path: str) -> bool:
    """Whether a disk's first sector holds boot code.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sector = os.pread(descriptor, 512, 0)
    finally:
        os.close(descriptor)
    return sector[SIGNATURE] == b"\x55\xaa" and any(sector[:BOOT_CODE])
