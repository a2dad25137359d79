"""Cinder's API: snapshots of volumes."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from lab.cloud import snapshots
from lab.cloud.block_storage import Metadata, Text, time_text
from lab.cloud.call import Call, VolumeCall
from lab.cloud.refusals import Json
from lab.cloud.state import Snapshot

router = APIRouter(prefix="/volume/v3/{project_id}")


class SnapshotWish(BaseModel):
    """A snapshot to be made."""

    volume_id: str
    name: Text | None = None
    description: Text | None = None
    force: bool = False
    metadata: Metadata | None = None


class SnapshotWishBody(BaseModel):
    """Its envelope."""

    snapshot: SnapshotWish


def _view(snapshot: Snapshot) -> Json:
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "description": snapshot.description,
        "volume_id": snapshot.volume.id,
        "status": snapshot.status,
        "size": snapshot.size,
        "metadata": dict(snapshot.metadata),
        "created_at": time_text(snapshot.created),
        "updated_at": time_text(snapshot.updated),
        "user_id": snapshot.user_id,
        "group_snapshot_id": None,
        "consumes_quota": True,
        "os-extended-snapshot-attributes:project_id": snapshot.project_id,
        "os-extended-snapshot-attributes:progress": "100%" if snapshot.status == "available" else "0%",
    }


@router.post("/snapshots", status_code=202)
async def create_snapshot(call: VolumeCall, body: SnapshotWishBody) -> Json:
    """A snapshot of a volume."""
    wish = body.snapshot
    volume = call.cloud.volume(call.project, wish.volume_id)
    snapshot = snapshots.create(call.cloud, call.project, call.user, volume, forced=wish.force)
    snapshot.name, snapshot.description = wish.name, wish.description
    snapshot.metadata = dict(wish.metadata or {})
    return {"snapshot": _view(snapshot)}


def _wanted(call: Call) -> list[Snapshot]:
    found = call.cloud.of_project(call.cloud.snapshots, call.project)
    volume_id = call.query.get("volume_id")
    return [snapshot for snapshot in found if volume_id in {None, snapshot.volume.id}]


@router.get("/snapshots/detail")
async def list_snapshots_in_detail(call: VolumeCall) -> Json:
    """The project's snapshots, all that is known of them."""
    return call.page("snapshots", map(_view, _wanted(call)))


@router.get("/snapshots/{snapshot_id}")
async def show_snapshot(call: VolumeCall, snapshot_id: str) -> Json:
    """One snapshot."""
    return {"snapshot": _view(snapshots.find(call.cloud, call.project, snapshot_id))}


@router.delete("/snapshots/{snapshot_id}", status_code=202)
async def delete_snapshot(call: VolumeCall, snapshot_id: str) -> None:
    """Delete it, and its file."""
    snapshots.delete(call.cloud, snapshots.find(call.cloud, call.project, snapshot_id))
