"""What the partition tables of the guest's disks tell without virt-v2v: where it boots, and what is encrypted.

Only what decides something here is read. A table that is broken has no partitions: nothing is guessed from it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

SECTOR: Final = 512
"""vSphere's disks have sectors of this size."""

EFI_SYSTEM: Final = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
"""GUID C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it stands on the disk (UEFI 2.10, table 5-7)."""
EFI_SYSTEM_BY_MBR: Final = 0xEF
EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
LARGEST_TABLE: Final = 1 << 20
MOST_LOGICAL: Final = 128

LUKS_MAGIC: Final = b"LUKS\xba\xbe"
LUKS_UUID: Final = slice(168, 208)
"""The same place in both versions of the header (LUKS1 and LUKS2 on-disk format specifications)."""


@dataclass(frozen=True)
class Partition:
    """One partition of a disk, in bytes."""

    start: int
    is_efi_system: bool = False


def has_efi_system_partition(path: str) -> bool:
    """Whether firmware of a UEFI guest finds something to boot on this disk.

    Raises:
        OSError: it cannot be read.
    """
    with _Disk(path) as disk:
        return any(partition.is_efi_system for partition in _partitions(disk))


def luks_devices(path: str) -> list[str]:
    """The UUIDs of the LUKS headers at the beginning of the disk and of each of its partitions, each once.

    One inside of LVM or of a RAID is not seen.

    Raises:
        OSError: the disk cannot be read.
    """
    found = []
    with _Disk(path) as disk:
        for start in (0, *(partition.start for partition in _partitions(disk))):
            header = disk.read(start, SECTOR)
            if header.startswith(LUKS_MAGIC):
                found.append(header[LUKS_UUID].split(b"\0")[0].decode("ascii", errors="replace"))
    return list(dict.fromkeys(found))


class _Disk:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        os.close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """As much of it as there is."""
        return os.pread(self._descriptor, length, start)


def _partitions(disk: _Disk) -> Iterator[Partition]:
    first, second = disk.read(0, SECTOR), disk.read(SECTOR, SECTOR)
    if second.startswith(b"EFI PART"):
        yield from _of_gpt(disk, second)
    elif first[510:512] == b"\x55\xaa":
        yield from _of_mbr(disk, first)


def _of_gpt(disk: _Disk, header: bytes) -> Iterator[Partition]:
    (table,) = struct.unpack_from("<Q", header, 72)
    count, size = struct.unpack_from("<II", header, 80)
    if size < 128 or count * size > LARGEST_TABLE:  # noqa: PLR2004 - UEFI 2.10, 5.3.2: 128 x 2^n
        return
    entries = disk.read(table * SECTOR, count * size)
    for place in range(0, len(entries) - size + 1, size):
        kind = entries[place : place + 16]
        (start,) = struct.unpack_from("<Q", entries, place + 32)
        if any(kind) and start < 1 << 54:
            yield Partition(start * SECTOR, is_efi_system=kind == EFI_SYSTEM)


def _of_mbr(disk: _Disk, sector: bytes) -> Iterator[Partition]:
    for kind, start in _entries(sector):
        if kind in EXTENDED:
            yield from _logical(disk, start)
        else:
            yield Partition(start * SECTOR, is_efi_system=kind == EFI_SYSTEM_BY_MBR)


def _logical(disk: _Disk, extended: int) -> Iterator[Partition]:
    """The partitions within an extended one: a chain of tables, each with one of them and the way to the next."""
    table = extended
    for _ in range(MOST_LOGICAL):
        sector = disk.read(table * SECTOR, SECTOR)
        if len(sector) < SECTOR or sector[510:512] != b"\x55\xaa":
            return
        following = None
        for kind, start in _entries(sector):
            if kind in EXTENDED:
                following = extended + start
            else:
                yield Partition((table + start) * SECTOR, is_efi_system=kind == EFI_SYSTEM_BY_MBR)
        if following is None:
            return
        table = following


def _entries(sector: bytes) -> Iterator[tuple[int, int]]:
    for place in range(446, 510, 16):
        kind = sector[place + 4]
        (start,) = struct.unpack_from("<I", sector, place + 8)
        if kind and start:
            yield kind, start
