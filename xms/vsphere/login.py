"""One log-in: verified connections, the API version that both sides speak, and a session of its own.

Its cookie belongs to it alone. vCenter answers a call whose session has ended with a new, empty cookie, which pyVmomi
takes over; so a log-in is never renewed in place, where it could lose its cookie to a call that came too late, but
replaced by another one.
"""

from __future__ import annotations

import logging
import re
import time
from http.client import HTTPException, HTTPSConnection
from typing import Any, Final
from xml.parsers.expat import ExpatError

from pydantic import SecretStr
from pyVmomi.SoapAdapter import SoapStubAdapter

from xms.config import SourceConfig
from xms.errors import ConfigurationError, SourceUnreachable, XmsError
from xms.vsphere.bindings import support, vim, vmodl
from xms.vsphere.faults import explain_connection
from xms.vsphere.outage import Outage
from xms.vsphere.trust import ssl_context

logger = logging.getLogger(__name__)

SDK_PATH: Final = "/sdk"
VERSIONS_LIMIT_BYTES: Final = 1 << 20
OLDEST_VERSION: Final = "vim.version.version11"
"""The oldest API with everything that this package calls (6.5: secure boot); spoken where a server lists none we
know."""

POOLED_CONNECTIONS: Final = 20
POOLED_SECONDS: Final = 15
"""A connection that was idle for longer is not used again: load balancers and firewalls drop idle ones silently, and
a call that breaks is not repeated."""

HTTP_OK: Final = 200

STANDALONE: Final = "HostAgent"
"""about.apiType of an ESXi host that is spoken to without a vCenter."""

STANDALONE_DATACENTER: Final = "ha-datacenter"


class Login:
    """A session of a source, as long as the source knows it.

    Args:
        name: the source's.
        config: how it is reached.
        password: the account's, now.
        outage: told whether the source answers.
        generation: the how many-th log-in of a shared session this is.

    Attributes:
        last_call: when it was used last, by `time.monotonic`.

    Raises:
        SourceUnreachable, SourceNotTrusted, ConfigurationError: as `xms.vsphere.session.connect`.
        vmodl.MethodFault: the source refused the log-in.
    """

    def __init__(self, name: str, config: SourceConfig, password: SecretStr, outage: Outage, generation: int) -> None:
        self.generation = generation
        self.last_call = time.monotonic()
        self._name = name
        self._transport = _Transport(name, config, outage)
        try:
            content = self._service().RetrieveContent()
            _refuse_datacenter_of_a_host(name, config, content.about)
            content.sessionManager.Login(config.username, password.get_secret_value(), None)
        except BaseException:
            self.retire()
            raise

    @property
    def version(self) -> str:
        """The API version that is spoken, by pyVmomi's name."""
        spoken: str = self._transport.version
        return spoken

    def call(self, thing: Any, method: Any, arguments: Any, stub: Any) -> Any:  # noqa: ANN401 - pyVmomi's
        """Make one call, once.

        Args:
            thing: the object that is called.
            method: pyVmomi's description of the method.
            arguments: in the method's order.
            stub: what the objects of the answer will make their own calls through.

        Raises:
            SourceUnreachable: the connection broke, or nothing came within the timeout.
            vmodl.MethodFault: the source's answer.
        """
        status, answer = self._transport.InvokeMethod(thing, method, arguments, stub)
        self.last_call = time.monotonic()
        if status == HTTP_OK:
            return answer
        raise answer

    def keep_alive(self) -> None:
        """Make the smallest call that there is. Raises as `call`."""
        self._service().CurrentTime()
        self.last_call = time.monotonic()

    def log_out(self) -> None:
        """End the session and the connections. A session that cannot be ended ends by itself after its idle time."""
        try:
            # Where a call has just failed for want of a connection, this one would only wait for its timeout again.
            if not self._transport.broken:
                self._service().RetrieveContent().sessionManager.Logout()
        except (XmsError, vmodl.MethodFault) as error:
            logger.debug("the session with %s could not be ended: %s", self._name, error)
        finally:
            self.retire()

    def retire(self) -> None:
        """Keep no connection from now on; calls that are under way end, and later ones are answered that it ended."""
        self._transport.retire()

    def _service(self) -> Any:  # noqa: ANN401 - pyVmomi's
        return vim.ServiceInstance("ServiceInstance", self._transport)


