"""Cinder's API: volumes, their metadata and actions."""

from __future__ import annotations

import ast
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from lab.cloud import snapshots, volumes
from lab.cloud.call import Call, VolumeCall
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.state import Attachment, Cloud, Volume, VolumeType

DEFAULT_TYPE = "ssd"
Text = Annotated[str, StringConstraints(max_length=255)]
Metadata = dict[Text, Text]

router = APIRouter(prefix="/volume/v3/{project_id}")


class VolumeWish(BaseModel):
    """A volume to be made. `size` in GiB."""

    size: int = Field(ge=1)
    name: Text | None = None
    description: Text | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    metadata: Metadata | None = None
    image_reference: str | None = Field(default=None, alias="imageRef")
    snapshot_id: str | None = None
    source_volume_id: str | None = Field(default=None, alias="source_volid")


class VolumeWishBody(BaseModel):
    """Its envelope."""

    volume: VolumeWish


class VolumeChange(BaseModel):
    """What may be changed of a volume by PUT."""

    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None


class VolumeChangeBody(BaseModel):
    """Its envelope."""

    volume: VolumeChange


class MetadataBody(BaseModel):
    """Key-value pairs."""

    metadata: Metadata


class MetadataItemBody(BaseModel):
    """One key-value pair."""

    meta: Metadata


class NewSize(BaseModel):
    """The size to grow to, GiB."""

    new_size: int = Field(ge=1)


class Bootable(BaseModel):
    """Whether a server may boot from the volume."""

    bootable: bool


class MetadataKey(BaseModel):
    """A key to be removed."""

    key: Text


class Reverting(BaseModel):
    """The snapshot to go back to."""

    snapshot_id: str


class VolumeAction(BaseModel):
    """One of the actions; the body names it by its key."""

    extend: NewSize | None = Field(default=None, alias="os-extend")
    set_bootable: Bootable | None = Field(default=None, alias="os-set_bootable")
    set_image_metadata: MetadataBody | None = Field(default=None, alias="os-set_image_metadata")
    unset_image_metadata: MetadataKey | None = Field(default=None, alias="os-unset_image_metadata")
    show_image_metadata: Json | None = Field(default=None, alias="os-show_image_metadata")
    revert: Reverting | None = None


def time_text(moment: datetime | None) -> str | None:
    """As Cinder writes times: UTC without a zone."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") if moment else None


def _attachment_view(attachment: Attachment) -> Json:
    # Cinder hides `host_name` from everybody but administrators, so a product must not rely on it.
    return {
        "id": attachment.volume.id,
        "attachment_id": attachment.id,
        "volume_id": attachment.volume.id,
        "server_id": attachment.server_id,
        "host_name": None,
        "device": attachment.device,
        "attached_at": time_text(attachment.attached),
    }


def _view(call: Call, volume: Volume) -> Json:
    attached = [each for each in call.cloud.attachments_of(volume) if each.status == "attached"]
    view: Json = {
        "id": volume.id,
        "name": volume.name,
        "description": volume.description,
        "status": volume.status,
        "size": volume.size,
        "availability_zone": volume.zone,
        "volume_type": volume.volume_type.name,
        "bootable": str(volume.bootable).lower(),
        "metadata": dict(volume.metadata),
        "attachments": [_attachment_view(attachment) for attachment in attached],
        "created_at": time_text(volume.created),
        "updated_at": time_text(volume.updated),
        "user_id": volume.user_id,
        "os-vol-tenant-attr:tenant_id": volume.project_id,
        "encrypted": volume.volume_type.encrypted,
        "multiattach": volume.volume_type.multiattach,
        "snapshot_id": None,
        "source_volid": volume.source_id,
        "replication_status": None,
        "consistencygroup_id": None,
        "links": [],
    }
    if volume.image_metadata:
        view["volume_image_metadata"] = dict(volume.image_metadata)
    return view


def type_named(cloud: Cloud, name: str) -> VolumeType:
    """A volume type by name or id. Raises Refused, 404."""
    for volume_type in cloud.volume_types.values():
        if name in {volume_type.name, volume_type.id}:
            return volume_type
    raise Refused(404, f"Volume type with name {name} could not be found.")


@router.post("/volumes", status_code=202)
async def create_volume(call: VolumeCall, body: VolumeWishBody) -> Json:
    """An empty volume, or a copy of another one, of the same type and in the same zone."""
    wish = body.volume
    if wish.image_reference:
        raise Refused(400, "Invalid image identifier or unable to access requested image.")
    if wish.snapshot_id:
        raise not_found("Snapshot", wish.snapshot_id)
    if wish.source_volume_id:
        source = call.cloud.volume(call.project, wish.source_volume_id)
        volume = volumes.clone(call.cloud, call.project, call.user, source, wish.size)
        volume.name, volume.description = wish.name, wish.description
        volume.metadata = dict(wish.metadata or {})
        return {"volume": _view(call, volume)}
    volume_type = type_named(call.cloud, wish.volume_type or DEFAULT_TYPE)
    zone = wish.availability_zone or call.cloud.volume_zones[0]
    if zone not in call.cloud.volume_zones:
        raise Refused(400, f"Availability zone '{zone}' is invalid.")
    volume = volumes.create(call.cloud, call.project, call.user, wish.size, volume_type, zone)
    volume.name, volume.description = wish.name, wish.description
    volume.metadata = dict(wish.metadata or {})
    return {"volume": _view(call, volume)}


def _wanted(call: Call) -> list[Volume]:
    found = call.cloud.of_project(call.cloud.volumes, call.project)
    query = call.query
    if "name" in query:
        found = [volume for volume in found if volume.name == query["name"]]
    if "status" in query:
        found = [volume for volume in found if volume.status == query["status"]]
    if "bootable" in query:
        found = [volume for volume in found if str(volume.bootable).lower() == query["bootable"].lower()]
    if "availability_zone" in query:
        found = [volume for volume in found if volume.zone == query["availability_zone"]]
    if "metadata" in query:
        try:
            wanted = dict(ast.literal_eval(query["metadata"]))
        except (ValueError, SyntaxError, TypeError):
            raise Refused(400, f"Invalid input received: Invalid value for metadata: {query['metadata']}") from None
        found = [volume for volume in found if wanted.items() <= volume.metadata.items()]
    return found


@router.get("/volumes/detail")
async def list_volumes_in_detail(call: VolumeCall) -> Json:
    """The project's volumes, all that is known of them."""
    return call.page("volumes", (_view(call, volume) for volume in _wanted(call)))


