"""Trouble on order: what a test may make the stand-in do wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Faults:
    """Switches that a test sets from its own thread; each is used up as its text says.

    Attributes:
        volume_seconds: how long a volume stays creating, extending or deleting.
        server_seconds: how long a server stays in BUILD before QEMU is started.
        next_volume_error: the next new volume goes to `error`, with this as its user message.
        next_server_fault: the next new server goes to ERROR with this fault.
        attach_seconds: how long Nova takes to attach a volume to a server that is this machine, or to detach it.
        attach_fails: Nova gives the next volume of such a server back, after it accepted the call.
        stick_in: an attachment of such a server stays in this state: reserved, attaching or detaching; "" goes on.
    """

    volume_seconds: float = 0.2
    server_seconds: float = 0.2
    next_volume_error: str = ""
    next_server_fault: str = ""
    attach_seconds: float = 0.2
    attach_fails: bool = False
    stick_in: str = ""
    _statuses: dict[str, int] = field(default_factory=dict)
    _remaining: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def refuse(self, service: str, times: int, status: int = 503) -> None:
        """Answer the next `times` calls of a service (its path prefix: 'volume', 'compute', ...) with `status`."""
        with self._lock:
            self._statuses[service] = status
            self._remaining[service] = times

    def status_for(self, service: str) -> int | None:
        """The status to refuse this call with, which uses up one of the ordered refusals; None lets it pass."""
        with self._lock:
            if self._remaining[service] <= 0:
                return None
            self._remaining[service] -= 1
            return self._statuses[service]

    def take_volume_error(self) -> str:
        """The error ordered for the next volume, once."""
        text, self.next_volume_error = self.next_volume_error, ""
        return text

    def take_server_fault(self) -> str:
        """The fault ordered for the next server, once."""
        text, self.next_server_fault = self.next_server_fault, ""
        return text
