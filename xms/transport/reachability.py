"""Whether this machine reaches the port at which ESXi hosts serve their disks."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from xms.orders.source import SourceHost

CONNECT_SECONDS: Final = 5.0

AT_A_TIME: Final = 64
"""The hosts of a large vCenter are all tried within the time that a person waits."""

CONNECTED: Final = "connected"


def reach_hosts(hosts: tuple[SourceHost, ...], port: int) -> tuple[SourceHost, ...]:
    """Connect to each host that vCenter has a connection to, and go away again. Nothing is sent."""
    with ThreadPoolExecutor(max_workers=AT_A_TIME, thread_name_prefix="reach") as threads:
        return tuple(threads.map(lambda host: _tried(host, port), hosts))


def _tried(host: SourceHost, port: int) -> SourceHost:
    if host.connection != CONNECTED:
        return host.model_copy(update={"because": f"vCenter says that it is {host.connection}"})
    try:
        with socket.create_connection((host.name, port), timeout=CONNECT_SECONDS):
            return host.model_copy(update={"reachable": True})
    except socket.gaierror:
        return host.model_copy(update={"reachable": False, "because": "its name cannot be resolved"})
    except OSError as error:
        because = f"port {port}: {error.strerror or error or type(error).__name__}"
        return host.model_copy(update={"reachable": False, "because": because})
