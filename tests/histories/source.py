"""A virtual disk with change tracking as vSphere has it: changed areas in any order, overlapping, more than need be."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from xms.errors import ChangeTrackingBroken, ChangeTrackingReset

GRAIN = 64 << 10
"""of the tracking, as vSphere has it on larger disks"""

Area = tuple[int, int]


@dataclass(frozen=True)
class Frozen:
    """A disk as a snapshot froze it."""

    content: bytes
    allocated: frozenset[int]
    """grains"""
    change_id: str


@dataclass
class TrackedDisk:
    """The live disk of a guest. A guest writes; the hypervisor tracks grains."""

    content: bytearray
    allocated: set[int] = field(default_factory=set)
    epoch: int = 0
    changes: list[set[int]] = field(default_factory=lambda: [set()])
    """by snapshot: the grains that changed before it and after the one before"""

    @property
    def capacity(self) -> int:
        return len(self.content)

    def write(self, offset: int, data: bytes) -> None:
        offset %= self.capacity
        data = data[: self.capacity - offset]
        self.content[offset : offset + len(data)] = data
        touched = self._grains(offset, len(data))
        self.changes[-1] |= touched
        self.allocated |= touched

    def unmap(self, first: int, grains: int) -> None:
        """Give grains back: they read as zeroes, and are allocated no more."""
        first %= self.capacity // GRAIN
        grains = min(grains, self.capacity // GRAIN - first)
        self.write(first * GRAIN, bytes(grains * GRAIN))
        self.allocated -= set(range(first, first + grains))

    def grow(self, length: int) -> None:
        self.content += bytes(length)

    def reset_tracking(self) -> None:
        self.epoch += 1
        self.changes = [set()]

    def freeze(self) -> Frozen:
        """Take a snapshot."""
        self.changes.append(set())
        return Frozen(bytes(self.content), frozenset(self.allocated), f"{self.epoch}/{len(self.changes) - 1}")

    def changed(self, since: str, frozen: Frozen, chance: random.Random) -> Iterable[Area]:
        """The areas that changed from a change id to a snapshot; an error may come after some of them."""
        epoch, _, sequence = since.partition("/")
        now_epoch, _, now = frozen.change_id.partition("/")
        if epoch != now_epoch:
            yield 0, GRAIN
            raise ChangeTrackingReset("tracking began anew", because=f"{since} is of another epoch")
        yield from self._told(set().union(*self.changes[int(sequence) : int(now)]), frozen, chance)

    def allocated_areas(self, frozen: Frozen, chance: random.Random, *, told: bool) -> Iterable[Area]:
        if not told:
            raise ChangeTrackingBroken("this datastore does not tell what is allocated")
        return self._told(set(frozen.allocated), frozen, chance)

    def _grains(self, offset: int, length: int) -> set[int]:
        return set(range(offset // GRAIN, -(-(offset + length) // GRAIN))) if length else set()

    def _told(self, grains: set[int], frozen: Frozen, chance: random.Random) -> list[Area]:
        capacity = len(frozen.content)
        areas = [(grain * GRAIN, min(GRAIN, capacity - grain * GRAIN)) for grain in grains]
        for _ in range(chance.randrange(4)):
            # False positives, aligned to nothing; some hold what was told already, some nothing at all.
            offset = chance.randrange(capacity)
            areas.append((offset, chance.randrange(min(3 * GRAIN, capacity - offset) + 1)))
        if chance.random() < 0.3:
            areas.append((capacity - GRAIN // 2, GRAIN))
        chance.shuffle(areas)
        return areas
