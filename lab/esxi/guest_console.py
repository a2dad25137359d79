"""What a guest says on its serial console, as far as the host has to know it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Final

_UP: Final = re.compile(rb"(?:^|\n)SEQ \d|login:")
_CONTEXT: Final = 16
"""Bytes that are read again, for a line that was cut in two."""


class GuestConsole:
    """Tells from the console's log whether the guest is up. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read_to = 0
        self._up = False
        self.restart()

    def restart(self) -> None:
        """Forget what was said: the guest begins anew."""
        with self._lock:
            self._up = False
            self._read_to = self._path.stat().st_size if self._path.exists() else 0

    @property
    def up(self) -> bool:
        """Whether the writer or a login prompt has been seen since the last restart."""
        with self._lock:
            if not self._up and self._path.exists():
                with self._path.open("rb") as log:
                    log.seek(self._read_to)
                    said = log.read()
                self._up = _UP.search(said) is not None
                self._read_to += max(0, len(said) - _CONTEXT)
            return self._up
