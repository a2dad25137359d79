"""What a cutover may ask of a conversion, and what a worker needs for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.conversion.test_partitions import FIRST, MIB, SECOND, a_disk, encrypt
from tests.conversion.workshop import Workshop
from xms.commands import refuse_unless_allowed
from xms.config import ConversionConfig
from xms.conversion import keys
from xms.conversion.log import log_of, read_log
from xms.conversion.options import remarks
from xms.conversion.readiness import look
from xms.conversion.stages import Stages
from xms.conversion.virt_v2v import static_addresses
from xms.cutover import ConversionOptions, ConversionProgress, CutoverOrder, Rehearse, StaticAddress
from xms.errors import BadInput, ConfigurationError, ConversionFailed, ConversionLost, ProgramMissing
from xms.job import JobState
from xms.models import Model, Phase
from xms.orders.conversion import LookBeforeConversion, ReadConversionLog

MAC = "00:50:56:00:00:01"
STATIC = StaticAddress(
    mac=MAC, address="10.20.0.15", prefix_length=24, gateway="10.20.0.1", nameservers=("10.20.0.2", "10.20.0.3")
)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop.new(tmp_path)


def a_key(directory: Path, name: str, mode: int = 0o600) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("right words\n")
    path.chmod(mode)
    return path


def with_options(workshop: Workshop, **options: Any) -> None:  # noqa: ANN401 - fields of ConversionOptions
    workshop.order = workshop.order.model_copy(update={"options": ConversionOptions(**options)})


# --- skipped ----------------------------------------------------------------------------------------------------------


def test_a_guest_that_is_ready_is_not_touched_and_its_boot_disk_is_found(workshop: Workshop) -> None:
    a_disk(workshop.volumes[1].path, "label: dos\nsize=4MiB,type=83,bootable\n", size=8 * MIB)
    with workshop.volumes[1].path.open("r+b") as file:
        file.write(b"\xeb\x63")
    replica = workshop.digests()
    with_options(workshop, skip=True)
    converted = workshop.convert()
    assert (converted.skipped, converted.written, converted.root_disk_key) == (True, (), 2001)
    assert converted.firmware == "bios"
    assert not (workshop.directory / "conversions" / "asked.json").exists()
    assert workshop.digests() == replica
    with pytest.raises(ConversionLost):
        workshop.commit()


def test_a_uefi_guest_that_is_ready_boots_from_the_disk_with_the_system_partition(workshop: Workshop) -> None:
    efi = "label: gpt\nsize=4MiB,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
    a_disk(workshop.volumes[1].path, efi, size=8 * MIB)
    workshop.order = workshop.order.model_copy(update={"firmware": "efi"})
    with_options(workshop, skip=True)
    converted = workshop.convert()
    assert (converted.root_disk_key, converted.firmware) == (2001, "uefi")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_tried_on_every_encrypted_device_and_never_written_out(tmp_path: Path) -> None:
    table = "label: dos\nstart=1MiB,size=20MiB,type=83\nstart=22MiB,size=20MiB,type=83\n"
    disk = a_disk(tmp_path / "disk", table)
    encrypt(disk, MIB, FIRST, "luks2")
    encrypt(disk, 22 * MIB, SECOND, "luks1")
    for name in ("db.key", "data.key"):
        a_key(tmp_path / "keys", name)
    told = keys.arguments(tmp_path / "keys", ["db.key", "/dev/vg/data=data.key"], [disk])
    assert told == [
        *("--key", f"{FIRST}:file:{tmp_path}/keys/db.key"),
        *("--key", f"{SECOND}:file:{tmp_path}/keys/db.key"),
        *("--key", f"/dev/vg/data:file:{tmp_path}/keys/data.key"),
    ]
    assert "right words" not in " ".join(told)
    assert keys.arguments(None, [], [disk]) == []


@pytest.mark.parametrize(
    ("name", "mode", "because"),
    [("none", 0o600, "No such file"), ("db.key", 0o640, "0640"), ("../db.key", 0o600, "no plain name")],
)
def test_a_key_that_is_missing_or_that_others_may_read_is_refused(
    tmp_path: Path, name: str, mode: int, because: str
) -> None:
    a_key(tmp_path / "keys", "db.key", mode)
    with pytest.raises(ConfigurationError) as refused:
        keys.check(tmp_path / "keys", [name])
    assert because in refused.value.because
    assert "right words" not in str(refused.value)


def test_without_a_directory_of_keys_the_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        keys.check(None, ["db.key"])
    assert "conversion.keys_dir" in refused.value.do
    with pytest.raises(ConfigurationError, match=r"db\.key") as refused:
        keys.check(tmp_path / "a:b", ["db.key"])
    assert "colon" in refused.value.because


def test_a_worker_without_the_key_fails_before_virt_v2v_runs(workshop: Workshop) -> None:
    with_options(workshop, luks_keys=("db.key",))
    with pytest.raises(ConfigurationError):
        workshop.convert()
    assert not (workshop.directory / "conversions" / "asked.json").exists()


# --- addresses, drivers -----------------------------------------------------------------------------------------------


def test_a_static_address_is_told_by_the_mac_that_the_nic_has_on_the_target(workshop: Workshop) -> None:
    options, (nic,) = ConversionOptions(static_addresses=(STATIC,)), workshop.order.nics
    value = "ip:10.20.0.15,10.20.0.1,24,10.20.0.2,10.20.0.3"
    assert static_addresses(options, [nic]) == ["--mac", f"{MAC}:{value}"]
    port = nic.model_copy(update={"port_mac": "fa:16:3e:00:00:01"})
    assert static_addresses(options, [port]) == ["--mac", f"fa:16:3e:00:00:01:{value}"]


def test_virt_v2v_is_given_the_options_and_nobody_to_ask(workshop: Workshop) -> None:
    workshop.configure(virtio_win=Path("/opt/virtio-win.iso"))
    with_options(workshop, static_addresses=(STATIC,))
    converted = workshop.convert()
    asked = workshop.asked()
    assert f"{MAC}:ip:10.20.0.15,10.20.0.1,24,10.20.0.2,10.20.0.3" in asked["arguments"]
    root = asked["arguments"].index("--root")
    assert asked["arguments"][root + 1] == "single"
    assert asked["environment"]["VIRTIO_WIN"] == "/opt/virtio-win.iso"
    assert asked["environment"]["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
    assert (converted.accelerator, converted.program_seconds > 0) == ("tcg", True)
    (remark,) = converted.remarks
    assert "Windows alone" in remark
    assert remarks(ConversionOptions(static_addresses=(STATIC,)), "windows") == ()


def test_a_windows_that_got_no_drivers_is_a_failure_and_says_where_they_belong(workshop: Workshop) -> None:
    replica = workshop.digests()
    warning = (
        "virt-v2v-in-place: warning: there are no virtio drivers available for this version of Windows (10.0 x86_64 "
        "Server full).  virt-v2v looks for drivers in /usr/share/virtio-win\n"
    )
    workshop.virt_v2v(type="windows", bus="ide", says=warning)
    with pytest.raises(ConversionFailed) as failed:
        workshop.convert()
    assert "no virtio drivers for this Windows" in failed.value.because
    assert "/usr/share/virtio-win" in failed.value.because
    assert "conversion.virtio_win" in failed.value.do
    with pytest.raises(ConversionLost):
        workshop.commit()
    assert workshop.digests() == replica
    workshop.virt_v2v(type="windows", bus="virtio-blk")
    assert workshop.convert().os_type == "windows"


# --- the door, and the look before ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CutoverOrder, Rehearse])
def test_a_job_refuses_options_that_cannot_be_whoever_sends_them(kind: type[CutoverOrder | Rehearse]) -> None:
    state = JobState(job_id="warm-a-b", since=datetime(2026, 11, 22, tzinfo=UTC), phase=Phase.READY)
    refuse_unless_allowed(state, kind(conversion=ConversionOptions(luks_keys=("db.key",), static_addresses=(STATIC,))))
    for options in (
        ConversionOptions(luks_keys=("/etc/shadow",)),
        ConversionOptions(skip=True, luks_keys=("db.key",)),
        ConversionOptions(static_addresses=(STATIC.model_copy(update={"gateway": ""}),)),
    ):
        with pytest.raises(BadInput):
            refuse_unless_allowed(state, kind(conversion=options))


def test_a_worker_that_has_all_it_needs_is_ready(workshop: Workshop) -> None:
    a_key(keys_dir := workshop.directory / "keys", "db.key")
    (drivers := workshop.directory / "virtio-win").mkdir()
    workshop.configure(keys_dir=keys_dir)
    order = LookBeforeConversion(vm="b", windows=True, options=ConversionOptions(luks_keys=("db.key",)))
    look(workshop.config, order, drivers)


@pytest.mark.parametrize(
    ("changes", "order", "error", "because"),
    [
        ({"program": "no-virt-v2v"}, {}, ProgramMissing, "no-virt-v2v is not on PATH"),
        ({"memory_mib": 1 << 24}, {}, ConfigurationError, "16 TiB"),
        ({}, {"windows": True}, ConfigurationError, "there is no /nowhere"),
        ({"virtio_win": Path("/no/iso")}, {"windows": True}, ConfigurationError, "there is no /no/iso"),
        ({}, {"options": ConversionOptions(luks_keys=("k",))}, ConfigurationError, "no directory of keys"),
    ],
)
def test_what_a_worker_lacks_is_told_before_anything_is_stopped(
    workshop: Workshop, changes: dict[str, Any], order: dict[str, Any], error: type[Exception], because: str
) -> None:
    workshop.configure(**changes)
    with pytest.raises(error) as refused:
        look(workshop.config, LookBeforeConversion(vm="b", **order), Path("/nowhere"))
    assert because in str(refused.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [(True, "always"), (False, "never"), ("auto", "auto"), ("always", "always"), ("never", "never")],
)
def test_the_older_way_of_saying_whether_kvm_is_used_still_holds(*, written: object, read: str) -> None:
    assert ConversionConfig.model_validate({"use_kvm": written}).use_kvm == read
    with pytest.raises(ValidationError, match="use_kvm"):
        ConversionConfig.model_validate({"use_kvm": "sometimes"})


# --- progress and log -------------------------------------------------------------------------------------------------


def test_the_stages_that_virt_v2v_announces_are_told_with_every_beat(tmp_path: Path) -> None:
    said: list[ConversionProgress] = []

    def hear(detail: Model | None = None) -> None:
        assert isinstance(detail, ConversionProgress)
        said.append(detail)

    lines = tmp_path / "lines"
    stages = Stages(hear, "queue-1")
    stages.enter("making overlays")
    pulse = stages.of_virt_v2v(lines)
    pulse()
    message = json.dumps({"type": "message", "message": "Inspecting the source"})
    lines.write_text(message[:20])
    pulse()
    with lines.open("a") as file:
        file.write(f"{message[20:]}\nno JSON\n")
    pulse()
    with lines.open("a") as file:
        file.write("45/100\n")
    pulse()
    with lines.open("a") as file:
        file.write('{"type": "message", "message": "Something new"}\n{"type": "error", "message": "bad"}\n')
    pulse()
    assert [(progress.stage, progress.percent) for progress in said] == [
        ("making overlays", None),
        ("making overlays", None),
        ("looking for operating systems", None),
        ("looking for operating systems", 45.0),
        ("Something new", None),
    ]
    assert {progress.worker_queue for progress in said} == {"queue-1"}


def test_the_end_of_the_log_is_read_from_the_beginning_of_a_line_without_what_a_terminal_obeys(
    workshop: Workshop,
) -> None:
    log = log_of(workshop.config, "warm-a-b")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"first line\nsecond line\n\x1bc\x1b[?7l\x1b[2Jthird\tline\r\n")
    whole = read_log(workshop.config, ReadConversionLog(job_id="warm-a-b", worker_queue="q"))
    assert (whole.text, whole.left_out, whole.worker) == ("first line\nsecond line\nthird\tline\n", 0, "worker-1")
    end = read_log(workshop.config, ReadConversionLog(job_id="warm-a-b", worker_queue="q", limit=38))
    assert (end.text, end.left_out) == ("second line\nthird\tline\n", len(b"first line\n"))


def test_a_log_that_is_not_there_is_told_as_such(workshop: Workshop) -> None:
    with pytest.raises(ConversionLost, match="worker-1 has no log"):
        read_log(workshop.config, ReadConversionLog(job_id="warm-other", worker_queue="q"))
