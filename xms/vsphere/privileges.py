"""What the source's account has to be allowed, and what of it is missing.

The reasons are of vSphere's API reference: what each method that this package or VDDK calls asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from xms.orders.source import MissingPrivilege
from xms.vsphere.faults import explained
from xms.vsphere.session import VsphereSession

NEEDED: Final[dict[str, str]] = {
    "VirtualMachine.Config.ChangeTracking": "change tracking is turned on for a VM",
    "VirtualMachine.Config.Settings": "change tracking is one of the VM's settings",
    "VirtualMachine.Config.Annotation": "after the cutover a note on the VM says where it went",
    "VirtualMachine.Config.DiskLease": "VDDK leases the disks of a snapshot while it reads them",
    "VirtualMachine.Provisioning.DiskRandomRead": "VDDK reads the disks of a snapshot",
    "VirtualMachine.State.CreateSnapshot": "every sync reads from a snapshot",
    "VirtualMachine.State.RemoveSnapshot": "the sync's snapshot is removed, and its disks consolidated",
    "VirtualMachine.Interact.PowerOff": "the cutover shuts the VM down",
    "VirtualMachine.Interact.PowerOn": "a cutover that failed starts the VM again",
}
"""Privilege -> what it is needed for. Reading the inventory needs System.View and System.Read beside them: who lacks
those sees no VM."""


AT_A_TIME: Final = 250
"""Entities of a question: each has an answer for every privilege."""


def missing_privileges(session: VsphereSession, places: dict[str, Any]) -> tuple[MissingPrivilege, ...]:
    """What the session's account is not allowed somewhere.

    Args:
        session: whose account is meant.
        places: name -> the folder or datacenter; a privilege that is held there is held for everything below,
            unless another role was given to the account further down.

    Raises:
        SourceFault, SourceForbidden: vSphere does not tell.
    """
    lacking = privileges_lacking(session, list(places.values()))
    where = {
        privilege: tuple(sorted(name for name, place in places.items() if privilege in lacking[place._moId]))  # noqa: SLF001 - pyVmomi's name for the reference
        for privilege in NEEDED
    }
    return tuple(
        MissingPrivilege(privilege=privilege, needed_for=reason, where=where[privilege])
        for privilege, reason in NEEDED.items()
        if where[privilege]
    )


def privileges_lacking(session: VsphereSession, entities: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """What the session's account is not allowed with each of some entities, by their references.

    Raises:
        SourceFault, SourceForbidden: vSphere does not tell.
    """
    with explained(session.name, f"{session.name} does not tell what its account may do"):
        manager = session.content.authorizationManager
        key = session.content.sessionManager.currentSession.key
        return {
            answer.entity._moId: tuple(told.privId for told in answer.privAvailability if not told.isGranted)  # noqa: SLF001 - pyVmomi's name for the reference
            for start in range(0, len(entities), AT_A_TIME)
            for answer in manager.HasPrivilegeOnEntities(
                entity=list(entities[start : start + AT_A_TIME]), sessionId=key, privId=list(NEEDED)
            )
        }
