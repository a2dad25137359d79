"""virt-v2v-in-place: how it is run, and what it found."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from xms import programs
from xms.config import ConversionConfig
from xms.conversion.causes import UNCHANGED, failure, last_words, tail
from xms.conversion.stages import Stages
from xms.cutover import ConversionOptions
from xms.errors import ConversionFailed
from xms.models import Nic

BLOCK_BUSES: Final = {"virtio-blk": "virtio", "virtio-scsi": "scsi", "ide": "ide"}
NET_MODELS: Final = {"virtio-net": "virtio", "e1000": "e1000", "rtl8139": "rtl8139"}
MACHINES: Final = {"i440fx": "pc", "q35": "q35", "virt": "virt"}

NO_DRIVERS: Final = re.compile(r"there (?:are|is) no virtio (?:network |block device )?drivers? .*", re.IGNORECASE)
"""virt-v2v warns, and leaves such a Windows with emulated devices."""


@dataclass(frozen=True)
class Outcome:
    """What virt-v2v made of the guest, in Nova's words."""

    firmware: str = "bios"
    machine: str = "q35"
    block_bus: str = "virtio"
    net_bus: str = "virtio"
    os_type: str = ""
    os_distro: str = ""
    os_version: str = ""
    root_device: str = ""
    system_partitions: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Job:
    """One run of virt-v2v.

    Args:
        vm: for messages.
        description: libvirt XML.
        log: takes the program's verbose output.
        data_dir: the appliance is cached below it.
        arguments: of the program, beside those that it always has.
        kvm: whether its appliance runs on KVM.
        see: how the operator sees the log.
    """

    vm: str
    description: Path
    log: Path
    data_dir: Path
    arguments: Sequence[str] = ()
    kvm: bool = False
    see: str = ""


def run(config: ConversionConfig, job: Job, stages: Stages) -> Outcome:
    """Convert the guest that the description names, in place on its disks, which are overlays.

    Raises:
        ConversionFailed: it could not; with the cause as far as it is known, and the end of the log.
        ProgramMissing: virt-v2v is not installed.
    """
    machine_readable = job.log.with_suffix(".jsonl")
    machine_readable.unlink(missing_ok=True)
    large = job.data_dir / "tmp"
    for directory in (job.data_dir / "libguestfs", large):
        directory.mkdir(parents=True, exist_ok=True)
    # More than one operating system is asked about by default, and there is nobody to answer.
    argv = [config.program, "-v", "-x", f"--machine-readable=file:{machine_readable}", "--root", "single"]
    argv += [*job.arguments, "-i", "libvirtxml", str(job.description)]
    # Its sockets need a short path, and what a killed run leaves there is removed with the directory.
    with tempfile.TemporaryDirectory(prefix="xms-v2v-") as short:
        try:
            status = programs.run(
                argv,
                output=job.log,
                pulse=stages.of_virt_v2v(machine_readable),
                timeout=config.timeout_seconds,
                environment=_environment(config, job, short=short, large=large),
            )
        except programs.TookTooLong:
            error = ConversionFailed(
                f"the conversion of {job.vm} did not end",
                because=f"it took longer than {config.timeout_seconds:.0f} s",
                means=UNCHANGED,
                do=f"raise conversion.timeout_seconds where the guest needs more; its log: {job.see}",
            )
            error.log_tail = tail(job.log.read_text(errors="replace"))
            raise error from None
    text = job.log.read_text(errors="replace")
    if status != 0:
        raise failure(job.vm, status, said=last_words(machine_readable, text), text=text, see=job.see)
    return parse(text)


def _environment(config: ConversionConfig, job: Job, *, short: str, large: Path) -> dict[str, str]:
    told = {
        "LIBGUESTFS_BACKEND": "direct",
        # libguestfs takes /dev/kvm wherever it can open it, and hangs where it does not work.
        "LIBGUESTFS_BACKEND_SETTINGS": "" if job.kvm else "force_tcg",
        "LIBGUESTFS_MEMSIZE": str(config.memory_mib),
        "LIBGUESTFS_CACHEDIR": str(job.data_dir / "libguestfs"),
        "VIRT_V2V_TMPDIR": str(large),
        "TMPDIR": short,
        "XDG_RUNTIME_DIR": short,
    }
    return told | ({"VIRTIO_WIN": str(config.virtio_win)} if config.virtio_win else {})


def static_addresses(options: ConversionOptions, nics: Sequence[Nic]) -> list[str]:
    """What virt-v2v is told of the guest's addresses; a NIC is named by the MAC that it has on the target.

    The form is `mac:ip:address,gateway,length,nameserver,...` (virt-v2v(1)); version 2.2 takes no empty gateway.
    """
    target = {nic.mac: nic.port_mac or nic.mac for nic in nics}
    told = []
    for static in options.static_addresses:
        fields = (static.address, static.gateway, str(static.prefix_length), *static.nameservers)
        told += ["--mac", f"{target.get(static.mac, static.mac)}:ip:{','.join(fields)}"]
    return told


def refuse_without_drivers(vm: str, outcome: Outcome, text: str, see: str) -> None:
    """A Windows that got no virtio drivers would boot from emulated devices, or not at all.

    Raises:
        ConversionFailed: it got none.
    """
    found = NO_DRIVERS.search(text)
    if outcome.os_type == "windows" and outcome.block_bus == "ide":
        raise ConversionFailed(
            f"{vm} was not converted",
            because="virt-v2v found no virtio drivers for this Windows" + (f" ({found[0].strip()})" if found else ""),
            means=UNCHANGED,
            do="install virtio-win on the worker, or name a directory or an ISO of it in conversion.virtio_win, then "
            f"cut over again; its log: {see}",
        )


def parse(text: str) -> Outcome:
    """What the verbose output tells of the guest: it is the only place where version 2.2 does."""

    def value(name: str) -> str:
        found = re.findall(rf"^\s*{name}\s*=\s*(.*?)\s*$", text, re.MULTILINE)
        return str(found[-1]) if found else ""

    def known(name: str) -> str:
        said = value(name)
        return "" if said == "unknown" else said

    firmware = value("i_firmware")
    version = ".".join(part for part in (value("i_major_version"), value("i_minor_version")) if part)
    return Outcome(
        firmware="uefi" if firmware.upper().startswith("UEFI") else "bios",
        machine=MACHINES.get(value("gcaps_machine"), "q35"),
        block_bus=BLOCK_BUSES.get(value("gcaps_block_bus"), "virtio"),
        net_bus=NET_MODELS.get(value("gcaps_net_bus"), "virtio"),
        os_type=value("i_type") if value("i_type") in ("linux", "windows") else "",
        os_distro=known("i_distro"),
        os_version="" if version in ("0", "0.0") else version.removesuffix(".0"),
        root_device=value("i_root"),
        system_partitions=tuple(re.findall(r"/dev/[^\s,\]]+", firmware)),
    )
