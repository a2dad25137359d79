"""The distribution's packages: installed without a question, and without a service that starts by itself."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.openstack.layout import Layout, OpenStackError, environment

ALWAYS: Final = (
    *("mariadb-server", "rabbitmq-server", "uwsgi-core", "uwsgi-plugin-python3", "iproute2"),
    *("keystone", "glance-api", "placement-api", "cinder-api", "cinder-scheduler", "cinder-volume"),
    *("neutron-server", "nova-api", "nova-conductor", "nova-scheduler", "nova-compute", "nova-compute-kvm"),
    *("python3-os-brick", "qemu-utils"),
)
WITH_AGENT: Final = ("neutron-linuxbridge-agent",)
WITH_RBD: Final = (
    *("ceph-mon", "ceph-osd", "ceph-mgr", "ceph-common", "python3-rbd", "python3-rados"),
    *("qemu-block-extra", "fuse3"),
)
LISTS_LAST_SECONDS: Final = 12 * 3600

ANSWERS: Final = """\
man-db man-db/auto-update boolean false
keystone keystone/configure_db boolean false
keystone keystone/create-admin-tenant boolean false
keystone keystone/register-endpoint boolean false
glance-common glance/configure_db boolean false
glance-api glance/register-endpoint boolean false
placement-common placement/configure_db boolean false
placement-api placement/register-endpoint boolean false
nova-common nova/configure_db boolean false
nova-api nova-api/configure_db boolean false
nova-api nova/register-endpoint boolean false
cinder-common cinder/configure_db boolean false
cinder-api cinder/register-endpoint boolean false
neutron-common neutron/configure_db boolean false
neutron-api neutron/register-endpoint boolean false
"""
"""To debconf: the packages leave databases and endpoints to us."""

POLICY: Final = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT: Final = "#!/bin/sh\n# xms lab: no package starts a service while it is installed.\nexit 101\n"


def needed(back_ends: Sequence[str], *, agent: bool) -> tuple[str, ...]:
    """The packages for these back ends."""
    return (*ALWAYS, *(WITH_AGENT if agent else ()), *(WITH_RBD if "rbd" in back_ends else ()))


def versions(names: Sequence[str]) -> dict[str, str]:
    """Version of each package that is installed."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n", *names]
    lines = subprocess.run(query, check=False, capture_output=True, text=True, env=environment()).stdout.splitlines()
    return {words[1]: words[2] for words in map(str.split, lines) if words[0] == "installed"}


def install(layout: Layout, names: Sequence[str]) -> int:
    """Install those that are missing; tells how many they were.

    Raises:
        OpenStackError: apt did not do it.
    """
    there = versions(names)
    missing = [name for name in names if name not in there]
    if not missing:
        return 0
    layout.make_directories()
    subprocess.run(["debconf-set-selections"], input=ANSWERS, text=True, check=True, env=environment())
    # The compilation of some 300 Python packages is left to their first import: this one, first in PATH, does nothing.
    stub = layout.directory / "state/stub"
    stub.mkdir(parents=True, exist_ok=True)
    _write_program(stub / "py3compile", "#!/bin/sh\nexit 0\n")
    if not POLICY.exists():
        _write_program(POLICY, POLICY_TEXT)
    outside = environment(DEBIAN_FRONTEND="noninteractive")
    outside["PATH"] = f"{stub}:{outside['PATH']}"
    options = ["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]
    dpkg = [
        "--force-unsafe-io",
        "--force-confold",
        "--path-exclude=/usr/share/doc/*",
        "--path-exclude=/usr/share/man/*",
    ]
    for option in dpkg:
        options += ["-o", f"DPkg::Options::={option}"]
    with layout.log("install").open("ab") as log:
        for command in ([] if _lists_are_new() else [["apt-get", "-qq", "update"]]) + [
            ["apt-get", "-qq", "-y", "--no-install-recommends", *options, "install", *missing]
        ]:
            if subprocess.run(command, env=outside, stdout=log, stderr=log, check=False).returncode:
                raise OpenStackError(f"`{' '.join(command[:2])} ...` failed: see {layout.log('install')}")
    return len(missing)


def let_services_start_again() -> None:
    """Take the policy back that kept packages from starting services, if it is ours."""
    if POLICY.exists() and POLICY.read_text() == POLICY_TEXT:
        POLICY.unlink()


def _lists_are_new() -> bool:
    lists = list(Path("/var/lib/apt/lists").glob("*Packages*"))
    return any(time.time() - path.stat().st_mtime < LISTS_LAST_SECONDS for path in lists)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
