"""The virtual hardware of a VM as the API shows it: controllers, disks with their chains, network adapters."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lab.esxi.interface import DiskSpec, MachineSpec, NicSpec
from lab.vcenter.vocabulary import Data, Reference, identity, vim

_PCI_CONTROLLER: Final = 100
_FIRST_SCSI_CONTROLLER: Final = 1000
_UNITS_A_CONTROLLER: Final = 15
_UNIT_OF_THE_CONTROLLER: Final = 7
_FIRST_NIC_UNIT: Final = 7
_FIRST_PASSTHROUGH: Final = 13_000
_TPM: Final = 11_000

SWITCH_UUID: Final = "50 1f 6c 0e 2a 77 4d 3b-9e 61 08 d4 b3 5a c2 f7"
"""Of every distributed switch: they are told apart by their datacenters alone."""


@dataclass(frozen=True)
class DiskState:
    """A disk at one point in time.

    Attributes:
        capacity: bytes.
        chain: datastore paths from the file that is written to down to the base.
        change_id: CBT's name of that point; None while tracking is not in effect.
    """

    spec: DiskSpec
    capacity: int
    chain: tuple[str, ...]
    change_id: str | None


def datastore_name(path: str) -> str:
    """The datastore of a path: "[ds1] web/web.vmdk" is on ds1."""
    return path[1:].partition("]")[0]


def chain_of(base: str, sequences: Sequence[int]) -> tuple[str, ...]:
    """The files of a disk above which these snapshots (oldest first) were made, the written one first.

    Every snapshot freezes the file that was written until then and begins a new one, named as vSphere names it.
    """
    stem = base.removesuffix(".vmdk")
    return (*(f"{stem}-{sequence:06d}.vmdk" for sequence in reversed(sequences)), base)


def slot(position: int) -> tuple[int, int]:
    """Bus number and unit of the disk at this position; unit 7 of every bus is the controller's own."""
    bus, unit = divmod(position, _UNITS_A_CONTROLLER)
    return bus, unit + (unit >= _UNIT_OF_THE_CONTROLLER)


A_KEY: Final = vim.encryption.CryptoKeyId(
    keyId="b3c1f4d2-5a1e-4f0e-9d35-1c0a3c1f7b10", providerId=vim.encryption.KeyProviderId(id="lab-kms")
)
"""What everything is encrypted with that is."""

_CONTROLLERS: Final = {
    "pvscsi": vim.vm.device.ParaVirtualSCSIController,
    "lsilogic": vim.vm.device.VirtualLsiLogicController,
    "lsisas": vim.vm.device.VirtualLsiLogicSASController,
    "buslogic": vim.vm.device.VirtualBusLogicController,
    "nvme": vim.vm.device.VirtualNVMEController,
    "sata": vim.vm.device.VirtualAHCIController,
    "ide": vim.vm.device.VirtualIDEController,
}

_CARDS: Final = {
    "vmxnet3": vim.vm.device.VirtualVmxnet3,
    "e1000": vim.vm.device.VirtualE1000,
    "e1000e": vim.vm.device.VirtualE1000e,
    "sriov": vim.vm.device.VirtualSriovEthernetCard,
}


# Descriptions and connections are alike in most VMs, and costly to make: with a thousand VMs that is seen.
@functools.cache
def _description(label: str, summary: str) -> Data:
    return vim.Description(label=label, summary=summary)


@functools.cache
def _connection(*, running: bool) -> Data:
    return vim.vm.device.VirtualDevice.ConnectInfo(
        startConnected=True, allowGuestControl=True, connected=running, status="ok" if running else "untried"
    )


