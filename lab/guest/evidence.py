"""What the guest can prove: the numbers on its console, and in the logs on its disks, read from outside."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.guest.image import PARTITION_START

ROOT_LOG: Final = "/var/lib/sequence/log"
DATA_LOG: Final = "/log"
DIGITS: Final = 12

_SHOWN: Final = re.compile(rb"^SEQ (\d+)\r?$", re.MULTILINE)


def console_numbers(console: Path) -> list[int]:
    """The numbers on a console, in the order in which they were printed: each was fsynced before."""
    try:
        return [int(number) for number in _SHOWN.findall(console.read_bytes())]
    except FileNotFoundError:
        return []


def logged_numbers(disk: Path, log: str, offset: int = 0) -> list[int]:
    """The numbers in a log on a raw disk whose ext4 begins at `offset` bytes. The machine has to be off.

    Raises:
        subprocess.CalledProcessError: debugfs could not read the file system.
    """
    found = subprocess.run(
        ["/usr/sbin/debugfs", "-R", f"cat {log}", f"{disk}?offset={offset}"], check=True, capture_output=True
    )
    return [int(line) for line in found.stdout.split(b"\n") if len(line) == DIGITS and line.isdigit()]


def root_numbers(disk: Path) -> list[int]:
    """The numbers on a root disk."""
    return logged_numbers(disk, ROOT_LOG, PARTITION_START)


def data_numbers(disk: Path) -> list[int]:
    """The numbers on a data disk."""
    return logged_numbers(disk, DATA_LOG)


def gaps(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Where a sequence does not go on with the next number: (what stood there, what came then)."""
    return [(a, b) for a, b in itertools.pairwise(numbers) if b != a + 1]
