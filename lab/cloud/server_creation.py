"""Nova's `create server`: the many reasons to refuse it, in the order in which the real one finds them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lab.cloud import hypervisor, volumes
from lab.cloud.call import Call, ComputeCall
from lab.cloud.compute import check_quota
from lab.cloud.machine import CARD_MODELS, DISK_DEVICES
from lab.cloud.network import visible_networks
from lab.cloud.ports import FixedIp, PortWish, make_port
from lab.cloud.refusals import Json, Refused
from lab.cloud.state import BlockDevice, Flavor, Port, Server, Volume

router = APIRouter(prefix="/compute/v2.1")

Text = Annotated[str, StringConstraints(max_length=255)]
UserData = Annotated[str, StringConstraints(max_length=65535)]
INVALID_MAPPING = "Block Device Mapping is Invalid"

# What Nova's image properties allow (nova.objects.fields); of these the stand-in's QEMU knows fewer.
DISK_BUSES = frozenset({"fdc", "ide", "lxc", "sata", "scsi", "uml", "usb", "virtio", "xen"})
ALLOWED_METADATA = {
    "hw_disk_bus": DISK_BUSES,
    "hw_firmware_type": frozenset({"bios", "uefi"}),
    "hw_scsi_model": frozenset(
        {"buslogic", "ibmvscsi", "lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi"}
    ),
    "hw_vif_model": frozenset(CARD_MODELS) | {"lan9118", "netfront", "spapr-vlan"},
    "hw_rng_model": frozenset({"virtio"}),
    "os_secure_boot": frozenset({"required", "disabled", "optional"}),
    "os_type": frozenset({"linux", "windows"}),
}


class NetworkWish(BaseModel):
    """A port that exists, or a network where Nova makes one."""

    model_config = ConfigDict(extra="forbid")

    port: str | None = None
    uuid: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class BlockDeviceWish(BaseModel):
    """A disk of the server."""

    model_config = ConfigDict(extra="forbid")

    uuid: str | None = None
    source_type: Literal["volume", "image", "snapshot", "blank"] = "volume"
    destination_type: Literal["volume", "local"] = "volume"
    boot_index: int | None = None
    delete_on_termination: bool = False
    disk_bus: str | None = None
    device_type: str | None = None
    device_name: str | None = None
    volume_size: int | None = None
    volume_type: str | None = None
    guest_format: str | None = None
    tag: str | None = None


class GroupWish(BaseModel):
    """A security group by its name."""

    name: str


class ServerWish(BaseModel):
    """A server to be made."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: Text
    flavor: str | int = Field(alias="flavorRef")
    image: str = Field(default="", alias="imageRef")
    networks: list[NetworkWish] | Literal["auto", "none"] | None = None
    block_devices: list[BlockDeviceWish] = Field(default_factory=list, alias="block_device_mapping_v2")
    availability_zone: Text | None = None
    metadata: dict[Text, Text] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)
    description: str | None = None
    config_drive: bool | str | None = None
    key_name: Text | None = None
    user_data: UserData | None = None
    security_groups: list[GroupWish] = Field(default_factory=list)
    hostname: str | None = None
    min_count: int = 1
    max_count: int = 1


class ServerWishBody(BaseModel):
    """Its envelope."""

    model_config = ConfigDict(populate_by_name=True)

    server: ServerWish
    scheduler_hints: Json | None = Field(default=None, alias="os:scheduler_hints")


def _flavor(call: Call, wanted: str) -> Flavor:
    if wanted not in call.cloud.flavors:
        raise Refused(400, f"Flavor {wanted} could not be found.")
    return call.cloud.flavors[wanted]


def _check_network(call: Call, wish: NetworkWish) -> None:
    if wish.port is None:
        if wish.uuid not in visible_networks(call):
            raise Refused(400, f"Network {wish.uuid} could not be found.")
        return
    port = call.cloud.ports.get(wish.port)
    if port is None or port.project_id != call.project.id:
        raise Refused(400, f"Port id {wish.port} could not be found.")
    if port.device_id:
        raise Refused(409, f"Port {port.id} is still in use.")
    if not port.fixed_ips:
        raise Refused(400, f"Port {port.id} requires a FixedIP in order to be used.")


def _networks(call: Call, wish: ServerWish) -> list[NetworkWish]:
    if wish.networks is None and call.microversion >= (2, 37):
        raise Refused(400, "Invalid input for field/attribute server. 'networks' is a required property")
    if wish.networks is None or wish.networks == "auto":
        raise Refused(409, "Multiple possible networks found, use a Network ID to be more specific.")
    if wish.networks == "none":
        return []
    for network in wish.networks:
        _check_network(call, network)
    return wish.networks


