"""Cinder's API beside the volumes: types, zones, limits, quotas and messages."""

from __future__ import annotations

from fastapi import APIRouter

from lab.cloud import volumes
from lab.cloud.block_storage import time_text
from lab.cloud.call import Call, VolumeCall
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.state import Message, VolumeType

router = APIRouter(prefix="/volume/v3/{project_id}")


def _type_view(volume_type: VolumeType) -> Json:
    return {
        "id": volume_type.id,
        "name": volume_type.name,
        "description": None,
        "is_public": True,
        "os-volume-type-access:is_public": True,
        "extra_specs": dict(volume_type.extra_specs),
    }


@router.get("/types")
async def list_types(call: VolumeCall) -> Json:
    """Every volume type."""
    return call.page("volume_types", map(_type_view, call.cloud.volume_types.values()))


@router.get("/types/{type_id}")
async def show_type(call: VolumeCall, type_id: str) -> Json:
    """One volume type, by its id."""
    if type_id not in call.cloud.volume_types:
        raise not_found("Volume type", type_id)
    return {"volume_type": _type_view(call.cloud.volume_types[type_id])}


@router.get("/types/{type_id}/encryption")
async def show_encryption(call: VolumeCall, type_id: str) -> Json:
    """Not for a plain member."""
    del call, type_id
    raise Refused(403, "Policy doesn't allow volume_extension:volume_type_encryption:get to be performed.")


@router.get("/os-availability-zone")
async def list_zones(call: VolumeCall) -> Json:
    """The zones for volumes."""
    return {
        "availabilityZoneInfo": [
            {"zoneName": zone, "zoneState": {"available": True}} for zone in call.cloud.volume_zones
        ]
    }


@router.get("/limits")
async def show_limits(call: VolumeCall) -> Json:
    """The project's limits and what it uses of them."""
    count, gigabytes = volumes.used(call.cloud, call.project)
    quota = call.project.quota
    absolute = {
        "maxTotalVolumes": quota.volumes,
        "totalVolumesUsed": count,
        "maxTotalVolumeGigabytes": quota.gigabytes,
        "totalGigabytesUsed": gigabytes,
        "maxTotalSnapshots": quota.snapshots,
        "totalSnapshotsUsed": len(call.cloud.of_project(call.cloud.snapshots, call.project)),
        "maxTotalBackups": 10,
        "totalBackupsUsed": 0,
        "maxTotalBackupGigabytes": 1000,
        "totalBackupGigabytesUsed": 0,
    }
    return {"limits": {"rate": [], "absolute": absolute}}


@router.get("/os-quota-sets/{target_id}")
async def show_quota(call: VolumeCall, target_id: str) -> Json:
    """The project's quota; of another project a member is told nothing."""
    if target_id != call.project.id:
        raise Refused(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
    return {"quota_set": {"id": target_id} | _quota(call)}


def _quota(call: Call) -> Json:
    count, gigabytes = volumes.used(call.cloud, call.project)
    quota = call.project.quota
    limits: dict[str, tuple[int, int]] = {
        "volumes": (quota.volumes, count),
        "gigabytes": (quota.gigabytes, gigabytes),
        "per_volume_gigabytes": (-1, 0),
        "snapshots": (quota.snapshots, len(call.cloud.of_project(call.cloud.snapshots, call.project))),
        "backups": (10, 0),
        "backup_gigabytes": (1000, 0),
    }
    for volume_type in call.cloud.volume_types.values():
        sizes = [
            each.size
            for each in call.cloud.of_project(call.cloud.volumes, call.project)
            if each.volume_type is volume_type
        ]
        name = volume_type.name
        limits[f"volumes_{name}"] = (quota.volumes_of_type.get(name, -1), len(sizes))
        limits[f"gigabytes_{name}"] = (quota.gigabytes_of_type.get(name, -1), sum(sizes))
    if call.query.get("usage", "").lower() == "true":
        return {name: {"limit": limit, "in_use": used, "reserved": 0} for name, (limit, used) in limits.items()}
    return {name: limit for name, (limit, _) in limits.items()}


def _message_view(message: Message) -> Json:
    return {
        "id": message.id,
        "event_id": "VOLUME_VOLUME_001_003",
        "user_message": message.text,
        "message_level": "ERROR",
        "resource_type": "VOLUME",
        "resource_uuid": message.resource_id,
        "created_at": time_text(message.created),
        "guaranteed_until": None,
        "request_id": f"req-{message.id}",
        "links": [],
    }


@router.get("/messages")
async def list_messages(call: VolumeCall) -> Json:
    """Why things went wrong behind the API."""
    call.needs(3, 5)
    resource = call.query.get("resource_uuid")
    own = [each for each in call.cloud.messages if each.project_id == call.project.id]
    return call.page("messages", (_message_view(each) for each in own if resource in {None, each.resource_id}))
