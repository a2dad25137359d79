"""How a running stream watches the datastores of its source: beside the copy, and never in its way.

While a sync reads, its snapshot grows. Before it fills a datastore, the stream ends with what it has flushed, and the
snapshot can be removed.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from xms.errors import XmsError

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 30.0
"""And before the first look: there was room when the snapshot was made."""

PATIENCE_SECONDS: Final = 1.0
"""For a look that is under way when the stream ends: what it finds matters no more."""


class SpaceWatch:
    """Looks from time to time, in a thread of its own; who asks it gets the last answer at once.

    A look that fails is told in the log and changes nothing: a vCenter that does not answer must not end a copy that
    gets on.

    Args:
        look: says which datastore has too little room, empty where all have enough; None: nothing is watched.
    """

    def __init__(self, look: Callable[[], str] | None) -> None:
        self._look = look
        self._low = ""
        self._over = threading.Event()
        # The log's lines of a look carry the job and the activity, which the context knows.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._watch,), name="space-watch", daemon=True)

    def low(self) -> str:
        """Why the stream has to end; empty as long as there was room at the last look."""
        return self._low

    def __enter__(self) -> Self:
        """Begin."""
        if self._look is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_SECONDS)

    def _watch(self) -> None:
        while self._look is not None and not self._low and not self._over.wait(LOOK_EVERY_SECONDS):
            try:
                self._low = self._look()
            except XmsError as error:
                logger.warning("the source's datastores cannot be watched now, the copy goes on: %s", error)
