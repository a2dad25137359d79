"""Reading areas of a disk over NBD: what is allocated, and what a dirty bitmap holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import nbd

ALLOCATION: Final = "base:allocation"
_WINDOW: Final = 1 << 30
_ZERO: Final = 2
"""NBD_STATE_ZERO of base:allocation. A hole of a raw file reads as zeroes, and so do zero clusters of a fleece."""


def dirty_bitmap(name: str) -> str:
    """The metadata context of a bitmap that is exported by QEMU."""
    return f"qemu:dirty-bitmap:{name}"


def read_areas(socket: Path, export: str, context: str, *, grain: int) -> list[tuple[int, int]]:
    """List (start, length) of the areas that are allocated or dirty, in bytes.

    They ascend, do not touch, and are rounded outwards to `grain`, except that none goes beyond the disk's end.

    Args:
        socket: of QEMU's NBD server.
        export: name of the export, with `context`.
        context: base:allocation, or that of a dirty bitmap.
        grain: bytes.
    """
    handle = nbd.NBD()
    handle.add_meta_context(context)
    handle.set_export_name(export)
    handle.connect_unix(str(socket))
    size: int = handle.get_size()
    areas: list[tuple[int, int]] = []
    at = 0

    def take(_context: str, start: int, entries: list[int], _error: object) -> int:
        nonlocal at
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            wanted = not flags & _ZERO if context == ALLOCATION else flags & 1
            if wanted:
                _add(areas, start, min(length, size - start), grain)
            start += length
        at = start
        return 0

    try:
        while at < size:
            handle.block_status(min(_WINDOW, size - at), at, take)
    finally:
        handle.shutdown()
    return [(start, min(length, size - start)) for start, length in areas]


def _add(areas: list[tuple[int, int]], start: int, length: int, grain: int) -> None:
    first = start // grain * grain
    end = -(-(start + length) // grain) * grain
    if areas and first <= sum(areas[-1]):
        before, _ = areas[-1]
        areas[-1] = (before, end - before)
    else:
        areas.append((first, end - first))
