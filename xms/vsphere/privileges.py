"""What the source's account has to be allowed, and what of it is missing.

The reasons are of vSphere's API reference: what each method that this package or VDDK calls asks for.
"""

from __future__ import annotations

from typing import Any, Final

from xms.orders.source import MissingPrivilege
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


def missing_privileges(session: VsphereSession, places: dict[str, Any]) -> tuple[MissingPrivilege, ...]:
    """What the session's account is not allowed somewhere.

    Args:
        session: whose account is meant.
        places: name -> the folder or datacenter; a privilege that is held there is held for everything below,
            unless another role was given to the account further down.

    Raises:
        SourceFault, SourceForbidden: vSphere does not tell.
    """
    manager = session.content.authorizationManager
    key = session.content.sessionManager.currentSession.key
    names = {place._moId: name for name, place in places.items()}  # noqa: SLF001 - pyVmomi's name for the reference
    missing: dict[str, list[str]] = {}
    for entity in manager.HasPrivilegeOnEntities(entity=list(places.values()), sessionId=key, privId=list(NEEDED)):
        for privilege in entity.privAvailability:
            if not privilege.isGranted:
                missing.setdefault(privilege.privId, []).append(names[entity.entity._moId])  # noqa: SLF001 - the same
    return tuple(
        MissingPrivilege(privilege=privilege, needed_for=reason, where=tuple(sorted(missing[privilege])))
        for privilege, reason in NEEDED.items()
        if privilege in missing
    )
