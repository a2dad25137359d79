"""Evidence from outside the product, read from the files behind source and target."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PIECE: Final = 4 << 20


@dataclass(frozen=True)
class Comparison:
    """A disk beside its replica, byte for byte."""

    bytes: int
    differs_at: int | None

    @property
    def equal(self) -> bool:
        """Whether every byte of the disk stands at the same place of the volume."""
        return self.differs_at is None


def compare(source: Path, volume: Path) -> Comparison:
    """Compare a source disk with a volume, which may be longer but not shorter. Holes in both are equal.

    Raises:
        OSError: a file cannot be read.
    """
    size = source.stat().st_size
    with source.open("rb", buffering=0) as left, volume.open("rb", buffering=0) as right:
        for offset, length in _pieces(left.fileno(), right.fileno(), size):
            ours, theirs = os.pread(left.fileno(), length, offset), os.pread(right.fileno(), length, offset)
            if ours != theirs:
                at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
                return Comparison(size, offset + at)
    return Comparison(size, None)


def _pieces(left: int, right: int, size: int) -> list[tuple[int, int]]:
    """The pieces in which at least one of the two files holds data."""
    wanted: set[int] = set()
    for descriptor in (left, right):
        offset = 0
        while offset < size:
            try:
                start = os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError:
                break  # ENXIO: no data behind this offset
            offset = os.lseek(descriptor, start, os.SEEK_HOLE)
            wanted.update(range(start // PIECE, -(-min(offset, size) // PIECE)))
    return [(number * PIECE, min(PIECE, size - number * PIECE)) for number in sorted(wanted) if number * PIECE < size]
