"""What the stand-in vCenter needs of the stand-in ESXi host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

PowerState = Literal["poweredOn", "poweredOff", "suspended"]


class UnknownChangeIdError(Exception):
    """The change id is of another epoch, of another disk, or younger than the snapshot."""


class PowerStateError(Exception):
    """The call does not fit the machine's power state."""


class GuestSilentError(Exception):
    """The guest's tools do not run, so it cannot be asked to shut down."""


@dataclass(frozen=True)
class DiskSpec:
    """A virtual disk: a raw file on this host.

    Attributes:
        mode: vSphere's disk mode.
        raw_device: of a raw device mapping: its compatibility mode.
        multi_writer: other VMs may write to it.
        encrypted: by vSphere.
    """

    key: int
    label: str
    file: Path
    datastore_path: str
    mode: str = "persistent"
    raw_device: Literal["", "physicalMode", "virtualMode"] = ""
    multi_writer: bool = False
    encrypted: bool = False


@dataclass(frozen=True)
class NicSpec:
    """A network adapter. `addresses` are shown by vCenter while the guest's tools run, and no more than that."""

    key: int
    label: str
    mac: str
    network: str
    kind: Literal["vmxnet3", "e1000", "e1000e", "sriov"] = "vmxnet3"
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachineSpec:
    """A virtual machine as the host runs it.

    Attributes:
        memory: bytes.
        guest: False for a machine without a guest: its disks alone, in a QEMU without CPU, written by `Machine.write`.
        plays_tools: without a guest only: the lab plays a guest with tools, which shuts down at once when asked.
        hardware_version, controller, shared_bus, secure_boot, template, encrypted, trusted_platform_module,
            fault_tolerance, change_tracking_supported, tools_installed: as vCenter shows them, and no more than that.
        passthrough: labels of PCI devices of the host.
    """

    name: str
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...] = ()
    cpus: int = 1
    memory: int = 512 << 20
    guest_id: str = "debian12_64Guest"
    firmware: Literal["bios", "efi"] = "bios"
    guest: bool = True
    plays_tools: bool = False
    hardware_version: str = "vmx-19"
    controller: Literal["pvscsi", "lsilogic", "lsisas", "buslogic", "nvme", "sata", "ide"] = "pvscsi"
    shared_bus: Literal["noSharing", "virtualSharing", "physicalSharing"] = "noSharing"
    secure_boot: bool = False
    template: bool = False
    encrypted: bool = False
    trusted_platform_module: bool = False
    fault_tolerance: Literal["notConfigured", "disabled", "running"] = "notConfigured"
    change_tracking_supported: bool = True
    tools_installed: bool = True
    passthrough: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """An NBD export of one disk of one snapshot."""

    socket: Path
    name: str


class Machine(Protocol):
    """One VM. Every call is thread-safe and returns when the thing is done, unless it says otherwise."""

    spec: MachineSpec
    annotation: str

    @property
    def power_state(self) -> PowerState:
        """As it is now; follows a shutdown that the guest did by itself."""

    @property
    def tools_running(self) -> bool:
        """Whether the guest would answer: it is up since the last power-on."""

    @property
    def change_tracking(self) -> bool:
        """Whether tracking is configured; it takes effect at the next snapshot of a machine that runs, else at once."""

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Sequence numbers of the snapshots that exist, oldest first."""

    def power_on(self) -> None:
        """Start the guest (from reset). Raises PowerStateError when it runs."""

    def power_off(self) -> None:
        """Pull the plug. Raises PowerStateError when it is off."""

    def shutdown_guest(self) -> None:
        """Ask the guest to shut down and return at once. Raises PowerStateError, GuestSilentError."""

    def set_change_tracking(self, enabled: bool) -> None:  # noqa: FBT001 - the one thing that it sets
        """Configure tracking; turning it off forgets every change id."""

    def reset_change_tracking(self) -> None:
        """Begin another epoch on every disk, as a revert or a host's power loss does."""

    def create_snapshot(self) -> int:
        """One point in time of all disks; returns its sequence number."""

    def remove_snapshot(self, sequence: int) -> None:
        """Forget a snapshot and what it kept; its change id stays valid as a `since`."""

    def capacity(self, disk_key: int) -> int:
        """Bytes."""

    def change_id(self, disk_key: int, sequence: int | None) -> str | None:
        """Change id of a disk in a snapshot, or of the live disk (None); None while tracking is not in effect."""

    def changed_areas(self, disk_key: int, since: str, sequence: int | None) -> list[tuple[int, int]]:
        """(start, length) in bytes of what changed from change id `since` to the snapshot; ascending, 64 KiB grain.

        `since` "*" gives the allocated areas. None as the snapshot means the live disk (only when powered off).
        Raises UnknownChangeIdError.
        """

    def export(self, disk_key: int, sequence: int) -> Export:
        """Read-only NBD export of a disk of a snapshot, with base:allocation; made at the first call."""

    def write(self, disk_key: int, offset: int, data: bytes) -> None:
        """Write to the live disk of a machine without a guest, as its guest would; tracked like a guest's writes.

        Raises PowerStateError when the machine is off: nothing writes then.
        """


class Host(Protocol):
    """The ESXi host."""

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Every VM of it."""

    def close(self) -> None:
        """End every machine's process."""
