"""Neutron's ports: addresses that are free, in the subnet, and the member's to choose."""

from __future__ import annotations

import ipaddress
import re
import secrets
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lab.cloud.call import Call, NetworkCall
from lab.cloud.network import filtered, subnets_of, visible_networks
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.state import Network, Port, Subnet

router = APIRouter(prefix="/network/v2.0")

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FIRST_FREE = 10


class FixedIp(BaseModel):
    """A subnet, an address, or both."""

    model_config = ConfigDict(extra="forbid")

    subnet_id: str | None = None
    ip_address: str | None = None


class PortWish(BaseModel):
    """A port to be made."""

    model_config = ConfigDict(extra="forbid")

    network_id: str
    name: str = ""
    description: str = ""
    mac_address: str | None = None
    fixed_ips: list[FixedIp] | None = None
    admin_state_up: bool = True
    port_security_enabled: bool = True
    security_groups: list[str] | None = None
    device_id: str = ""
    device_owner: str = ""
    tags: list[str] = Field(default_factory=list)


class PortWishBody(BaseModel):
    """Its envelope."""

    port: PortWish


class PortChange(BaseModel):
    """What may be changed of a port."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str | None = None
    admin_state_up: bool | None = None
    device_id: str | None = None
    device_owner: str | None = None
    security_groups: list[str] | None = None


class PortChangeBody(BaseModel):
    """Its envelope."""

    port: PortChange


class TagsBody(BaseModel):
    """All tags of a port."""

    tags: list[str]


def _view(port: Port) -> Json:
    fixed = [{"subnet_id": subnet, "ip_address": address} for subnet, address in port.fixed_ips]
    return {
        "id": port.id,
        "name": port.name,
        "description": port.description,
        "network_id": port.network.id,
        "project_id": port.project_id,
        "tenant_id": port.project_id,
        "mac_address": port.mac,
        "fixed_ips": fixed,
        "admin_state_up": port.admin_state_up,
        "port_security_enabled": port.port_security,
        "security_groups": port.security_groups,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "status": port.status,
        "binding:vnic_type": "normal",
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "tags": port.tags,
        "created_at": f"{port.created:%Y-%m-%dT%H:%M:%SZ}",
        "updated_at": f"{port.created:%Y-%m-%dT%H:%M:%SZ}",
        "revision_number": 1,
    }


def make_port(call: Call, wish: PortWish) -> Port:
    """A new port of the project.

    Raises:
        Refused: no such network, the quota is used up, or an address is wrong, taken or not the member's to choose.
    """
    network = visible_networks(call).get(wish.network_id)
    if network is None:
        raise not_found("Network", wish.network_id)
    if network.project_id != call.project.id:
        _check_policy(wish)
    for group in wish.security_groups or ():
        if group != call.cloud.security_groups[call.project.id]:
            raise Refused(404, f"Security group {group} does not exist", "SecurityGroupNotFound")
    limit = call.project.quota.ports
    if 0 <= limit <= len(call.cloud.of_project(call.cloud.ports, call.project)):
        raise Refused(409, "Quota exceeded for resources: ['port'].", "OverQuota")
    mac = _mac(call, network, wish.mac_address)
    fixed_ips = _fixed_ips(call, network, wish.fixed_ips)
    groups = [call.cloud.security_groups[call.project.id]] if wish.port_security_enabled else []
    port = Port(
        call.project.id,
        network,
        mac,
        fixed_ips,
        name=wish.name,
        description=wish.description,
        tags=sorted(set(wish.tags)),
        admin_state_up=wish.admin_state_up,
        port_security=wish.port_security_enabled,
        security_groups=groups if wish.security_groups is None else wish.security_groups,
        device_id=wish.device_id,
        device_owner=wish.device_owner,
    )
    call.cloud.ports[port.id] = port
    return port


def _check_policy(wish: PortWish) -> None:
    rules = []
    if wish.mac_address:
        rules.append("rule:create_port:mac_address")
    fixed_ips = wish.fixed_ips or ()
    if any(fixed.ip_address for fixed in fixed_ips):
        names = ["subnet_id"] * any(fixed.subnet_id for fixed in fixed_ips) + ["ip_address"]
        asked = " and ".join(f"rule:create_port:fixed_ips:{name}" for name in names)
        rules.append(f"(rule:create_port:fixed_ips and ({asked}))")
    if rules:
        text = f"({' and '.join(['rule:create_port', *rules])}) is disallowed by policy"
        raise Refused(403, text, "PolicyNotAuthorized")


def _mac(call: Call, network: Network, wanted: str | None) -> str:
    taken = {port.mac.lower() for port in call.cloud.ports.values() if port.network is network}
    if wanted is None:
        while (mac := f"fa:16:3e:{secrets.token_bytes(3).hex(':')}") in taken:
            pass
        return mac
    if not _MAC.fullmatch(wanted.lower()):
        text = f"Invalid input for mac_address. Reason: '{wanted}' is not a valid MAC address."
        raise Refused(400, text, "HTTPBadRequest")
    if wanted.lower() in taken:
        text = f"Unable to complete operation for network {network.id}. The mac address {wanted} is in use."
        raise Refused(409, text, "MacAddressInUse")
    # In the case in which it was asked for; a multicast MAC is taken, too.
    return wanted


def _fixed_ips(call: Call, network: Network, wanted: list[FixedIp] | None) -> list[tuple[str, str]]:
    subnets = {subnet.id: subnet for subnet in subnets_of(call, network)}
    chosen: list[tuple[str, str]] = []
    for wish in [FixedIp(subnet_id=next(iter(subnets)))] if wanted is None else wanted:
        subnet = _subnet_for(wish, network, subnets)
        taken = _taken(call, subnet) | {address for _, address in chosen}
        if wish.ip_address is None:
            pool = list(subnet.range)[_FIRST_FREE:-1]
            free = next((str(address) for address in pool if str(address) not in taken), None)
            if free is None:
                text = f"No more IP addresses available on network {network.id}."
                raise Refused(409, text, "IpAddressGenerationFailure")
            chosen.append((subnet.id, free))
        elif wish.ip_address in taken:
            text = f"IP address {wish.ip_address} already allocated in subnet {subnet.id}"
            raise Refused(409, text, "IpAddressAlreadyAllocated")
        else:
            chosen.append((subnet.id, wish.ip_address))
    return chosen


def _subnet_for(wish: FixedIp, network: Network, subnets: dict[str, Subnet]) -> Subnet:
    if wish.subnet_id is not None and wish.subnet_id not in subnets:
        text = f"Invalid input for operation: Failed to create port on network {network.id}"
        raise Refused(400, f"{text}, because fixed_ips included invalid subnet {wish.subnet_id}.", "InvalidInput")
    candidates = [subnets[wish.subnet_id]] if wish.subnet_id else list(subnets.values())
    if wish.ip_address is None:
        return candidates[0]
    try:
        address = ipaddress.IPv4Address(wish.ip_address)
    except ValueError:
        text = f"Invalid input for fixed_ips. Reason: '{wish.ip_address}' is not a valid IP address."
        raise Refused(400, text, "HTTPBadRequest") from None
    for subnet in candidates:
        if address in list(subnet.range.hosts()):
            return subnet
    text = f"IP address {wish.ip_address} is not a valid IP for the specified subnet."
    raise Refused(400, text, "InvalidIpForSubnet")


def _taken(call: Call, subnet: Subnet) -> set[str]:
    fixed = [each for port in call.cloud.ports.values() for each in port.fixed_ips]
    return {address for subnet_id, address in fixed if subnet_id == subnet.id} | {subnet.gateway}


@router.post("/ports", status_code=201)
async def create_port(call: NetworkCall, body: PortWishBody) -> Json:
    """A port."""
    return {"port": _view(make_port(call, body.port))}


@router.get("/ports")
async def list_ports(call: NetworkCall) -> Json:
    """The project's ports."""
    return call.page("ports", filtered(call, map(_view, call.cloud.of_project(call.cloud.ports, call.project))))


