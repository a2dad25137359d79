"""A VM as vCenter knows it: the host's machine, with the names, times and frozen settings of its snapshots."""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lab.esxi.interface import DiskSpec, Machine
from lab.vcenter import hardware
from lab.vcenter.vocabulary import Data, Reference, not_found, now, vim, vmodl

SNAPSHOT_LIMIT: Final = 32
"""The longest chain that vSphere makes."""

_GUESTS: Final = {
    "debian12_64Guest": "Debian GNU/Linux 12 (64-bit)",
    "debian11_64Guest": "Debian GNU/Linux 11 (64-bit)",
}

# The same for every VM, and much to make: with a thousand VMs that is seen.
_FLAGS: Final = vim.vm.FlagInfo()
_POWER_OPERATIONS: Final = vim.vm.DefaultPowerOpInfo(powerOffType="soft")


@dataclass(frozen=True)
class SnapshotRecord:
    """What vCenter keeps of a snapshot beside the data.

    Attributes:
        disks: those that the VM had.
        capacities: bytes of each of them at that time, by device key.
        annotation, change_tracking: the VM's settings at that time.
    """

    sequence: int
    name: str
    description: str
    created_at: datetime
    state: str
    quiesced: bool
    disks: tuple[DiskSpec, ...]
    capacities: Mapping[int, int]
    annotation: str
    change_tracking: bool


