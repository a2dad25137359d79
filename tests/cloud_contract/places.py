"""The clouds that the contract is played on, and what differs between them: names, and how an administrator sets up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import openstack
import openstack.config
from openstack.config.cloud_region import CloudRegion
from openstack.connection import Connection

from lab.cloud.server import CloudServer
from xms.config import TargetConfig

CLOUDS: Final = "XMS_OPENSTACK_CLOUDS"
"""Environment variable: the clouds.yaml of a real OpenStack, with clouds "lab" (a plain member) and "lab-admin"."""
NAME: Final = "contract-"
"""What the names of all that the suite makes begin with: a run cleans up what an earlier one was killed over."""
PROJECT: Final = "contract-project"
OWN_NETWORK: Final = "contract-net"
OWN_SUBNET: Final = "contract-subnet"
OWN_RANGE: Final = "10.79.0.0/24"
HUGE: Final = "contract-huge"
TEBIBYTE_IN_MIB: Final = 1 << 20


LIMITS: Final = {
    "volumes": 50,
    "gigabytes": 1 << 26,
    "snapshots": 20,
    "cores": 20,
    "ram": 1 << 23,
    "instances": 10,
    "ports": 500,
}
"""Of the suite's project, as long as a case sets no other: room for what no back end and no host has."""


class SetQuota(Protocol):
    def __call__(self, **limits: int) -> AbstractContextManager[None]:
        """Limits of the project by the names in `lab.cloud.state.Quota`, for as long as the context lasts."""


@dataclass(frozen=True)
class Place:
    """A cloud as a plain member of `project` sees it.

    Attributes:
        volume_types: the back ends that are played on, the first for what any does.
        network, subnet: owned by the project.
        foreign_network: another project's, shared with this one.
        huge_flavor: no host has the memory for it.
        quota: what an administrator does.
        settings: what the members' connection is made of, for one that is a bit wrong.
        fail_next_snapshot: lets the stand-in's next snapshot of a volume fail, as files on a share do it.
    """

    name: str
    config: TargetConfig
    project: str
    volume_types: tuple[str, ...]
    flavor: str
    huge_flavor: str
    network: str
    subnet: str
    prefix: str
    foreign_network: str
    quota: SetQuota
    settings: dict[str, Any]
    fail_next_snapshot: Callable[[], None] = field(default=lambda: None)


@contextmanager
def stand_in() -> Iterator[Place]:
    # Not tmp_path: QEMU's sockets in it need a short path.
    directory = Path(tempfile.mkdtemp(prefix="xms-contract-", dir="/tmp"))
    server = CloudServer(directory / "cloud")
    server.start()
    server.faults.volume_seconds = server.faults.server_seconds = 0.2
    server.cloud.host_memory_mib = 4096
    server.cloud.shutdown_seconds = 0.5
    clouds = directory / "clouds.yaml"
    server.write_clouds_yaml(clouds)

    server.set_quota("infra", **LIMITS)

    @contextmanager
    def quota(**limits: int) -> Iterator[None]:
        server.set_quota("infra", **limits)
        try:
            yield
        finally:
            server.set_quota("infra", **LIMITS)

    try:
        yield Place(
            name="stand-in",
            config=TargetConfig(cloud="lab", clouds_file=clouds, poll_seconds=0.1),
            project="infra",
            volume_types=("ssd",),
            flavor="m1.nano",
            huge_flavor="m1.xlarge",
            network="internal-net",
            subnet="internal-subnet",
            prefix="10.20.0",
            foreign_network="provider-net",
            quota=quota,
            settings=_settings(clouds, "infra"),
            fail_next_snapshot=lambda: setattr(server.faults, "next_snapshot_error", True),
        )
    finally:
        server.stop()
        shutil.rmtree(directory)


@contextmanager
def real() -> Iterator[Place]:
    """A real OpenStack, in a project of the suite's own: quotas that are set there hinder nobody else."""
    clouds = Path(os.environ[CLOUDS])
    with (
        Connection(config=_entry(clouds, "lab-admin")) as admin,
        _project_of_its_own(admin, _settings(clouds, "")["username"]) as project_id,
    ):

        @contextmanager
        def quota(**limits: int) -> Iterator[None]:
            try:
                _set_quota(admin, project_id, limits)
                yield
            finally:
                _set_quota(admin, project_id, {name: LIMITS[name] for name in limits})

        _set_quota(admin, project_id, LIMITS)
        with openstack.connect(**_as_arguments(_settings(clouds, PROJECT))) as member:
            wipe(member)
            try:
                _add_own_network(member)
                yield Place(
                    name="real",
                    config=TargetConfig(cloud="lab", clouds_file=clouds, poll_seconds=0.5),
                    project=PROJECT,
                    volume_types=tuple(sorted(str(found.name) for found in _usable_types(member))),
                    flavor="m1.nano",
                    huge_flavor=HUGE,
                    network=OWN_NETWORK,
                    subnet=OWN_SUBNET,
                    prefix=OWN_RANGE.rpartition(".")[0],
                    foreign_network="shared-net",
                    quota=quota,
                    settings=_settings(clouds, PROJECT),
                )
            finally:
                wipe(member)


