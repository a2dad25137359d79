"""A call on its way through the server, and what may be called before anybody is logged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lab.vcenter.center import SERVICE, Center
from lab.vcenter.sessions import Session
from lab.vcenter.vocabulary import Data, Reference, identity

OPEN_TO_ALL = frozenset({"RetrieveServiceContent", "Login"})
"""Methods that need no session."""


def is_open_to_all(method: str, target: Reference, arguments: dict[str, Data]) -> bool:
    """Whether a call needs no session: what a client has to know to log in is told to everybody."""
    content = method == "Fetch" and identity(target) == identity(SERVICE) and arguments.get("prop") == "content"
    return content or method in OPEN_TO_ALL


@dataclass
class Call:
    """One call.

    Attributes:
        session: None before the log-in.
        address, agent: the client's, for its session's record.
        new_session: set by Login; the response carries its cookie.
    """

    center: Center
    target: Reference
    arguments: dict[str, Data]
    session: Session | None
    address: str = ""
    agent: str = ""
    new_session: Session | None = None

    @property
    def caller(self) -> Session:
        """The session; the dispatcher lets no call without one come to a method that uses it."""
        if self.session is None:
            raise RuntimeError("a method that needs a session was called without one")
        return self.session


Handler: TypeAlias = Callable[[Call], Data]
