"""What is in the source: VMs with their disks and NICs, found by name or by inventory path."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from xms.errors import ConfigurationError, VmNotFound
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.vsphere.bindings import vim
from xms.vsphere.faults import explained
from xms.vsphere.properties import Properties, read, read_inventory
from xms.vsphere.session import VsphereSession

NAMES: Final = ("name", "parent")

LEAVES: Final = (
    "name",
    "config.template",
    "config.instanceUuid",
    "config.firmware",
    "config.bootOptions",
    "config.guestId",
    "config.guestFullName",
    "config.version",
    "config.changeTrackingEnabled",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "runtime.powerState",
    "runtime.consolidationNeeded",
    "capability.changeTrackingSupported",
    "guest.toolsRunningStatus",
    "snapshot",
)

TOOLS_RUN: Final = "guestToolsRunning"
CLOSE_MATCHES: Final = 5
MIB: Final = 1 << 20


@dataclass(frozen=True)
class FoundVm:
    """A VM of the inventory.

    Attributes:
        reference: the managed object.
        path: inventory path, as govc writes it: "/dc/vm/folder/name".
    """

    reference: Any
    name: str
    path: str


class Inventory:
    """The names and places of everything that is in the source, read at one moment."""

    def __init__(self, session: VsphereSession) -> None:
        kinds = {vim.VirtualMachine: NAMES, vim.Folder: NAMES, vim.Datacenter: NAMES}
        self._session = session
        self._found = {thing._moId: (thing, properties) for thing, properties in read_inventory(session, kinds)}  # noqa: SLF001
        self._datacenter = session.config.datacenter
        if self._datacenter is not None:
            self._refuse_unknown_datacenter(self._datacenter)

    def virtual_machines(self) -> Iterator[FoundVm]:
        """Every VM of the configured datacenter, or of all."""
        for thing, properties in self._found.values():
            if isinstance(thing, vim.VirtualMachine):
                places = list(self._places(thing))
                if self._datacenter is None or self._datacenter in _datacenters(places):
                    # In a path the separators within a name stay escaped, as vSphere has them.
                    path = "/" + "/".join(found.get("name", "") for _, found in reversed(places))
                    yield FoundVm(thing, name=_name(properties), path=path)

    def find(self, wanted: str) -> FoundVm:
        """The one VM with that name or inventory path.

        Raises:
            VmNotFound: none has it, or more than one; the text lists what there is.
        """
        known = list(self.virtual_machines())
        found = [vm for vm in known if vm.path == wanted] or [vm for vm in known if vm.name == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise VmNotFound(
                f"'{wanted}' is the name of {len(found)} VMs of {self._session.name}",
                because="their paths are " + ", ".join(sorted(vm.path for vm in found)),
                do="give the path of the one that is meant",
            )
        names = sorted({vm.path if "/" in wanted else vm.name for vm in known})
        close = difflib.get_close_matches(wanted, names, n=CLOSE_MATCHES) or names[:CLOSE_MATCHES]
        because = f"it has {len(known)} VMs, among them {', '.join(close)}" if close else "the account sees no VM there"
        raise VmNotFound(f"{self._session.name} has no VM called '{wanted}'", because=because)

    def _places(self, thing: Any) -> Iterator[tuple[Any, Properties]]:  # noqa: ANN401 - pyVmomi's
        """From the VM outwards. The root folder is in no view of itself, so paths begin below it, as govc's do."""
        while thing is not None and thing._moId in self._found:  # noqa: SLF001 - pyVmomi's name for the reference
            found = self._found[thing._moId]  # noqa: SLF001
            yield found
            thing = found[1].get("parent")

    def _refuse_unknown_datacenter(self, wanted: str) -> None:
        known = sorted(_datacenters(list(self._found.values())))
        if wanted not in known:
            raise ConfigurationError(
                f"{self._session.name} has no datacenter called '{wanted}'",
                because=f"it has {', '.join(known) or 'none that the account sees'}",
                do="correct the source's datacenter in the worker's configuration",
            )


def list_vms(session: VsphereSession) -> list[VmDetails]:
    """Every VM of the source, by path; templates are none."""
    paths = {vm.reference._moId: vm.path for vm in Inventory(session).virtual_machines()}  # noqa: SLF001
    portgroups = _portgroups(session)
    machines = [
        _details(vm, properties, paths[vm._moId], portgroups)  # noqa: SLF001
        for vm, properties in read_inventory(session, {vim.VirtualMachine: LEAVES})
        if vm._moId in paths and not properties.get("config.template")  # noqa: SLF001
    ]
    return sorted(machines, key=lambda machine: machine.path)


def find_vm(session: VsphereSession, wanted: str, moref: str = "") -> VmDetails:
    """The VM with that managed object reference; without one, the VM with that name or inventory path.

    Of a VM that is found by its reference, the inventory path is not told: that would take the whole inventory.

    Raises:
        VmNotFound: none has it, or more than one; the text lists what there is.
    """
    if moref:
        reference = session.virtual_machine(moref)
        with explained(session.name, f"{wanted} ({moref}) could not be looked at"):
            found = read(session, reference, LEAVES)
        return _details(reference, found, "", _portgroups(session))
    vm = Inventory(session).find(wanted)
    properties = read(session, vm.reference, LEAVES)
    if properties.get("config.template"):
        raise VmNotFound(f"{vm.path} is a template", because="a template never runs, so nothing has to be kept warm")
    return _details(vm.reference, properties, vm.path, _portgroups(session))


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


def _details(vm: Any, properties: Properties, path: str, portgroups: Mapping[str, str]) -> VmDetails:  # noqa: ANN401
    devices = properties.get("config.hardware.device", [])
    boot = properties.get("config.bootOptions")
    return VmDetails(
        moref=vm._moId,  # noqa: SLF001 - pyVmomi's name for the reference
        name=_name(properties),
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
        hardware_version=properties.get("config.version", ""),
        change_tracking_supported=properties.get("capability.changeTrackingSupported", False),
        change_tracking_enabled=properties.get("config.changeTrackingEnabled", False),
        consolidation_needed=properties.get("runtime.consolidationNeeded", False),
        snapshots=tuple(tree.name for tree in snapshot_trees(properties)),
        disks=tuple(_disk(disk) for disk in virtual_disks(devices)),
        nics=tuple(
            _nic(device, portgroups) for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard)
        ),
    )


def _disk(disk: Any) -> VmDisk:  # noqa: ANN401 - pyVmomi's
    return VmDisk(
        key=disk.key,
        label=label_of(disk),
        capacity=capacity_of(disk),
        path=getattr(disk.backing, "fileName", None) or "",
        mode=getattr(disk.backing, "diskMode", None) or "persistent",
        change_id=change_id_of(disk),
    )


def _nic(card: Any, portgroups: Mapping[str, str]) -> VmNic:  # noqa: ANN401 - pyVmomi's
    return VmNic(
        key=card.key,
        label=label_of(card),
        mac=(card.macAddress or "").lower(),
        network=_network_of(card, portgroups),
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
    return {properties["key"]: _name(properties) for _, properties in read_inventory(session, {kind: ("key", "name")})}


def _datacenters(places: list[tuple[Any, Properties]]) -> set[str]:
    return {_name(properties) for thing, properties in places if isinstance(thing, vim.Datacenter)}


def _name(properties: Properties) -> str:
    """A name as people typed it: vSphere escapes slashes, backslashes and percent signs in it."""
    return unquote(properties.get("name", ""))
