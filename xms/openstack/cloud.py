"""The connection to the target cloud, and how one waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from urllib.parse import urlsplit

import openstack.config
import openstack.connection
import openstack.exceptions

from xms.config import TargetConfig
from xms.errors import ConfigurationError
from xms.openstack.faults import translated
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3._proxy import Proxy as BlockStorage
    from openstack.compute.v2._proxy import Proxy as Compute
    from openstack.config.cloud_region import CloudRegion
    from openstack.network.v2._proxy import Proxy as Network

T = TypeVar("T")

PULSE_EVERY_SECONDS: Final = 0.25
JOB_KEY: Final = "xms_job"
"""Metadata key of every volume and server that a job makes: what does not carry the job's id is never touched."""


class Cloud:
    """One project of the target cloud. Close it, or use it as a context manager."""

    def __init__(self, connection: openstack.connection.Connection, config: TargetConfig, project_id: str) -> None:
        self.connection = connection
        self.name = config.cloud
        self.project_id = project_id
        self.poll_seconds = config.poll_seconds

    @property
    def volumes(self) -> BlockStorage:
        """Cinder."""
        return cast("BlockStorage", self.connection.block_storage)

    @property
    def compute(self) -> Compute:
        """Nova."""
        return self.connection.compute

    @property
    def network(self) -> Network:
        """Neutron."""
        return self.connection.network

    def volume_host(self) -> str:
        """Host name of Cinder's endpoint: the worker's own address is the one that it is reached from."""
        with translated(f"the volume service of cloud '{self.name}' was not found"):
            endpoint = self.volumes.get_endpoint()
        return urlsplit(str(endpoint)).hostname or "localhost"

    def wait_for(self, probe: Callable[[], T | None], *, timeout: float, pulse: Pulse) -> T | None:
        """Ask `probe` every `poll_seconds` until it answers something; None when `timeout` seconds passed without.

        Raises:
            xms.errors.Interrupted: the pulse said so.
        """
        end = time.monotonic() + timeout
        while (answer := probe()) is None:
            if time.monotonic() >= end:
                return None
            rest(self.poll_seconds, pulse)
        return answer

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rest(seconds: float, pulse: Pulse) -> None:
    """Sleep, but show life and stay interruptible.

    Raises:
        xms.errors.Interrupted: the pulse said so.
    """
    end = time.monotonic() + seconds
    pulse()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, PULSE_EVERY_SECONDS))
        pulse()


def connect(config: TargetConfig, project: str | None = None) -> Cloud:
    """Log in to the cloud that clouds.yaml describes.

    Args:
        config: names the entry of clouds.yaml and, if it is not in a standard place, the file.
        project: name of the project to work in; None is the entry's own.

    Raises:
        ConfigurationError: there is no such entry, or it is incomplete.
        TargetRefusedLogin: wrong credentials, or no role in the project.
        TargetUnreachable: Keystone does not answer.
    """
    what = f"no log-in to cloud '{config.cloud}'" + (f", project '{project}'" if project else "")
    if config.clouds_file is not None and not config.clouds_file.is_file():
        raise ConfigurationError(
            what, because=f"there is no file {config.clouds_file}", do="correct target.clouds_file"
        )
    with translated(what):
        connection = openstack.connection.Connection(config=_region(config, project), app_name="xms")
        try:
            project_id = connection.session.get_project_id()
        except BaseException:
            connection.close()
            raise
    if project_id is None:
        connection.close()
        raise ConfigurationError(what, because="its credentials are scoped to no project", do="add project_name to it")
    return Cloud(connection, config, project_id)


def _region(config: TargetConfig, project: str | None) -> CloudRegion:
    """The entry of clouds.yaml, in the given project."""
    explicit: dict[str, Any] = {}
    if config.clouds_file is not None:
        secure = config.clouds_file.with_name("secure.yaml")
        explicit = {
            "config_files": [str(config.clouds_file)],
            "secure_files": [str(secure)],
            # OS_CLIENT_CONFIG_FILE would go before a file that the configuration names.
            "load_envvars": False,
        }
    clouds = openstack.config.OpenStackConfig(
        # Without the SDK's own time limit one API that hangs would stall a worker for ever.
        override_defaults={"api_timeout": config.api_timeout_seconds},
        **explicit,
    )
    if project is not None:
        _scope_to(clouds, config.cloud, project)
    return clouds.get_one(cloud=config.cloud)


def _scope_to(clouds: openstack.config.OpenStackConfig, cloud: str, project: str) -> None:
    """Put the project into the entry itself: an id that stands there would win over a name given to `get_one`."""
    entry = clouds.cloud_config.get("clouds", {}).get(cloud)
    if entry is None:
        return
    auth = entry.setdefault("auth", {})
    for place in (entry, auth):
        for key in ("project_id", "tenant_id", "tenant_name", "project_name"):
            place.pop(key, None)
    auth["project_name"] = project
