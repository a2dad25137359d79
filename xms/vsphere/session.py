"""A session with a vCenter or ESXi, shared by the threads that use it, and replaced when it ends.

vSphere's faults are left as they are for the modules of this package, which know what they mean; those that nobody
knows become a SourceFault when they leave the session.

All threads share one session, its connections, and its one PropertyCollector. vSphere advises one collector a thread
because a collector keeps filters and the version of the updates that were waited for. We make no filters: each read is
answered by itself, and the pages of a long one are told apart by their tokens.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from pyVmomi.SoapAdapter import StubAdapterBase

from xms.config import SourceConfig
from xms.errors import SourceNotTrusted, SourceRefusedLogin, SourceUnreachable, XmsError
from xms.vsphere.bindings import vim
from xms.vsphere.faults import explained
from xms.vsphere.login import Login
from xms.vsphere.outage import Outage

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class VsphereSession:
    """What one thread sees of a session.

    Attributes:
        name: the source's name.
        config: how it is reached.
        content: vSphere's service content.
    """

    def __init__(self, shared: SharedSession, content: Any) -> None:  # noqa: ANN401 - pyVmomi's
        self.name = shared.name
        self.config = shared.config
        self.content = content
        self._shared = shared

    @property
    def service(self) -> Any:  # noqa: ANN401 - pyVmomi's
        """The service itself, which tells its time."""
        return vim.ServiceInstance("ServiceInstance", self._shared.stub)

    def virtual_machine(self, moref: str) -> Any:  # noqa: ANN401 - pyVmomi's
        """The VM with this managed object reference; asks vSphere nothing."""
        return vim.VirtualMachine(moref, self._shared.stub)

    def snapshot(self, moref: str) -> Any:  # noqa: ANN401 - pyVmomi's
        """The snapshot with this managed object reference; asks vSphere nothing."""
        return vim.vm.Snapshot(moref, self._shared.stub)

    def whole(self, read: Callable[[], Answer]) -> Answer:
        """Make a read of several calls within one log-in, and begin it again where that ended on the way.

        Views, half-read results and the like die with their session: to go on with them in the next one would fail, or
        read something else. So `read` may be called twice; it must not change anything.
        """
        return self._shared.whole(read)


@contextlib.contextmanager
def connect(name: str, config: SourceConfig) -> Iterator[VsphereSession]:
    """Log in to a source for one use, and out at the end.

    Connecting and each call may take `config.timeout_seconds`.

    Raises:
        SourceUnreachable: it did not answer, or the connection broke, here or in any later call.
        SourceNotTrusted: its certificate is not the one that the configuration trusts.
        SourceRefusedLogin: user name or password is wrong.
        SourceForbidden: the account lacks a privilege, here or in any later call.
        SourceFault: a call was answered with a fault that has no class of its own.
        ConfigurationError: the password file, the CA bundle or the datacenter cannot be used.
    """
    shared = SharedSession(name, config)
    try:
        with shared.used() as session:
            yield session
    finally:
        shared.close()


class SharedSession:
    """The one session of a source. It begins with its first use, and begins again where it has ended. Thread-safe.

    Args:
        name: the source's name.
        config: how it is reached.
    """

    def __init__(self, name: str, config: SourceConfig) -> None:
        self.name = name
        self.config = config
        self.outage = Outage(name)
        self.users = 0
        self.last_used = time.monotonic()
        self.stub: _Stub | None = None
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._generation = 0
        self._flight: Future[Login] | None = None
        self._rejected: tuple[tuple[int, ...], str] | None = None
        self._content: tuple[int, Any] | None = None
        self._thread = threading.local()

    @contextlib.contextmanager
    def used(self) -> Iterator[VsphereSession]:
        """Use the session; log in where nobody did. The same errors as of `connect`."""
        with self._lock:
            self.users += 1
        try:
            with explained(self.name, f"no session with {self.name} could be opened"):
                session = VsphereSession(self, self._service_content())
            with explained(self.name, f"a call to {self.name} failed"):
                yield session
        finally:
            with self._lock:
                self.users -= 1
                self.last_used = time.monotonic()

    def call(self, thing: Any, method: Any, arguments: Any) -> Any:  # noqa: ANN401 - pyVmomi's
        """Make one call, and once more in a new session where the old one had ended: then nothing was done yet.

        A call whose connection broke may have happened, so it is never repeated.
        """
        pinned: Login | None = getattr(self._thread, "pinned", None)
        if pinned is not None:
            return self._call(pinned, thing, method, arguments)
        login = self._login_after(0)
        try:
            return self._call(login, thing, method, arguments)
        except vim.fault.NotAuthenticated:
            return self._call(self._login_after(login.generation), thing, method, arguments)

    def whole(self, read: Callable[[], Answer]) -> Answer:
        """See `VsphereSession.whole`."""
        if getattr(self._thread, "pinned", None) is not None:
            return read()
        login = self._login_after(0)
        try:
            self._thread.pinned = login
            try:
                return read()
            except vim.fault.NotAuthenticated:
                self._thread.pinned = None
                self._thread.pinned = self._login_after(login.generation)
                return read()
        finally:
            self._thread.pinned = None

    def tend(self, *, keep_alive_seconds: float, idle_seconds: float) -> None:
        """Keep the session alive that is in use or was lately, and end it when it was not used for long."""
        now = time.monotonic()
        with self._lock:
            login = self._login
            idle = self.users == 0 and now - self.last_used >= idle_seconds
            if idle:
                self._login = None
        if login is None:
            return
        if idle:
            logger.info("the session with %s is not used any more; logging out", self.name)
            login.log_out()
        elif now - login.last_call >= keep_alive_seconds and not self.outage.lasts:
            self._keep_alive(login)

    def close(self) -> None:
        """Log out. A session that is used again logs in again."""
        with self._lock:
            login, self._login = self._login, None
        if login is not None:
            login.log_out()

    # --- the log-in ---------------------------------------------------------------------------------------------------

    def _login_after(self, generation: int) -> Login:
        """The log-in that is later than that generation: of the threads that need it one makes it, the others wait."""
        with self._lock:
            if self._login is not None and self._login.generation > generation:
                return self._login
            flight = self._flight
            mine = flight is None
            if flight is None:
                flight = self._flight = Future()
        return self._log_in(flight) if mine else self._wait_for(flight)

    def _log_in(self, flight: Future[Login]) -> Login:
        try:
            login = self._new_login()
        except BaseException as error:
            with self._lock:
                self._flight = None
            # Without the traceback, which leads to this frame: a circle would keep broken connections open for a while.
            flight.set_exception(error.again() if isinstance(error, XmsError) else error)
            raise
        with self._lock:
            old, self._login, self._flight = self._login, login, None
            self.stub = _Stub(self, login.version)
        if old is not None:
            logger.info("the session with %s had ended; logged in again", self.name)
            old.retire()
        flight.set_result(login)
        return login

    def _wait_for(self, flight: Future[Login]) -> Login:
        # Every call of a log-in has its timeout, so that this ends.
        error = flight.exception()
        if error is None:
            return flight.result()
        raise (error.again() if isinstance(error, XmsError) else error) from error

    def _new_login(self) -> Login:
        secret = self.config.password_signature()
        if self._rejected is not None and self._rejected[0] == secret:
            raise _still_rejected(self.name, self._rejected[1])
        # Read at each log-in: it may have been rotated.
        password = self.config.password()
        self.outage.admit()
        self._generation += 1
        try:
            with explained(self.name, f"no session with {self.name} could be opened"):
                login = Login(self.name, self.config, password, self.outage, self._generation)
        except SourceRefusedLogin as refused:
            self._rejected = (secret, refused.because)
            raise
        except SourceUnreachable as down:
            # Also where connections can be made and no log-in: a vCenter that starts answers 503 for minutes.
            self.outage.not_connected(down.because)
            raise
        except SourceNotTrusted:
            self.outage.answered()
            raise
        self._rejected = None
        return login

    # --- the calls ----------------------------------------------------------------------------------------------------

    def _call(self, login: Login, thing: Any, method: Any, arguments: Any) -> Any:  # noqa: ANN401 - pyVmomi's
        self.outage.admit()
        return login.call(thing, method, arguments, self.stub)

    def _service_content(self) -> Any:  # noqa: ANN401 - pyVmomi's
        """Read once a log-in: the source may be another version after a restart."""
        login = self._login_after(0)
        known = self._content
        if known is None or known[0] != login.generation:
            known = (login.generation, vim.ServiceInstance("ServiceInstance", self.stub).RetrieveContent())
            self._content = known
        return known[1]

    def _keep_alive(self, login: Login) -> None:
        try:
            login.keep_alive()
        except vim.fault.NotAuthenticated:
            logger.info("the session with %s was ended there; its next use logs in again", self.name)
            with self._lock:
                if self._login is login:
                    self._login = None
            login.retire()
        except XmsError as error:
            logger.info("the session with %s could not be kept alive: %s", self.name, error)


class _Stub(StubAdapterBase):
    """What pyVmomi's objects call through, whatever log-in is the present one."""

    def __init__(self, shared: SharedSession, version: str) -> None:
        base: Any = super()
        base.__init__(version=version)
        self._shared = shared

    def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:  # noqa: ANN401, N802 - pyVmomi's
        """Make one call."""
        return self._shared.call(mo, info, args)


def _still_rejected(name: str, because: str) -> SourceRefusedLogin:
    return SourceRefusedLogin(
        f"{name} refused the log-in, and the password is the same",
        because=f"{because}; it is not sent again, since accounts are locked after some wrong ones",
        do="correct the user name or the password file; where the account was unlocked instead, `touch` that file",
    )
