"""A digest of a set of pieces that does not depend on the order in which they came."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SIZE: Final = 16
"""bytes; 128 bits are far beyond any chance agreement"""

_MODULUS: Final = 1 << (8 * SIZE)


class Digest:
    """The sum, modulo 2^128, of BLAKE2b over each piece's offset and bytes. Both sides have to cut the same pieces."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, offset: int, data: bytes | memoryview) -> None:
        """Count in the piece at `offset`."""
        piece = blake2b(offset.to_bytes(8, "little"), digest_size=SIZE)
        piece.update(data)
        self._sum = (self._sum + int.from_bytes(piece.digest(), "little")) % _MODULUS

    def hexdigest(self) -> str:
        """The digest so far."""
        return f"{self._sum:0{2 * SIZE}x}"

    def __eq__(self, other: object) -> bool:
        return self._sum == other._sum if isinstance(other, Digest) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes
