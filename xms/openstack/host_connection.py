"""How a volume becomes a path on this machine: os-brick, imported here and nowhere else."""

from __future__ import annotations

import functools
import logging
import socket
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xms.errors import ConfigurationError, TargetFault, VolumeFailed
from xms.openstack.device import Device, size_of

_IMPORT: Final = threading.Lock()
ANY_PORT: Final = 9
SHARES: Final = ("nfs", "glusterfs", "vzstorage", "quobyte", "scality")
"""os-brick's protocols whose volumes are files of a share that it mounts."""


@dataclass(frozen=True)
class Connection:
    """A connected volume."""

    device: Device
    _connector: Any
    _connection_info: Mapping[str, Any]
    _device_info: Mapping[str, Any]

    def disconnect(self) -> None:
        """Take the path away.

        Raises:
            VolumeFailed: the operating system did not let go of it.
        """
        brick_error = _brick()[1]
        try:
            self._connector.disconnect_volume(dict(self._connection_info), dict(self._device_info))
        except (brick_error, OSError) as error:
            raise VolumeFailed(f"{self.device.path} was not disconnected", because=str(error)) from error


@functools.cache
def connector_properties(worker: str, volume_host: str) -> Mapping[str, Any]:
    """What this machine tells Cinder about itself: initiators, address, and the worker's name as the host.

    Found once a process: os-brick runs a dozen programs for it. Without root it finds fewer initiators, and no failure.
    """
    connector, _ = _brick()
    with warnings.catch_warnings():
        # eventlet, which os-brick imports, warns at every fork of the process, whether its loops are used or not.
        warnings.simplefilter("ignore")
        found = connector.get_connector_properties(
            "", _own_address(volume_host), multipath=False, enforce_multipath=False, host=worker
        )
    return {key: value for key, value in found.items() if value is not None}


def connect(connection_info: Mapping[str, Any], *, mounts: Path) -> Connection:
    """Make the attachment's volume a path. The connection info may hold CHAP secrets: it is never logged.

    Args:
        connection_info: Cinder's.
        mounts: where shares of files are mounted.

    Raises:
        ConfigurationError: the back end's protocol gives no path here.
        VolumeFailed: the path did not come up.
    """
    connector_module, brick_error = _brick()
    protocol = str(connection_info.get("driver_volume_type", ""))
    # Cinder tells the mount points of its own host, which mean nothing here.
    bases = {f"{kind}_mount_point_base": str(mounts) for kind in SHARES}
    try:
        connector = connector_module.InitiatorConnector.factory(protocol, "", use_multipath=False, **bases)
        device_info = connector.connect_volume(dict(connection_info))
    except (brick_error, OSError, ValueError, TypeError) as error:
        raise VolumeFailed(
            "a volume did not appear on this worker", because=f"os-brick ({protocol}): {type(error).__name__}: {error}"
        ) from error
    path = device_info.get("path")
    if not isinstance(path, str):
        connector.disconnect_volume(dict(connection_info), device_info)
        raise ConfigurationError(
            "this worker cannot write to the volumes of this cloud",
            because=f"the back end '{protocol}' gives no device path",
            do="use a volume type whose back end is reached by iSCSI, Fibre Channel, NVMe, files or Ceph RBD; "
            "or use attach = nova",
        )
    try:
        return Connection(Device(path, size_of(path)), connector, connection_info, device_info)
    except OSError as error:
        connector.disconnect_volume(dict(connection_info), device_info)
        raise VolumeFailed(f"{path} cannot be opened on this worker", because=error.strerror or "") from error


def load_os_brick() -> None:
    """Import os-brick now. A worker does it on its main thread, before it has others.

    os-brick imports eventlet, and a thread that imports eventlet can never be joined again (seen with eventlet 0.41 on
    Python 3.11): a worker that imported it on an activity's thread would not end.
    """
    _brick()


@functools.cache
def _import_brick() -> tuple[Any, type[Exception]]:
    with warnings.catch_warnings():
        # os-brick imports eventlet, which announces its own retirement at import; its loops are not used here.
        warnings.simplefilter("ignore")
        from os_brick import exception, privileged  # noqa: PLC0415 - late, because it takes half a second
        from os_brick.initiator import connector  # noqa: PLC0415 - the same
    # os-brick would start its privileged helper through sudo for each program that needs root. The worker is either
    # root already, or has back ends that need no root.
    privileged.default.set_client_mode(False)
    # It warns about each protocol that this machine does not have.
    logging.getLogger("os_brick").setLevel(logging.ERROR)
    return connector, exception.BrickException


def _brick() -> tuple[Any, type[Exception]]:
    with _IMPORT:
        return _import_brick()


def _own_address(host: str) -> str:
    """The address that this machine reaches `host` from; nothing is sent.

    Raises:
        TargetFault: the host has no address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise TargetFault(f"no route to the volume service at {host}", because=str(error)) from error