def devices(
    spec: MachineSpec,
    disks: Sequence[DiskState],
    *,
    datastores: Mapping[str, Reference],
    networks: Mapping[str, Reference],
    running: bool,
) -> list[Data]:
    """The content of config.hardware.device."""
    buses = range(max(1, -(-len(disks) // _UNITS_A_CONTROLLER)))
    return [
        vim.vm.device.VirtualPCIController(
            key=_PCI_CONTROLLER,
            busNumber=0,
            deviceInfo=_description("PCI controller 0", "PCI controller 0"),
            device=[_FIRST_SCSI_CONTROLLER + bus for bus in buses] + [nic.key for nic in spec.nics],
        ),
        *(_controller(bus, spec, disks) for bus in buses),
        *(_disk(position, disk, datastores) for position, disk in enumerate(disks)),
        *(_nic(position, nic, networks, running=running) for position, nic in enumerate(spec.nics)),
        *_of_the_host(spec),
    ]


def _of_the_host(spec: MachineSpec) -> Iterator[Data]:
    for number, label in enumerate(spec.passthrough):
        yield vim.vm.device.VirtualPCIPassthrough(
            key=_FIRST_PASSTHROUGH + number,
            controllerKey=_PCI_CONTROLLER,
            deviceInfo=_description(label, label),
        )
    if spec.trusted_platform_module:
        label = "Virtual TPM"
        yield vim.vm.device.VirtualTPM(key=_TPM, deviceInfo=_description(label, label))


def _controller(bus: int, spec: MachineSpec, disks: Sequence[DiskState]) -> Data:
    kind = _CONTROLLERS[spec.controller]
    controller = kind(
        key=_FIRST_SCSI_CONTROLLER + bus,
        busNumber=bus,
        controllerKey=_PCI_CONTROLLER,
        unitNumber=3 + bus,
        deviceInfo=_description(f"{spec.controller} controller {bus}", spec.controller),
        device=[disk.spec.key for position, disk in enumerate(disks) if slot(position)[0] == bus],
    )
    if issubclass(kind, vim.vm.device.VirtualSCSIController):
        controller.sharedBus = spec.shared_bus
        controller.hotAddRemove = True
        controller.scsiCtlrUnitNumber = _UNIT_OF_THE_CONTROLLER
    return controller


def _disk(position: int, disk: DiskState, datastores: Mapping[str, Reference]) -> Data:
    bus, unit = slot(position)
    return vim.vm.device.VirtualDisk(
        key=disk.spec.key,
        controllerKey=_FIRST_SCSI_CONTROLLER + bus,
        unitNumber=unit,
        capacityInBytes=disk.capacity,
        capacityInKB=disk.capacity // 1024,
        deviceInfo=_description(disk.spec.label, f"{disk.capacity // 1024:,} KB"),
        diskObjectId=f"{disk.spec.key}",
        backing=_mapping(disk, datastores) if disk.spec.raw_device else _backing(disk, disk.chain, datastores),
    )


def _backing(disk: DiskState, chain: tuple[str, ...], datastores: Mapping[str, Reference]) -> Data:
    """The file that is written, with its parents below it; the change id is on the topmost alone."""
    file, *parents = chain
    return vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=file,
        datastore=datastores[datastore_name(disk.spec.datastore_path)],
        diskMode=disk.spec.mode,
        thinProvisioned=True,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, disk.spec.datastore_path)),
        contentId=uuid.uuid5(uuid.NAMESPACE_URL, file).hex,
        changeId=disk.change_id if chain is disk.chain else None,
        parent=_backing(disk, tuple(parents), datastores) if parents else None,
        sharing="sharingMultiWriter" if disk.spec.multi_writer else "sharingNone",
        keyId=A_KEY if disk.spec.encrypted else None,
    )


def _mapping(disk: DiskState, datastores: Mapping[str, Reference]) -> Data:
    """A raw device; a physical one has no change id."""
    virtual = disk.spec.raw_device == "virtualMode"
    return vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo(
        fileName=disk.chain[0],
        datastore=datastores[datastore_name(disk.spec.datastore_path)],
        diskMode=disk.spec.mode if virtual else None,
        compatibilityMode=disk.spec.raw_device,
        lunUuid="02000000006006016050502e00",
        deviceName="vml.02000000006006016050502e00",
        changeId=disk.change_id if virtual else None,
        sharing="sharingMultiWriter" if disk.spec.multi_writer else "sharingNone",
    )


def _nic(position: int, nic: NicSpec, networks: Mapping[str, Reference], *, running: bool) -> Data:
    return _CARDS[nic.kind](
        key=nic.key,
        controllerKey=_PCI_CONTROLLER,
        unitNumber=_FIRST_NIC_UNIT + position,
        addressType="assigned",
        macAddress=nic.mac,
        wakeOnLanEnabled=True,
        deviceInfo=_description(nic.label, nic.network),
        backing=_nic_backing(nic, networks[nic.network]),
        connectable=_connection(running=running),
    )


def _nic_backing(nic: NicSpec, network: Reference) -> Data:
    card = vim.vm.device.VirtualEthernetCard
    if not isinstance(network, vim.dvs.DistributedVirtualPortgroup):
        return card.NetworkBackingInfo(deviceName=nic.network, network=network, useAutoDetect=False)
    # A port names its group by the key alone; the group's name has to be looked up.
    port = vim.dvs.PortConnection(switchUuid=SWITCH_UUID, portgroupKey=identity(network), portKey=f"{nic.key}")
    return card.DistributedVirtualPortBackingInfo(port=port)
