"""The cloud that a lab migrates to: the stand-in, or the real OpenStack of lab/openstack.

What a worker is configured with, what a submit has to say, and where the lab looks when it wants to see for itself.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import openstack.config
import openstack.connection

from lab.layout import PROJECT, Layout
from lab.proof import Comparison, compare

REMOVAL_SECONDS: Final = 120


class TargetSide(Protocol):
    """A cloud, as the lab's own eyes see it."""

    def configuration(self) -> str:
        """The table [target] of a worker's configuration."""

    def submitted(self, networks: Sequence[str]) -> Sequence[str]:
        """Options of a submit: project, flavor, volume type, and where the NICs of those source networks go."""

    def compare(self, source: Path, volume_id: str) -> Comparison:
        """Compare a source disk with a volume, byte for byte, outside the product.

        Raises:
            OSError, subprocess.CalledProcessError: one of them cannot be read.
        """

    def console(self, server_id: str) -> Path:
        """What a server's guest wrote to its serial port."""

    def forget(self, status: Mapping[str, Any]) -> None:
        """Remove what a migration made there, where it does not go with the lab.

        Args:
            status: of the job, as `xms migration show --output json` gives it.
        """


@dataclass(frozen=True)
class StandIn:
    """The stand-in cloud of lab/cloud, which is a part of the lab itself."""

    layout: Layout

    NETWORKS: ClassVar = {"VM Network": "internal-net", "Backup": "backup-net/backup-subnet"}

    def configuration(self) -> str:
        """See `TargetSide`."""
        return f"""\
[target]
cloud = "lab"
clouds_file = "{self.layout.clouds}"
zeroed_volume_types = ["ssd", "hdd"]
poll_seconds = 0.3
"""

    def submitted(self, networks: Sequence[str]) -> Sequence[str]:
        """See `TargetSide`."""
        target = ("--target-project", PROJECT, "--flavor", "m1.small", "--volume-type", "ssd")
        return (*target, *_network_maps(networks, self.NETWORKS))

    def compare(self, source: Path, volume_id: str) -> Comparison:
        """See `TargetSide`."""
        return compare(source, self.layout.volume(volume_id))

    def console(self, server_id: str) -> Path:
        """See `TargetSide`."""
        return self.layout.server_console(server_id)

    def forget(self, status: Mapping[str, Any]) -> None:
        """See `TargetSide`: it goes with the lab."""


@dataclass(frozen=True)
class RealOpenStack:
    """The OpenStack that `python -m lab.openstack up` brings up, seen from the machine that it runs on.

    Attributes:
        directory: where it lives.
        volume_type: 'rbd' or 'nfs'.
    """

    directory: Path
    volume_type: str

    PROJECT: ClassVar = "migration"
    NETWORKS: ClassVar = {"VM Network": "provider", "Backup": "provider"}

    @property
    def clouds(self) -> Path:
        """The clouds.yaml of its plain member."""
        return self.directory / "clouds.yaml"

    @property
    def ceph_conf(self) -> Path:
        """What a client of its Ceph needs."""
        return self.directory / "etc/ceph/ceph.conf"

    def configuration(self) -> str:
        """See `TargetSide`."""
        return f"""\
[target]
cloud = "lab"
clouds_file = "{self.clouds}"
zeroed_volume_types = ["rbd", "nfs"]
"""

    def submitted(self, networks: Sequence[str]) -> Sequence[str]:
        """See `TargetSide`."""
        target = ("--target-project", self.PROJECT, "--flavor", "m1.small", "--volume-type", self.volume_type)
        # Its network has no DHCP, and the preflight says so.
        return (*target, *_network_maps(networks, self.NETWORKS), "--accept-warnings")

    def compare(self, source: Path, volume_id: str) -> Comparison:
        """See `TargetSide`."""
        if self.volume_type == "nfs":
            return compare(source, self.directory / f"nfs-export/volume-{volume_id}")
        with tempfile.TemporaryDirectory(dir=self.directory) as place:
            copy = Path(place) / "volume.raw"
            # Not by qemu-img, which opens an image as a writer does: the product's next writer shuts such a client out.
            client = ["rbd", "--conf", str(self.ceph_conf), "--id", "cinder", "--no-progress"]
            subprocess.run([*client, "export", f"volumes/volume-{volume_id}", str(copy)], check=True)
            return compare(source, copy)

    def console(self, server_id: str) -> Path:
        """See `TargetSide`."""
        return self.directory / "instances" / server_id / "console.log"

    def forget(self, status: Mapping[str, Any]) -> None:
        """See `TargetSide`."""
        config = openstack.config.OpenStackConfig(config_files=[str(self.clouds)], load_envvars=False)
        with openstack.connection.Connection(config=config.get_one("lab")) as cloud:
            server = cloud.compute.get_server(status["cutover"]["server_id"])
            cloud.compute.delete_server(server)
            cloud.compute.wait_for_delete(server, interval=1, wait=REMOVAL_SECONDS)
            for nic in status["nics"]:
                cloud.network.delete_port(nic["port_id"])
            for disk in status["disks"]:
                volume = cloud.block_storage.get_volume(disk["volume_id"])
                cloud.block_storage.wait_for_status(volume, "available", interval=1, wait=REMOVAL_SECONDS)
                cloud.block_storage.delete_volume(disk["volume_id"])


def _network_maps(networks: Sequence[str], target: Mapping[str, str]) -> Sequence[str]:
    return [word for network in networks for word in ("--network-map", f"{network}={target[network]}")]
