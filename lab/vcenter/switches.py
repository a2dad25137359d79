"""The faults that can be switched on, as plain attributes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

ALWAYS: Final = None
"""How often a fault comes that never goes away by itself."""

Page: TypeAlias = tuple[int, int, list[tuple[int, int]]]
"""An answer of QueryChangedDiskAreas: where its window starts, how long it is, and its areas (start, length)."""


@dataclass
class _Failure:
    make: Callable[[], Exception]
    left: int | None


@dataclass
class FaultSwitches:
    """What the stand-in does worse than it could; every one of them was seen on real vCenters.

    What happens to a VM beside the API (a disk that grows, a power loss, a revert) is a method of its machine in
    `lab.esxi.memory`.

    Attributes:
        task_delay: seconds that every task runs before it does its work.
        refuse_allocated_map: change id `*` is answered with FileFault.
        refuse_snapshots: the task of every new snapshot ends with an error.
        quiesce_fault: makes the fault with which the task of every quiesced snapshot ends, after it made one.
        page_size: changed areas in one answer; vSphere gives at most 2,000.
        empty_pages: an answer whose next area begins later than asked says so by a window without areas.
        change_page: from the offset that is asked for and the right answer to the one that is given.
        consolidation_needed: names of VMs whose disks need consolidation, until ConsolidateVMDisks_Task.
        hidden_properties: what no account may see, as "HostSystem.name": told as missing, with NoPermission.
        withheld_privileges: what no account may do: calls that need one of these are answered with NoPermission.
        moved: names of VMs that are on the second host.
        free_space: bytes that are free on a datastore, by its name; half of it is unless set.
        unreachable_datastores, datastores_in_maintenance: their names.
        host_connection: of the host: connected, disconnected or notResponding.
        host_in_maintenance: whether it is.
        vm_connections: of VMs that vCenter does not reach, by name: disconnected, orphaned, inaccessible, invalid.
    """

    task_delay: float = 0.0
    refuse_allocated_map: bool = False
    refuse_snapshots: bool = False
    quiesce_fault: Callable[[], Exception] | None = None
    page_size: int = 2000
    empty_pages: bool = False
    change_page: Callable[[int, Page], Page] | None = None
    consolidation_needed: set[str] = field(default_factory=set)
    hidden_properties: set[str] = field(default_factory=set)
    withheld_privileges: set[str] = field(default_factory=set)
    free_space: dict[str, int] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    unreachable_datastores: set[str] = field(default_factory=set)
    datastores_in_maintenance: set[str] = field(default_factory=set)
    host_connection: str = "connected"
    host_in_maintenance: bool = False
    vm_connections: dict[str, str] = field(default_factory=dict)
    _failures: dict[tuple[str, bool], _Failure] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, make: Callable[[], Exception], *, times: int | None = 1, in_task: bool = False) -> None:
        """Have a method fail.

        Args:
            method: its name on the wire: "CreateSnapshot_Task".
            make: makes the fault anew for each call, since an exception that was raised keeps where it was.
            times: how often; None is always, 0 is not any more.
            in_task: the call succeeds, and its task ends with the fault instead of doing its work.
        """
        with self._lock:
            self._failures[method, in_task] = _Failure(make, times)

    def strike(self, method: str, *, in_task: bool = False) -> None:
        """Raise what was switched on for this method, if anything still is."""
        with self._lock:
            failure = self._failures.get((method, in_task))
            if failure is None or failure.left == 0:
                return
            if failure.left is not None:
                failure.left -= 1
        raise failure.make()
