"""What the cloud holds of a job, read from the cloud's own state: nothing that the product says is believed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from lab.cloud.server import CloudServer
from lab.cloud.state import Attachment, Network, Subnet, Volume
from tests.target_killed.itinerary import MIB, Job
from xms.openstack.attachments import WORKER_KEY
from xms.openstack.boot_record import BOOT_KEY
from xms.openstack.lease import LEASE_KEY, LeaseRecord
from xms.openstack.volume_snapshots import REVERTED_KEY

LOOKED_AT: Final = 3 * MIB
RECORDS: Final = (LEASE_KEY, BOOT_KEY, WORKER_KEY, REVERTED_KEY)
"""Metadata that tell how things came about, another story for each job: leases, boots, reverts, and workers' instances.

The mark of an instance whose worker died stays: what it asked for may come yet, and has to be known as a worker's.
"""
OF_A_SERVER: Final = "a server"
OF_A_WORKER: Final = "a worker"


@dataclass(frozen=True)
class HeldVolume:
    """A volume, without what is different for every job."""

    name: str
    status: str
    gibibytes: int
    bootable: bool
    metadata: tuple[tuple[str, str], ...]
    image_metadata: tuple[tuple[str, str], ...]
    attached_to: tuple[str, ...]
    leased: bool
    digest: str


@dataclass(frozen=True)
class HeldPort:
    """A port."""

    name: str
    description: str
    network: str
    mac: str
    bound: bool


@dataclass(frozen=True)
class HeldServer:
    """A server, with the names of its volumes in boot order and the MACs of its ports."""

    name: str
    status: str
    metadata: tuple[tuple[str, str], ...]
    volumes: tuple[str, ...]
    macs: tuple[str, ...]


@dataclass(frozen=True)
class HeldNetwork:
    """A network that the job made, with its subnets and whether any of them leads out of it."""

    name: str
    description: str
    subnets: tuple[str, ...]
    routed: bool


@dataclass(frozen=True)
class HeldSnapshot:
    """A snapshot of a volume, or several that are alike: a late call may leave another one until all are removed."""

    volume: str
    status: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Holdings:
    """All that bears the VM's name, whoever's it says to be: what lost its mark in a crash is seen as well."""

    volumes: tuple[HeldVolume, ...]
    ports: tuple[HeldPort, ...]
    servers: tuple[HeldServer, ...]
    networks: tuple[HeldNetwork, ...] = ()
    snapshots: tuple[HeldSnapshot, ...] = ()


def holdings(server: CloudServer, job: Job) -> Holdings:
    """What the cloud holds of the job, the VM's name replaced by 'VM'."""
    cloud = server.cloud

    def told(text: str | None) -> str:
        text = str(text or "").replace(job.vm, "VM")
        for place, mac in enumerate(job.macs):
            text = text.replace(mac, f"MAC {place}")
        return text

    def pairs(values: dict[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((key, told(value)) for key, value in values.items() if not key.startswith(RECORDS)))

    def named(name: str | None) -> bool:
        return str(name or "").split(" ")[0] == job.vm

    attachments = list(cloud.attachments.values())
    volumes = [volume for volume in list(cloud.volumes.values()) if named(volume.name)]
    return Holdings(
        volumes=tuple(
            sorted(
                (
                    HeldVolume(
                        name=told(volume.name),
                        status=volume.status,
                        gibibytes=volume.size,
                        bootable=volume.bootable,
                        metadata=pairs(volume.metadata),
                        image_metadata=pairs(volume.image_metadata),
                        attached_to=tuple(user(server, each) for each in attachments if each.volume is volume),
                        leased=leased(volume),
                        digest=digest(volume),
                    )
                    for volume in volumes
                ),
                key=lambda held: (held.name, held.digest),
            )
        ),
        ports=tuple(
            sorted(
                (
                    HeldPort(
                        name=told(port.name),
                        description=told(port.description),
                        network=port.network.name,
                        mac=told(port.mac),
                        bound=bool(port.device_id),
                    )
                    for port in list(cloud.ports.values())
                    if named(port.name) or port.mac in job.macs
                ),
                key=lambda held: (held.name, held.mac),
            )
        ),
        servers=tuple(
            HeldServer(
                name=told(each.name),
                status=each.status,
                metadata=pairs(each.metadata),
                volumes=tuple(told(device.attachment.volume.name) for device in each.devices),
                macs=tuple(told(port.mac) for port in each.ports),
            )
            for each in list(cloud.servers.values())
            if named(each.name)
        ),
        networks=tuple(
            HeldNetwork(
                name=told(network.name),
                description=told(network.description),
                subnets=tuple(subnet.cidr for subnet in subnets_of(server, network)),
                routed=any(subnet.routed for subnet in subnets_of(server, network)),
            )
            for network in list(cloud.networks.values())
            if named(network.name)
        ),
        snapshots=tuple(
            sorted(
                {
                    HeldSnapshot(told(each.volume.name), each.status, pairs(each.metadata))
                    for each in list(cloud.snapshots.values())
                    if named(each.volume.name)
                },
                key=lambda held: (held.volume, held.metadata),
            )
        ),
    )


def subnets_of(server: CloudServer, network: Network) -> list[Subnet]:
    """The subnets of a network."""
    return [subnet for subnet in list(server.cloud.subnets.values()) if subnet.network_id == network.id]


def user(server: CloudServer, attachment: Attachment) -> str:
    """Who has the volume, and how far that is. A worker may be a server itself."""
    holder = server.cloud.servers.get(attachment.server_id or "")
    of_a_worker = not attachment.server_id or (holder is not None and holder.links is not None)
    return f"{OF_A_WORKER if of_a_worker else OF_A_SERVER}, {attachment.status}"


def leased(volume: Volume) -> bool:
    """Whether its lease was not given back."""
    record = LeaseRecord.parse(volume.metadata.get(LEASE_KEY, ""))
    return record is not None and record.count is not None


def digest(volume: Volume) -> str:
    """Of the part that the steps write to."""
    try:
        with volume.file.open("rb") as file:
            return hashlib.sha256(file.read(LOOKED_AT)).hexdigest()
    except FileNotFoundError:
        return ""