def _entry(clouds: Path, cloud: str) -> CloudRegion:
    return openstack.config.OpenStackConfig(config_files=[str(clouds)], load_envvars=False).get_one(cloud=cloud)


def _settings(clouds: Path, project: str) -> dict[str, Any]:
    found = _entry(clouds, "lab")
    auth = dict(found.config["auth"])
    return {
        "auth_url": auth["auth_url"],
        "username": auth["username"],
        "password": auth["password"],
        "project_name": project,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": str(found.get_region_name()),
    }


def _as_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    return {"load_yaml_config": False, "load_envvars": False, "api_timeout": 60, **settings}


def connection(place: Place, **wrong: str) -> Connection:
    """The SDK's own connection, with some settings replaced."""
    return openstack.connect(**_as_arguments({**place.settings, **wrong}))


@contextmanager
def _project_of_its_own(admin: Connection, user: str) -> Iterator[str]:
    identity: Any = admin.identity  # the SDK's type leaves open which version it is
    project = identity.find_project(PROJECT) or identity.create_project(name=PROJECT, domain_id="default")
    identity.assign_project_role_to_user(project, identity.find_user(user), identity.find_role("member"))
    if admin.compute.find_flavor(HUGE) is None:
        admin.compute.create_flavor(name=HUGE, vcpus=1, ram=TEBIBYTE_IN_MIB, disk=0)
    try:
        yield str(project.id)
    finally:
        if flavor := admin.compute.find_flavor(HUGE):
            admin.compute.delete_flavor(flavor)
        for group in list(admin.network.security_groups(project_id=project.id)):
            admin.network.delete_security_group(group)
        identity.delete_project(project)


def _set_quota(admin: Connection, project_id: str, limits: dict[str, int]) -> None:
    volumes: dict[str, Any] = {name: limits[name] for name in ("volumes", "gigabytes", "snapshots") if name in limits}
    servers: dict[str, Any] = {name: limits[name] for name in ("cores", "ram", "instances") if name in limits}
    if volumes:
        admin.block_storage.update_quota_set(project_id, **volumes)
    if servers:
        admin.compute.update_quota_set(project_id, **servers)
    if "ports" in limits:
        admin.network.update_quota(project_id, port=limits["ports"])


def _usable_types(member: Connection) -> list[Any]:
    return [found for found in member.block_storage.types() if not str(found.name).startswith("__")]


def _add_own_network(member: Connection) -> None:
    network = member.network.create_network(name=OWN_NETWORK)
    member.network.create_subnet(
        name=OWN_SUBNET, network_id=network.id, ip_version=4, cidr=OWN_RANGE, enable_dhcp=False
    )


def wipe(member: Connection, *, networks: bool = True) -> None:
    """Remove all that is in the project: it is the suite's own."""
    servers = list(member.compute.servers())
    for server in servers:
        member.compute.delete_server(server)
    for server in servers:
        member.compute.wait_for_delete(server, interval=1, wait=120)
    _wipe_volumes(member)
    project = member.session.get_project_id()
    for port in list(member.network.ports(project_id=project)):
        member.network.delete_port(port)
    for network in list(member.network.networks(project_id=project)) if networks else ():
        member.network.delete_network(network)


def _wipe_volumes(member: Connection) -> None:
    volumes: Any = member.block_storage  # the same
    for snapshot in list(volumes.snapshots(details=True)):
        volumes.delete_snapshot(snapshot)
        volumes.wait_for_delete(snapshot, interval=1, wait=60)
    mine = list(volumes.volumes(details=True))
    for attachment in list(volumes.attachments()):
        volumes.delete_attachment(attachment)
    # Cinder's RBD driver fails where a clone and what it was made of are deleted at the same moment (seen on Zed).
    clones = [volume for volume in mine if volume.source_volume_id]
    for some in (clones, [volume for volume in mine if volume not in clones]):
        for volume in some:
            if volume.status not in ("deleting", "error"):
                volumes.wait_for_status(volume, "available", failures=[], interval=1, wait=60)
            if volume.status != "deleting":
                volumes.delete_volume(volume)
        for volume in some:
            volumes.wait_for_delete(volume, interval=1, wait=120)
