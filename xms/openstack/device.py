"""What an attachment is on this machine: one path to write and flush, whatever the storage behind it."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A file or block device that is the volume."""

    path: str
    size: int
    """bytes"""


def size_of(path: str) -> int:
    """Bytes of a file or a block device.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
