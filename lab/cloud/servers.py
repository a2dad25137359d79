"""Nova's API: the servers that are there, and what can be done with them."""

from __future__ import annotations

import re
from hashlib import sha224

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from lab.cloud import hypervisor
from lab.cloud.call import Call, ComputeCall
from lab.cloud.refusals import Json, Refused
from lab.cloud.server_creation import Text
from lab.cloud.state import Server

router = APIRouter(prefix="/compute/v2.1")

_VM_STATES = {"BUILD": "building", "ACTIVE": "active", "SHUTOFF": "stopped", "ERROR": "error"}
_POWER_STATES = {"ACTIVE": 1, "SHUTOFF": 4}


class MetadataBody(BaseModel):
    """Key-value pairs."""

    metadata: dict[Text, Text]


class ServerChange(BaseModel):
    """What may be changed of a server by PUT."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None
    description: Text | None = None


class ServerChangeBody(BaseModel):
    """Its envelope."""

    server: ServerChange


class ConsoleWish(BaseModel):
    """How many lines of the console's end; None is all."""

    length: int | None = None


class RebootWish(BaseModel):
    """How to reboot; the stand-in resets in both cases."""

    type: str


class ServerAction(BaseModel):
    """One of the actions; the body names it by its key, whose value may be null."""

    console: ConsoleWish | None = Field(default=None, alias="os-getConsoleOutput")
    reboot: RebootWish | None = None
    stop: Json | None = Field(default=None, alias="os-stop")
    start: Json | None = Field(default=None, alias="os-start")


def _flavor_view(call: Call, server: Server) -> Json:
    flavor = server.flavor
    if call.microversion < (2, 47):
        return {"id": flavor.id, "links": []}
    return {
        "vcpus": flavor.vcpus,
        "ram": flavor.ram,
        "disk": 0,
        "ephemeral": 0,
        "swap": 0,
        "original_name": flavor.name,
        "extra_specs": {},
    }


def _addresses(server: Server) -> Json:
    addresses: Json = {}
    for port in server.ports:
        for _, address in port.fixed_ips:
            addresses.setdefault(port.network.name, []).append(
                {
                    "version": 6 if ":" in address else 4,
                    "addr": address,
                    "OS-EXT-IPS:type": "fixed",
                    "OS-EXT-IPS-MAC:mac_addr": port.mac,
                }
            )
    return addresses


def _view(call: Call, server: Server) -> Json:
    attached = [
        {"id": device.attachment.volume.id, "delete_on_termination": device.delete_on_termination}
        for device in server.devices
    ]
    view: Json = {
        "id": server.id,
        "name": server.name,
        "description": server.description,
        "status": server.status,
        "OS-EXT-STS:vm_state": _VM_STATES[server.status],
        "OS-EXT-STS:task_state": server.task,
        "OS-EXT-STS:power_state": _POWER_STATES.get(server.status, 0),
        "OS-EXT-AZ:availability_zone": server.zone,
        "OS-DCF:diskConfig": "MANUAL",
        "OS-SRV-USG:launched_at": f"{server.launched:%Y-%m-%dT%H:%M:%S.000000}" if server.launched else None,
        "OS-SRV-USG:terminated_at": None,
        "os-extended-volumes:volumes_attached": attached,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "tags": server.tags,
        "flavor": _flavor_view(call, server),
        "image": "",
        "addresses": _addresses(server),
        "accessIPv4": "",
        "accessIPv6": "",
        "hostId": sha224(server.project_id.encode()).hexdigest() if server.placed else "",
        "created": f"{server.created:%Y-%m-%dT%H:%M:%SZ}",
        "updated": f"{server.updated:%Y-%m-%dT%H:%M:%SZ}",
        "security_groups": [{"name": "default"}],
        "key_name": server.key_name,
        "config_drive": "True" if server.config_drive else "",
        "locked": False,
        "progress": 0,
        "links": [],
    }
    return view


def _wanted(call: Call) -> list[Server]:
    found = call.cloud.of_project(call.cloud.servers, call.project)
    query = call.query
    if "name" in query:
        try:
            pattern = re.compile(query["name"])
        except re.error:
            raise Refused(400, "Invalid filters provided.") from None
        found = [server for server in found if pattern.search(server.name)]
    if "status" in query:
        found = [server for server in found if server.status == query["status"].upper()]
    if "uuid" in query:
        found = [server for server in found if server.id == query["uuid"]]
    if "flavor" in query:
        found = [server for server in found if server.flavor.id == query["flavor"]]
    if "tags" in query:
        found = [server for server in found if set(query["tags"].split(",")) <= set(server.tags)]
    return found


@router.get("/servers/detail")
async def list_servers_in_detail(call: ComputeCall) -> Json:
    """The project's servers, all that is known of them. `name` is a regular expression, as Nova has it."""
    return call.page("servers", (_view(call, server) for server in _wanted(call)))


