"""Nova's API: the volumes of a server."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lab.cloud import hypervisor, volumes
from lab.cloud.call import Call, ComputeCall
from lab.cloud.machine import MachineError
from lab.cloud.refusals import Json, Refused, not_found
from lab.cloud.state import BlockDevice, Server

router = APIRouter(prefix="/compute/v2.1/servers/{server_id}/os-volume_attachments")


class AttachWish(BaseModel):
    """A volume to be attached; Nova takes the device's name as a hint, and so does the stand-in: not at all."""

    model_config = ConfigDict(extra="forbid")

    volume_id: str = Field(alias="volumeId")
    device: str | None = None
    tag: str | None = None
    delete_on_termination: bool = False


class AttachBody(BaseModel):
    """Its envelope."""

    attachment: AttachWish = Field(alias="volumeAttachment")


def _view(call: Call, server: Server, device: BlockDevice) -> Json:
    volume_id = device.attachment.volume.id
    view: Json = {
        "volumeId": volume_id,
        "serverId": server.id,
        "device": device.attachment.device,
        "tag": device.tag,
        "delete_on_termination": device.delete_on_termination,
    }
    if call.microversion >= (2, 89):
        return view | {"attachment_id": device.attachment.id, "bdm_uuid": device.id}
    return view | {"id": volume_id}


def _device(server: Server, volume_id: str) -> BlockDevice:
    for device in server.devices:
        if device.attachment.volume.id == volume_id:
            return device
    raise Refused(404, f"Instance {server.id} is not attached to volume {volume_id}")


@router.get("")
async def list_volume_attachments(call: ComputeCall, server_id: str) -> Json:
    """The volumes of the server."""
    server = call.cloud.server(call.project, server_id)
    return {"volumeAttachments": [_view(call, server, device) for device in server.devices]}


@router.get("/{volume_id}")
async def show_volume_attachment(call: ComputeCall, server_id: str, volume_id: str) -> Json:
    """One of them."""
    server = call.cloud.server(call.project, server_id)
    return {"volumeAttachment": _view(call, server, _device(server, volume_id))}


@router.post("")
async def attach_volume(call: ComputeCall, server_id: str, body: AttachBody) -> Json:
    """Attach a volume; the guest sees it while the server runs."""
    cloud = call.cloud
    server = cloud.server(call.project, server_id)
    wish = body.attachment
    volume = cloud.volumes.get(wish.volume_id)
    if volume is None or volume.project_id != call.project.id:
        raise not_found("Volume", wish.volume_id)
    for each in cloud.attachments_of(volume):
        if each.server_id is not None:
            text = f"volume {volume.id} is already attached to instances: {each.server_id}"
            raise Refused(400, f"Invalid volume: {text}")
    if server.status not in {"ACTIVE", "SHUTOFF"}:
        raise Refused(
            409, f"Cannot 'attach_volume' instance {server.id} while it is in vm_state {server.status.lower()}"
        )
    try:
        attachment = volumes.reserve(cloud, volume, server.id)
    except Refused as refused:
        raise Refused(400, volumes.through_nova(refused.text)) from None
    device = BlockDevice(attachment, None, None, wish.delete_on_termination, wish.tag)
    if server.links is not None:
        hypervisor.run(cloud, hypervisor.attach_here(cloud, server, device))
        return {"volumeAttachment": _view(call, server, device)}
    try:
        await hypervisor.attach(server, device)
    except MachineError as error:
        volumes.release(cloud, attachment)
        raise Refused(400, str(error)) from None
    return {"volumeAttachment": _view(call, server, device)}


@router.delete("/{volume_id}", status_code=202)
async def detach_volume(call: ComputeCall, server_id: str, volume_id: str) -> None:
    """Detach a volume; done when its status says so."""
    server = call.cloud.server(call.project, server_id)
    device = _device(server, volume_id)
    if device.boot_index == 0:
        raise Refused(400, "Cannot detach a root device volume")
    if device.attachment.volume.status == "detaching":
        raise Refused(400, f"Invalid volume: volume {volume_id} is detaching")
    if server.links is not None:
        if device.attachment.volume.status != "in-use":
            text = (
                f"volume {volume_id} status must be 'in-use'. Currently in '{device.attachment.volume.status}' status"
            )
            raise Refused(400, f"Invalid volume: {text}")
        hypervisor.run(call.cloud, hypervisor.detach_here(call.cloud, server, device))
        return
    hypervisor.run(call.cloud, hypervisor.detach(call.cloud, server, device))
