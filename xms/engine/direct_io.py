"""Past the page cache (O_DIRECT, see open(2)): what a volume takes, and what it wants for it."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

from xms.engine.native_aio import address_of

ALIGNMENT: Final = max(4096, mmap.PAGESIZE)
"""A multiple of every logical sector size in use. Of the page size, too: no page may be written past the cache and
through it at the same time."""

_NFS: Final = 0x6969  # see statfs(2)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


def is_aligned(offset: int, data: memoryview) -> bool:
    """Whether bytes can be written to a byte offset that way. Memory that is read-only has no address here."""
    return not data.readonly and not (offset | len(data) | address_of(data)) % ALIGNMENT


def open_for_reading(path: str) -> int:
    """A descriptor that reads past the cache, or through it where nothing else is offered.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def open_for_writing(path: str) -> int | None:
    """A descriptor that writes past the cache; None where that is not offered.

    Not on NFS: a server has to put what comes that way on its disks before it answers, each time.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None
    if _file_system(descriptor) == _NFS:
        os.close(descriptor)
        return None
    return descriptor


def _file_system(descriptor: int) -> int:
    """Its number, as statfs(2) lists them; 0 where it is not told."""
    told = (ctypes.c_long * 64)()
    return 0 if _libc.fstatfs(descriptor, told) else told[0]
