"""The connection to the target cloud, and how one waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast
from urllib.parse import urlsplit

import openstack.connection
import openstack.exceptions

from xms.config import TargetConfig
from xms.errors import TargetRefusedLogin
from xms.openstack import login
from xms.openstack.faults import translated
from xms.openstack.retries import RepeatingAdapter
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3._proxy import Proxy as BlockStorage
    from openstack.compute.v2._proxy import Proxy as Compute
    from openstack.network.v2._proxy import Proxy as Network

T = TypeVar("T")

PULSE_EVERY_SECONDS: Final = 0.25
JOB_KEY: Final = "xms_job"
"""Metadata key of every volume and server that a job makes: what does not carry the job's id is never touched."""


class Cloud:
    """One project of the target cloud. Close it, or use it as a context manager."""

    def __init__(
        self,
        connection: openstack.connection.Connection,
        config: TargetConfig,
        project_id: str,
        *,
        repeats: RepeatingAdapter,
        project: str | None,
    ) -> None:
        self.connection = connection
        self._config = config
        self._project = project
        self._repeats = repeats
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

    def asked_once(self) -> AbstractContextManager[None]:
        """Within it, this thread's calls are not asked again: for those that a late answer makes worthless."""
        return self._repeats.asked_once()

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TargetRefusedLogin):
            login.forget_log_in(self._config, self._project)
        else:
            # It may have logged in afresh meanwhile.
            login.keep_log_in(self.connection.session, self._config, self._project)
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


def connect(config: TargetConfig, project: str | None = None, pulse: Pulse = no_pulse) -> Cloud:
    """Log in to a target.

    Args:
        config: names the entry of clouds.yaml and, if it is not in a standard place, the file.
        project: name or id of the project to work in; None is the entry's own.
        pulse: beats while a call is asked again, on the thread that calls this. A call waits `config.retry_seconds` at
            most, and `config.api_timeout_seconds` for its last answer.

    Raises:
        ConfigurationError: there is no such entry, it is incomplete or unsafe, its credentials are bound to another
            project, or its region is not the cloud's.
        TargetRefusedLogin: wrong credentials, or no role in the project.
        TargetUnreachable: Keystone does not answer.
    """
    what = f"no log-in to cloud '{config.cloud}'" + (f", project '{project}'" if project else "")
    with translated(what):
        entry = login.entry_of(config, project, what)
        connection = openstack.connection.Connection(config=entry, app_name="xms")
        repeats = RepeatingAdapter(config.retry_seconds, _resting(pulse))
        try:
            for scheme in list(connection.session.session.adapters):
                connection.session.session.mount(scheme, repeats)
            login.resume_log_in(connection.session, config, project)
            access = login.access(connection.session)
            project_id = login.check_project(access, project, what)
            login.check_region(access, entry.config.get("region_name"), what)
            login.keep_log_in(connection.session, config, project)
        except BaseException as error:
            connection.close()
            if isinstance(error, Exception):
                login.forget_log_in(config, project)
            raise
    return Cloud(connection, config, project_id, repeats=repeats, project=project)


def _resting(pulse: Pulse) -> Callable[[float], None]:
    """A sleep that beats on the thread that made it: an activity's pulse belongs to the activity's thread."""
    owner = threading.get_ident()

    def sleep(seconds: float) -> None:
        rest(seconds, pulse if threading.get_ident() == owner else no_pulse)

    return sleep
