"""The services of OpenStack as data: how each is started, and how one sees that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lab.openstack import processes
from lab.openstack.layout import PORTS, Layout

ANSWER_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Service:
    """A service.

    Attributes:
        command: `{etc}` is the directory of the configuration.
        port: where it answers HTTP, if it does.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None

    def start(self, layout: Layout) -> None:
        """Start it, unless it runs."""
        filled = {key: value.format(etc=layout.etc) for key, value in self.environment.items()}
        processes.start(layout, self.name, [word.format(etc=layout.etc) for word in self.command], filled)

    def wait(self, layout: Layout) -> None:
        """Until it answers.

        Raises:
            OpenStackError: it does not.
        """
        if (port := self.port) is not None:
            processes.wait_for(layout, self.name, lambda: processes.answers(port), ANSWER_SECONDS)


def _oslo(name: str, service: str, port: int | None = None, **environment: str) -> Service:
    return Service(name, (name, "--config-file", f"{{etc}}/{service}.conf"), environment, port)


def _wsgi(name: str, file: str, variable: str) -> Service:
    """One process with some threads. Connections are closed after each answer: uwsgi gives a thread to each."""
    port = PORTS[name]
    command = (
        *("uwsgi", "--plugin", "python3", "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", file),
        *("--master", "--processes", "1", "--threads", "4", "--enable-threads", "--lazy-apps", "--need-app"),
        *("--buffer-size", "65535", "--post-buffering", "65536", "--listen", "64", "--die-on-term", "--no-orphans"),
        *("--disable-logging", "--add-header", "Connection: close"),
    )
    return Service(name, command, {variable: f"{{etc}}/{name}"}, port)


KEYSTONE: Final = _wsgi("keystone", "/usr/bin/keystone-wsgi-public", "OS_KEYSTONE_CONFIG_DIR")
"""Before all others: conductor and scheduler end at a 401, so the service account has to be there first."""

CONTROL: Final = (
    _wsgi("placement", "/usr/bin/placement-api", "OS_PLACEMENT_CONFIG_DIR"),
    # Not under uwsgi: its HTTP socket does not decode the chunks of an image's upload.
    _oslo("glance-api", "glance-api", PORTS["glance"]),
    # Nor these: they are patched for green threads, and lose answers of the message queue in uwsgi's.
    _oslo("cinder-api", "cinder", PORTS["cinder-api"]),
    _oslo("nova-api", "nova", PORTS["nova-api"]),
    _oslo("neutron-server", "neutron", PORTS["neutron-server"], PYTHONPATH="{etc}/port-binder"),
    _oslo("nova-conductor", "nova"),
    _oslo("nova-scheduler", "nova"),
    _oslo("cinder-scheduler", "cinder"),
)

AGENT: Final = _oslo("neutron-linuxbridge-agent", "neutron")
STORAGE: Final = _oslo("cinder-volume", "cinder")
COMPUTE: Final = _oslo("nova-compute", "nova")
"""After Placement answers, and with libvirt there."""

BASE: Final = ("libvirtd", "ceph-osd", "ceph-mgr", "ceph-mon", "rabbitmq", "mariadb")
"""What the services stand on, in the order in which it is stopped."""

ALL: Final = (KEYSTONE, *CONTROL, AGENT, STORAGE, COMPUTE)
