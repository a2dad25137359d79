"""virt-v2v-in-place: how it is run, what it found, and why it failed."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from xms import programs
from xms.config import ConversionConfig
from xms.errors import ConversionFailed
from xms.pulse import Pulse

UNCHANGED: Final = "the volumes are still the replica; nothing of the conversion was written to them"

BLOCK_BUSES: Final = {"virtio-blk": "virtio", "virtio-scsi": "scsi", "ide": "ide"}
NET_MODELS: Final = {"virtio-net": "virtio", "e1000": "e1000", "rtl8139": "rtl8139"}
MACHINES: Final = {"i440fx": "pc", "q35": "q35", "virt": "virt"}

# What virt-v2v says, and what it means to who migrates. The first that fits counts.
CAUSES: Final = (
    (
        r"not enough (free )?space for conversion",
        "a file system of the guest is too full to install drivers into",
        "free space in the source VM (100 MiB on / and /boot do), then retry",
    ),
    (
        r"No space left on device",
        "this worker's data directory is full",
        "free space on the worker, then retry",
    ),
    (
        r"hibernat|fast (restart|startup)|unable to mount the disk image for writing|not cleanly unmounted",
        "a Windows that is hibernated, or was shut down by fast start-up, cannot be changed",
        "turn hibernation and fast start-up off in the source VM (powercfg /h off), then cut over again",
    ),
    (
        r"encrypt|LUKS|BitLocker|passphrase",
        "its disks are encrypted",
        "decrypt them in the source VM, or migrate it by other means",
    ),
    (
        r"no operating system|No root device found|could not detect the source guest|inspection found no",
        "no operating system was found on its disks",
        "check that the VM boots from one of its own disks",
    ),
    (
        r"multiboot|more than one operating system|dual-boot",
        "there is more than one operating system on its disks",
        "migrate it by other means",
    ),
    (
        r"unable to convert this guest|no conversion module|not supported|unsupported",
        "virt-v2v does not support this guest",
        "see virt-v2v-support(1) for the guests that it converts",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What virt-v2v made of the guest, in Nova's words."""

    firmware: str = "bios"
    machine: str = "q35"
    block_bus: str = "virtio"
    net_bus: str = "virtio"
    os_type: str = ""
    root_device: str = ""
    system_partitions: tuple[str, ...] = field(default=())


def run(config: ConversionConfig, *, description: Path, data_dir: Path, log: Path, vm: str, pulse: Pulse) -> Outcome:
    """Convert the guest that the description names, in place on its disks, which are overlays.

    Args:
        config: program, memory, time limit, use of KVM.
        description: libvirt XML.
        data_dir: the appliance is cached below it.
        log: takes the program's verbose output.
        vm: for messages.
        pulse: shown while it runs.

    Raises:
        ConversionFailed: it could not; with the cause as far as it is known, and the log.
        ProgramMissing: virt-v2v is not installed.
    """
    machine_readable = log.with_suffix(".jsonl")
    machine_readable.unlink(missing_ok=True)
    cache, large = data_dir / "libguestfs", data_dir / "tmp"
    for directory in (cache, large):
        directory.mkdir(parents=True, exist_ok=True)
    argv = [config.program, "-v", "-x", f"--machine-readable=file:{machine_readable}", "-i", "libvirtxml"]
    # Its sockets need a short path, and what a killed run leaves there is removed with the directory.
    with tempfile.TemporaryDirectory(prefix="xms-v2v-") as short:
        try:
            status = programs.run(
                [*argv, str(description)],
                output=log,
                pulse=pulse,
                timeout=config.timeout_seconds,
                environment={
                    "LIBGUESTFS_BACKEND": "direct",
                    # libguestfs takes /dev/kvm wherever it can open it, and hangs where it does not work.
                    "LIBGUESTFS_BACKEND_SETTINGS": "" if config.use_kvm else "force_tcg",
                    "LIBGUESTFS_MEMSIZE": str(config.memory_mib),
                    "LIBGUESTFS_CACHEDIR": str(cache),
                    "VIRT_V2V_TMPDIR": str(large),
                    "TMPDIR": short,
                },
            )
        except programs.TookTooLong:
            raise ConversionFailed(
                f"the conversion of {vm} did not end",
                because=f"it took longer than {config.timeout_seconds:.0f} s",
                means=UNCHANGED,
                do=f"see {log}, or raise conversion.timeout_seconds",
            ) from None
    text = log.read_text(errors="replace")
    if status != 0:
        raise failure(vm, status, _errors(machine_readable) or _last_error(text), log)
    return parse(text)


def parse(text: str) -> Outcome:
    """What the verbose output tells of the guest: it is the only place where version 2.2 does."""

    def value(name: str) -> str:
        found = re.findall(rf"^\s*{name}\s*=\s*(.*?)\s*$", text, re.MULTILINE)
        return str(found[-1]) if found else ""

    firmware = value("i_firmware")
    return Outcome(
        firmware="uefi" if firmware.upper().startswith("UEFI") else "bios",
        machine=MACHINES.get(value("gcaps_machine"), "q35"),
        block_bus=BLOCK_BUSES.get(value("gcaps_block_bus"), "virtio"),
        net_bus=NET_MODELS.get(value("gcaps_net_bus"), "virtio"),
        os_type=value("i_type") if value("i_type") in ("linux", "windows") else "",
        root_device=value("i_root"),
        system_partitions=tuple(re.findall(r"/dev/[^\s,\]]+", firmware)),
    )


def failure(vm: str, status: int, said: str, log: Path) -> ConversionFailed:
    """The error for a virt-v2v that ended with `status` after it said `said`."""
    what = f"{vm} was not converted"
    if status < 0:
        return ConversionFailed(
            what,
            because=f"virt-v2v was ended by signal {-status}; signal 9 mostly means that the worker ran out of memory",
            means=UNCHANGED,
            do=f"see {log} and the worker's kernel log, then cut over again",
        )
    for pattern, cause, remedy in CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return ConversionFailed(
                what, because=f"{cause} (virt-v2v: {said})", means=UNCHANGED, do=f"{remedy}; log: {log}"
            )
    return ConversionFailed(
        what, because=f"virt-v2v: {said or f'exit status {status}'}", means=UNCHANGED, do=f"see {log}"
    )


def _errors(machine_readable: Path) -> str:
    """The errors among the JSON lines; "" where the program wrote none or died in the middle of a line."""
    if not machine_readable.exists():
        return ""
    said = []
    for line in machine_readable.read_text(errors="replace").splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("type") == "error":
            said.append(str(message.get("message", "")).strip())
    return "; ".join(said)


def _last_error(text: str) -> str:
    found = re.findall(r"^virt-v2v[\w-]*: error: (.*)$", text, re.MULTILINE)
    return str(found[-1]) if found else ""
