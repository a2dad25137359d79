"""The services' configuration files, from the templates beside this file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final

from lab.openstack.layout import BRIDGE, DATABASE_PORT, HOST, SHARED_BRIDGE, Layout

TEMPLATES: Final = Path(__file__).parent / "templates"
CEPH_FSID: Final = "a7f64266-0894-4f1e-a635-d0aeaca0e993"
LIBVIRT_SECRET: Final = "457eb676-33da-42ec-9a8c-9293d545c337"  # noqa: S105 - the name of a secret, not the secret
FILES: Final = {
    "my.cnf": "my.cnf",
    "databases.sql": "databases.sql",
    "rabbitmq.conf": "rabbitmq.conf",
    "keystone.conf": "keystone/keystone.conf",
    "placement.conf": "placement/placement.conf",
    "glance-api.conf": "glance-api.conf",
    "cinder.conf": "cinder.conf",
    "neutron.conf": "neutron.conf",
    "nova.conf": "nova.conf",
    "ceph.conf": "ceph/ceph.conf",
    "libvirtd.conf": "libvirtd.conf",
    "libvirt-secret.xml": "libvirt-secret.xml",
}
"""Template to its place below etc/."""


def write(layout: Layout, back_ends: Sequence[str], *, agent: bool) -> None:
    """Write every file. Most hold the password, so that nobody else may read them; MariaDB's alone is its user's."""
    values = _values(layout, back_ends, agent=agent)
    for template, place in FILES.items():
        _write(layout.etc / place, _filled(template, values))
    (layout.etc / "my.cnf").chmod(0o644)
    _write(layout.clouds, _filled("clouds.yaml", values))
    if not agent:
        _write_port_binder(layout.etc / "port-binder")


def password(layout: Layout) -> str:
    """Of every account in it: made once, opens nothing but this machine's loopback."""
    path = layout.directory / "state/password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, secrets.token_hex(16))
    return path.read_text()


def filled(layout: Layout, template: str) -> str:
    """A template that belongs to a place outside the directory."""
    return _filled(template, {"directory": str(layout.directory)})


def _values(layout: Layout, back_ends: Sequence[str], *, agent: bool) -> dict[str, object]:
    word = password(layout)
    return {
        "directory": layout.directory,
        "password": word,
        "host": HOST,
        "database": f"mysql+pymysql://lab:{word}@127.0.0.1:{DATABASE_PORT}",
        "database_port": DATABASE_PORT,
        "back_ends": ",".join(back_ends),
        "default_back_end": back_ends[0],
        "ceph_fsid": CEPH_FSID,
        "libvirt_secret": LIBVIRT_SECRET,
        "bridge": BRIDGE,
        "shared_bridge": SHARED_BRIDGE,
        "mechanism_driver": "linuxbridge" if agent else "labbridge",
        # Without an agent nobody tells Nova that a port is plugged.
        "vif_plugging_timeout": 60 if agent else 0,
        "vif_plugging_is_fatal": "true" if agent else "false",
    }


def _filled(template: str, values: dict[str, object]) -> str:
    return Template((TEMPLATES / template).read_text()).substitute(values)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _write_port_binder(directory: Path) -> None:
    """A driver for Neutron that binds every port to its bridge at once; found by its entry point in PYTHONPATH."""
    found = directory / "portbinder-1.0.dist-info"
    _write(directory / "portbinder.py", (TEMPLATES / "port_binder.txt").read_text())
    _write(found / "METADATA", "Metadata-Version: 2.1\nName: portbinder\nVersion: 1.0\n")
    _write(found / "entry_points.txt", "[neutron.ml2.mechanism_drivers]\nlabbridge = portbinder:LabBridge\n")
