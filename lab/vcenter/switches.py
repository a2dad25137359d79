"""The faults that can be switched on, as plain attributes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FaultSwitches:
    """What the stand-in does worse than it could; every one of them was seen on real vCenters.

    Attributes:
        task_delay: seconds that every task runs before it does its work.
        refuse_allocated_map: change id `*` is answered with FileFault.
        refuse_snapshots: the task of every new snapshot ends with an error.
        page_size: changed areas in one answer; vSphere gives at most 2,000.
        empty_pages: an answer whose next area begins later than asked says so by a window without areas.
        consolidation_needed: names of VMs whose disks need consolidation, until ConsolidateVMDisks_Task.
        free_space: bytes that are free on a datastore, by its name; half of it is unless set.
        unreachable_datastores, datastores_in_maintenance: their names.
        host_connection: of the host: connected, disconnected or notResponding.
        host_in_maintenance: whether it is.
        vm_connections: of VMs that vCenter does not reach, by name: disconnected, orphaned, inaccessible, invalid.
    """

    task_delay: float = 0.0
    refuse_allocated_map: bool = False
    refuse_snapshots: bool = False
    page_size: int = 2000
    empty_pages: bool = False
    consolidation_needed: set[str] = field(default_factory=set)
    free_space: dict[str, int] = field(default_factory=dict)
    unreachable_datastores: set[str] = field(default_factory=set)
    datastores_in_maintenance: set[str] = field(default_factory=set)
    host_connection: str = "connected"
    host_in_maintenance: bool = False
    vm_connections: dict[str, str] = field(default_factory=dict)
