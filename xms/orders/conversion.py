"""What is asked of the conversion."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.cutover import ConversionOptions
from xms.models import Disk, Model, Nic
from xms.orders.source import VmOrder


class Convert(Model):
    """Convert the guest on overlays over all its volumes; the volumes are only read."""

    vm: VmOrder
    target_project: str
    disks: tuple[Disk, ...] = Field(description="in the order of the guest's disks")
    nics: tuple[Nic, ...]
    firmware: str = "bios"
    memory: int = Field(default=1 << 30, description="the guest's memory, bytes")
    cpus: int = 1
    target_name: str = Field(default="", description="which of the configured targets; empty: the default one")
    options: ConversionOptions = ConversionOptions()


class LookBeforeConversion(Model):
    """Whether a data worker could convert, asked before anything is stopped for it."""

    vm: str
    windows: bool = Field(default=False, description="vSphere says that the guest is a Windows, which needs drivers")
    options: ConversionOptions = ConversionOptions()


class ReadConversionLog(Model):
    """The end of the log of a job's last conversion, from the worker that has it."""

    job_id: str
    worker_queue: str
    limit: int = Field(default=480 << 10, description="bytes; Temporal's payloads warn from 512 KiB on")


class ConversionLog(Model):
    """What virt-v2v wrote."""

    worker: str
    text: str
    left_out: int = Field(default=0, description="bytes before it")
    written_at: datetime | None = Field(default=None, description="when the last of it was written, UTC")


class DiskWritten(Model):
    """What a conversion wrote over one disk."""

    disk_key: int
    ranges: str = Field(description="as ByteRanges.encode gives it; a superset is allowed")
    bytes: int


class Converted(Model):
    """The guest is converted on the overlays; nothing is committed yet."""

    written: tuple[DiskWritten, ...]
    worker_queue: str = Field(description="task queue of the worker that holds the overlays")
    root_disk_key: int
    firmware: str = "bios"
    machine: str = "q35"
    block_bus: str = "virtio"
    net_bus: str = "virtio"
    os_type: str = Field(default="", description="'linux' or 'windows'; empty where virt-v2v did not tell")
    os_distro: str = Field(default="", description="virt-v2v's name of the distribution; empty where it did not tell")
    os_version: str = ""
    seconds: float = Field(default=0.0, description="all of it, on the worker")
    program_seconds: float = Field(default=0.0, description="of virt-v2v alone; 0 where it was skipped")
    skipped: bool = Field(default=False, description="the guest was left as it is; there is nothing to commit")
    accelerator: str = Field(default="", description="'kvm' or 'tcg': what the conversion's appliance ran on")
    remarks: tuple[str, ...] = Field(default=(), description="what an operator should know, one sentence each")


class ConversionOrder(Model):
    """The overlays of a job on the worker that holds them: to be committed, or forgotten."""

    vm: VmOrder
    target_project: str
    disks: tuple[Disk, ...]
    target_name: str = Field(default="", description="which of the configured targets; empty: the default one")


class Committed(Model):
    """The overlays are merged into the volumes and flushed."""

    bytes: int
