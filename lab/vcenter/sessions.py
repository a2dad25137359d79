"""Sessions: who is logged in, since when, and what ends with the session."""

from __future__ import annotations

import hmac
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lab.vcenter.vocabulary import Data, Reference, identity, now, vim, vmodl

if TYPE_CHECKING:
    from lab.vcenter.inventory import Inventory
    from lab.vcenter.properties import Properties
    from lab.vcenter.updates import Collector
    from lab.vcenter.views import ContainerView

IDLE_LIMIT = 1800.0
"""Seconds without a call after which a session ends (vCenter's default)."""


@dataclass
class Session:
    """One log-in. Views, collectors and half-read results are gone when it ends."""

    key: str
    user: str
    address: str
    agent: str
    since: datetime
    last_call: datetime
    idle_since: float
    calls: int = 0
    running: int = 0
    ended: bool = False
    views: dict[str, ContainerView] = field(default_factory=dict)
    collectors: dict[str, Collector] = field(default_factory=dict)
    unread: dict[str, list[Data]] = field(default_factory=dict)

    def properties(self, reference: Reference, inventory: Inventory) -> Properties | None:
        """The properties of an object that lives in this session; None where there is no such object."""
        key = identity(reference)
        if isinstance(reference, vim.view.ContainerView):
            view = self.views.get(key)
            return view.properties(inventory) if view else None
        if isinstance(reference, vmodl.query.PropertyCollector):
            collector = self.collectors.get(key)
            return {"filter": collector.filter_references} if collector else None
        if isinstance(reference, vmodl.query.PropertyCollector.Filter):
            specs = (collector.filters.get(key) for collector in self.collectors.values())
            spec = next((one for one in specs if one is not None), None)
            return {"spec": lambda: spec, "partialUpdates": lambda: False} if spec is not None else None
        return None

    def described(self) -> Data:
        """As the API shows it."""
        return vim.UserSession(
            key=self.key,
            userName=self.user,
            fullName=self.user,
            loginTime=self.since,
            lastActiveTime=self.last_call,
            locale="en",
            messageLocale="en",
            extensionSession=False,
            ipAddress=self.address,
            userAgent=self.agent,
            callCount=self.calls,
        )


class Sessions:
    """Every session of the server. Thread-safe."""

    def __init__(self, users: Mapping[str, str], idle_limit: float = IDLE_LIMIT) -> None:
        self.idle_limit = idle_limit
        self._users = dict(users)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._calls_until_end: int | None = None

    def knows(self, user: str) -> bool:
        """Whether there is such a user."""
        return user in self._users

    def end_at_call(self, number: int) -> None:
        """Have that call from now on, counted over all sessions, find its session ended; 1 is the next."""
        with self._lock:
            self._calls_until_end = number

    def accepts(self, user: str, password: str) -> bool:
        """Whether this is a user's password."""
        expected = self._users.get(user, "")
        return user in self._users and hmac.compare_digest(expected.encode(), password.encode())

    def log_in(self, user: str, password: str, *, address: str, agent: str) -> Session:
        """Begin a session.

        Raises:
            vim.fault.InvalidLogin: there is no such user, or the password is another.
        """
        if not self.accepts(user, password):
            raise vim.fault.InvalidLogin(msg="Cannot complete login due to an incorrect user name or password.")
        moment = now()
        session = Session(str(uuid.uuid4()), user, address, agent, moment, moment, time.monotonic())
        with self._lock:
            self._sessions[session.key] = session
        return session

    def find(self, key: str) -> Session | None:
        """The session of a cookie, unless it was idle for too long; a session with a call in flight is never idle."""
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            if not session.running and time.monotonic() - session.idle_since > self.idle_limit:
                self._end(session)
                return None
            return session

    def begin_call(self, key: str, object_called: Reference) -> Session:
        """Account a call to its session; `end_call` belongs to it.

        Raises:
            vim.fault.NotAuthenticated: nobody is logged in with this cookie, or not any more.
        """
        session = self.find(key)
        if session is not None and self._ends_now():
            self.log_out(session)
            session = None
        if session is None:
            raise not_authenticated(object_called)
        with self._lock:
            session.calls += 1
            session.running += 1
            session.last_call = now()
        return session

    def end_call(self, session: Session) -> None:
        """The session is idle from now on, if nothing else of it runs."""
        with self._lock:
            session.running -= 1
            session.idle_since = time.monotonic()

    def log_out(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._end(session)

    def drop_all(self) -> None:
        """End every session now, as a restart of vCenter does."""
        with self._lock:
            for session in list(self._sessions.values()):
                self._end(session)

    def described(self) -> list[Data]:
        """Every session, as the API shows it."""
        with self._lock:
            return [session.described() for session in self._sessions.values()]

    def _ends_now(self) -> bool:
        with self._lock:
            if self._calls_until_end is None:
                return False
            self._calls_until_end -= 1
            if self._calls_until_end > 0:
                return False
            self._calls_until_end = None
            return True

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)
        session.ended = True


def not_authenticated(object_called: Reference) -> Exception:
    """The fault of a call without a session."""
    fault: Exception = vim.fault.NotAuthenticated(
        object=object_called, privilegeId="System.View", msg="The session is not authenticated."
    )
    return fault