class _Transport(SoapStubAdapter):
    """pyVmomi's transport with a verified TLS context, a timeout, and our errors. It repeats nothing.

    pyVmomi's own session stub repeats a call after a broken connection. That would make a second snapshot where the
    first one's answer was lost.
    """

    def __init__(self, name: str, config: SourceConfig, outage: Outage) -> None:
        self.broken = False
        self._name = name
        self._config = config
        self._outage = outage
        self._retired = False
        try:
            context = ssl_context(name, config)
            version = _newest_version(config, context)
        except SourceUnreachable as error:
            outage.not_connected(error.because)
            raise
        except (OSError, HTTPException) as error:
            raise self._unreachable(error, connecting=True) from error
        base: Any = super()
        base.__init__(
            host=config.host,
            port=config.port,
            path=SDK_PATH,
            version=version,
            poolSize=POOLED_CONNECTIONS,
            connectionPoolTimeout=POOLED_SECONDS,
            sslContext=context,
            httpConnectionTimeout=config.timeout_seconds,
        )

    def retire(self) -> None:
        """Close the connections that are idle, and the others when their calls end."""
        self._retired = True
        base: Any = super()
        base.DropConnections()

    def GetConnection(self) -> Any:  # noqa: ANN401, N802 - pyVmomi's
        """A connection of the pool, or a new one."""
        base: Any = super()
        try:
            return base.GetConnection()
        except (OSError, HTTPException) as error:
            raise self._unreachable(error, connecting=True) from error

    def ReturnConnection(self, connection: Any) -> None:  # noqa: ANN401, N802 - pyVmomi's
        """Take a connection back."""
        base: Any = super()
        if self._retired:
            connection.close()
        else:
            base.ReturnConnection(connection)

    def InvokeMethod(  # noqa: N802 - pyVmomi's name
        self,
        mo: Any,  # noqa: ANN401 - pyVmomi's
        info: Any,  # noqa: ANN401 - pyVmomi's
        args: Any,  # noqa: ANN401 - pyVmomi's
        outerStub: Any = None,  # noqa: ANN401, N803 - pyVmomi's
    ) -> Any:  # noqa: ANN401 - pyVmomi's
        """Make one call."""
        base: Any = super()
        try:
            answer = base.InvokeMethod(mo, info, args, outerStub)
        except vmodl.MethodFault:
            self._answered()
            raise
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        except ExpatError as error:
            raise self._no_vsphere(error) from error
        self._answered()
        return answer

    def _answered(self) -> None:
        self.broken = False
        self._outage.answered()

    def _unreachable(self, error: Exception, *, connecting: bool = False) -> XmsError:
        config = self._config
        explained = explain_connection(error, source=self._name, host=config.host, port=config.port)
        self.broken = True
        if isinstance(explained, SourceUnreachable):
            (self._outage.not_connected if connecting else self._outage.broken)(explained.because)
        return explained

    def _no_vsphere(self, error: Exception) -> XmsError:
        config = self._config
        self.broken = True
        because = f"its answer is not SOAP: {error}"
        self._outage.broken(because)
        return SourceUnreachable(
            f"{self._name} ({config.host}:{config.port}) does not answer as a vSphere API does",
            because=because,
            do="check host and port; is a proxy or a load balancer in between?",
        )


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


def _refuse_datacenter_of_a_host(name: str, config: SourceConfig, about: Any) -> None:  # noqa: ANN401 - pyVmomi's
    """A host of its own has one datacenter, whose name nobody chose."""
    if about.apiType == STANDALONE and config.datacenter not in (None, STANDALONE_DATACENTER):
        raise ConfigurationError(
            f"{name} has no datacenter called '{config.datacenter}'",
            because=f"{config.host} is an ESXi host without a vCenter ({about.fullName}): it has no datacenters",
            means="nothing was asked of it",
            do="take `datacenter` out of the source's configuration, or register the vCenter that it belongs to",
        )
