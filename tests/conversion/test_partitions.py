"""Partition tables as sfdisk writes them, and LUKS headers as cryptsetup does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xms.conversion.partitions import has_efi_system_partition, luks_devices
from xms.conversion.root_disk import root_disk

MIB = 1 << 20
FIRST = "11111111-2222-3333-4444-555555555555"
SECOND = "66666666-7777-8888-9999-aaaaaaaaaaaa"


def a_disk(path: Path, table: str = "", size: int = 64 * MIB) -> str:
    with path.open("wb") as file:
        file.truncate(size)
    if table:
        subprocess.run(["sfdisk", "-q", str(path)], input=table.encode(), check=True)
    return str(path)


def encrypt(disk: str, start: int, uuid: str, version: str) -> None:
    part = Path(f"{disk}.part")
    with part.open("wb") as file:
        file.truncate(20 * MIB)
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    subprocess.run(
        ["cryptsetup", "luksFormat", "-q", "--type", version, *cheap, "--uuid", uuid, str(part), "-"],
        input=b"right words",
        check=True,
    )
    with Path(disk).open("r+b") as file:
        file.seek(start)
        file.write(part.read_bytes())


GPT_WITH_EFI = "label: gpt\nsize=8MiB,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nsize=30MiB,type=L\n"


@pytest.mark.parametrize(
    ("table", "boots"),
    [
        (GPT_WITH_EFI, True),
        ("label: gpt\nsize=8MiB,type=L\n", False),
        ("label: dos\nsize=8MiB,type=ef\n", True),
        ("label: dos\nsize=8MiB,type=83,bootable\n", False),
        ("label: dos\nsize=8MiB,type=83\nsize=40MiB,type=5\nsize=4MiB,type=83\nsize=4MiB,type=ef\n", True),
        ("", False),
    ],
)
def test_an_efi_system_partition_is_found_in_either_table(tmp_path: Path, table: str, *, boots: bool) -> None:
    assert has_efi_system_partition(a_disk(tmp_path / "disk", table)) is boots


def test_a_uefi_guest_boots_from_the_disk_with_the_system_partition_without_virt_v2v(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", "label: dos\nsize=8MiB,type=83,bootable\n"), a_disk(tmp_path / "b", GPT_WITH_EFI)]
    assert root_disk(paths, uefi=True) == 1


def test_a_bios_guest_boots_from_the_first_disk_with_boot_code_without_virt_v2v(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", GPT_WITH_EFI), a_disk(tmp_path / "b", "label: dos\nsize=8MiB,type=83\n")]
    with Path(paths[1]).open("r+b") as file:
        file.write(b"\xeb\x63")
    assert root_disk(paths, uefi=False) == 1


@pytest.mark.parametrize("version", ["luks1", "luks2"])
def test_encrypted_partitions_are_told_by_their_uuids(tmp_path: Path, version: str) -> None:
    table = "label: dos\nstart=1MiB,size=20MiB,type=83\nstart=22MiB,size=40MiB,type=5\nstart=24MiB,size=20MiB,type=83\n"
    disk = a_disk(tmp_path / "disk", table)
    encrypt(disk, MIB, FIRST, version)
    encrypt(disk, 24 * MIB, SECOND, version)
    assert luks_devices(disk) == [FIRST, SECOND]


def test_a_disk_that_is_encrypted_as_a_whole_is_told(tmp_path: Path) -> None:
    disk = a_disk(tmp_path / "disk")
    encrypt(disk, 0, FIRST, "luks2")
    assert luks_devices(disk) == [FIRST]


def test_a_disk_without_encryption_has_none(tmp_path: Path) -> None:
    assert luks_devices(a_disk(tmp_path / "disk", GPT_WITH_EFI)) == []
    assert luks_devices(a_disk(tmp_path / "empty", size=0)) == []


def test_a_broken_table_has_no_partitions(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    header = bytearray(512)
    header[:8] = b"EFI PART"
    header[80:88] = b"\xff" * 8
    path.write_bytes(bytes(512) + bytes(header))
    assert not has_efi_system_partition(str(path))
    looping = bytearray(1024)
    for sector in (0, 512):
        looping[sector + 510 : sector + 512] = b"\x55\xaa"
        looping[sector + 446 + 4] = 0x05
        looping[sector + 446 + 8] = 1
    path.write_bytes(looping)
    assert luks_devices(str(path)) == []
