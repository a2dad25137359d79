"""What is told of a VM: its hardware, its state, its disks and NICs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from xms.errors import VmNotFound
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.vsphere.bindings import vim
from xms.vsphere.faults import explained
from xms.vsphere.guest_addresses import addresses_by_card
from xms.vsphere.places import FoundVm, Inventory, identity, name_of
from xms.vsphere.properties import Properties, read, read_all, read_inventory
from xms.vsphere.session import VsphereSession

LEAVES: Final = (
    "name",
    "config.template",
    "config.instanceUuid",
    "config.firmware",
    "config.bootOptions",
    "config.guestId",
    "config.guestFullName",
    "config.version",
    "config.keyId",
    "config.changeTrackingEnabled",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "runtime.connectionState",
    "runtime.faultToleranceState",
    "runtime.host",
    "runtime.powerState",
    "runtime.consolidationNeeded",
    "capability.changeTrackingSupported",
    "guest.net",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "datastore",
    "snapshot",
)

TOOLS_RUN: Final = "guestToolsRunning"

TOOLS: Final = {
    TOOLS_RUN: "running",
    "guestToolsNotRunning": "not running",
    "guestToolsExecutingScripts": "starting",
}

CONTROLLERS: Final = (
    (vim.vm.device.ParaVirtualSCSIController, "pvscsi"),
    (vim.vm.device.VirtualLsiLogicSASController, "lsisas"),
    (vim.vm.device.VirtualLsiLogicController, "lsilogic"),
    (vim.vm.device.VirtualBusLogicController, "buslogic"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualIDEController, "ide"),
)

CARDS: Final = (
    (vim.vm.device.VirtualSriovEthernetCard, "sriov"),
    (vim.vm.device.VirtualVmxnet3, "vmxnet3"),
    (vim.vm.device.VirtualVmxnet2, "vmxnet2"),
    (vim.vm.device.VirtualE1000e, "e1000e"),
    (vim.vm.device.VirtualE1000, "e1000"),
    (vim.vm.device.VirtualPCNet32, "pcnet32"),
)

OF_THE_HOST: Final = (
    vim.vm.device.VirtualPCIPassthrough,
    vim.vm.device.VirtualSCSIPassthrough,
    vim.vm.device.VirtualNVDIMM,
)
"""Devices that a VM has for itself; vSphere makes no snapshots of a VM with them."""

MIB: Final = 1 << 20


def list_vms(session: VsphereSession, match: str = "") -> list[VmDetails]:
    """The VMs of the source, by path; templates are none.

    Args:
        session: where.
        match: only names of this pattern ('web-*'); one with a slash is a pattern of paths.
    """
    if match:
        # Of thousands of VMs the names are read quickly, the devices are not.
        inventory = Inventory(session)
        chosen = [vm for vm in inventory.virtual_machines() if vm.matches(match) and not vm.template]
        found = [details for details, _ in described(session, inventory, chosen)]
    else:
        inventory = Inventory(session, LEAVES)
        portgroups = inventory.portgroups()
        found = [
            _of(inventory, vm, vm.properties, portgroups) for vm in inventory.virtual_machines() if not vm.template
        ]
    return sorted(found, key=lambda vm: vm.path)


def described(
    session: VsphereSession, inventory: Inventory, chosen: Sequence[FoundVm]
) -> list[tuple[VmDetails, Properties]]:
    """All that discovery knows of some VMs, with what it was read from, in one call.

    Raises:
        VmNotFound: one of them is gone meanwhile.
    """
    by_id = {identity(vm.reference): vm for vm in chosen}
    portgroups = inventory.portgroups()
    what = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} VMs"
    with explained(session.name, f"{what} could not be looked at"):
        return [
            (_of(inventory, by_id[identity(reference)], properties, portgroups), properties)
            for reference, properties in read_all(session, [vm.reference for vm in chosen], LEAVES)
        ]


def find_vm(session: VsphereSession, wanted: str, moref: str = "") -> VmDetails:
    """The VM with that managed object reference; without one, the VM with that name or inventory path.

    Of a VM that is found by its reference, neither its inventory path nor its host is told: that would take the whole
    inventory.

    Raises:
        VmNotFound: none has it, or more than one; the text lists what there is.
    """
    if moref:
        reference = session.virtual_machine(moref)
        with explained(session.name, f"{wanted} ({moref}) could not be looked at"):
            found = read(session, reference, LEAVES)
        return _details(moref, found, portgroups=_portgroups(session))
    inventory = Inventory(session)
    vm = inventory.find(wanted)
    if vm.template:
        raise VmNotFound(f"{vm.path} is a template", because="a template never runs, so nothing has to be kept warm")
    return described(session, inventory, [vm])[0][0]


def virtual_disks(devices: list[Any]) -> list[Any]:
    """The virtual disks among a VM's devices, by their key, which is a disk's identity."""
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    return sorted(disks, key=lambda disk: int(disk.key))


def label_of(device: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """What vSphere's client calls a device: "Hard disk 1"."""
    return str(device.deviceInfo.label) if device.deviceInfo else f"device {device.key}"


def capacity_of(disk: Any) -> int:  # noqa: ANN401 - pyVmomi's
    """Bytes; hosts before 5.5 tell KiB only."""
    return int(disk.capacityInBytes or disk.capacityInKB * 1024)


def change_id_of(disk: Any) -> str | None:  # noqa: ANN401 - pyVmomi's
    """The change id of a disk's backing. Physical RDMs and NVDIMMs have no such field."""
    return getattr(disk.backing, "changeId", None) or None


