"""All sessions of a worker process: one a source, shared by its threads, kept alive while used, closed at the end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

from xms.config import SourceConfig
from xms.errors import Interrupted
from xms.vsphere.session import SharedSession, VsphereSession

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 300.0
"""vCenter ends a session after 30 minutes without a call."""

IDLE_SECONDS: Final = 1800.0
"""A session that nobody used for so long is given back: vCenter allows a limited number, over all its clients."""

LOOK_EVERY: Final = 10.0
"""Parts of the shorter of both times: how often it is looked whether a session needs something."""


class Sessions:
    """The sessions of one process. Thread-safe.

    Args:
        keep_alive_seconds: after so long without a call, a session that is in use or was lately gets a small one.
        idle_seconds: after so long without use, a session is ended. The next use logs in again.
    """

    def __init__(self, *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._keep_alive_seconds = keep_alive_seconds
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._by_source: dict[str, SharedSession] = {}
        self._replaced: list[SharedSession] = []
        self._closed = threading.Event()
        self._tender: threading.Thread | None = None

    @contextlib.contextmanager
    def session(self, name: str, config: SourceConfig) -> Iterator[VsphereSession]:
        """Use the session of a source; its first use logs in.

        Where the source's configuration has changed, this begins a new session. The old one is ended when those that
        use it still are done.

        Raises:
            Interrupted: the process ends.
            XmsError: as `xms.vsphere.session.connect`.
        """
        shared = self._of(name, config)
        try:
            with shared.used() as session:
                yield session
        finally:
            with self._lock:
                was_last = self._by_source.get(name) is not shared and shared.users == 0
            if was_last:
                shared.close()

    def close(self) -> None:
        """Log out of every source. Nobody may use a session any more: who tries to is interrupted."""
        self._closed.set()
        with self._lock:
            tender, self._tender = self._tender, None
            every = [*self._by_source.values(), *self._replaced]
            self._by_source, self._replaced = {}, []
        if tender is not None:
            # At most one call of it is under way, and has a timeout.
            tender.join()
        for shared in every:
            shared.close()

    def _of(self, name: str, config: SourceConfig) -> SharedSession:
        with self._lock:
            if self._closed.is_set():
                raise Interrupted("the worker shuts down", means="another attempt goes on elsewhere")
            shared = self._by_source.get(name)
            if shared is None or shared.config != config:
                if shared is not None:
                    self._replaced.append(shared)
                shared = self._by_source[name] = SharedSession(name, config)
            if self._tender is None:
                self._tender = threading.Thread(target=self._tend, name="vsphere-sessions", daemon=True)
                self._tender.start()
            return shared

    def _tend(self) -> None:
        pause = min(self._keep_alive_seconds, self._idle_seconds) / LOOK_EVERY
        while not self._closed.wait(pause):
            with self._lock:
                unused = [shared for shared in self._replaced if shared.users == 0]
                self._replaced = [shared for shared in self._replaced if shared.users]
                every = list(self._by_source.values())
            for shared in unused:
                shared.close()
            for shared in every:
                try:
                    shared.tend(keep_alive_seconds=self._keep_alive_seconds, idle_seconds=self._idle_seconds)
                except Exception:
                    # Nobody waits for this thread, and the other sources need it.
                    logger.exception("the session with %s could not be looked after", shared.name)