def _port(call: Call, wish: NetworkWish) -> Port:
    if wish.port is not None:
        return call.cloud.port(call.project, wish.port)
    fixed = [FixedIp(ip_address=wish.fixed_ip)] if wish.fixed_ip else None
    port = make_port(call, PortWish(network_id=wish.uuid or "", fixed_ips=fixed))
    port.made_by_nova = True
    return port


def _volume(call: Call, wish: BlockDeviceWish) -> Volume:
    if wish.source_type != "volume" or wish.destination_type != "volume":
        raise Refused(400, f"{INVALID_MAPPING}: this cloud has servers on volumes only.")
    volume = call.cloud.volumes.get(wish.uuid or "")
    if volume is None or volume.project_id != call.project.id:
        raise Refused(400, f"{INVALID_MAPPING}: failed to get volume {wish.uuid}.")
    return volume


def _in_boot_order(call: Call, wish: ServerWish) -> list[tuple[BlockDeviceWish, Volume]]:
    if wish.image:
        raise Refused(400, f"Can not find requested image {wish.image}")
    if not wish.block_devices:
        raise Refused(400, "Invalid imageRef provided.")
    booting = sorted(
        (each for each in wish.block_devices if each.boot_index is not None and each.boot_index >= 0),
        key=lambda each: each.boot_index or 0,
    )
    if [each.boot_index for each in booting] != list(range(len(booting))) or not booting:
        text = "Boot sequence for the instance and image/block device mapping combination is not valid."
        raise Refused(400, f"{INVALID_MAPPING}: {text}")
    others = [each for each in wish.block_devices if each not in booting]
    return [(each, _volume(call, each)) for each in (*booting, *others)]


def _check_root(root: Volume) -> None:
    if not root.bootable:
        raise Refused(400, f"Block Device {root.id} is not bootable.")
    for name, allowed in ALLOWED_METADATA.items():
        value = root.image_metadata.get(name)
        if value is not None and value not in allowed:
            raise Refused(400, f"Invalid image metadata. Error: Field value {value} is invalid")


def _check_bus(wish: BlockDeviceWish, root: Volume) -> None:
    bus = wish.disk_bus or root.image_metadata.get("hw_disk_bus", "virtio")
    if bus not in DISK_DEVICES:
        raise Refused(400, f"{INVALID_MAPPING}: this cloud's QEMU has no disk bus {bus}.")


def _check_key_pair(call: Call, wish: ServerWish) -> None:
    own = {pair.name for pair in call.cloud.key_pairs if pair.user_id == call.user.id}
    if wish.key_name is not None and wish.key_name not in own:
        raise Refused(400, "Invalid key_name provided.")


def _reserve(call: Call, server: Server, disks: list[tuple[BlockDeviceWish, Volume]]) -> None:
    try:
        for wish, volume in disks:
            attachment = volumes.reserve(call.cloud, volume, server.id)
            server.devices.append(
                BlockDevice(attachment, wish.boot_index, wish.disk_bus, wish.delete_on_termination, wish.tag)
            )
    except Refused as refused:
        for device in server.devices:
            volumes.release(call.cloud, device.attachment)
        inner = volumes.through_nova(refused.text)
        raise Refused(400, f"Invalid volume: {inner}") from None


@router.post("/servers", status_code=202)
async def create_server(call: ComputeCall, body: ServerWishBody) -> Json:
    """A server on volumes; QEMU is started in a while."""
    wish = body.server
    flavor = _flavor(call, str(wish.flavor))
    zone = wish.availability_zone or call.cloud.zones[0]
    if zone not in call.cloud.zones:
        raise Refused(400, "The requested availability zone is not available")
    networks = _networks(call, wish)
    disks = _in_boot_order(call, wish)
    root = disks[0][1]
    _check_root(root)
    for device, _ in disks:
        _check_bus(device, root)
    _check_key_pair(call, wish)
    check_quota(call.cloud, call.project, flavor)
    server = Server(
        call.project.id,
        call.user.id,
        wish.name,
        flavor,
        zone,
        directory=call.cloud.directory / "servers",
        ports=[],
        metadata=dict(wish.metadata),
        tags=list(wish.tags),
        description=wish.description,
        key_name=wish.key_name,
        user_data=wish.user_data,
        config_drive=bool(wish.config_drive),
    )
    _reserve(call, server, disks)
    server.ports = [_port(call, network) for network in networks]
    for port in server.ports:
        port.device_id, port.device_owner = server.id, "compute:nova"
    call.cloud.servers[server.id] = server
    hypervisor.run(call.cloud, hypervisor.build(call.cloud, server))
    answer: Json = {"id": server.id, "links": [], "OS-DCF:diskConfig": "MANUAL", "adminPass": "not-set-by-this-cloud"}
    return {"server": answer | {"security_groups": [{"name": "default"}]}}