@router.get("/servers")
async def list_servers(call: ComputeCall) -> Json:
    """The project's servers, names only."""
    return call.page("servers", ({"id": each.id, "name": each.name, "links": []} for each in _wanted(call)))


@router.get("/servers/{server_id}")
async def show_server(call: ComputeCall, server_id: str) -> Json:
    """One server."""
    server = call.cloud.server(call.project, server_id)
    view = _view(call, server)
    # The lists of the real one were seen without it.
    return {"server": view if server.fault is None else view | {"fault": server.fault}}


@router.put("/servers/{server_id}")
async def update_server(call: ComputeCall, server_id: str, body: ServerChangeBody) -> Json:
    """Another name or description."""
    server = call.cloud.server(call.project, server_id)
    for name, value in body.server.model_dump(exclude_unset=True).items():
        setattr(server, name, value)
    return {"server": _view(call, server)}


@router.delete("/servers/{server_id}", status_code=204)
async def delete_server(call: ComputeCall, server_id: str) -> None:
    """End its QEMU and give back what it held; a second time changes nothing."""
    server = call.cloud.server(call.project, server_id)
    if server.task != "deleting":
        server.task = "deleting"
        hypervisor.run(call.cloud, hypervisor.delete(call.cloud, server))


@router.get("/servers/{server_id}/metadata")
async def show_metadata(call: ComputeCall, server_id: str) -> Json:
    """The server's metadata."""
    return {"metadata": call.cloud.server(call.project, server_id).metadata}


@router.post("/servers/{server_id}/metadata")
async def add_metadata(call: ComputeCall, server_id: str, body: MetadataBody) -> Json:
    """Add to the metadata."""
    server = call.cloud.server(call.project, server_id)
    server.metadata.update(body.metadata)
    return {"metadata": server.metadata}


@router.delete("/servers/{server_id}/metadata/{key}", status_code=204)
async def delete_metadata_item(call: ComputeCall, server_id: str, key: str) -> None:
    """Remove one key."""
    server = call.cloud.server(call.project, server_id)
    if server.metadata.pop(key, None) is None:
        raise Refused(404, "Metadata item was not found")


@router.get("/servers/{server_id}/os-interface")
async def list_interfaces(call: ComputeCall, server_id: str) -> Json:
    """The server's ports."""
    server = call.cloud.server(call.project, server_id)
    interfaces = [
        {
            "port_id": port.id,
            "net_id": port.network.id,
            "mac_addr": port.mac,
            "port_state": port.status,
            "fixed_ips": [{"subnet_id": subnet, "ip_address": address} for subnet, address in port.fixed_ips],
        }
        for port in server.ports
    ]
    return {"interfaceAttachments": interfaces}


@router.get("/servers/{server_id}/os-instance-actions")
async def list_actions(call: ComputeCall, server_id: str) -> Json:
    """What was done with the server; the stand-in remembers its making alone."""
    server = call.cloud.server(call.project, server_id)
    made = {
        "action": "create",
        "request_id": server.request_id,
        "instance_uuid": server.id,
        "project_id": server.project_id,
        "user_id": server.user_id,
        "start_time": f"{server.created:%Y-%m-%dT%H:%M:%S.000000}",
        "message": None,
    }
    return {"instanceActions": [made]}


def _must_be(server: Server, action: str, *statuses: str) -> None:
    if server.task is not None:
        state = f"while it is in task_state {server.task}"
    elif server.status not in statuses:
        state = f"while it is in vm_state {_VM_STATES[server.status]}"
    else:
        return
    raise Refused(409, f"Cannot '{action}' instance {server.id} {state}")


@router.post("/servers/{server_id}/action")
async def act_on_server(call: ComputeCall, server_id: str, body: ServerAction, response: Response) -> Json:
    """Stop, start, reboot, or read the console."""
    cloud = call.cloud
    server = cloud.server(call.project, server_id)
    if body.console is not None:
        if server.status == "BUILD":
            raise Refused(409, f"Instance {server.id} is not ready")
        return {"output": hypervisor.console_tail(server.console, body.console.length)}
    response.status_code = 202
    if "stop" in body.model_fields_set:
        _must_be(server, "stop", "ACTIVE", "ERROR")
        server.task = "powering-off"
        hypervisor.run(cloud, hypervisor.stop(cloud, server))
    elif "start" in body.model_fields_set:
        _must_be(server, "start", "SHUTOFF")
        server.task = "powering-on"
        hypervisor.run(cloud, hypervisor.start(cloud, server))
    elif body.reboot is not None:
        _must_be(server, "reboot", "ACTIVE")
        server.task = "rebooting"
        hypervisor.run(cloud, hypervisor.reboot(server))
    else:
        raise Refused(400, "There is no such action.")
    return {}
