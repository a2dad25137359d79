"""Ceph in its smallest form: one monitor, one manager, one object store on a sparse file, one pool for volumes."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Final

from lab.openstack import processes
from lab.openstack.configuration import CEPH_FSID
from lab.openstack.layout import Layout, OpenStackError, environment

LINKED: Final = ("ceph.conf", "ceph.client.cinder.keyring", "ceph.client.admin.keyring")
"""What clients look for in CLIENTS_LOOK_IN."""

CLIENTS_LOOK_IN: Final = Path("/etc/ceph")

POOL: Final = "volumes"
OF_THE_STORE: Final = {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"}


def start(layout: Layout) -> None:
    """Start it; the first time, make it."""
    home = layout.directory / "ceph"
    made = layout.done("ceph").exists()
    (layout.run / "ceph").mkdir(parents=True, exist_ok=True)
    (home / "crash").mkdir(parents=True, exist_ok=True)
    if not made:
        # Of a run that was cut short: they would go on with the files that are made anew.
        for name in ("ceph-osd", "ceph-mgr", "ceph-mon"):
            processes.stop(layout, name)
        _make_keys_and_monitor(layout, home)
    _link(layout)
    conf = ["--conf", str(layout.ceph_conf)]
    processes.start(layout, "ceph-mon", ["ceph-mon", *conf, "-i", "a", "-f"])
    processes.wait_for(layout, "ceph-mon", lambda: _asked(layout, "mon", "stat") is not None, 60)
    processes.start(layout, "ceph-mgr", ["ceph-mgr", *conf, "-i", "x", "-f"])
    if not made:
        identity = str(uuid.uuid4())
        processes.run(layout, "ceph", ["ceph", *conf, "osd", "new", identity])
        processes.run(layout, "ceph", ["ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", identity])
    processes.start(layout, "ceph-osd", ["ceph-osd", *conf, "-i", "0", "-f"])
    processes.wait_for(layout, "ceph-osd", lambda: "1 up" in (_asked(layout, "osd", "stat") or ""), 90)
    if not made:
        processes.run(layout, "ceph", ["ceph", *conf, "osd", "pool", "create", POOL, "16", "16"])
        processes.run(layout, "ceph", ["ceph", *conf, "osd", "pool", "application", "enable", POOL, "rbd"])
        layout.done("ceph").touch()


def cinder_key(layout: Layout) -> str:
    """The key of Cinder's user, which libvirt needs too."""
    keyring = str(layout.etc / "ceph/ceph.client.cinder.keyring")
    command = ["ceph-authtool", "-p", "-n", "client.cinder", keyring]
    # Not by `processes.run`, which keeps what a program says in a log.
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout.strip()


def unlink(layout: Layout) -> None:
    """Take our links in /etc/ceph back."""
    for name in LINKED:
        path = CLIENTS_LOOK_IN / name
        if path.is_symlink() and path.readlink() == layout.etc / "ceph" / name:
            path.unlink()


def _make_keys_and_monitor(layout: Layout, home: Path) -> None:
    for name in ("mon", "mgr", "osd"):
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir(parents=True)
    monitor, etc = str(home / "mon.keyring"), layout.etc / "ceph"
    _key(layout, monitor, "mon.", mon="allow *")
    keys = {
        str(etc / "ceph.client.admin.keyring"): (
            "client.admin",
            {"mon": "allow *", "osd": "allow *", "mgr": "allow *", "mds": "allow *"},
        ),
        str(etc / "ceph.client.cinder.keyring"): (
            "client.cinder",
            {"mon": "profile rbd", "osd": f"profile rbd pool={POOL}", "mgr": "profile rbd"},
        ),
        str(home / "mgr/keyring"): ("mgr.x", {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"}),
        str(home / "osd/keyring"): (
            "osd.0",
            {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
        ),
    }
    for keyring, (name, rights) in keys.items():
        _key(layout, keyring, name, **rights)
        processes.run(layout, "ceph", ["ceph-authtool", monitor, "--import-keyring", keyring])
    where = "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]"
    chart = str(home / "monmap")
    add = ["--create", "--clobber", "--fsid", CEPH_FSID, "--addv", "a", where, chart]
    processes.run(layout, "ceph", ["monmaptool", *add])
    mkfs = ["--mkfs", "-i", "a", "--monmap", chart, "--keyring", monitor]
    processes.run(layout, "ceph", ["ceph-mon", "--conf", str(layout.ceph_conf), *mkfs])


def _key(layout: Layout, keyring: str, name: str, **rights: str) -> None:
    caps = [word for service, right in rights.items() for word in ("--cap", service, right)]
    processes.run(layout, "ceph", ["ceph-authtool", "-C", keyring, "--gen-key", "-n", name, *caps])


def _link(layout: Layout) -> None:
    """Where clients look; what somebody else put there stays, and who wants this Ceph names its configuration then."""
    CLIENTS_LOOK_IN.mkdir(exist_ok=True)
    for name in LINKED:
        path = CLIENTS_LOOK_IN / name
        if not (path.exists() or path.is_symlink()):
            path.symlink_to(layout.etc / "ceph" / name)


def _asked(layout: Layout, *words: str) -> str | None:
    try:
        return processes.run(
            layout, "ceph", ["ceph", "--conf", str(layout.ceph_conf), "--connect-timeout", "5", *words]
        )
    except OpenStackError:
        return None
