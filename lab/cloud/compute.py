"""Nova's API beside the servers: flavors, zones, limits, quotas."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from pydantic import BaseModel

from lab.cloud.call import Call, ComputeCall
from lab.cloud.refusals import Json, Refused
from lab.cloud.state import Cloud, Flavor, KeyPair, Project

router = APIRouter(prefix="/compute/v2.1")


def used(cloud: Cloud, project: Project) -> dict[str, int]:
    """What the project's servers use: cores, ram (MiB), instances."""
    servers = cloud.of_project(cloud.servers, project)
    return {
        "cores": sum(server.flavor.vcpus for server in servers),
        "ram": sum(server.flavor.ram for server in servers),
        "instances": len(servers),
    }


def check_quota(cloud: Cloud, project: Project, flavor: Flavor) -> None:
    """Refuse one more server of that flavor where the quota does not cover it."""
    requested = {"cores": flavor.vcpus, "ram": flavor.ram, "instances": 1}
    consumed = used(cloud, project)
    limits = {name: getattr(project.quota, name) for name in requested}
    over = sorted(name for name in requested if 0 <= limits[name] < consumed[name] + requested[name])
    if over:
        columns = [", ".join(str(values[name]) for name in over) for values in (requested, consumed, limits)]
        names = ", ".join(over)
        text = f"Requested {columns[0]}, but already used {columns[1]} of {columns[2]} {names}"
        raise Refused(403, f"Quota exceeded for {names}: {text}")


def flavor_view(flavor: Flavor) -> Json:
    """All of a flavor."""
    return {
        "id": flavor.id,
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.ram,
        "disk": 0,
        "swap": 0,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
        "os-flavor-access:is_public": True,
        "rxtx_factor": 1.0,
        "description": None,
        "extra_specs": {},
        "links": [],
    }


@router.get("/flavors/detail")
async def list_flavors_in_detail(call: ComputeCall) -> Json:
    """Every flavor."""
    return call.page("flavors", map(flavor_view, call.cloud.flavors.values()))


@router.get("/flavors")
async def list_flavors(call: ComputeCall) -> Json:
    """The flavors' names."""
    rows: Iterator[Json] = (
        {"id": each.id, "name": each.name, "description": None, "links": []} for each in call.cloud.flavors.values()
    )
    return call.page("flavors", rows)


@router.get("/flavors/{flavor_id}")
async def show_flavor(call: ComputeCall, flavor_id: str) -> Json:
    """One flavor, by its id."""
    if flavor_id not in call.cloud.flavors:
        raise Refused(404, f"Flavor {flavor_id} could not be found.")
    return {"flavor": flavor_view(call.cloud.flavors[flavor_id])}


@router.get("/flavors/{flavor_id}/os-extra_specs")
async def show_extra_specs(call: ComputeCall, flavor_id: str) -> Json:
    """None."""
    if flavor_id not in call.cloud.flavors:
        raise Refused(404, f"Flavor {flavor_id} could not be found.")
    return {"extra_specs": {}}


@router.post("/flavors")
async def create_flavor(call: ComputeCall) -> Json:
    """Not for a plain member."""
    del call
    raise Refused(403, "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed.")


@router.get("/os-availability-zone")
async def list_zones(call: ComputeCall) -> Json:
    """The zones for servers."""
    zones = [{"zoneName": zone, "zoneState": {"available": True}, "hosts": None} for zone in call.cloud.zones]
    return {"availabilityZoneInfo": zones}


