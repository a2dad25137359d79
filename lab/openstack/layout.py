"""Where the OpenStack keeps its things: one directory, fixed ports on 127.0.0.1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_DIRECTORY: Final = Path("/var/tmp/xms-openstack")  # noqa: S108 - sockets need a short path, and the daemons' users have to reach it
BACK_ENDS: Final = ("rbd", "nfs")
DATABASE_PORT: Final = 13306
HOST: Final = "lab"
BRIDGE: Final = "br-lab"
SHARED_BRIDGE: Final = "br-shared"

PORTS: Final = {
    "keystone": 5000,
    "cinder-api": 8776,
    "nova-api": 8774,
    "placement": 8778,
    "glance": 9292,
    "neutron-server": 9696,
    "mariadb": DATABASE_PORT,
    "rabbitmq": 5672,
    "ceph-mon": 3300,
}


class OpenStackError(Exception):
    """The OpenStack could not be brought up; the text names the part and its log."""


@dataclass(frozen=True)
class Layout:
    """The files of one OpenStack."""

    directory: Path

    @property
    def clouds(self) -> Path:
        """The clouds.yaml: `lab` is a plain member of project `migration`, `lab-admin` is for set-up."""
        return self.directory / "clouds.yaml"

    @property
    def etc(self) -> Path:
        """Configuration files."""
        return self.directory / "etc"

    @property
    def ceph_conf(self) -> Path:
        """What a client of the Ceph needs."""
        return self.etc / "ceph/ceph.conf"

    @property
    def run(self) -> Path:
        """Pid files and sockets."""
        return self.directory / "run"

    @property
    def database_socket(self) -> Path:
        """MariaDB's."""
        return self.run / "mysql/mysql.sock"

    @property
    def nfs_export(self) -> Path:
        """What the "NFS" back end's share is."""
        return self.directory / "nfs-export"

    def log(self, name: str) -> Path:
        """Output of a service or a step."""
        return self.directory / "log" / f"{name}.log"

    def done(self, step: str) -> Path:
        """Says that a step that is made once was made."""
        return self.directory / "state" / f".{step}"

    @property
    def made_of(self) -> Path:
        """What it was brought up with."""
        return self.directory / "state/made-of"

    @property
    def marker(self) -> Path:
        """Says that the directory is the lab's, which alone may fill it and empty it."""
        return self.directory / ".xms-openstack"

    def refuse_if_foreign(self) -> None:
        """Look before the directory is filled or emptied.

        Raises:
            OpenStackError: there is something in it that the lab did not make.
        """
        found = self.directory.exists() and any(self.directory.iterdir())
        if found and not self.marker.exists() and not (self.directory / "state/password").exists():
            raise OpenStackError(f"{self.directory} holds something that is not the lab's: choose an empty directory")

    def make_directories(self) -> None:
        """All that the services expect.

        Raises:
            OpenStackError: the directory is not the lab's.
        """
        self.refuse_if_foreign()
        # Others have to pass through: MariaDB runs as a user of its own.
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.marker.touch()
        for name in ("etc", "log", "run", "run/mysql", "state/lock", "instances", "mnt/cinder", "mnt/nova"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for name in ("images", "staging", "tasks"):
            (self.directory / "glance" / name).mkdir(parents=True, exist_ok=True)


def environment(**more: str) -> dict[str, str]:
    """What every program of it is started with.

    Made from nothing: a PATH of another Python, a switch against byte code and a proxy must not reach the services.
    """
    found = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
    return found | {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ} | more
