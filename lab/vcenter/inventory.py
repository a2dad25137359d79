"""The inventory: the tree of a shape with the host's machines in it, found by reference, name, path or UUID."""

from __future__ import annotations

from typing import Final

from lab.esxi.interface import Host
from lab.vcenter.hardware import SWITCH_UUID
from lab.vcenter.machine_properties import MachineProperties
from lab.vcenter.machines import SnapshotRecord, VirtualMachine
from lab.vcenter.places import Place, Places
from lab.vcenter.properties import Properties
from lab.vcenter.shape import Shape
from lab.vcenter.switches import FaultSwitches
from lab.vcenter.tasks import Tasks
from lab.vcenter.vocabulary import Data, Kind, Reference, identity, not_found, vim

ROOT: Final[Reference] = vim.Folder("group-d1", None)

_BEFORE_FIRST_VM: Final = 100
_DATASTORE_CAPACITY: Final = 1 << 44


def escaped(name: str) -> str:
    """A name as the API shows it: the separators of inventory paths are written as in a URL (ManagedEntity.name)."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


class Inventory:
    """Everything that is in the tree, made once of the host's machines.

    Args:
        shape: what is around them.
    """

    def __init__(self, host: Host, tasks: Tasks, switches: FaultSwitches, shape: Shape) -> None:
        specs = [machine.spec for machine in host.machines]
        self._places = Places(shape, specs)
        self.machines: list[VirtualMachine] = []
        self._by_id: dict[str, VirtualMachine] = {}
        self._properties: dict[str, MachineProperties] = {}
        self._switches = switches
        for number, (machine, home) in enumerate(
            zip(host.machines, self._places.homes, strict=True), _BEFORE_FIRST_VM + 1
        ):
            made = VirtualMachine(machine, number, home.datacenter.datastores, home.datacenter.networks)
            self.machines.append(made)
            self._by_id[identity(made.reference)] = made
            self._properties[identity(made.reference)] = MachineProperties(
                hosts=(home.host, self._places.second_host),
                pool=home.pool,
                folder=home.folder,
                datastores=home.datacenter.datastores,
                networks=home.datacenter.networks,
                tasks=tasks,
                switches=switches,
            )
            self._places.settle(made.reference, home, machine.spec)

    def delete(self, name: str) -> None:
        """Take a VM out, as somebody does who deletes it or unregisters it."""
        for machine in [one for one in self.machines if one.name == name]:
            self.machines.remove(machine)
            self._by_id.pop(identity(machine.reference))
            self._places.leave(machine.reference)

    # --- finding ------------------------------------------------------------------------------------------------------

    def machine(self, reference: Reference) -> VirtualMachine:
        """The VM behind a reference.

        Raises:
            vmodl.fault.ManagedObjectNotFound: there is none.
        """
        found = self._by_id.get(identity(reference))
        if found is None:
            raise not_found(reference)
        return found

    def snapshot(self, reference: Reference) -> tuple[VirtualMachine, SnapshotRecord]:
        """The VM and the snapshot behind a reference to a snapshot.

        Raises:
            vmodl.fault.ManagedObjectNotFound: it is gone, or never was.
        """
        found = self._find_snapshot(reference)
        if found is None:
            raise not_found(reference)
        return found

    def _find_snapshot(self, reference: Reference) -> tuple[VirtualMachine, SnapshotRecord] | None:
        """By its id, "snapshot-101-3" for the third one of vm-101."""
        _, _, numbers = identity(reference).partition("-")
        machine = self._by_id.get(f"vm-{numbers.partition('-')[0]}")
        if machine is None:
            return None
        for record in machine.snapshots():
            if identity(machine.snapshot_reference(record.sequence)) == identity(reference):
                return machine, record
        return None

    def children(self, reference: Reference) -> list[Reference]:
        """What is directly below an entity."""
        place = self._places.by_id.get(identity(reference))
        return list(place.children) if place else []

    def below(self, container: Reference, *, recursive: bool) -> list[Reference]:
        """What is below an entity, without itself, each parent before its children."""
        found = []
        for child in self.children(container):
            found.append(child)
            if recursive:
                found.extend(self.below(child, recursive=True))
        return found

    def name_of(self, reference: Reference) -> str:
        """An entity's name as the API shows it."""
        if identity(reference) in self._by_id:
            return escaped(self._by_id[identity(reference)].name)
        return escaped(self._places.by_id[identity(reference)].name)

    def child_named(self, parent: Reference, name: str) -> Reference | None:
        """A child by its name; names do not differ by case (vSphere)."""
        return next((one for one in self.children(parent) if self.name_of(one).lower() == name.lower()), None)

    def at_path(self, path: str) -> Reference | None:
        """The entity at an inventory path such as lab-dc/vm/web01, which leaves the root folder out."""
        found: Reference | None = ROOT
        for name in path.strip("/").split("/"):
            found = self.child_named(found, name) if found is not None else None
        return found

    def with_uuid(self, uuid: str, *, instance: bool) -> list[Reference]:
        """VMs by their BIOS UUID or their instance UUID."""
        return [
            machine.reference
            for machine in self.machines
            if (machine.instance_uuid if instance else machine.bios_uuid) == uuid.lower()
        ]

    # --- properties ---------------------------------------------------------------------------------------------------

    def properties(self, reference: Reference) -> Properties | None:
        """The properties of an entity or a snapshot; None when there is no such thing."""
        if isinstance(reference, vim.vm.Snapshot):
            found = self._find_snapshot(reference)
            return self._properties[identity(found[0].reference)].of_snapshot(*found) if found else None
        if isinstance(reference, vim.VirtualMachine):
            machine = self._by_id.get(identity(reference))
            if machine is None:
                return None
            return self._properties[identity(reference)].of_machine(machine, escaped(machine.name))
        place = self._places.by_id.get(identity(reference))
        if place is None or type(reference) is not type(place.reference):
            return None
        return {**self._common(place), **self._special(place)}

    def _common(self, place: Place) -> Properties:
        return {
            "name": lambda: escaped(place.name),
            "parent": lambda: place.parent,
            "overallStatus": lambda: "green",
            "configStatus": lambda: "green",
            "recentTask": list,
        }

    def _special(self, place: Place) -> Properties:
        kind: Kind = type(place.reference)
        if kind is vim.Folder:
            return {"childEntity": lambda: list(place.children), "childType": lambda: [vim.Folder]}
        if kind is vim.Datacenter:
            datacenter = self._places.datacenter_of(place.reference)
            return {
                "vmFolder": lambda: datacenter.vm_folder.reference,
                "hostFolder": lambda: datacenter.host_folder.reference,
                "datastoreFolder": lambda: datacenter.datastore_folder.reference,
                "networkFolder": lambda: datacenter.network_folder.reference,
                **self._resources(place),
            }
        if issubclass(kind, vim.ComputeResource):
            return {
                "host": lambda: self._places.hosts_of(place.reference),
                "resourcePool": lambda: self._places.pool_of(place.reference),
                **self._resources(place),
            }
        if kind is vim.HostSystem:
            return {"vm": lambda: list(place.machines), "runtime": self._host_runtime, **self._resources(place)}
        if kind is vim.ResourcePool:
            return {"vm": lambda: list(place.machines), "owner": lambda: place.parent}
        if kind is vim.Datastore:
            return {
                "summary": lambda: _datastore_summary(place, self._switches),
                "vm": lambda: list(place.machines),
            }
        if kind is vim.dvs.VmwareDistributedVirtualSwitch:
            return {"uuid": lambda: SWITCH_UUID}
        network = {
            "summary": lambda: vim.Network.Summary(network=place.reference, name=place.name, accessible=True),
            "vm": lambda: list(place.machines),
            "host": lambda: [host.reference for host, _ in self._places.datacenter_of(place.reference).hosts],
        }
        if kind is vim.dvs.DistributedVirtualPortgroup:
            network["key"] = lambda: identity(place.reference)
        return network

    def _resources(self, place: Place) -> Properties:
        """Every host has every datastore and every network of its datacenter."""
        datacenter = self._places.datacenter_of(place.reference)
        return {
            "datastore": lambda: list(datacenter.datastores.values()),
            "network": lambda: list(datacenter.networks.values()),
        }

    def _host_runtime(self) -> Data:
        return vim.host.RuntimeInfo(
            connectionState=self._switches.host_connection,
            powerState="poweredOn",
            inMaintenanceMode=self._switches.host_in_maintenance,
        )


def _datastore_summary(place: Place, switches: FaultSwitches) -> Data:
    return vim.Datastore.Summary(
        datastore=place.reference,
        name=place.name,
        url=f"ds:///vmfs/volumes/{place.name}/",
        capacity=_DATASTORE_CAPACITY,
        freeSpace=switches.free_space.get(place.name, _DATASTORE_CAPACITY // 2),
        accessible=place.name not in switches.unreachable_datastores,
        multipleHostAccess=False,
        type="VMFS",
        maintenanceMode="inMaintenance" if place.name in switches.datastores_in_maintenance else "normal",
    )