class VirtualMachine:
    """A VM of the inventory.

    Args:
        number: 101 for the first; the managed object ids are made of it.
        datastores, networks: the inventory's objects by name.
    """

    def __init__(
        self, machine: Machine, number: int, datastores: Mapping[str, Reference], networks: Mapping[str, Reference]
    ) -> None:
        self.machine = machine
        self.number = number
        self.reference: Reference = vim.VirtualMachine(f"vm-{number}", None)
        self.instance_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"instance/{number}/{self.name}"))
        self.bios_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"bios/{number}/{self.name}"))
        self._datastores = datastores
        self._networks = networks
        self._records: dict[int, SnapshotRecord] = {}
        self._creating = False
        self._lock = threading.Lock()
        self._removal = threading.RLock()
        self._made_at = now()

    @property
    def name(self) -> str:
        """As it is called now."""
        return self.machine.spec.name

    @property
    def running(self) -> bool:
        """Whether it is powered on."""
        return self.machine.power_state == "poweredOn"

    @property
    def directory(self) -> str:
        """Datastore path of its folder, with a slash at the end."""
        first = self.machine.spec.disks[0].datastore_path if self.machine.spec.disks else f"[none] {self.name}/"
        return first.rpartition("/")[0] + "/"

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot_reference(self, sequence: int) -> Reference:
        """The managed object of a snapshot."""
        return vim.vm.Snapshot(f"snapshot-{self.number}-{sequence}", None)

    def snapshots(self) -> list[SnapshotRecord]:
        """The snapshots that exist, oldest first; those that somebody made on the host itself get a name."""
        existing = self.machine.snapshots
        with self._lock:
            for sequence in existing:
                if sequence not in self._records and not self._creating:
                    self._records[sequence] = self._record(sequence, f"Snapshot {sequence}")
            return [self._records[sequence] for sequence in existing if sequence in self._records]

    def snapshot(self, sequence: int) -> SnapshotRecord | None:
        """One of them."""
        return next((record for record in self.snapshots() if record.sequence == sequence), None)

    def create_snapshot(self, name: str, description: str, *, memory: bool, quiesce: bool) -> Reference:
        """Take a snapshot.

        Raises:
            vim.fault.TooManySnapshotLevels: the chain is as long as vSphere allows.
        """
        if len(self.snapshots()) >= SNAPSHOT_LIMIT:
            raise vim.fault.TooManySnapshotLevels(msg="Exceeded the maximum number of permitted snapshots.")
        with self._lock:
            self._creating = True
        try:
            state = "poweredOn" if memory and self.running else "poweredOff"
            quiesced = quiesce and self.machine.tools_running
            sequence = self.machine.create_snapshot()
            record = self._record(sequence, name, description, state=state, quiesced=quiesced)
            with self._lock:
                self._records[sequence] = record
        finally:
            with self._lock:
                self._creating = False
        return self.snapshot_reference(sequence)

    def remove_snapshots(self, sequences: Sequence[int]) -> None:
        """Remove snapshots, the youngest first."""
        for sequence in sorted(sequences, reverse=True):
            with self._removal:
                if sequence in self.machine.snapshots:
                    self.machine.remove_snapshot(sequence)
            with self._lock:
                self._records.pop(sequence, None)

    @contextmanager
    def holding(self, record: SnapshotRecord | None) -> Iterator[None]:
        """Keep a snapshot from being removed while it is read; without one there is nothing to keep.

        Raises:
            vmodl.fault.ManagedObjectNotFound: it was removed before.
        """
        with self._removal:
            if record is not None and record.sequence not in self.machine.snapshots:
                raise not_found(self.snapshot_reference(record.sequence))
            yield

    def snapshot_info(self) -> Data | None:
        """The VM's property `snapshot`: unset without any, else one chain, since nothing here reverts."""
        records = self.snapshots()
        tree: Data | None = None
        for record in reversed(records):
            tree = vim.vm.SnapshotTree(
                snapshot=self.snapshot_reference(record.sequence),
                vm=self.reference,
                name=record.name,
                description=record.description,
                id=record.sequence,
                createTime=record.created_at,
                state=record.state,
                quiesced=record.quiesced,
                replaySupported=False,
                childSnapshotList=[tree] if tree else [],
            )
        if tree is None:
            return None
        return vim.vm.SnapshotInfo(
            currentSnapshot=self.snapshot_reference(records[-1].sequence), rootSnapshotList=[tree]
        )

    def _record(
        self, sequence: int, name: str, description: str = "", *, state: str = "poweredOff", quiesced: bool = False
    ) -> SnapshotRecord:
        return SnapshotRecord(
            sequence=sequence,
            name=name,
            description=description,
            created_at=now(),
            state=state,
            quiesced=quiesced,
            disks=self.machine.spec.disks,
            capacities={disk.key: self.machine.capacity(disk.key) for disk in self.machine.spec.disks},
            annotation=self.machine.annotation,
            change_tracking=self.machine.change_tracking,
        )

    # --- settings -----------------------------------------------------------------------------------------------------

    def disk_file(self, disk: DiskSpec, sequence: int) -> str:
        """Datastore path of a disk's file that a snapshot froze."""
        below = [other for other in self.machine.snapshots if other < sequence]
        return hardware.chain_of(disk.datastore_path, below)[0]

    def config(self, record: SnapshotRecord | None = None) -> Data:
        """The property `config` of the VM, or of one of its snapshots.

        Raises:
            vmodl.fault.ManagedObjectNotFound: the snapshot was removed meanwhile.
        """
        with self.holding(record):
            return self._config(record)

    def _config(self, record: SnapshotRecord | None) -> Data:
        spec = self.machine.spec
        sequences = [one for one in self.machine.snapshots if record is None or one < record.sequence]
        disks = [
            hardware.DiskState(
                spec=disk,
                capacity=record.capacities[disk.key] if record else self.machine.capacity(disk.key),
                chain=hardware.chain_of(disk.datastore_path, sequences),
                change_id=self.machine.change_id(disk.key, record.sequence if record else None),
            )
            for disk in (record.disks if record else spec.disks)
        ]
        devices = hardware.devices(
            spec, disks, datastores=self._datastores, networks=self._networks, running=self.running
        )
        tracking = record.change_tracking if record else self.machine.change_tracking
        return vim.vm.ConfigInfo(
            changeVersion=self._made_at.isoformat(),
            modified=self._made_at,
            name=self.name,
            guestFullName=_GUESTS.get(spec.guest_id, "Other Linux (64-bit)"),
            guestId=spec.guest_id,
            version=spec.hardware_version,
            uuid=self.bios_uuid,
            instanceUuid=self.instance_uuid,
            template=spec.template,
            annotation=record.annotation if record else self.machine.annotation,
            firmware=spec.firmware,
            keyId=hardware.A_KEY if spec.encrypted or spec.trusted_platform_module else None,
            changeTrackingEnabled=tracking,
            bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=spec.secure_boot),
            files=vim.vm.FileInfo(vmPathName=f"{self.directory}{self.name}.vmx"),
            flags=_FLAGS,
            defaultPowerOps=_POWER_OPERATIONS,
            hardware=vim.vm.VirtualHardware(
                numCPU=spec.cpus, memoryMB=spec.memory >> 20, numCoresPerSocket=1, device=devices
            ),
            extraConfig=_tracking_options(len(disks), enabled=tracking),
        )


@functools.cache
def _tracking_options(disks: int, *, enabled: bool) -> list[Data]:
    """The settings ctkEnabled of the VM and of each disk, as the configuration file has them."""
    value = "TRUE" if enabled else "FALSE"
    slots = [hardware.slot(position) for position in range(disks)]
    keys = ["ctkEnabled", *(f"scsi{bus}:{unit}.ctkEnabled" for bus, unit in slots)]
    return [vim.option.OptionValue(key=key, value=value) for key in keys]


def refuse_unknown_settings(spec: Data) -> None:
    """Only what this stand-in can change may be asked for.

    Raises:
        vmodl.fault.NotSupported: the specification sets something else.
    """
    known = {"changeTrackingEnabled", "annotation", "changeVersion"}
    for field in spec._GetPropertyList():  # noqa: SLF001 - pyVmomi's official name
        value = getattr(spec, field.name)
        if field.name not in known and value is not None and value != []:
            raise vmodl.fault.NotSupported(msg=f"The stand-in cannot reconfigure {field.name}")
