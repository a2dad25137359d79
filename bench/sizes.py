"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40


@dataclass(frozen=True)
class Sizes:
    """Sizes of disks in bytes, and numbers of extents."""

    full_disk: int
    incremental_disk: int
    incremental_blocks: int
    planned_extents: tuple[int, ...]
    """for planning alone"""
    copied_extents: tuple[int, ...]
    """for copies of many small ones"""
    disks: dict[str, int]
    """the sizes between which a sync must not differ"""
    blocks_of_either: int
    repetitions: int
    """of a sync with nothing to copy, within one measurement: one alone is shorter than the noise"""
    free_space: int
    """bytes that the sources and one target take, with some room"""


PROTOCOL: Final = Sizes(
    full_disk=4 * GIB,
    incremental_disk=100 * GIB,
    incremental_blocks=20_000,
    planned_extents=(1_000, 10_000, 100_000, 1_000_000),
    copied_extents=(1_000, 10_000, 100_000),
    disks={"1GiB": GIB, "10TiB": 10 * TIB},
    blocks_of_either=2_000,
    repetitions=50,
    free_space=12 * GIB,
)

QUICK: Final = Sizes(
    full_disk=32 * MIB,
    incremental_disk=256 * MIB,
    incremental_blocks=200,
    planned_extents=(100, 1_000),
    copied_extents=(100, 1_000),
    disks={"1GiB": GIB, "10TiB": 10 * TIB},
    blocks_of_either=100,
    repetitions=5,
    free_space=256 * MIB,
)
"""Shows that everything works, and nothing about speed."""
