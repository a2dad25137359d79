"""What was written is read back from the medium and compared with what was read from the source."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from xms.change_map import ByteRanges
from xms.engine.account import named
from xms.engine.writer import ReadBack
from xms.errors import VerificationFailed

DIGEST_BYTES: Final = 16
"""128 bits are far beyond any chance agreement."""


class Expectations:
    """Digests of the pieces that were written since the last time that they were met; some thousand at most."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int, bytes]] = []

    def add(self, offset: int, data: memoryview) -> None:
        """Remember what the source has in this piece."""
        self._pieces.append((offset, len(data), _digest(data)))

    def meet(self, read: ReadBack, idle: Callable[[], None]) -> None:
        """Read every piece back, and forget it.

        Args:
            read: from the medium.
            idle: called between the pieces; what it raises is passed on.

        Raises:
            VerificationFailed: pieces differ; the text names them.
            WriteFailed: the volume cannot be read.
        """
        wrong = []
        for offset, length, digest in self._pieces:
            idle()
            if _digest(read(offset, length)) != digest:
                wrong.append((offset, length))
        if differing := ByteRanges(wrong):
            raise VerificationFailed(
                "the volume does not hold what was read from the source",
                because=f"{differing.total} bytes came back as others: {named(differing)}",
                means="the sync is not committed; the replica may be wrong in these ranges until a sync succeeds",
                do="look at the storage behind the volume",
            )
        self._pieces.clear()


def _digest(data: memoryview) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()
