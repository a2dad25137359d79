"""Neutron's API: networks, subnets, quotas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lab.cloud.call import Call, NetworkCall
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.state import Network, Subnet, new_id

router = APIRouter(prefix="/network/v2.0")

_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir", "page_reverse", "fields"})
FIRST_FREE = 10
"""Of a subnet's addresses, those before are in no allocation pool."""
EXTENSIONS = ("standard-attr-tag", "quotas", "quota_details", "port-security", "security-group", "binding")


class NetworkWish(BaseModel):
    """A network to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    mtu: int = 1500
    port_security_enabled: bool = True
    shared: bool = False
    external: bool = Field(default=False, alias="router:external")

    def for_administrators(self) -> dict[str, bool]:
        """What a member may not ask for."""
        return {"router:external": self.external, "shared": self.shared}


class NetworkWishBody(BaseModel):
    """Its envelope."""

    network: NetworkWish


class SubnetWish(BaseModel):
    """A subnet to be made."""

    model_config = ConfigDict(extra="forbid")

    network_id: str
    name: str = ""
    description: str = ""
    cidr: str
    ip_version: Literal[4, 6]
    enable_dhcp: bool = True
    gateway_ip: str | None = ""
    """None: without a gateway; "": Neutron's choice. The choice of an address is played by nobody."""


class SubnetWishBody(BaseModel):
    """Its envelope."""

    subnet: SubnetWish


def filtered(call: Call, rows: Iterable[Json]) -> list[Json]:
    """The rows that match every filter of the query; several values of one key are alternatives.

    Raises:
        Refused: 400, nothing can be filtered by such a key.
    """
    found = list(rows)
    for key in set(call.query) - _PAGING:
        name = "project_id" if key == "tenant_id" else key
        values = call.query.getlist(key)
        found = [row for row in found if _matches(row, name, values)]
    return found


def _matches(row: Json, name: str, values: list[str]) -> bool:
    match name:
        case "tags":
            return set(values[0].split(",")) <= set(row["tags"])
        case "tags-any":
            return bool(set(values[0].split(",")) & set(row["tags"]))
        case "mac_address":
            # Neutron keeps the case in which a MAC was given, and its database compares without regard to it.
            return row["mac_address"].lower() in (value.lower() for value in values)
        case "fixed_ips":
            wanted = [tuple(value.split("=", 1)) for value in values]
            return any(all(fixed.get(key) == value for key, value in wanted) for fixed in row["fixed_ips"])
        case "mac_address":
            # Neutron keeps the case in which a MAC was given, and its database compares without regard to it.
            return row["mac_address"].lower() in (value.lower() for value in values)
        case _ if name in row:
            value = row[name]
            text = str(value).lower() if isinstance(value, bool) else str(value)
            return text in (each.lower() if isinstance(value, bool) else each for each in values)
        case _:
            raise Refused(
                400, f"Invalid input for operation: ['{name}'] is invalid attribute for filtering.", "HTTPBadRequest"
            )


def visible_networks(call: Call) -> dict[str, Network]:
    """The project's own networks and the shared ones."""
    return {
        network.id: network
        for network in call.cloud.networks.values()
        if network.shared or network.project_id == call.project.id
    }


def subnets_of(call: Call, network: Network) -> list[Subnet]:
    """The subnets of a network."""
    return [subnet for subnet in call.cloud.subnets.values() if subnet.network_id == network.id]


def _network_view(call: Call, network: Network) -> Json:
    return {
        "id": network.id,
        "name": network.name,
        "project_id": network.project_id,
        "tenant_id": network.project_id,
        "shared": network.shared,
        "subnets": [subnet.id for subnet in subnets_of(call, network)],
        "status": "ACTIVE",
        "admin_state_up": network.up,
        "router:external": network.external,
        "port_security_enabled": network.port_security,
        "mtu": network.mtu,
        "availability_zones": ["nova"],
        "availability_zone_hints": [],
        "description": network.description,
        "created_at": f"{network.created:%Y-%m-%dT%H:%M:%SZ}",
        "tags": [],
    }


def _subnet_view(subnet: Subnet) -> Json:
    addresses = subnet.range
    return {
        "id": subnet.id,
        "name": subnet.name,
        "network_id": subnet.network_id,
        "project_id": subnet.project_id,
        "tenant_id": subnet.project_id,
        "ip_version": addresses.version,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway,
        "enable_dhcp": subnet.dhcp,
        "ipv6_address_mode": None,
        "ipv6_ra_mode": None,
        "allocation_pools": [{"start": str(addresses[FIRST_FREE]), "end": str(addresses[-2])}],
        "dns_nameservers": [],
        "host_routes": [],
        "description": subnet.description,
        "tags": [],
    }


@router.get("")
@router.get("/")
async def list_resources(call: NetworkCall) -> Json:
    """What this version has."""
    del call
    names = ("network", "subnet", "port", "security-group", "quota", "extension")
    return {"resources": [{"name": name, "collection": f"{name}s", "links": []} for name in names]}


@router.get("/networks")
async def list_networks(call: NetworkCall) -> Json:
    """The networks that the project sees."""
    rows = (_network_view(call, network) for network in visible_networks(call).values())
    return call.page("networks", filtered(call, rows))


@router.get("/networks/{network_id}")
async def show_network(call: NetworkCall, network_id: str) -> Json:
    """One network."""
    network = visible_networks(call).get(network_id)
    if network is None:
        raise not_found("Network", network_id)
    return {"network": _network_view(call, network)}


