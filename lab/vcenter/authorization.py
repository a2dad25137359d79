"""AuthorizationManager: what an account may do, and which calls are refused for want of a privilege.

Every account has every privilege but those that a switch withholds.
"""

from __future__ import annotations

from typing import Final

from lab.vcenter.calls import Call, Handler
from lab.vcenter.vocabulary import Data, Kind, Reference, invalid_argument, not_found, vim

NEEDED: Final[dict[str, str]] = {
    "PowerOnVM_Task": "VirtualMachine.Interact.PowerOn",
    "PowerOffVM_Task": "VirtualMachine.Interact.PowerOff",
    "ShutdownGuest": "VirtualMachine.Interact.PowerOff",
    "CreateSnapshot_Task": "VirtualMachine.State.CreateSnapshot",
    "RemoveSnapshot_Task": "VirtualMachine.State.RemoveSnapshot",
    "RemoveAllSnapshots_Task": "VirtualMachine.State.RemoveSnapshot",
    "ConsolidateVMDisks_Task": "VirtualMachine.State.RemoveSnapshot",
    "QueryChangedDiskAreas": "VirtualMachine.Provisioning.DiskRandomRead",
}
"""Method -> the privilege that the API reference says it needs. A reconfiguration's depend on what it changes."""

TO_READ_DISKS: Final = ("VirtualMachine.Config.DiskLease", "VirtualMachine.Provisioning.DiskRandomRead")
"""What the NFC service asks for."""


def refuse_without_privilege(call: Call, method: str) -> None:
    """Refuse a call as vCenter does.

    Raises:
        vim.fault.NoPermission: naming the first privilege that is missing.
    """
    for privilege in _needed(call, method):
        if privilege in call.center.switches.withheld_privileges:
            raise no_permission(call.target, privilege)


def no_permission(thing: Reference, privilege: str) -> Exception:
    """The fault of a call without a privilege."""
    fault: Exception = vim.fault.NoPermission(
        object=thing, privilegeId=privilege, msg="Permission to perform this operation was denied."
    )
    return fault


def _needed(call: Call, method: str) -> list[str]:
    if method != "ReconfigVM_Task":
        return [NEEDED[method]] if method in NEEDED else []
    spec = call.arguments["spec"]
    changes = {
        "VirtualMachine.Config.Annotation": spec.annotation is not None,
        "VirtualMachine.Config.ChangeTracking": spec.changeTrackingEnabled is not None,
        "VirtualMachine.Config.Settings": spec.changeTrackingEnabled is not None,
    }
    return [privilege for privilege, changed in changes.items() if changed]


def _has_privilege_on_entities(call: Call) -> list[Data]:
    session = call.center.sessions.find(call.arguments["sessionId"])
    if session is None:
        raise invalid_argument("sessionId")
    return [_on_entity(call, entity, vim.AuthorizationManager.EntityPrivilege) for entity in _entities(call, "entity")]


def _on_entity(call: Call, entity: Reference, kind: Kind) -> Data:
    withheld = call.center.switches.withheld_privileges
    return kind(
        entity=entity,
        privAvailability=[
            vim.AuthorizationManager.PrivilegeAvailability(privId=privilege, isGranted=privilege not in withheld)
            for privilege in call.arguments["privId"]
        ],
    )


def _fetch_user_privilege(call: Call) -> list[Data]:
    if not call.center.sessions.knows(call.arguments["userName"]):
        raise vim.fault.UserNotFound(
            principal=call.arguments["userName"], unresolved=True, msg="The user is not known to the server."
        )
    every = {*NEEDED.values(), *TO_READ_DISKS, "System.Anonymous", "System.Read", "System.View"}
    granted = sorted(every - call.center.switches.withheld_privileges)
    return [
        vim.AuthorizationManager.UserPrivilegeResult(entity=entity, privileges=granted)
        for entity in _entities(call, "entities")
    ]


def _entities(call: Call, argument: str) -> list[Reference]:
    entities: list[Reference] = call.arguments[argument]
    for entity in entities:
        if call.center.inventory.properties(entity) is None:
            raise not_found(entity)
    return entities


METHODS: Final[dict[str, Handler]] = {
    "HasPrivilegeOnEntities": _has_privilege_on_entities,
    "FetchUserPrivilegeOnEntities": _fetch_user_privilege,
}
