"""A session with a vCenter or ESXi: opened trusted, renewed when it expires, closed at the end.

Every call of a managed object goes through `_Stub`: there broken connections become our errors, and an expired session
is opened again. vSphere's faults are left as they are for the modules of this package, which know what they mean; those
that nobody knows become a SourceFault when they leave the session.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPSConnection
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

from pyVmomi.SoapAdapter import SoapStubAdapter

from xms.config import SourceConfig
from xms.errors import SourceUnreachable, XmsError
from xms.vsphere.bindings import support, vim, vmodl
from xms.vsphere.faults import explain_connection, explained
from xms.vsphere.trust import ssl_context

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

SDK_PATH = "/sdk"
VERSIONS_LIMIT_BYTES = 1 << 20
# The oldest API with everything that this package calls (6.5: secure boot); spoken where a server lists none we know.
OLDEST_VERSION = "vim.version.version11"


class VsphereSession:
    """One logged-in session. It is not shared between threads: a PropertyCollector belongs to one thread.

    Attributes:
        name: the source's name.
        config: how it is reached.
        content: vSphere's service content, read once at the log-in.
    """

    def __init__(self, name: str, config: SourceConfig, stub: _Stub, content: Any) -> None:  # noqa: ANN401 - pyVmomi's
        self.name = name
        self.config = config
        self.content = content
        self._stub = stub

    def virtual_machine(self, moref: str) -> Any:  # noqa: ANN401 - pyVmomi's
        """The VM with this managed object reference; asks vSphere nothing."""
        return vim.VirtualMachine(moref, self._stub)

    def snapshot(self, moref: str) -> Any:  # noqa: ANN401 - pyVmomi's
        """The snapshot with this managed object reference; asks vSphere nothing."""
        return vim.vm.Snapshot(moref, self._stub)

    def whole(self, read: Callable[[], Answer]) -> Answer:
        """Make a read of several calls, and begin it again where the session ended on the way.

        Views and half-read results die with their session. So `read` may be called twice; it must not change anything.
        """
        try:
            return read()
        except vim.fault.NotAuthenticated:
            self._stub.log_in()
            return read()


@contextlib.contextmanager
def connect(name: str, config: SourceConfig) -> Iterator[VsphereSession]:
    """Log in to a source, and out at the end.

    Connecting and each call may take `config.timeout_seconds`.

    Raises:
        SourceUnreachable: it did not answer, or the connection broke, here or in any later call.
        SourceNotTrusted: its certificate is not the one that the configuration trusts.
        SourceRefusedLogin: user name or password is wrong.
        SourceForbidden: the account lacks a privilege, here or in any later call.
        SourceFault: a call was answered with a fault that has no class of its own.
        ConfigurationError: the password file or the CA bundle cannot be used.
    """
    stub = _Stub(name, config)
    try:
        with explained(name, f"no session with {name} could be opened"):
            content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
            stub.log_in()
        with explained(name, f"a call to {name} failed"):
            yield VsphereSession(name, config, stub, content)
    finally:
        stub.log_out()


class _Stub(SoapStubAdapter):
    """pyVmomi's transport with a verified TLS context, our errors, and a session that is opened again.

    pyVmomi's own session stub repeats a call after a broken connection too. That would make a second snapshot where the
    first one's answer was lost, so here only a call that was refused for want of a session is made again.
    """

    def __init__(self, name: str, config: SourceConfig) -> None:
        self._name = name
        self._config = config
        self._ready = False
        self._broken = False
        context = ssl_context(name, config)
        try:
            version = _newest_version(config, context)
        except (OSError, HTTPException) as error:
            raise explain_connection(error, source=name, host=config.host, port=config.port) from error
        base: Any = super()
        base.__init__(
            host=config.host,
            port=config.port,
            path=SDK_PATH,
            version=version,
            sslContext=context,
            httpConnectionTimeout=config.timeout_seconds,
        )

    def log_in(self) -> None:
        """Open a session. The password is read each time: it may have been rotated."""
        manager = vim.ServiceInstance("ServiceInstance", self).RetrieveContent().sessionManager
        manager.Login(self._config.username, self._config.password().get_secret_value(), None)
        self._ready = True

    def log_out(self) -> None:
        """Close the session and the connections. A session that cannot be closed ends by itself after its idle time."""
        was_ready, self._ready = self._ready, False
        try:
            # Where a call has just failed for want of a connection, this one would only wait for its timeout again.
            if was_ready and not self._broken:
                vim.ServiceInstance("ServiceInstance", self).RetrieveContent().sessionManager.Logout()
        except (XmsError, vmodl.MethodFault) as error:
            logger.debug("the session with %s could not be closed: %s", self._name, error)
        finally:
            connections: Any = self
            connections.DropConnections()

    def InvokeMethod(  # noqa: N802 - pyVmomi's name
        self,
        mo: Any,  # noqa: ANN401 - pyVmomi's
        info: Any,  # noqa: ANN401 - pyVmomi's
        args: Any,  # noqa: ANN401 - pyVmomi's
        outerStub: Any = None,  # noqa: ANN401, N803 - pyVmomi's
    ) -> Any:  # noqa: ANN401 - pyVmomi's
        """Make one call, with a new session where the old one has ended."""
        try:
            return self._call(mo, info, args, outerStub)
        except vim.fault.NotAuthenticated:
            if not self._ready:
                raise
            self._ready = False
            logger.info("the session with %s has ended; logging in again", self._name)
            self.log_in()
            return self._call(mo, info, args, outerStub)

    def _call(self, *call: Any) -> Any:  # noqa: ANN401 - pyVmomi's
        config = self._config
        base: Any = super()
        try:
            return base.InvokeMethod(*call)
        except (OSError, HTTPException) as error:
            self._broken = True
            raise explain_connection(error, source=self._name, host=config.host, port=config.port) from error
        except ExpatError as error:
            self._broken = True
            raise SourceUnreachable(
                f"{self._name} ({config.host}:{config.port}) does not answer as a vSphere API does",
                because=f"its answer is not SOAP: {error}",
                do="check host and port; is a proxy or a load balancer in between?",
            ) from error


def _newest_version(config: SourceConfig, context: Any) -> str:  # noqa: ANN401 - an SSLContext, as http.client takes it
    """The newest API version that both sides speak. pyVmomi's own negotiation has no timeout."""
    connection = HTTPSConnection(config.host, config.port, timeout=config.timeout_seconds, context=context)
    try:
        connection.request("GET", f"{SDK_PATH}/vimServiceVersions.xml")
        text = connection.getresponse().read(VERSIONS_LIMIT_BYTES).decode(errors="replace")
    finally:
        connection.close()
    spoken = set(re.findall(r"<version>\s*([^<\s]+)\s*</version>", text))
    ours: list[str] = support.GetServiceVersions("vim25")
    return next((version for version in ours if support.versionIdMap[version] in spoken), OLDEST_VERSION)
