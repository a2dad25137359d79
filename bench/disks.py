"""The disks that are copied: sparse files, made once, with the same bytes every time.

They are found again by their names alone. When what is written here changes, the old ones have to be removed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from bench.errors import CannotMeasure
from bench.sizes import KIB, MIB
from xms.change_map import ByteRanges

PIECE: Final = MIB

STALE: Final = b"\xaa"
"""What a replica holds where the source changed."""

NEIGHBOUR: Final = b"\xcc"
"""What a replica holds beside it, and the source does not: it must stay."""

NEIGHBOUR_BYTES: Final = 4 * KIB

NEIGHBOUR_OF: Final = 8
"""One in so many changed blocks has such a neighbour. More of them would take longer to make than the copy takes."""

ZEROED_OF: Final = 50
"""One in so many changed blocks was zeroed."""


@dataclass(frozen=True)
class Disk:
    """A source disk and what has to be copied of it."""

    path: Path
    size: int
    """bytes"""
    plan: ByteRanges
    is_new: bool
    """a first full sync: the target holds zeroes, and what the source does not allocate need not be read"""
    neighbours: ByteRanges = field(default_factory=ByteRanges)
    """ranges outside of the plan where the target differs from the source before and after the copy"""

    @property
    def extent_list(self) -> Path:
        """The plan for nbdkit's extentlist filter."""
        return self.path.with_suffix(".extents")

    def make_target(self, path: Path) -> None:
        """Make a replica as it is before this copy, on the disk and out of the page cache."""
        with path.open("xb", buffering=0) as file:
            file.truncate(self.size)
            if not self.is_new:
                _fill(file.fileno(), self.plan, STALE)
                _fill(file.fileno(), self.neighbours, NEIGHBOUR)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def warm(self) -> None:
        """Read the source into the page cache: what is measured is the copy, not this machine's disk."""
        with self.path.open("rb", buffering=0) as file:
            for offset, length in pieces(data_ranges(file.fileno())):
                os.pread(file.fileno(), length, offset)


def full_disk(directory: Path, size: int) -> Disk:
    """A disk of which a little more than half is allocated, in extents of 256 KiB to 8 MiB."""
    path = directory / f"full-{size}.img"
    _once(path, size, _write_full)
    return Disk(path, size, ByteRanges.whole(size), is_new=True)


def incremental_disk(directory: Path, size: int, blocks: int, block: int = 64 * KIB) -> Disk:
    """A disk with `blocks` changed blocks of `block` bytes at random places."""
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    numbers = sorted(chance.sample(range(size // block), blocks))
    plan = ByteRanges((number * block, block) for number in numbers)
    beside = (
        ByteRanges((end, NEIGHBOUR_BYTES) for end in map(sum, islice(plan, 0, None, NEIGHBOUR_OF))).below(size) - plan
    )
    path = directory / f"incremental-{size}-{blocks}-{block}.img"
    _once(path, size, partial(_write_blocks, numbers=numbers, block=block))
    disk = Disk(path, size, plan, is_new=False, neighbours=beside)
    # Type 0 is "allocated data": a zeroed block has to be read, too.
    disk.extent_list.write_text("".join(f"{offset} {length} 0\n" for offset, length in plan))
    return disk


def empty_disk(directory: Path, size: int) -> Disk:
    """A disk of which nothing is allocated, with nothing to copy."""
    path = directory / f"empty-{size}.img"
    _once(path, size, lambda _fd, _size: None)
    return Disk(path, size, ByteRanges(), is_new=True)


def unallocated_disk(directory: Path, size: int) -> Disk:
    """The same disk, but nobody knows that there is nothing to copy: the plan is all of it."""
    return replace(empty_disk(directory, size), plan=ByteRanges.whole(size))


def data_ranges(fd: int) -> ByteRanges:
    """Where a file has data, as far as its file system knows (`lseek` with SEEK_DATA)."""

    def found() -> Iterator[tuple[int, int]]:
        end = 0
        while True:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
            except OSError:  # ENXIO: no data from here to the end
                return
            end = os.lseek(fd, start, os.SEEK_HOLE)
            yield start, end - start

    return ByteRanges(found())


def pieces(ranges: ByteRanges) -> Iterator[tuple[int, int]]:
    """The same bytes in pieces of at most 1 MiB."""
    for offset, length in ranges:
        for start in range(offset, offset + length, PIECE):
            yield start, min(PIECE, offset + length - start)


def _once(path: Path, size: int, write: Callable[[int, int], None]) -> None:
    if path.exists():
        return
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb", buffering=0) as file:
        try:
            file.truncate(size)
        except OSError as error:
            unfinished.unlink()
            raise CannotMeasure(f"a sparse file of {size} bytes cannot be made in {path.parent}: {error}") from None
        write(file.fileno(), size)
        os.fsync(file.fileno())
    unfinished.rename(path)


def _write_full(fd: int, size: int) -> None:
    chance = random.Random(1)  # noqa: S311 - repeatable, not secret
    store = memoryview(chance.randbytes(16 * MIB))
    offset = 0
    while offset < size:
        length = min(chance.choice([256, 512, 1024, 2048, 4096, 8192]) * KIB, size - offset)
        if chance.random() < 0.55:  # noqa: PLR2004 - of the disk is allocated
            start = chance.randrange(len(store) - length + 1)
            os.pwrite(fd, store[start : start + length], offset)
        offset += length


def _write_blocks(fd: int, _size: int, *, numbers: list[int], block: int) -> None:
    chance = random.Random(11)  # noqa: S311 - repeatable, not secret
    store = memoryview(chance.randbytes(8 * MIB))
    for index, number in enumerate(numbers):
        start = chance.randrange(len(store) - block)
        os.pwrite(fd, bytes(block) if index % ZEROED_OF == 0 else store[start : start + block], number * block)


def _fill(fd: int, ranges: ByteRanges, byte: bytes) -> None:
    filling = memoryview(byte * PIECE)
    for offset, length in pieces(ranges):
        os.pwrite(fd, filling[:length], offset)
