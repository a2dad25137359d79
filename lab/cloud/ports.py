"""Neutron's ports: addresses that are free, in the subnet, and the member's to choose."""

from __future__ import annotations

import ipaddress
import itertools
import re
import secrets
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lab.cloud.call import Call, NetworkCall
from lab.cloud.network import FIRST_FREE, filtered, subnets_of, visible_networks
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.security_groups import check_groups, default_group
from lab.cloud.state import Network, Port, Subnet

router = APIRouter(prefix="/network/v2.0")

_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
MOST_LOOKED_AT = 1 << 16
"""Of a subnet's addresses: a subnet of IPv6 has more than can be counted."""
NO_MACS = ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")


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
    port_security_enabled: bool | None = None
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
    limit = call.project.quota.ports
    if 0 <= limit <= len(call.cloud.of_project(call.cloud.ports, call.project)):
        raise Refused(409, "Quota exceeded for resources: ['port'].", "OverQuota")
    if network.project_id != call.project.id:
        _check_policy(wish)
    mac = _mac(call, network, wish.mac_address)
    fixed_ips = _fixed_ips(call, network, wish.fixed_ips)
    secured = network.port_security if wish.port_security_enabled is None else wish.port_security_enabled
    groups = _groups(call, wish, secured=secured and bool(fixed_ips))
    port = Port(
        call.project.id,
        network,
        mac,
        fixed_ips,
        name=wish.name,
        description=wish.description,
        tags=sorted(set(wish.tags)),
        admin_state_up=wish.admin_state_up,
        port_security=secured,
        security_groups=groups,
        device_id=wish.device_id,
        device_owner=wish.device_owner,
    )
    call.cloud.ports[port.id] = port
    return port


def _check_policy(wish: PortWish) -> None:
    """What a member may not choose in a network that another project owns.

    The text names every rule that was asked, and not the one that said no.
    """
    allowed = ["rule:create_port"]
    refused = []
    if wish.port_security_enabled is not None:
        refused.append("rule:create_port:port_security_enabled")
    if wish.mac_address is not None:
        refused.append("rule:create_port:mac_address")
    parts = [f"rule:create_port:fixed_ips:{name}" for name in ("subnet_id", "ip_address") if _asks_for(wish, name)]
    if any(part.endswith("ip_address") for part in parts):
        refused.append(f"(rule:create_port:fixed_ips and ({' and '.join(parts)}))")
    if refused:
        text = f"({' and '.join([*allowed, *refused])}) is disallowed by policy"
        raise Refused(403, text, "PolicyNotAuthorized")


def _asks_for(wish: PortWish, name: str) -> bool:
    return any(getattr(fixed, name) for fixed in wish.fixed_ips or ())


def _groups(call: Call, wish: PortWish, *, secured: bool) -> list[str]:
    if wish.security_groups is None:
        return [default_group(call).id] if secured else []
    if wish.security_groups and not secured:
        text = "Port security must be enabled and port must have an IP address in order to use security groups."
        raise Refused(400, text, "PortSecurityAndIPRequiredForSecurityGroups")
    check_groups(call, wish.security_groups)
    return wish.security_groups


def _mac(call: Call, network: Network, wanted: str | None) -> str:
    taken = {port.mac.lower() for port in call.cloud.ports.values() if port.network is network}
    if wanted is None:
        while (mac := f"fa:16:3e:{secrets.token_bytes(3).hex(':')}") in taken:
            pass
        return mac
    if not _MAC.fullmatch(wanted.lower()) or wanted.lower() in NO_MACS:
        text = f"Invalid input for mac_address. Reason: '{wanted}' is not a valid MAC address."
        raise Refused(400, text, "HTTPBadRequest")
    if wanted.lower() in taken:
        text = f"Unable to complete operation for network {network.id}. The mac address {wanted} is in use."
        raise Refused(409, text, "MacAddressInUse")
    # In the case in which it was asked for; a multicast MAC is taken, too.
    return wanted


def _fixed_ips(call: Call, network: Network, wanted: list[FixedIp] | None) -> list[tuple[str, str]]:
    subnets = {subnet.id: subnet for subnet in subnets_of(call, network)}
    if wanted and not subnets:
        raise Refused(400, "Invalid input for operation: IP allocation requires subnets for network.", "InvalidInput")
    chosen: list[tuple[str, str]] = []
    for wish in _one_of_each_version(subnets) if wanted is None else wanted:
        subnet = _subnet_for(call, wish, network, subnets)
        taken = _taken(call, subnet) | {address for _, address in chosen}
        if wish.ip_address is None:
            chosen.append((subnet.id, _free(subnet, network, taken)))
        elif str(ipaddress.ip_address(wish.ip_address)) in taken:
            text = f"IP address {wish.ip_address} already allocated in subnet {subnet.id}"
            raise Refused(409, text, "IpAddressAlreadyAllocated")
        else:
            chosen.append((subnet.id, str(ipaddress.ip_address(wish.ip_address))))
    return chosen


def _one_of_each_version(subnets: dict[str, Subnet]) -> list[FixedIp]:
    first = {subnet.range.version: subnet.id for subnet in reversed(subnets.values())}
    return [FixedIp(subnet_id=subnet_id) for _, subnet_id in sorted(first.items())]


def _free(subnet: Subnet, network: Network, taken: set[str]) -> str:
    last = min(subnet.range.num_addresses - 1, MOST_LOOKED_AT)
    for address in map(str, itertools.islice(subnet.range, FIRST_FREE, last)):
        if address not in taken:
            return address
    raise Refused(409, f"No more IP addresses available on network {network.id}.", "IpAddressGenerationFailure")


def _subnet_for(call: Call, wish: FixedIp, network: Network, subnets: dict[str, Subnet]) -> Subnet:
    if wish.subnet_id is not None and wish.subnet_id not in call.cloud.subnets:
        raise not_found("Subnet", wish.subnet_id)
    if wish.subnet_id is not None and wish.subnet_id not in subnets:
        text = f"Invalid input for operation: Failed to create port on network {network.id}"
        raise Refused(400, f"{text}, because fixed_ips included invalid subnet {wish.subnet_id}.", "InvalidInput")
    candidates = [subnets[wish.subnet_id]] if wish.subnet_id else list(subnets.values())
    if wish.ip_address is None:
        return candidates[0]
    try:
        address = ipaddress.ip_address(wish.ip_address)
    except ValueError:
        text = f"Invalid input for fixed_ips. Reason: '{wish.ip_address}' is not a valid IP address."
        raise Refused(400, text, "HTTPBadRequest") from None
    for subnet in candidates:
        if address in subnet.range and address not in _of_the_subnet_itself(subnet):
            return subnet
    where = "the specified subnet" if wish.subnet_id else "any of the subnets on the specified network"
    raise Refused(400, f"IP address {wish.ip_address} is not a valid IP for {where}.", "InvalidIpForSubnet")


def _of_the_subnet_itself(subnet: Subnet) -> tuple[object, ...]:
    whole = subnet.range
    return (whole.network_address, whole.broadcast_address) if whole.version == 4 else ()  # noqa: PLR2004 - IPv4's


def _taken(call: Call, subnet: Subnet) -> set[str]:
    fixed = [each for port in call.cloud.ports.values() for each in port.fixed_ips]
    return {address for subnet_id, address in fixed if subnet_id == subnet.id}


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
