"""What is around the machines of a stand-in vCenter: datacenters with hosts, clusters, networks and folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DATACENTER_NAME: Final = "lab-dc"
HOST_NAME: Final = "esxi-1.lab"


@dataclass(frozen=True)
class DatacenterShape:
    """A datacenter; without arguments, that of the lab.

    Attributes:
        hosts: names of the ESXi hosts that are in no cluster.
        clusters: the clusters by name, each with the names of its hosts.
        distributed: names of the networks that are port groups of a distributed switch.
    """

    name: str = DATACENTER_NAME
    hosts: tuple[str, ...] = (HOST_NAME,)
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    distributed: frozenset[str] = frozenset()

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Every host, those of the clusters last."""
        return (*self.hosts, *(host for cluster in self.clusters.values() for host in cluster))


@dataclass(frozen=True)
class Placement:
    """Where a machine is.

    Attributes:
        datacenter: position of its datacenter in the shape.
        folder: names of the VM folders from the outermost to the machine's own, with slashes between; "" is none.
        host: position of its host in `DatacenterShape.all_hosts`.
    """

    datacenter: int = 0
    folder: str = ""
    host: int = 0


@dataclass(frozen=True)
class Shape:
    """The tree of an inventory; without arguments, one datacenter with one host.

    Attributes:
        placements: where the machines are, in their order; those beyond the last are where `Placement()` says.
    """

    datacenters: tuple[DatacenterShape, ...] = (DatacenterShape(),)
    placements: tuple[Placement, ...] = ()

    def placement(self, position: int) -> Placement:
        """Where the machine at a position is."""
        return self.placements[position] if position < len(self.placements) else Placement()


_FOLDERS: Final = ("", "prod", "prod/web", "prod/db", "test", "test/old")


def large_shape(machines: int) -> Shape:
    """A shape with something of everything, over which that many machines are spread evenly.

    Two datacenters, the second with two clusters and no host beside them; in each, nested folders with the same names,
    and the network "dv-prod" on a distributed switch.
    """
    datacenters = (
        DatacenterShape("dc-east", hosts=("esxi-1.east", "esxi-2.east"), distributed=frozenset({"dv-prod"})),
        DatacenterShape(
            "dc-west",
            hosts=(),
            clusters={"cluster-a": ("esxi-1.west", "esxi-2.west", "esxi-3.west"), "cluster-b": ("esxi-4.west",)},
            distributed=frozenset({"dv-prod"}),
        ),
    )
    placements = tuple(
        Placement(
            datacenter=number % 2,
            folder=_FOLDERS[number // 2 % len(_FOLDERS)],
            host=number // 2 % len(datacenters[number % 2].all_hosts),
        )
        for number in range(machines)
    )
    return Shape(datacenters, placements)
