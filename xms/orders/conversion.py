"""What is asked of the conversion."""

from __future__ import annotations

from pydantic import Field

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
    seconds: float = 0.0


class ConversionOrder(Model):
    """The overlays of a job on the worker that holds them: to be committed, or forgotten."""

    vm: VmOrder
    target_project: str
    disks: tuple[Disk, ...]
    target_name: str = Field(default="", description="which of the configured targets; empty: the default one")


class Committed(Model):
    """The overlays are merged into the volumes and flushed."""

    bytes: int