@router.get("/ports/{port_id}")
async def show_port(call: NetworkCall, port_id: str) -> Json:
    """One port."""
    return {"port": _view(call.cloud.port(call.project, port_id))}


@router.put("/ports/{port_id}")
async def update_port(call: NetworkCall, port_id: str, body: PortChangeBody) -> Json:
    """Change a port."""
    port = call.cloud.port(call.project, port_id)
    changes: dict[str, Any] = body.port.model_dump(exclude_unset=True)
    for name, value in changes.items():
        setattr(port, name, value)
    return {"port": _view(port)}


@router.delete("/ports/{port_id}", status_code=204)
async def delete_port(call: NetworkCall, port_id: str) -> None:
    """Delete a port, whether or not a server uses it."""
    port = call.cloud.port(call.project, port_id)
    del call.cloud.ports[port.id]
    for server in call.cloud.servers.values():
        server.ports = [each for each in server.ports if each is not port]


@router.put("/ports/{port_id}/tags")
async def replace_tags(call: NetworkCall, port_id: str, body: TagsBody) -> Json:
    """Other tags."""
    port = call.cloud.port(call.project, port_id)
    port.tags = sorted(set(body.tags))
    return {"tags": port.tags}


@router.delete("/ports/{port_id}/tags", status_code=204)
async def remove_tags(call: NetworkCall, port_id: str) -> None:
    """No tags."""
    call.cloud.port(call.project, port_id).tags = []


@router.put("/ports/{port_id}/tags/{tag}", status_code=201)
async def add_tag(call: NetworkCall, port_id: str, tag: str) -> None:
    """One tag more."""
    port = call.cloud.port(call.project, port_id)
    port.tags = sorted({*port.tags, tag})


@router.delete("/ports/{port_id}/tags/{tag}", status_code=204)
async def remove_tag(call: NetworkCall, port_id: str, tag: str) -> None:
    """One tag less."""
    port = call.cloud.port(call.project, port_id)
    if tag not in port.tags:
        raise Refused(404, f"Tag {tag} could not be found.", "TagNotFound")
    port.tags.remove(tag)
