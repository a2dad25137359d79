"""What is read out of virt-v2v's output, and told to it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from tests.conversion.workshop import Workshop
from xms.conversion.guest_description import describe, disk_name, disk_place
from xms.conversion.root_disk import root_disk
from xms.conversion.virt_v2v import parse


def a_disk(path: Path, *, boots: bool) -> str:
    path.write_bytes((b"\xeb\x63" + bytes(508) + b"\x55\xaa" if boots else bytes(512)) + bytes(512))
    return str(path)


def test_firmware_and_buses_are_read_in_novas_words() -> None:
    outcome = parse(
        "i_root = /dev/sda2\ni_type = linux\ni_firmware = UEFI [/dev/sdb1]\n"
        "gcaps_block_bus = virtio-scsi\ngcaps_net_bus = e1000\ngcaps_machine = i440fx\n"
    )
    assert outcome.firmware == "uefi"
    assert outcome.system_partitions == ("/dev/sdb1",)
    assert (outcome.block_bus, outcome.net_bus, outcome.machine) == ("scsi", "e1000", "pc")
    assert (outcome.os_type, outcome.root_device) == ("linux", "/dev/sda2")


def test_disks_are_named_as_linux_names_them() -> None:
    assert [disk_name(place) for place in (0, 1, 25, 26, 701, 702)] == ["sda", "sdb", "sdz", "sdaa", "sdzz", "sdaaa"]
    assert [disk_place(f"/dev/{disk_name(place)}3") for place in (0, 25, 26, 702)] == [0, 25, 26, 702]
    assert disk_place("/dev/vg/root") is None


def test_the_description_has_all_disks_and_nics(tmp_path: Path) -> None:
    order = Workshop(tmp_path).order
    domain = ET.fromstring(describe(order, [Path("/o/a.qcow2"), Path("/o/b.qcow2")]))  # noqa: S314 - our own text
    assert [source.attrib["file"] for source in domain.iterfind("devices/disk/source")] == ["/o/a.qcow2", "/o/b.qcow2"]
    assert [target.attrib for target in domain.iterfind("devices/disk/target")] == [
        {"dev": "sda", "bus": "scsi"},
        {"dev": "sdb", "bus": "scsi"},
    ]
    assert [mac.attrib["address"] for mac in domain.iterfind("devices/interface/mac")] == ["00:50:56:00:00:01"]
    assert domain.findtext("memory") == str(512 * 1024)


def test_a_uefi_guest_is_described_as_one(tmp_path: Path) -> None:
    order = Workshop(tmp_path).order.model_copy(update={"firmware": "efi"})
    boot = ET.fromstring(describe(order, [])).find("os")  # noqa: S314 - our own text
    assert boot is not None
    assert boot.attrib == {"firmware": "efi"}


def test_the_disk_of_the_system_partition_boots_a_uefi_guest(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", boots=True), a_disk(tmp_path / "b", boots=False)]
    assert root_disk(paths, root_device="/dev/sda2", system_partitions=["/dev/sdb1"]) == 1


def test_the_root_file_systems_disk_boots_where_it_has_a_boot_sector(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", boots=True), a_disk(tmp_path / "b", boots=True)]
    assert root_disk(paths, root_device="/dev/sdb1", system_partitions=[]) == 1


def test_a_boot_disk_apart_from_the_root_file_system_is_found_by_its_boot_sector(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", boots=False), a_disk(tmp_path / "b", boots=True)]
    assert root_disk(paths, root_device="/dev/sda1", system_partitions=[]) == 1
    assert root_disk(paths, root_device="/dev/vg/root", system_partitions=[]) == 1


def test_without_any_boot_sector_the_root_file_system_decides(tmp_path: Path) -> None:
    paths = [a_disk(tmp_path / "a", boots=False), a_disk(tmp_path / "b", boots=False)]
    assert root_disk(paths, root_device="/dev/sdb1", system_partitions=[]) == 1
    assert root_disk(paths, root_device="/dev/vg/root", system_partitions=[]) == 0
