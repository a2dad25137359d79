"""The whole OpenStack: brought up part by part, taken down in reverse. Bringing up what is up repairs it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.openstack import ceph, configuration, database, machine, packages, processes, seed, services
from lab.openstack.layout import BACK_ENDS, PORTS, Layout, OpenStackError

WIPED: Final = (
    *(
        "mysql",
        "mysql.draft",
        "rabbit",
        "ceph",
        "state",
        "glance",
        "instances",
        "nfs-export",
        "mnt",
        "run",
        "etc",
        "log",
    ),
    *("nfs.img", "clouds.yaml", ".xms-openstack", ".lock"),
)


@dataclass(frozen=True)
class OpenStack:
    """One OpenStack.

    Attributes:
        layout: where it lives.
        cache: where dumps of empty schemas are kept.
        back_ends: of Cinder: 'rbd', 'nfs' or both.
        agent: whether Neutron's agent plugs ports, and makes security groups take effect; without it every port is
            bound at once, which saves 300 MiB.
        say: told what happens, in words.
    """

    layout: Layout
    cache: Path
    back_ends: Sequence[str] = BACK_ENDS
    agent: bool = True
    say: Callable[[str], None] = print

    def install(self) -> None:
        """Install the packages that are missing.

        Raises:
            OpenStackError: apt did not.
        """
        began = time.monotonic()
        count = packages.install(self.layout, packages.needed(self.back_ends, agent=self.agent))
        if count:
            self._tell(began, f"{count} packages installed, with what they need")

    def up(self) -> None:
        """Bring it up; what runs already is left alone.

        Raises:
            OpenStackError: a part did not come up, its port is taken, the directory holds what is not the lab's, or
                it is up with other parts.
        """
        self.layout.make_directories()
        with self._alone():
            self.install()
            self._refuse_other_parts()
            self._refuse_taken_ports()
            self._bring_up()

    def _bring_up(self) -> None:
        began = time.monotonic()
        configuration.write(self.layout, self.back_ends, agent=self.agent)
        with ThreadPoolExecutor() as pool:
            base = [pool.submit(database.start_queue, self.layout), pool.submit(machine.start_libvirt, self.layout)]
            if "rbd" in self.back_ends:
                base.append(pool.submit(ceph.start, self.layout))
            if "nfs" in self.back_ends:
                base.append(pool.submit(machine.make_export, self.layout))
            machine.make_bridges(self.layout)
            database.start(self.layout)
            self._tell(began, "MariaDB is up")
            database.make_schemas(self.layout, self.cache, self._keystone)
            self._tell(began, "schemas and Keystone are there")
            _results(base)
        self._tell(began, "RabbitMQ, libvirt and the storage are up")
        if "rbd" in self.back_ends:
            machine.give_ceph_key(self.layout)
        self._start_services()
        self._tell(began, "all services answer")
        seed.resources(self.layout, self.back_ends)
        nova = ["nova-manage", "--config-file", f"{self.layout.etc}/nova.conf", "cell_v2", "discover_hosts"]
        processes.run(self.layout, "nova-manage", nova)
        self._tell(began, "ready")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two who bring up or take down at once would start everything twice: the second one waits."""
        with (self.layout.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _refuse_other_parts(self) -> None:
        """A service that runs does not read a changed configuration."""
        asked = f"{','.join(self.back_ends)} {'with' if self.agent else 'without'} agent"
        found = self.layout.made_of.read_text() if self.layout.made_of.exists() else asked
        if found != asked and any(self.status().values()):
            raise OpenStackError(f"it is up with {found}, and {asked} is asked for: take it down first (down)")
        self.layout.made_of.write_text(asked)

    def down(self, *, wipe: bool = False) -> None:
        """End all of it; with `wipe` remove its state too, and take back what it changed outside its directory."""
        self.layout.refuse_if_foreign()
        if not self.layout.directory.exists():
            return
        with self._alone():
            self._take_down(wipe=wipe)

    def _take_down(self, *, wipe: bool) -> None:
        machine.end_guests(self.layout, forget=wipe)
        with ThreadPoolExecutor() as pool:
            _results([pool.submit(processes.stop, self.layout, service.name) for service in reversed(services.ALL)])
            _results([pool.submit(processes.stop, self.layout, name) for name in services.BASE])
        _end_port_mapper()
        machine.unmount(self.layout)
        if wipe:
            machine.take_back(self.layout)
            packages.let_services_start_again()
            for name in WIPED:
                path = self.layout.directory / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def status(self) -> dict[str, bool]:
        """Every process of it, and whether it runs."""
        names = [*services.BASE, *(service.name for service in services.ALL)]
        return {name: processes.is_running(self.layout, name) for name in names}

    def is_up(self) -> bool:
        """Whether its services run."""
        return all(processes.is_running(self.layout, service.name) for service in services.CONTROL)

    def _start_services(self) -> None:
        for service in services.CONTROL:
            service.start(self.layout)
        services.STORAGE.start(self.layout)
        if self.agent:
            services.AGENT.start(self.layout)
        for service in services.CONTROL:
            service.wait(self.layout)
        services.COMPUTE.start(self.layout)

    def _keystone(self) -> None:
        """Keystone with its keys, its first account, and then everything that the others need of it."""
        _make_key_repositories(self.layout.etc / "keystone")
        if not self.layout.done("bootstrapped").exists():
            url = f"http://127.0.0.1:{PORTS['keystone']}/v3/"
            urls = [word for kind in ("admin", "public", "internal") for word in (f"--bootstrap-{kind}-url", url)]
            manage = ["keystone-manage", "--config-dir", f"{self.layout.etc}/keystone", "bootstrap"]
            word = {"OS_BOOTSTRAP_PASSWORD": configuration.password(self.layout)}
            processes.run(self.layout, "keystone-manage", [*manage, "--bootstrap-region-id", seed.REGION, *urls], word)
            self.layout.done("bootstrapped").touch()
        services.KEYSTONE.start(self.layout)
        services.KEYSTONE.wait(self.layout)
        if not self.layout.done("identity").exists():
            seed.identity(self.layout)
            self.layout.done("identity").touch()

    def _refuse_taken_ports(self) -> None:
        running = self.status()
        # glance's port goes by the name of its service in the catalogue.
        ours = {name for name, runs in running.items() if runs} | ({"glance"} if running["glance-api"] else set())
        for name, port in PORTS.items():
            if name == "ceph-mon" and "rbd" not in self.back_ends:
                continue
            if name not in ours and processes.listens(port):
                who = processes.listener(port)
                raise OpenStackError(f"port {port} of 127.0.0.1 is taken by {who}, and {name} needs it")

    def _tell(self, began: float, text: str) -> None:
        self.say(f"[{time.monotonic() - began:6.1f} s] {text}")


def _results(tasks: Sequence[Future[None]]) -> None:
    for task in tasks:
        task.result()


def _make_key_repositories(directory: Path) -> None:
    """What `keystone-manage fernet_setup` and `credential_setup` make, without two starts of Keystone's own code."""
    for name in ("fernet", "credential"):
        place = directory / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in ("0", "1"):
            key = place / number
            if not key.exists():
                key.touch(mode=0o600)
                key.write_bytes(base64.urlsafe_b64encode(os.urandom(32)))


def _end_port_mapper() -> None:
    """Erlang's, which RabbitMQ started; it refuses while another node of this machine is registered with it."""
    epmd = shutil.which("epmd")
    if epmd is not None:
        subprocess.run([epmd, "-kill"], check=False, capture_output=True, env={"ERL_EPMD_ADDRESS": "127.0.0.1"})
