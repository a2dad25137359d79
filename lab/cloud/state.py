"""What the stand-in cloud consists of. It belongs to the server's event loop: nobody else changes it, nothing locks."""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from lab.cloud.faults import Faults
from lab.cloud.machine import Machine
from lab.cloud.refusals import Json, Refused, not_found

DEFAULT_GROUP = "default"

T = TypeVar("T", "Volume", "Server", "Port", "Attachment", "Snapshot")


def new_id() -> str:
    """An identifier as Nova, Cinder and Neutron make them."""
    return str(uuid.uuid4())


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)


@dataclass
class Quota:
    """Limits of one project; -1 is unlimited. `ram` is MiB, `gigabytes` GiB."""

    cores: int = 64
    ram: int = 128 * 1024
    instances: int = 50
    volumes: int = 200
    gigabytes: int = 20_000
    snapshots: int = 10
    ports: int = 500
    networks: int = 100
    subnets: int = 100
    volumes_of_type: dict[str, int] = field(default_factory=dict)
    gigabytes_of_type: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """A project with its quota."""

    id: str
    name: str
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True)
class User:
    """A user; `projects` are the ids of those where it is a plain member."""

    id: str
    name: str
    password: str
    projects: frozenset[str]


@dataclass(frozen=True)
class ApplicationCredential:
    """What logs in for a user in one project, and in no other."""

    id: str
    name: str
    secret: str
    user: User
    project: Project


@dataclass(frozen=True)
class Token:
    """A token that Keystone gave; unscoped without a project."""

    user: User
    project: Project | None
    expires: datetime


@dataclass(frozen=True)
class Flavor:
    """A size of server; `ram` in MiB."""

    id: str
    name: str
    vcpus: int
    ram: int


@dataclass(frozen=True)
class VolumeType:
    """A volume type and the GiB that its back end can hold; `extra_specs` are those that a member sees."""

    id: str
    name: str
    capacity: int
    encrypted: bool = False
    extra_specs: dict[str, str] = field(default_factory=dict)

    @property
    def multiattach(self) -> bool:
        """Whether its volumes may be attached several times at once."""
        return self.extra_specs.get("multiattach") == "<is> True"


@dataclass(frozen=True)
class Subnet:
    """A subnet; its first address is the gateway, if it has one; ports without a wish get one from the tenth on."""

    id: str
    name: str
    network_id: str
    project_id: str
    cidr: str
    dhcp: bool = True
    routed: bool = True
    description: str = ""

    @property
    def range(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The subnet's addresses."""
        return ipaddress.ip_network(self.cidr)

    @property
    def gateway(self) -> str | None:
        """The first address; None where nothing leads out of it."""
        return str(self.range[1]) if self.routed else None


@dataclass(frozen=True)
class Network:
    """A network; on one that another project owns a member may not choose addresses. `mtu` in bytes."""

    id: str
    name: str
    project_id: str
    shared: bool = False
    up: bool = True
    external: bool = False
    mtu: int = 1500
    port_security: bool = True
    description: str = ""
    created: datetime = field(default_factory=now)


@dataclass(frozen=True)
class SecurityGroup:
    """A group of a project's ports; its rules are played by nobody."""

    id: str
    name: str
    project_id: str
    description: str = ""


@dataclass
class Volume:
    """A volume: a sparse file. `size` in GiB."""

    project_id: str
    user_id: str
    size: int
    volume_type: VolumeType
    zone: str
    file: Path
    name: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    image_metadata: dict[str, str] = field(default_factory=dict)
    bootable: bool = False
    source_id: str | None = None
    """The volume that it was made of."""

    status: str = "creating"
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)
    updated: datetime | None = None


@dataclass
class Snapshot:
    """What a volume held at a time: a copy of its file. `size` in GiB."""

    project_id: str
    user_id: str
    volume: Volume
    size: int
    file: Path
    name: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    status: str = "creating"
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)
    updated: datetime | None = None


@dataclass
class Attachment:
    """A volume that somebody uses: a server (`server_id`), or a host outside of Nova."""

    volume: Volume
    project_id: str
    server_id: str | None = None
    connector: Json | None = None
    mode: str = "rw"
    status: str = "reserved"
    device: str | None = None
    id: str = field(default_factory=new_id)
    attached: datetime | None = None


@dataclass(frozen=True)
class Message:
    """Why something went wrong behind the API, as Cinder tells its user."""

    project_id: str
    resource_id: str
    text: str
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)


@dataclass
class Port:
    """A network adapter to be; `device_id` is the server that it is bound to."""

    project_id: str
    network: Network
    mac: str
    fixed_ips: list[tuple[str, str]]
    name: str = ""
    description: str = ""
    tags: list[str] = field(default_factory=list)
    admin_state_up: bool = True
    port_security: bool = True
    security_groups: list[str] = field(default_factory=list)
    device_id: str = ""
    device_owner: str = ""
    status: str = "DOWN"
    made_by_nova: bool = False
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)


