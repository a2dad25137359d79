"""Volumes, ports and a server for the cases, each made when the first case asks for it, and removed at the end."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tests.cloud_contract.places import NAME, Place, connection, wipe
from xms.openstack.cloud import Cloud, connect

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume
    from openstack.compute.v2.server import Server
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port
    from openstack.network.v2.subnet import Subnet

WORKER: dict[str, Any] = {
    "platform": "x86_64",
    "os_type": "linux",
    "ip": "127.0.0.1",
    "host": f"{NAME}worker",
    "multipath": False,
    "do_local_attach": False,
}
"""A worker's connector properties."""
NOBODY = "11111111-1111-1111-1111-111111111111"


class Scene:
    """A place with the product's own connection to it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.cloud: Cloud = connect(place.config, place.project)
        self._counter = itertools.count(1)

    def name(self) -> str:
        """A name that nothing else has."""
        return f"{NAME}{next(self._counter)}-{uuid.uuid4().hex[:6]}"

    def mac(self) -> str:
        """A MAC that nothing else has."""
        return "52:54:00:" + ":".join(uuid.uuid4().hex[i : i + 2] for i in (0, 2, 4))

    def new_volume(self, size: int = 1, **wishes: Any) -> Volume:  # noqa: ANN401 - the SDK's
        volume_type = wishes.pop("volume_type", self.place.volume_types[0])
        made = self.cloud.volumes.create_volume(name=self.name(), size=size, volume_type=volume_type, **wishes)
        return self.settled(made, "available")

    def settled(self, volume: Volume, status: str) -> Volume:
        found: Volume = self.cloud.volumes.wait_for_status(
            volume, status, failures=["error"], interval=self.place.config.poll_seconds, wait=120
        )
        return found

    @cached_property
    def volume(self) -> Volume:
        """Available, and no server boots from it."""
        return self.new_volume()

    @cached_property
    def bootable(self) -> Volume:
        """Available and bootable."""
        volume = self.new_volume()
        self.cloud.volumes.set_volume_bootable_status(volume, bootable=True)
        return volume

    @cached_property
    def attached_to_worker(self) -> Volume:
        """Held by an attachment as a worker makes it."""
        volume = self.new_volume()
        self.cloud.volumes.create_attachment(volume.id, connector=WORKER, mode="rw")
        return self.cloud.volumes.get_volume(volume.id)

    @cached_property
    def network(self) -> Network:
        return self.cloud.network.find_network(self.place.network, ignore_missing=False)

    @cached_property
    def subnet(self) -> Subnet:
        return self.cloud.network.find_subnet(self.place.subnet, ignore_missing=False, network_id=self.network.id)

    @cached_property
    def foreign_network(self) -> Network:
        return self.cloud.network.find_network(self.place.foreign_network, ignore_missing=False)

    @cached_property
    def foreign_subnet(self) -> Subnet:
        return next(iter(self.cloud.network.subnets(network_id=self.foreign_network.id)))

    @cached_property
    def port(self) -> Port:
        """On the own network, with a MAC and an address of its own choice."""
        return self.cloud.network.create_port(
            network_id=self.network.id,
            name=self.name(),
            description="xms contract nic 4000",
            mac_address=self.mac(),
            fixed_ips=[{"subnet_id": self.subnet.id, "ip_address": f"{self.place.prefix}.20"}],
        )

    @cached_property
    def server_port(self) -> Port:
        """Of the server: where a server can really be plugged in, the network is the provider's."""
        return self.cloud.network.create_port(
            network_id=self.foreign_network.id, name=self.name(), fixed_ips=[{"subnet_id": self.foreign_subnet.id}]
        )

    def new_server(self, root: Volume, *others: Volume, networks: Any = "none", **wishes: Any) -> Server:  # noqa: ANN401
        flavor = self.cloud.compute.find_flavor(wishes.pop("flavor", self.place.flavor), ignore_missing=False)
        mapping = [
            {
                "uuid": volume.id,
                "source_type": "volume",
                "destination_type": "volume",
                "boot_index": 0 if place == 0 else -1,
                "delete_on_termination": False,
            }
            for place, volume in enumerate((root, *others))
        ]
        return self.cloud.compute.create_server(
            name=self.name(),
            **{"flavor_id": flavor.id, "networks": networks, "block_device_mapping": mapping, **wishes},
        )

    def active(self, server: Server) -> Server:
        return self.cloud.compute.wait_for_server(
            server, status="ACTIVE", failures=["ERROR"], interval=self.place.config.poll_seconds, wait=180
        )

    @cached_property
    def server(self) -> Server:
        """ACTIVE, on a root volume and a second one, with one port."""
        root = self.new_volume()
        self.cloud.volumes.set_volume_bootable_status(root, bootable=True)
        self.cloud.volumes.set_volume_image_metadata(root.id, hw_disk_bus="virtio", hw_vif_model="virtio")
        made = self.new_server(
            root, self.new_volume(), networks=[{"port": self.server_port.id}], metadata={"xms_job": "contract"}
        )
        return self.active(made)

    @cached_property
    def root_of_server(self) -> str:
        return str(self.server.attached_volumes[0]["id"])

    def remove_server(self, server: Server) -> None:
        self.cloud.compute.delete_server(server, ignore_missing=True)
        self.cloud.compute.wait_for_delete(server, interval=self.place.config.poll_seconds, wait=120)

    @contextmanager
    def removed_afterwards(self, server: Server) -> Iterator[Server]:
        """A server on the bootable volume, which the next case needs again."""
        try:
            yield server
        finally:
            self.remove_server(server)
            self.settled(self.bootable, "available")

    def close(self) -> None:
        """Remove everything: also what a case left that failed."""
        with connection(self.place) as member:
            wipe(member, networks=False)
        self.cloud.close()
