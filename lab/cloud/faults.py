"""Trouble on order: what a test may make the stand-in do wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock

from lab.cloud.trouble import CallTrouble


@dataclass
class Faults:
    """Switches that a test sets from its own thread; each is used up as its text says.

    Attributes:
        volume_seconds: how long a volume stays creating, extending or deleting.
        server_seconds: how long a server stays in BUILD before QEMU is started.
        next_volume_error: the next new volume goes to `error`, with this as its user message.
        next_extension_error: the next volume that is extended goes to `error_extending`, with this as its message.
        next_snapshot_error: the next snapshot of a volume goes to `error`.
        next_server_fault: the next new server goes to ERROR with this fault.
        calls: method and path of every call that came in, those that were refused, too.
        attach_seconds: how long Nova takes to attach a volume to a server that is this machine, or to detach it.
        attach_fails: Nova gives the next volume of such a server back, after it accepted the call.
        stick_in: an attachment of such a server stays in this state: reserved, attaching or detaching; "" goes on.
    """

    volume_seconds: float = 0.2
    server_seconds: float = 0.2
    next_volume_error: str = ""
    next_extension_error: str = ""
    next_snapshot_error: bool = False
    next_server_fault: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    _troubles: list[tuple[CallTrouble, int]] = field(default_factory=list)
    _calls_of_tokens: int | None = None
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

    def upset(self, trouble: CallTrouble, times: int = 1) -> None:
        """Let the next `times` calls that the trouble fits meet it."""
        with self._lock:
            self._troubles.append((trouble, times))

    def calm(self) -> None:
        """Forget what trouble is still ordered."""
        with self._lock:
            self._troubles.clear()
            self._remaining.clear()
            self._calls_of_tokens = None

    def trouble_for(self, method: str, path: str) -> CallTrouble | None:
        """What was ordered for this call, which uses it up once; None lets it pass."""
        with self._lock:
            for place, (trouble, times) in enumerate(self._troubles):
                if trouble.fits(method, path):
                    if times > 1:
                        self._troubles[place] = (trouble, times - 1)
                    else:
                        del self._troubles[place]
                    return trouble
        return None

    def count_call(self, method: str, path: str) -> None:
        """Remember a call."""
        with self._lock:
            self.calls.append((method, path))

    def end_tokens_before(self, call: int) -> None:
        """Let every token end before that authenticated call of a service, 0 being the next."""
        with self._lock:
            self._calls_of_tokens = call

    def tokens_end(self) -> bool:
        """Whether the tokens end before this authenticated call, which is counted."""
        with self._lock:
            if self._calls_of_tokens is None:
                return False
            self._calls_of_tokens -= 1
            if self._calls_of_tokens >= 0:
                return False
            self._calls_of_tokens = None
            return True

    def take_volume_error(self) -> str:
        """The error ordered for the next volume, once."""
        text, self.next_volume_error = self.next_volume_error, ""
        return text

    def take_extension_error(self) -> str:
        """The error ordered for the next extension, once."""
        text, self.next_extension_error = self.next_extension_error, ""
        return text

    def take_snapshot_error(self) -> bool:
        """Whether the next snapshot fails, once."""
        fails, self.next_snapshot_error = self.next_snapshot_error, False
        return fails

    def take_server_fault(self) -> str:
        """The fault ordered for the next server, once."""
        text, self.next_server_fault = self.next_server_fault, ""
        return text
