"""Cinder's attachments: how a host that is no hypervisor of Nova gets at a volume."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lab.cloud import volumes
from lab.cloud.block_storage import time_text
from lab.cloud.call import Call, VolumeCall
from lab.cloud.refusals import Json, Refused
from lab.cloud.state import Attachment

router = APIRouter(prefix="/volume/v3/{project_id}")


class AttachmentWish(BaseModel):
    """An attachment to be made; without a connector it only reserves the volume."""

    volume_id: str = Field(alias="volume_uuid")
    server_id: str = Field(default="", alias="instance_uuid")
    connector: Json | None = None
    mode: Literal["rw", "ro"] = "rw"


class AttachmentWishBody(BaseModel):
    """Its envelope."""

    attachment: AttachmentWish


class ConnectorWish(BaseModel):
    """The connector for a reservation."""

    connector: Json


class ConnectorBody(BaseModel):
    """Its envelope."""

    attachment: ConnectorWish


def _summary(attachment: Attachment) -> Json:
    return {
        "id": attachment.id,
        "status": attachment.status,
        "instance": attachment.server_id,
        "volume_id": attachment.volume.id,
    }


def _detail(attachment: Attachment) -> Json:
    return _summary(attachment) | {
        "attached_at": time_text(attachment.attached) or "",
        "detached_at": "",
        "attach_mode": attachment.mode,
        "connection_info": volumes.connection_info(attachment),
    }


@router.post("/attachments")
async def create_attachment(call: VolumeCall, body: AttachmentWishBody) -> Json:
    """Reserve a volume and, with a connector, connect it."""
    call.needs(3, 27)
    wish = body.attachment
    volume = call.cloud.volume(call.project, wish.volume_id)
    attachment = volumes.reserve(call.cloud, volume, wish.server_id or None, wish.mode)
    if wish.connector:
        volumes.connect(attachment, wish.connector)
    return {"attachment": _detail(attachment)}


def _wanted(call: Call) -> list[Attachment]:
    found = call.cloud.of_project(call.cloud.attachments, call.project)
    query = call.query
    if "volume_id" in query:
        found = [each for each in found if each.volume.id == query["volume_id"]]
    if "instance_id" in query:
        found = [each for each in found if each.server_id == query["instance_id"]]
    status = query.get("status") or query.get("attach_status")
    return [each for each in found if status in {None, each.status}]


@router.get("/attachments/detail")
async def list_attachments_in_detail(call: VolumeCall) -> Json:
    """The project's attachments, with their connection info."""
    call.needs(3, 27)
    return call.page("attachments", map(_detail, _wanted(call)))


@router.get("/attachments")
async def list_attachments(call: VolumeCall) -> Json:
    """The project's attachments."""
    call.needs(3, 27)
    return call.page("attachments", map(_summary, _wanted(call)))


@router.get("/attachments/{attachment_id}")
async def show_attachment(call: VolumeCall, attachment_id: str) -> Json:
    """One attachment."""
    call.needs(3, 27)
    return {"attachment": _detail(call.cloud.attachment(call.project, attachment_id))}


@router.put("/attachments/{attachment_id}")
async def connect_attachment(call: VolumeCall, attachment_id: str, body: ConnectorBody) -> Json:
    """Connect a reservation."""
    call.needs(3, 27)
    attachment = call.cloud.attachment(call.project, attachment_id)
    volumes.connect(attachment, body.attachment.connector)
    return {"attachment": _detail(attachment)}


@router.post("/attachments/{attachment_id}/action", status_code=204)
async def complete_attachment(call: VolumeCall, attachment_id: str, body: Json) -> None:
    """The volume is in use from now on."""
    call.needs(3, 44)
    if "os-complete" not in body:
        raise Refused(400, f"There is no such action: {', '.join(body)}")
    volumes.complete(call.cloud.attachment(call.project, attachment_id))


@router.delete("/attachments/{attachment_id}")
async def delete_attachment(call: VolumeCall, attachment_id: str) -> Json:
    """Give the volume back; what Nova holds is given back by Nova only."""
    call.needs(3, 27)
    attachment = call.cloud.attachment(call.project, attachment_id)
    server = call.cloud.servers.get(attachment.server_id or "")
    if server is not None and any(device.attachment is attachment for device in server.devices):
        text = f"Detach volume from instance {attachment.server_id} using the Compute API"
        raise Refused(409, f"ConflictNovaUsingAttachment: {text}")
    volumes.release(call.cloud, attachment)
    return {"attachments": []}
