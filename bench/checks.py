"""Whether a copy is right. A fast wrong one is worth nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.disks import NEIGHBOUR, Disk, data_ranges, pieces
from bench.errors import WrongCopy
from xms.change_map import ByteRanges

SAMPLE: Final = 16
"""One piece of a whole disk in so many is compared after the first round; other ones in each round."""


def check(disk: Disk, target: Path, turn: int) -> None:
    """Compare what was copied with what had to be copied.

    An incremental plan is compared byte for byte, a whole disk in the first round only, and by a sample after it.
    Beside the plan, nothing may have been written, changed or zeroed, which the map of the data tells, and the bytes
    that were put there.

    Args:
        disk: what was copied.
        target: the file that holds the replica, flushed.
        turn: number of the round, from 0.

    Raises:
        WrongCopy: they differ; the text names the first place.
    """
    source_fd = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC)
    target_fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(target_fd).st_size != disk.size:
            raise WrongCopy(f"the target is {os.fstat(target_fd).st_size} bytes long now, it was {disk.size}")
        if disk.is_new:
            _check_whole(source_fd, target_fd, turn)
        else:
            _check_planned(source_fd, target_fd, disk.plan)
            _check_beside(target_fd, disk)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def _check_whole(source_fd: int, target_fd: int, turn: int) -> None:
    # Where neither has data both read as zeroes.
    everything = list(pieces(data_ranges(source_fd) | data_ranges(target_fd)))
    _compare(source_fd, target_fd, everything[turn % SAMPLE :: SAMPLE] if turn else everything)


def _check_planned(source_fd: int, target_fd: int, plan: ByteRanges) -> None:
    _compare(source_fd, target_fd, pieces(plan))


def _compare(source_fd: int, target_fd: int, where: Iterable[tuple[int, int]]) -> None:
    for offset, length in where:
        if os.pread(source_fd, length, offset) != os.pread(target_fd, length, offset):
            raise WrongCopy(f"bytes {offset} to {offset + length - 1} are not the source's")


def _check_beside(target_fd: int, disk: Disk) -> None:
    beside = data_ranges(target_fd) - disk.plan
    if zeroed := disk.neighbours - beside:
        raise WrongCopy(f"bytes outside of the plan were zeroed, the first at {next(iter(zeroed))[0]}")
    # A file system may have allocated more than was written, but that reads as zeroes.
    for offset, length in pieces(beside - disk.neighbours):
        if os.pread(target_fd, length, offset).strip(b"\0"):
            raise WrongCopy(f"bytes {offset} to {offset + length - 1} were written, and are not in the plan")
    for offset, length in disk.neighbours:
        if os.pread(target_fd, length, offset) != NEIGHBOUR * length:
            raise WrongCopy(f"bytes {offset} to {offset + length - 1} were changed, and are not in the plan")
