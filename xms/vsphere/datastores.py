"""Room on the datastores of a VM.

A snapshot grows with what the guest writes, and one that fills its datastore stops every VM there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xms import quantities
from xms.errors import DatastoreFull
from xms.vsphere.bindings import vmodl
from xms.vsphere.faults import AS_OF_THE_LAST_SYNC, explained, fault_text
from xms.vsphere.inventory import virtual_disks
from xms.vsphere.properties import read, read_all
from xms.vsphere.session import VsphereSession

logger = logging.getLogger(__name__)

SPACE = ("summary.name", "summary.freeSpace", "summary.accessible")


@dataclass(frozen=True)
class Room:
    """What is free on a datastore, in bytes."""

    datastore: str
    free: int


def refuse_without_room(session: VsphereSession, moref: str, *, vm: str, reserve: int) -> None:
    """Refuse a snapshot for which a datastore of the VM's disks has no room.

    Args:
        session: where.
        moref: the VM.
        vm: its name.
        reserve: bytes that have to be free; 0 looks at nothing.

    Raises:
        DatastoreFull: less is free.
    """
    low = without_room(session, moref, vm=vm, reserve=reserve) if reserve else ""
    if low:
        raise DatastoreFull(
            f"no snapshot of {vm} is made",
            because=low,
            means=AS_OF_THE_LAST_SYNC,
            do="free space on the datastore, or lower the source's snapshot_reserve_gib; it is tried again",
        )


def without_room(session: VsphereSession, moref: str, *, vm: str, reserve: int) -> str:
    """Which of the VM's datastores have less than `reserve` bytes free, in words; empty where all have as much.

    A datastore that the account may not see, or that its hosts do not reach, is not judged.
    """
    with explained(session.name, f"the datastores of {vm} could not be looked at"):
        return "; ".join(
            f"datastore {room.datastore} has {quantities.size(room.free)} free, "
            f"less than the reserve of {quantities.size(reserve)}"
            for room in _rooms(session, session.virtual_machine(moref))
            if room.free < reserve
        )


def _rooms(session: VsphereSession, vm: Any) -> Iterator[Room]:  # noqa: ANN401 - pyVmomi's
    """Of each datastore that a disk's newest file is on: there the snapshot grows."""
    disks = virtual_disks(read(session, vm, ["config.hardware.device"]).get("config.hardware.device", []))
    datastores = {
        disk.backing.datastore._moId: disk.backing.datastore  # noqa: SLF001 - pyVmomi's name for the reference
        for disk in disks
        if getattr(disk.backing, "datastore", None) is not None
    }
    for datastore in datastores.values():
        found = _space(session, datastore)
        if found.get("summary.accessible", True) and "summary.freeSpace" in found:
            yield Room(str(found.get("summary.name", "?")), int(found["summary.freeSpace"]))


def _space(session: VsphereSession, datastore: Any) -> dict[str, Any]:  # noqa: ANN401 - pyVmomi's
    """Left alone, vCenter looks at a datastore's space only now and then (vSphere API, Datastore.Summary)."""
    try:
        datastore.RefreshDatastore()
    except vmodl.MethodFault as fault:
        logger.debug("a datastore could not be refreshed: %s", fault_text(fault))
    try:
        return next((found for _, found in read_all(session, [datastore], SPACE)), {})
    except vmodl.fault.ManagedObjectNotFound:
        return {}
