"""A volume that loses what was not flushed, as badly as it may: any subset of it, sector by sector."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECTOR = 512
BLOCK = 8192


class FragileVolume:
    """A file whose unflushed bytes are at the mercy of a power loss.

    What counts as kept is what was in the file when a flush BEGAN that then succeeded: that is all that fsync(2)
    promises to several writers. It is told by the calls of the process, not by what the engine says of itself.

    Args:
        path: made here, with `content`.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.path.write_bytes(content)
        self.kept = content

    def read(self) -> bytes:
        return self.path.read_bytes()

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def put(self, content: bytes) -> None:
        """Make this the content, flushed."""
        with self.path.open("r+b") as file:
            file.write(content)
            file.truncate(len(content))
        self.kept = content

    def after_a_power_loss(self, chance: random.Random) -> bytes:
        """What may be there now: of each sector that was written since the last flush the old state or the new."""
        kept, now = self.kept, self.read()
        lost = chance.choice([0.1, 0.5, 1.0])
        if kept == now:
            return now
        left = bytearray(now)
        for start in range(0, len(now), BLOCK):
            if kept[start : start + BLOCK] == now[start : start + BLOCK]:
                continue
            for sector in range(start, min(start + BLOCK, len(now)), SECTOR):
                if chance.random() < lost:
                    left[sector : sector + SECTOR] = kept[sector : sector + SECTOR]
        return bytes(left)

    @contextmanager
    def watched(self, around: Callable[[], None]) -> Iterator[None]:
        """Notice the flushes of this process while it lasts; `around` is called before and after each of them."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, self._noticing(getattr(os, name), around))
            yield

    def _noticing(self, really_flush: Callable[[int], None], around: Callable[[], None]) -> Callable[[int], None]:
        def flush(fd: int) -> None:
            around()
            content = self.read()
            really_flush(fd)
            if os.path.samestat(os.fstat(fd), self.path.stat()):
                self.keep(content)
            around()

        return flush

    def keep(self, content: bytes) -> None:
        """A flush has put this where it outlives a power failure."""
        self.kept = content
