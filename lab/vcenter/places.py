"""The entities of the tree that are no VMs: what a shape becomes, with ids, names, parents and children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from lab.esxi.interface import MachineSpec
from lab.vcenter.hardware import datastore_name
from lab.vcenter.shape import DatacenterShape, Shape
from lab.vcenter.vocabulary import Kind, Reference, identity, vim

_FIRST_DATASTORE: Final = 20
_FIRST_NETWORK: Final = 60


@dataclass(frozen=True)
class Place:
    """An entity of the tree that is no VM.

    Attributes:
        children: what is directly below it in the inventory.
        machines: the VMs that it runs, holds the disks of, or connects; not those that are children of a folder.
    """

    reference: Reference
    name: str
    parent: Reference | None
    children: list[Reference] = field(default_factory=list)
    machines: list[Reference] = field(default_factory=list)


@dataclass(frozen=True)
class Datacenter:
    """A datacenter with what the objects in it refer to.

    Attributes:
        datastores, networks: by name, which is unique within a datacenter alone.
        hosts: in the order of `DatacenterShape.all_hosts`, each with its compute resource.
    """

    place: Place
    vm_folder: Place
    host_folder: Place
    datastore_folder: Place
    network_folder: Place
    hosts: list[tuple[Place, Place]] = field(default_factory=list)
    datastores: dict[str, Reference] = field(default_factory=dict)
    networks: dict[str, Reference] = field(default_factory=dict)


@dataclass(frozen=True)
class Home:
    """What is around one machine."""

    datacenter: Datacenter
    folder: Reference
    host: Reference
    pool: Reference


class Places:
    """The tree without its VMs.

    Args:
        specs: the machines; what they name of datastores and networks is made in their datacenters.
    """

    def __init__(self, shape: Shape, specs: list[MachineSpec]) -> None:
        self.by_id: dict[str, Place] = {}
        self.datacenters: dict[str, Datacenter] = {}
        self._numbers = count(1)
        self._datastore_numbers = count(_FIRST_DATASTORE)
        self._network_numbers = count(_FIRST_NETWORK)
        self._pools: dict[str, Reference] = {}
        self.root = self._add(vim.Folder, "group-d", "Datacenters", None)
        built = [self._datacenter(one) for one in shape.datacenters]
        # In no list: a VM is on it when it was moved there.
        self.second_host: Reference = vim.HostSystem("host-1000", None)
        self.by_id["host-1000"] = Place(self.second_host, "esxi-2.lab", built[0].hosts[0][1].reference)
        placements = [shape.placement(position) for position in range(len(specs))]
        self.homes = [
            Home(
                datacenter=built[where.datacenter],
                folder=self._folder(built[where.datacenter], where.folder).reference,
                host=built[where.datacenter].hosts[where.host][0].reference,
                pool=self._pools[identity(built[where.datacenter].hosts[where.host][1].reference)],
            )
            for where in placements
        ]
        for position, datacenter in enumerate(built):
            mine = [spec for spec, where in zip(specs, placements, strict=True) if where.datacenter == position]
            self._storage_and_networks(datacenter, shape.datacenters[position], mine)

    def settle(self, machine: Reference, home: Home, spec: MachineSpec) -> None:
        """Tell everything around a machine that it is there."""
        self._at(home.folder).children.append(machine)
        for user in (home.host, home.pool):
            self._at(user).machines.append(machine)
        used = dict.fromkeys(home.datacenter.datastores[datastore_name(disk.datastore_path)] for disk in spec.disks)
        used |= dict.fromkeys(home.datacenter.networks[nic.network] for nic in spec.nics)
        for reference in used:
            self._at(reference).machines.append(machine)

    def leave(self, machine: Reference) -> None:
        """Tell everything around a machine that it is gone."""
        for place in self.by_id.values():
            for mentioned in (place.children, place.machines):
                if machine in mentioned:
                    mentioned.remove(machine)

    def hosts_of(self, compute: Reference) -> list[Reference]:
        """The hosts of a cluster, or the one of a compute resource."""
        return [one for one in self._at(compute).children if isinstance(one, vim.HostSystem)]

    def pool_of(self, compute: Reference) -> Reference:
        """The root resource pool of a compute resource."""
        return self._pools[identity(compute)]

    def datacenter_of(self, reference: Reference) -> Datacenter:
        """The datacenter in which an entity is."""
        here = self._at(reference)
        while identity(here.reference) not in self.datacenters:
            here = self._at(here.parent)
        return self.datacenters[identity(here.reference)]

    # --- building -----------------------------------------------------------------------------------------------------

    def _at(self, reference: Reference) -> Place:
        return self.by_id[identity(reference)]

    def _add(self, kind: Kind, prefix: str, name: str, parent: Place | None, number: int | None = None) -> Place:
        number = next(self._numbers) if number is None else number
        reference = kind(f"{prefix}{number}", None)
        place = Place(reference, name, parent.reference if parent else None)
        if parent:
            parent.children.append(reference)
        self.by_id[identity(reference)] = place
        return place

    def _datacenter(self, shape: DatacenterShape) -> Datacenter:
        place = self._add(vim.Datacenter, "datacenter-", shape.name, self.root)
        datacenter = Datacenter(
            place=place,
            vm_folder=self._add(vim.Folder, "group-v", "vm", place),
            host_folder=self._add(vim.Folder, "group-h", "host", place),
            datastore_folder=self._add(vim.Folder, "group-s", "datastore", place),
            network_folder=self._add(vim.Folder, "group-n", "network", place),
        )
        self.datacenters[identity(place.reference)] = datacenter
        for name, kind, hosts in _compute_resources(shape):
            prefix = "domain-c" if kind is vim.ClusterComputeResource else "domain-s"
            compute = self._add(kind, prefix, name, datacenter.host_folder)
            datacenter.hosts.extend((self._add(vim.HostSystem, "host-", host, compute), compute) for host in hosts)
            pool = self._add(vim.ResourcePool, "resgroup-", "Resources", compute)
            self._pools[identity(compute.reference)] = pool.reference
        return datacenter

    def _folder(self, datacenter: Datacenter, path: str) -> Place:
        here = datacenter.vm_folder
        for name in filter(None, path.split("/")):
            known = [self._at(one) for one in here.children]
            here = next((one for one in known if one.name == name), None) or self._add(
                vim.Folder, "group-v", name, here
            )
        return here

    def _storage_and_networks(self, datacenter: Datacenter, shape: DatacenterShape, specs: list[MachineSpec]) -> None:
        for name in dict.fromkeys(datastore_name(disk.datastore_path) for spec in specs for disk in spec.disks):
            number = next(self._datastore_numbers)
            place = self._add(vim.Datastore, "datastore-", name, datacenter.datastore_folder, number)
            datacenter.datastores[name] = place.reference
        switch = None
        for name in dict.fromkeys(nic.network for spec in specs for nic in spec.nics):
            number = next(self._network_numbers)
            if name not in shape.distributed:
                place = self._add(vim.Network, "network-", name, datacenter.network_folder, number)
            else:
                switch = switch or self._add(
                    vim.dvs.VmwareDistributedVirtualSwitch, "dvs-", "dvs", datacenter.network_folder
                )
                place = self._add(
                    vim.dvs.DistributedVirtualPortgroup, "dvportgroup-", name, datacenter.network_folder, number
                )
            datacenter.networks[name] = place.reference


def _compute_resources(shape: DatacenterShape) -> Iterator[tuple[str, Kind, tuple[str, ...]]]:
    """Name, class and hosts: a host that is in no cluster has a compute resource of its own name."""
    for host in shape.hosts:
        yield host, vim.ComputeResource, (host,)
    for name, hosts in shape.clusters.items():
        yield name, vim.ClusterComputeResource, hosts
