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
        withheld_privileges: what no account may do: calls that need one of these are answered with NoPermission.
    """

    task_delay: float = 0.0
    refuse_allocated_map: bool = False
    refuse_snapshots: bool = False
    page_size: int = 2000
    empty_pages: bool = False
    consolidation_needed: set[str] = field(default_factory=set)
    withheld_privileges: set[str] = field(default_factory=set)
