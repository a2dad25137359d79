"""The inventory tree: root folder, one datacenter with its four folders, one host, datastores, networks and VMs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lab.esxi.interface import Host
from lab.vcenter.hardware import datastore_name
from lab.vcenter.machine_properties import MachineProperties
from lab.vcenter.machines import SnapshotRecord, VirtualMachine
from lab.vcenter.properties import Properties
from lab.vcenter.switches import FaultSwitches
from lab.vcenter.tasks import Tasks
from lab.vcenter.vocabulary import Data, Kind, Reference, identity, not_found, vim

ROOT: Final[Reference] = vim.Folder("group-d1", None)
DATACENTER: Final[Reference] = vim.Datacenter("datacenter-2", None)
VM_FOLDER: Final[Reference] = vim.Folder("group-v3", None)
HOST_FOLDER: Final[Reference] = vim.Folder("group-h4", None)
DATASTORE_FOLDER: Final[Reference] = vim.Folder("group-s5", None)
NETWORK_FOLDER: Final[Reference] = vim.Folder("group-n6", None)
COMPUTE: Final[Reference] = vim.ComputeResource("domain-s7", None)
HOST: Final[Reference] = vim.HostSystem("host-8", None)
POOL: Final[Reference] = vim.ResourcePool("resgroup-9", None)

DATACENTER_NAME: Final = "lab-dc"
HOST_NAME: Final = "esxi-1.lab"

_FIRST_DATASTORE: Final = 20
_FIRST_NETWORK: Final = 60
_BEFORE_FIRST_VM: Final = 100
_DATASTORE_CAPACITY: Final = 1 << 44


@dataclass(frozen=True)
class Place:
    """An entity of the tree that is no VM."""

    reference: Reference
    name: str
    parent: Reference | None
    children: list[Reference] = field(default_factory=list)


def escaped(name: str) -> str:
    """A name as the API shows it: the separators of inventory paths are written as in a URL (ManagedEntity.name)."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


class Inventory:
    """Everything that is in the tree, made once of the host's machines."""

    def __init__(self, host: Host, tasks: Tasks, switches: FaultSwitches) -> None:
        self._switches = switches
        specs = [machine.spec for machine in host.machines]
        stores = dict.fromkeys(datastore_name(disk.datastore_path) for spec in specs for disk in spec.disks)
        nets = dict.fromkeys(nic.network for spec in specs for nic in spec.nics)
        self.datastores = {
            name: vim.Datastore(f"datastore-{number}", None) for number, name in enumerate(stores, _FIRST_DATASTORE)
        }
        self.networks = {
            name: vim.Network(f"network-{number}", None) for number, name in enumerate(nets, _FIRST_NETWORK)
        }
        self.machines = [
            VirtualMachine(machine, number, self.datastores, self.networks)
            for number, machine in enumerate(host.machines, _BEFORE_FIRST_VM + 1)
        ]
        self._by_id = {identity(machine.reference): machine for machine in self.machines}
        self._places = {identity(place.reference): place for place in self._build()}
        self._machine_properties = MachineProperties(
            host=HOST,
            pool=POOL,
            folder=VM_FOLDER,
            datastores=self.datastores,
            networks=self.networks,
            tasks=tasks,
            switches=switches,
        )

    def _build(self) -> Iterator[Place]:
        yield Place(ROOT, "Datacenters", None, [DATACENTER])
        yield Place(DATACENTER, DATACENTER_NAME, ROOT, [VM_FOLDER, HOST_FOLDER, DATASTORE_FOLDER, NETWORK_FOLDER])
        yield Place(VM_FOLDER, "vm", DATACENTER, [machine.reference for machine in self.machines])
        yield Place(HOST_FOLDER, "host", DATACENTER, [COMPUTE])
        yield Place(DATASTORE_FOLDER, "datastore", DATACENTER, list(self.datastores.values()))
        yield Place(NETWORK_FOLDER, "network", DATACENTER, list(self.networks.values()))
        yield Place(COMPUTE, HOST_NAME, HOST_FOLDER, [HOST, POOL])
        yield Place(HOST, HOST_NAME, COMPUTE)
        yield Place(POOL, "Resources", COMPUTE)
        for name, reference in self.datastores.items():
            yield Place(reference, name, DATASTORE_FOLDER)
        for name, reference in self.networks.items():
            yield Place(reference, name, NETWORK_FOLDER)

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
        for machine in self.machines:
            for record in machine.snapshots():
                if identity(machine.snapshot_reference(record.sequence)) == identity(reference):
                    return machine, record
        return None

    def children(self, reference: Reference) -> list[Reference]:
        """What is directly below an entity."""
        place = self._places.get(identity(reference))
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
        return escaped(self._places[identity(reference)].name)

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
            return self._machine_properties.of_snapshot(*found) if found else None
        if isinstance(reference, vim.VirtualMachine):
            machine = self._by_id.get(identity(reference))
            return self._machine_properties.of_machine(machine, escaped(machine.name)) if machine else None
        place = self._places.get(identity(reference))
        if place is None or not isinstance(reference, type(place.reference)):
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
            return {
                "vmFolder": lambda: VM_FOLDER,
                "hostFolder": lambda: HOST_FOLDER,
                "datastoreFolder": lambda: DATASTORE_FOLDER,
                "networkFolder": lambda: NETWORK_FOLDER,
                **self._resources(),
            }
        if kind is vim.ComputeResource:
            return {"host": lambda: [HOST], "resourcePool": lambda: POOL, **self._resources()}
        if kind is vim.HostSystem:
            return {"vm": self._machine_references, "runtime": self._host_runtime, **self._resources()}
        if kind is vim.ResourcePool:
            return {"vm": self._machine_references, "owner": lambda: COMPUTE}
        if kind is vim.Datastore:
            return {
                "summary": lambda: _datastore_summary(place, self._switches),
                "vm": lambda: self._using(place.reference, "datastore"),
            }
        return {
            "summary": lambda: vim.Network.Summary(network=place.reference, name=place.name, accessible=True),
            "vm": lambda: self._using(place.reference, "network"),
            "host": lambda: [HOST],
        }

    def _resources(self) -> Properties:
        return {
            "datastore": lambda: list(self.datastores.values()),
            "network": lambda: list(self.networks.values()),
        }

    def _host_runtime(self) -> Data:
        return vim.host.RuntimeInfo(
            connectionState=self._switches.host_connection,
            powerState="poweredOn",
            inMaintenanceMode=self._switches.host_in_maintenance,
        )

    def _machine_references(self) -> Sequence[Reference]:
        return [machine.reference for machine in self.machines]

    def _using(self, reference: Reference, name: str) -> list[Reference]:
        return [
            machine.reference
            for machine in self.machines
            if reference in self._machine_properties.of_machine(machine, machine.name)[name]()
        ]


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