@router.get("/limits")
async def show_limits(call: ComputeCall) -> Json:
    """The project's limits and what it uses of them."""
    consumed, quota = used(call.cloud, call.project), call.project.quota
    absolute = {
        "maxTotalCores": quota.cores,
        "totalCoresUsed": consumed["cores"],
        "maxTotalRAMSize": quota.ram,
        "totalRAMUsed": consumed["ram"],
        "maxTotalInstances": quota.instances,
        "totalInstancesUsed": consumed["instances"],
        "maxTotalKeypairs": 100,
        "maxServerMeta": 128,
        "maxImageMeta": 128,
        "maxPersonality": 5,
        "maxPersonalitySize": 10_240,
        "maxSecurityGroups": -1,
        "maxSecurityGroupRules": -1,
        "maxTotalFloatingIps": -1,
        "totalSecurityGroupsUsed": 0,
        "totalFloatingIpsUsed": 0,
        "maxServerGroups": 10,
        "totalServerGroupsUsed": 0,
        "maxServerGroupMembers": 10,
    }
    return {"limits": {"rate": [], "absolute": absolute}}


def _limits(call: Call, target_id: str) -> dict[str, int]:
    if target_id != call.project.id:
        raise Refused(403, "Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.")
    quota = call.project.quota
    return {
        "cores": quota.cores,
        "ram": quota.ram,
        "instances": quota.instances,
        "key_pairs": 100,
        "metadata_items": 128,
        "server_groups": 10,
        "server_group_members": 10,
    }


@router.get("/os-quota-sets/{target_id}")
async def show_quota(call: ComputeCall, target_id: str) -> Json:
    """The project's limits."""
    return {"quota_set": {"id": target_id} | _limits(call, target_id)}


@router.get("/os-quota-sets/{target_id}/detail")
async def show_quota_details(call: ComputeCall, target_id: str) -> Json:
    """The project's limits and what it uses of them."""
    limits, consumed = _limits(call, target_id), used(call.cloud, call.project)
    details = {name: {"limit": limit, "in_use": consumed.get(name, 0), "reserved": 0} for name, limit in limits.items()}
    return {"quota_set": {"id": target_id} | details}


def _key_pair_view(pair: KeyPair) -> Json:
    return {"name": pair.name, "public_key": pair.public_key, "fingerprint": "", "user_id": pair.user_id, "type": "ssh"}


@router.get("/os-keypairs")
async def list_key_pairs(call: ComputeCall) -> Json:
    """The user's own, whatever the project."""
    own = [pair for pair in call.cloud.key_pairs if pair.user_id == call.user.id]
    return {"keypairs": [{"keypair": _key_pair_view(pair)} for pair in own]}


class KeyPairWish(BaseModel):
    """A public key of the user's."""

    name: str
    public_key: str


class KeyPairBody(BaseModel):
    """The body of POST /os-keypairs."""

    keypair: KeyPairWish


@router.post("/os-keypairs", status_code=201)
async def make_key_pair(call: ComputeCall, body: KeyPairBody) -> Json:
    """Import a key."""
    if any((pair.user_id, pair.name) == (call.user.id, body.keypair.name) for pair in call.cloud.key_pairs):
        raise Refused(409, f"Key pair '{body.keypair.name}' already exists.")
    pair = KeyPair(name=body.keypair.name, public_key=body.keypair.public_key, user_id=call.user.id)
    call.cloud.key_pairs.append(pair)
    return {"keypair": _key_pair_view(pair)}


@router.delete("/os-keypairs/{name}", status_code=202)
async def delete_key_pair(call: ComputeCall, name: str) -> None:
    """Forget a key."""
    kept = [pair for pair in call.cloud.key_pairs if (pair.user_id, pair.name) != (call.user.id, name)]
    if len(kept) == len(call.cloud.key_pairs):
        raise Refused(404, f"Keypair {name} not found for user {call.user.id}")
    call.cloud.key_pairs = kept


@router.get("/os-keypairs/{name}")
async def show_key_pair(call: ComputeCall, name: str) -> Json:
    """One of the user's own."""
    for pair in call.cloud.key_pairs:
        if (pair.user_id, pair.name) == (call.user.id, name):
            return {"keypair": _key_pair_view(pair)}
    raise Refused(404, f"Keypair {name} not found for user {call.user.id}")
