"""Methods of the service itself: sessions, views, searches, reading properties."""

from __future__ import annotations

import uuid
from typing import Final

from lab.vcenter.calls import Call, Handler
from lab.vcenter.properties import ObjectReader
from lab.vcenter.views import ContainerView
from lab.vcenter.vocabulary import Data, identity, invalid_argument, not_found, now, vim

_CONTAINERS: Final = (vim.Folder, vim.Datacenter, vim.ComputeResource, vim.ResourcePool, vim.HostSystem)
"""What a container view can be made of."""


def _service_content(call: Call) -> Data:
    return call.center.service_content()


def _current_time(_call: Call) -> Data:
    return now()


def _fetch(call: Call) -> Data:
    """What pyVmomi sends for `object.property`."""
    properties = call.center.properties(call.target, call.session)
    if properties is None:
        raise not_found(call.target)
    return ObjectReader(type(call.target), properties).read(call.arguments["prop"])


def _log_in(call: Call) -> Data:
    if call.session is not None:
        raise vim.fault.InvalidLogin(msg="Cannot complete login: this session is logged in already.")
    call.new_session = call.center.sessions.log_in(
        call.arguments["userName"], call.arguments["password"], address=call.address, agent=call.agent
    )
    return call.new_session.described()


def _log_out(call: Call) -> None:
    call.center.sessions.log_out(call.caller)


def _session_is_active(call: Call) -> bool:
    session = call.center.sessions.find(call.arguments["sessionID"])
    return session is not None and session.user == call.arguments["userName"]


def _create_container_view(call: Call) -> Data:
    container, kinds = call.arguments["container"], call.arguments["type"]
    if not isinstance(container, _CONTAINERS):
        raise invalid_argument("container")
    if not all(kind is not None and issubclass(kind, vim.ManagedEntity) for kind in kinds):
        raise invalid_argument("type")
    reference = vim.view.ContainerView(f"session[{call.caller.key}]{uuid.uuid4()}", None)
    call.caller.views[identity(reference)] = ContainerView(
        reference, container, kinds, recursive=call.arguments["recursive"]
    )
    return reference


def _destroy_view(call: Call) -> None:
    if call.caller.views.pop(identity(call.target), None) is None:
        raise not_found(call.target)


def _find_by_inventory_path(call: Call) -> Data:
    return call.center.inventory.at_path(call.arguments["inventoryPath"])


def _find_child(call: Call) -> Data:
    return call.center.inventory.child_named(call.arguments["entity"], call.arguments["name"])


def _find_all_by_uuid(call: Call) -> list[Data]:
    if not call.arguments["vmSearch"]:
        return []
    return call.center.inventory.with_uuid(call.arguments["uuid"], instance=bool(call.arguments.get("instanceUuid")))


def _find_by_uuid(call: Call) -> Data:
    return next(iter(_find_all_by_uuid(call)), None)


METHODS: Final[dict[str, Handler]] = {
    "RetrieveServiceContent": _service_content,
    "CurrentTime": _current_time,
    "Fetch": _fetch,
    "Login": _log_in,
    "Logout": _log_out,
    "SessionIsActive": _session_is_active,
    "CreateContainerView": _create_container_view,
    "DestroyView": _destroy_view,
    "FindByInventoryPath": _find_by_inventory_path,
    "FindChild": _find_child,
    "FindByUuid": _find_by_uuid,
    "FindAllByUuid": _find_all_by_uuid,
}