def _visible_subnets(call: Call) -> dict[str, Subnet]:
    networks = visible_networks(call)
    return {subnet.id: subnet for subnet in call.cloud.subnets.values() if subnet.network_id in networks}


@router.post("/networks", status_code=201)
async def create_network(call: NetworkCall, body: NetworkWishBody) -> Json:
    """A network of the project."""
    wish = body.network
    rules = [f"rule:create_network:{name}" for name, asked in wish.for_administrators().items() if asked]
    if rules:
        text = f"({' and '.join(['rule:create_network', *rules])}) is disallowed by policy"
        raise Refused(403, text, "PolicyNotAuthorized")
    _check_quota(call, "network")
    network = Network(
        new_id(),
        wish.name,
        call.project.id,
        description=wish.description,
        up=wish.admin_state_up,
        mtu=wish.mtu,
        port_security=wish.port_security_enabled,
    )
    call.cloud.networks[network.id] = network
    return {"network": _network_view(call, network)}


@router.delete("/networks/{network_id}", status_code=204)
async def delete_network(call: NetworkCall, network_id: str) -> None:
    """Delete a network of the project with its subnets."""
    network = visible_networks(call).get(network_id)
    if network is None:
        raise not_found("Network", network_id)
    if network.project_id != call.project.id:
        raise Refused(403, "rule:delete_network is disallowed by policy", "PolicyNotAuthorized")
    if any(port.network is network for port in call.cloud.ports.values()):
        text = f"Unable to complete operation on network {network_id}."
        raise Refused(409, f"{text} There are one or more ports still in use on the network.", "NetworkInUse")
    for subnet in subnets_of(call, network):
        del call.cloud.subnets[subnet.id]
    del call.cloud.networks[network_id]


@router.post("/subnets", status_code=201)
async def create_subnet(call: NetworkCall, body: SubnetWishBody) -> Json:
    """A subnet of a network of the project."""
    wish = body.subnet
    network = visible_networks(call).get(wish.network_id)
    if network is None:
        raise not_found("Network", wish.network_id)
    if network.project_id != call.project.id:
        raise Refused(403, "rule:create_subnet is disallowed by policy", "PolicyNotAuthorized")
    if wish.gateway_ip:
        raise Refused(400, "This cloud chooses the gateway itself.", "HTTPBadRequest")
    _check_quota(call, "subnet")
    subnet = Subnet(
        new_id(),
        wish.name,
        network.id,
        call.project.id,
        wish.cidr,
        dhcp=wish.enable_dhcp,
        routed=wish.gateway_ip is not None,
        description=wish.description,
    )
    call.cloud.subnets[subnet.id] = subnet
    return {"subnet": _subnet_view(subnet)}


@router.get("/subnets")
async def list_subnets(call: NetworkCall) -> Json:
    """The subnets of the networks that the project sees."""
    return call.page("subnets", filtered(call, map(_subnet_view, _visible_subnets(call).values())))


@router.get("/subnets/{subnet_id}")
async def show_subnet(call: NetworkCall, subnet_id: str) -> Json:
    """One subnet."""
    subnet = _visible_subnets(call).get(subnet_id)
    if subnet is None:
        raise not_found("Subnet", subnet_id)
    return {"subnet": _subnet_view(subnet)}


@router.get("/extensions")
async def list_extensions(call: NetworkCall) -> Json:
    """What a client may ask for."""
    rows = [{"alias": alias, "name": alias, "description": "", "links": []} for alias in EXTENSIONS]
    return {"extensions": filtered(call, rows)}


@router.get("/extensions/{alias}")
async def show_extension(call: NetworkCall, alias: str) -> Json:
    """One of them."""
    del call
    if alias not in EXTENSIONS:
        raise Refused(404, f"Extension with alias {alias} does not exist", "ExtensionNotFound")
    return {"extension": {"alias": alias, "name": alias, "description": "", "links": []}}


def _used(call: Call) -> dict[str, tuple[int, int]]:
    own_networks = [each for each in call.cloud.networks.values() if each.project_id == call.project.id]
    own_subnets = [each for each in call.cloud.subnets.values() if each.project_id == call.project.id]
    ports = call.cloud.of_project(call.cloud.ports, call.project)
    return {
        "port": (call.project.quota.ports, len(ports)),
        "network": (call.project.quota.networks, len(own_networks)),
        "subnet": (call.project.quota.subnets, len(own_subnets)),
        "security_group": (10, sum(each.project_id == call.project.id for each in call.cloud.security_groups.values())),
    }


def _check_quota(call: Call, resource: str) -> None:
    limit, used = _used(call)[resource]
    if 0 <= limit <= used:
        raise Refused(409, f"Quota exceeded for resources: ['{resource}'].", "OverQuota")


def _check_own(call: Call, project_id: str) -> None:
    if project_id != call.project.id:
        raise Refused(403, "(rule:get_quota) is disallowed by policy", "PolicyNotAuthorized")


@router.get("/quotas/{target_id}")
async def show_quota(call: NetworkCall, target_id: str) -> Json:
    """The project's limits."""
    _check_own(call, target_id)
    return {"quota": {name: limit for name, (limit, _) in _used(call).items()}}


@router.get("/quotas/{target_id}/details")
async def show_quota_details(call: NetworkCall, target_id: str) -> Json:
    """The project's limits and what it uses of them."""
    _check_own(call, target_id)
    details = {name: {"limit": limit, "used": used, "reserved": 0} for name, (limit, used) in _used(call).items()}
    return {"quota": details}
