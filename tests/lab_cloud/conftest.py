"""A stand-in cloud and a member's connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import openstack
import pytest
from openstack.block_storage.v3 import _proxy as block_storage_v3
from openstack.block_storage.v3.volume import Volume
from openstack.compute.v2 import _proxy as compute_v2
from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.network.v2 import _proxy as network_v2

from lab.cloud.server import CloudServer

VolumeMaker = Callable[..., Volume]
ServerMaker = Callable[..., Server]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudServer]:
    server = CloudServer(tmp_path / "cloud")
    server.faults.volume_seconds = server.faults.server_seconds = 0.02
    server.start()
    server.write_clouds_yaml(tmp_path / "clouds.yaml")
    yield server
    server.stop()


@dataclass(frozen=True)
class Member:
    """A connection with its services as the versions that they are, which the SDK leaves open."""

    connection: Connection
    block_storage: block_storage_v3.Proxy
    compute: compute_v2.Proxy
    network: network_v2.Proxy

    @property
    def project(self) -> str:
        assert self.connection.current_project_id
        return self.connection.current_project_id


def member_of(connection: Connection) -> Member:
    assert isinstance(connection.block_storage, block_storage_v3.Proxy)
    return Member(connection, connection.block_storage, connection.compute, connection.network)


def connect(clouds_yaml: Path, name: str = "lab") -> Connection:
    config = openstack.config.OpenStackConfig(config_files=[str(clouds_yaml)], load_envvars=False)
    return Connection(config=config.get_one(name))


@pytest.fixture
def member(cloud: CloudServer, tmp_path: Path) -> Iterator[Member]:
    del cloud
    with connect(tmp_path / "clouds.yaml") as connection:
        yield member_of(connection)


@pytest.fixture
def sales(cloud: CloudServer, tmp_path: Path) -> Iterator[Member]:
    del cloud
    with connect(tmp_path / "clouds.yaml", "lab-sales") as connection:
        yield member_of(connection)


@pytest.fixture
def make_volume(member: Member) -> VolumeMaker:
    def make(
        size: int = 1,
        *,
        bootable: bool = False,
        image_metadata: Mapping[str, str] | None = None,
        **attributes: object,
    ) -> Volume:
        volume = member.block_storage.create_volume(**{"size": size, "volume_type": "ssd", **attributes})
        member.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.02, wait=10)
        if bootable:
            member.block_storage.set_volume_bootable_status(volume, bootable)
        if image_metadata:
            member.block_storage.set_volume_image_metadata(volume, **image_metadata)
        return member.block_storage.get_volume(volume)

    return make


@pytest.fixture
def make_server(member: Member) -> ServerMaker:
    def make(*volumes: Volume, flavor: str = "m1.nano", wait: bool = True, **attributes: object) -> Server:
        flavor_id = member.compute.find_flavor(flavor, ignore_missing=False).id
        server = member.compute.create_server(
            **{
                "name": "target",
                "flavor_id": flavor_id,
                "networks": "none",
                "block_device_mapping": boot_from(*volumes),
                **attributes,
            }
        )
        if wait:
            return member.compute.wait_for_server(server, "ACTIVE", failures=["ERROR"], interval=0.05, wait=30)
        return server

    return make


def wait_for(member: Member, volume: Volume, status: str) -> None:
    # Asked anew: the SDK believes the status that an old answer carries, and does not wait at all.
    fresh = member.block_storage.get_volume(volume.id)
    member.block_storage.wait_for_status(fresh, status, failures=[], interval=0.05, wait=10)


def boot_from(*volumes: Volume) -> list[dict[str, object]]:
    return [
        {
            "uuid": volume.id,
            "source_type": "volume",
            "destination_type": "volume",
            "boot_index": 0 if index == 0 else -1,
            "delete_on_termination": False,
        }
        for index, volume in enumerate(volumes)
    ]