@router.get("/volumes")
async def list_volumes(call: VolumeCall) -> Json:
    """The project's volumes, names only."""
    return call.page("volumes", ({"id": each.id, "name": each.name, "links": []} for each in _wanted(call)))


@router.get("/volumes/{volume_id}")
async def show_volume(call: VolumeCall, volume_id: str) -> Json:
    """One volume."""
    return {"volume": _view(call, call.cloud.volume(call.project, volume_id))}


@router.put("/volumes/{volume_id}")
async def update_volume(call: VolumeCall, volume_id: str, body: VolumeChangeBody) -> Json:
    """Another name, description, or set of metadata."""
    volume = call.cloud.volume(call.project, volume_id)
    for name, value in body.volume.model_dump(exclude_unset=True).items():
        setattr(volume, name, value)
    return {"volume": _view(call, volume)}


@router.delete("/volumes/{volume_id}", status_code=202)
async def delete_volume(call: VolumeCall, volume_id: str) -> None:
    """Delete it, and its file."""
    volumes.delete(call.cloud, call.cloud.volume(call.project, volume_id))


@router.get("/volumes/{volume_id}/metadata")
async def show_metadata(call: VolumeCall, volume_id: str) -> Json:
    """The volume's metadata."""
    return {"metadata": call.cloud.volume(call.project, volume_id).metadata}


@router.post("/volumes/{volume_id}/metadata")
async def add_metadata(call: VolumeCall, volume_id: str, body: MetadataBody) -> Json:
    """Add to the metadata."""
    volume = call.cloud.volume(call.project, volume_id)
    volume.metadata.update(body.metadata)
    return {"metadata": volume.metadata}


@router.put("/volumes/{volume_id}/metadata")
async def replace_metadata(call: VolumeCall, volume_id: str, body: MetadataBody) -> Json:
    """Replace all metadata."""
    volume = call.cloud.volume(call.project, volume_id)
    volume.metadata = dict(body.metadata)
    return {"metadata": volume.metadata}


@router.get("/volumes/{volume_id}/metadata/{key}")
async def show_metadata_item(call: VolumeCall, volume_id: str, key: str) -> Json:
    """One key."""
    volume = call.cloud.volume(call.project, volume_id)
    if key not in volume.metadata:
        raise Refused(404, "Metadata item was not found")
    return {"meta": {key: volume.metadata[key]}}


@router.put("/volumes/{volume_id}/metadata/{key}")
async def set_metadata_item(call: VolumeCall, volume_id: str, key: str, body: MetadataItemBody) -> Json:
    """Set one key."""
    volume = call.cloud.volume(call.project, volume_id)
    if set(body.meta) != {key}:
        raise Refused(400, "Request body and URI mismatch.")
    volume.metadata.update(body.meta)
    return {"meta": body.meta}


@router.delete("/volumes/{volume_id}/metadata/{key}")
async def delete_metadata_item(call: VolumeCall, volume_id: str, key: str) -> None:
    """Remove one key."""
    volume = call.cloud.volume(call.project, volume_id)
    if volume.metadata.pop(key, None) is None:
        raise Refused(404, "Metadata item was not found")


@router.post("/volumes/{volume_id}/action", status_code=202)
async def act_on_volume(call: VolumeCall, volume_id: str, body: VolumeAction) -> Json:
    """Extend it, make it bootable, take it back, or change the image metadata that a server booted from it gets."""
    volume = call.cloud.volume(call.project, volume_id)
    if body.extend:
        volumes.extend(call.cloud, call.project, volume, body.extend.new_size)
        return {}
    if body.revert:
        call.needs(3, 40)
        snapshots.revert(call.cloud, volume, body.revert.snapshot_id)
        return {}
    if body.set_bootable:
        volume.bootable = body.set_bootable.bootable
        return {}
    if body.set_image_metadata:
        volume.image_metadata.update(body.set_image_metadata.metadata)
    elif body.unset_image_metadata:
        if volume.image_metadata.pop(body.unset_image_metadata.key, None) is None:
            raise Refused(404, "Metadata item was not found")
    elif body.show_image_metadata is None:
        raise Refused(400, "There is no such action.")
    return {"metadata": volume.image_metadata}