@dataclass
class BlockDevice:
    """A volume of a server; boot index 0 is the root disk."""

    attachment: Attachment
    boot_index: int | None
    bus: str | None
    delete_on_termination: bool
    tag: str | None = None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True)
class KeyPair:
    """A public key; it belongs to a user, not to a project."""

    user_id: str
    name: str
    public_key: str


@dataclass
class Server:
    """A server: a QEMU process over its volumes. `turn` is held by what changes its state, one thing at a time."""

    project_id: str
    user_id: str
    name: str
    flavor: Flavor
    zone: str
    directory: Path
    ports: list[Port]
    devices: list[BlockDevice] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    status: str = "BUILD"
    task: str | None = "scheduling"
    fault: Json | None = None
    machine: Machine | None = None
    links: Path | None = None
    """Of a server that is this machine: the directory that stands for its /dev/disk/by-id."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    id: str = field(default_factory=new_id)
    created: datetime = field(default_factory=now)
    updated: datetime = field(default_factory=now)
    launched: datetime | None = None
    placed: bool = False
    """Whether the scheduler ever found a host for it."""

    request_id: str = field(default_factory=lambda: f"req-{new_id()}")
    """Of the call that made it."""

    key_name: str | None = None
    user_data: str | None = None
    config_drive: bool = False

    @property
    def console(self) -> Path:
        """What the guest wrote to its serial port."""
        return self.directory / self.id / "console.log"


class Cloud:
    """Everything in the stand-in cloud."""

    def __init__(self, directory: Path, accelerator: str) -> None:
        self.directory = directory
        self.accelerator = accelerator
        self.faults = Faults()
        self.token_lifetime = timedelta(hours=1)
        self.shutdown_seconds = 60.0
        self.host_memory_mib = 64 * 1024
        self.page_limit = 1000
        self.zones = ("nova", "az-1")
        self.volume_zones = self.zones
        self.projects: dict[str, Project] = {}
        self.users: dict[str, User] = {}
        self.application_credentials: dict[str, ApplicationCredential] = {}
        self.tokens: dict[str, Token] = {}
        self.regions: tuple[str, ...] = ("RegionOne",)
        self.roles: tuple[str, ...] = ("member",)
        self.flavors: dict[str, Flavor] = {}
        self.volume_types: dict[str, VolumeType] = {}
        self.networks: dict[str, Network] = {}
        self.subnets: dict[str, Subnet] = {}
        self.security_groups: dict[str, SecurityGroup] = {}
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.attachments: dict[str, Attachment] = {}
        self.messages: list[Message] = []
        self.ports: dict[str, Port] = {}
        self.servers: dict[str, Server] = {}
        self.key_pairs: list[KeyPair] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def project_named(self, name: str) -> Project:
        """The project of that name. Raises KeyError."""
        return (
            next((project for project in self.projects.values() if project.name == name), None) or self.projects[name]
        )

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in a while, on the server's loop."""
        asyncio.get_running_loop().call_later(seconds, action)

    def of_project(self, things: dict[str, T], project: Project) -> list[T]:
        """The project's own, newest first."""
        return [thing for thing in reversed(things.values()) if thing.project_id == project.id]

    def volume(self, project: Project, volume_id: str) -> Volume:
        """A volume of the project. Raises Refused, 404."""
        return _own(self.volumes, project, "Volume", volume_id)

    def server(self, project: Project, server_id: str) -> Server:
        """A server of the project. Raises Refused, 404."""
        return _own(self.servers, project, "Instance", server_id)

    def port(self, project: Project, port_id: str) -> Port:
        """A port of the project. Raises Refused, 404."""
        return _own(self.ports, project, "Port", port_id)

    def attachment(self, project: Project, attachment_id: str) -> Attachment:
        """An attachment of the project. Raises Refused, 404."""
        try:
            return _own(self.attachments, project, "VolumeAttachment", attachment_id)
        except Refused:
            text = f"Volume attachment could not be found with filter: attachment_id = {attachment_id}."
            raise Refused(404, text) from None

    def snapshots_of(self, volume: Volume) -> list[Snapshot]:
        """The volume's snapshots, oldest first, those on their way out, too."""
        return [each for each in self.snapshots.values() if each.volume is volume]

    def attachments_of(self, volume: Volume) -> list[Attachment]:
        """Who uses the volume, or reserved it."""
        return [attachment for attachment in self.attachments.values() if attachment.volume is volume]


def _own(things: dict[str, T], project: Project, what: str, identifier: str) -> T:
    thing = things.get(identifier)
    if thing is None or thing.project_id != project.id:
        raise not_found(what, identifier)
    return thing