def snapshot_trees(properties: Properties) -> Iterator[Any]:
    """Every node of a VM's snapshot tree, depth first, from its property `snapshot`, which is unset without any."""
    snapshots = properties.get("snapshot")
    pending = list(snapshots.rootSnapshotList) if snapshots else []
    while pending:
        tree = pending.pop(0)
        yield tree
        pending = list(tree.childSnapshotList or ()) + pending


def _of(inventory: Inventory, vm: FoundVm, properties: Properties, portgroups: Mapping[str, str]) -> VmDetails:
    host = name_of(inventory.properties(properties.get("runtime.host")))
    return _details(identity(vm.reference), properties, path=vm.path, host=host, portgroups=portgroups)


def _details(
    moref: str, properties: Properties, *, path: str = "", host: str = "", portgroups: Mapping[str, str]
) -> VmDetails:
    devices = properties.get("config.hardware.device", [])
    boot = properties.get("config.bootOptions")
    controllers = {device.key: device for device in devices if isinstance(device, vim.vm.device.VirtualController)}
    cards = [device for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard)]
    addresses = addresses_by_card(properties.get("guest.net", ()))
    return VmDetails(
        moref=moref,
        name=name_of(properties),
        path=path,
        instance_uuid=properties.get("config.instanceUuid", ""),
        power_state=str(properties["runtime.powerState"]),
        cpus=properties.get("config.hardware.numCPU", 0),
        memory=properties.get("config.hardware.memoryMB", 0) * MIB,
        firmware=str(properties.get("config.firmware", "bios")),
        secure_boot=bool(boot and boot.efiSecureBootEnabled),
        guest_id=properties.get("config.guestId", ""),
        guest_name=properties.get("config.guestFullName", ""),
        tools_running=properties.get("guest.toolsRunningStatus") == TOOLS_RUN,
        tools=_tools(properties),
        hardware_version=properties.get("config.version", ""),
        change_tracking_supported=properties.get("capability.changeTrackingSupported", False),
        change_tracking_enabled=properties.get("config.changeTrackingEnabled", False),
        consolidation_needed=properties.get("runtime.consolidationNeeded", False),
        snapshots=tuple(tree.name for tree in snapshot_trees(properties)),
        template=properties.get("config.template", False),
        connection=str(properties.get("runtime.connectionState", "")),
        fault_tolerance=str(properties.get("runtime.faultToleranceState", "")),
        encrypted="config.keyId" in properties,
        trusted_platform_module=any(isinstance(device, vim.vm.device.VirtualTPM) for device in devices),
        passthrough=tuple(label_of(device) for device in devices if isinstance(device, OF_THE_HOST)),
        host=host,
        disks=tuple(_disk(disk, controllers.get(disk.controllerKey)) for disk in virtual_disks(devices)),
        nics=tuple(_nic(card, portgroups, addresses.get(card.key, ())) for card in cards),
    )


def _tools(properties: Properties) -> str:
    if properties.get("guest.toolsVersionStatus2") == "guestToolsNotInstalled":
        return "not installed"
    return TOOLS.get(properties.get("guest.toolsRunningStatus", ""), "")


def _disk(disk: Any, controller: Any) -> VmDisk:  # noqa: ANN401 - pyVmomi's
    backing = disk.backing
    return VmDisk(
        key=disk.key,
        label=label_of(disk),
        capacity=capacity_of(disk),
        path=getattr(backing, "fileName", None) or "",
        mode=getattr(backing, "diskMode", None) or "persistent",
        change_id=change_id_of(disk),
        controller=_kind_of(controller, CONTROLLERS),
        raw_device=_raw_device(backing),
        shared=_shared(backing, controller),
        encrypted=getattr(backing, "keyId", None) is not None,
    )


def _kind_of(device: Any, kinds: tuple[tuple[Any, str], ...]) -> str:  # noqa: ANN401 - pyVmomi's
    return next((name for kind, name in kinds if isinstance(device, kind)), "")


def _raw_device(backing: Any) -> str:  # noqa: ANN401 - pyVmomi's
    if isinstance(backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo):
        return str(backing.compatibilityMode or "physicalMode")
    return "physicalMode" if isinstance(backing, vim.vm.device.VirtualDisk.RawDiskVer2BackingInfo) else ""


def _shared(backing: Any, controller: Any) -> str:  # noqa: ANN401 - pyVmomi's
    if getattr(backing, "sharing", None) == "sharingMultiWriter":
        return "multi-writer"
    bus = str(getattr(controller, "sharedBus", None) or "noSharing")
    return "" if bus == "noSharing" else f"bus with {bus}"


def _nic(card: Any, portgroups: Mapping[str, str], addresses: tuple[str, ...]) -> VmNic:  # noqa: ANN401 - pyVmomi's
    return VmNic(
        key=card.key,
        label=label_of(card),
        mac=(card.macAddress or "").lower(),
        network=_network_of(card, portgroups),
        kind=_kind_of(card, CARDS),
        addresses=addresses,
    )


def _network_of(card: Any, portgroups: Mapping[str, str]) -> str:  # noqa: ANN401 - pyVmomi's
    """A NIC's network as people call it: of a standard switch, a distributed one, or an opaque (NSX) network."""
    port = getattr(card.backing, "port", None)
    if port is not None:
        return portgroups.get(port.portgroupKey, port.portgroupKey or "")
    return getattr(card.backing, "deviceName", None) or getattr(card.backing, "opaqueNetworkId", None) or ""


def _portgroups(session: VsphereSession) -> dict[str, str]:
    """Names of the distributed port groups by their keys."""
    kind = vim.dvs.DistributedVirtualPortgroup
    return {
        properties["key"]: name_of(properties) for _, properties in read_inventory(session, {kind: ("key", "name")})
    }
