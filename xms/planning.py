"""What one disk's sync has to copy: one rule for first, incremental, cut-short, repeated and grown copies.

A replica is known by its baseline: a change id, and the ranges that it still lacks as of that change id. To bring it to
a snapshot, copy what it lacks and what changed since. Whoever has no change id, or one that change tracking no longer
understands, copies the whole disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from xms.change_map import ByteRanges
from xms.errors import ChangeTrackingBroken, ChangeTrackingReset
from xms.orders.source import DiskPlan, PlanDisk

Areas = Iterable[tuple[int, int]]
"""(offset, length) in bytes, in any order, overlaps allowed."""


SMALLEST_GAP: Final = 64 << 10
"""Bytes. To read over a smaller gap is cheaper than another request; what is read there is the snapshot's, too."""


def plan_disk(order: PlanDisk, *, allocated: Callable[[], Areas], changed: Callable[[str], Areas]) -> DiskPlan:
    """The change map of one disk.

    Ranges that are not allocated read as zeroes. They are left out only for a volume that is known to hold zeroes
    there, because it is new, zeroed, and was never written: any earlier stream, committed or not, may have put
    something there. A volume that was extended since it was made is not known to: that new volumes of its type are
    zeroed says nothing of the end of an extended one.

    Args:
        order: the disk, as the snapshot froze it and as the replica is known.
        allocated: the disk's allocated areas; called only for a new, zeroed volume.
        changed: what changed from a change id to the snapshot.

    Raises:
        SnapshotLost, SourceUnreachable and others: from `allocated` and `changed`; all but the two that tell that
            change tracking cannot answer (ChangeTrackingReset, ChangeTrackingBroken), which mean the whole disk here.
    """
    capacity = order.disk.capacity
    whole = ByteRanges.whole(capacity)
    since = order.baseline.change_id
    if since is None:
        if not order.volume_is_zeroed or order.replica_capacity < capacity:
            return _plan(order, whole, full=True)
        ranges, areas = _allocated_or_whole(allocated, capacity)
        return _plan(order, ranges, full=True, skip_zeroes=True, areas=areas)
    try:
        delta, areas = _collect(changed(since), capacity)
    except (ChangeTrackingReset, ChangeTrackingBroken) as error:
        return _plan(order, whole, full=True, reseed_reason=f"{error.what}: {error.because}")
    unseeded = ByteRanges.decode(order.baseline.unseeded).below(capacity)
    grown = whole.from_offset(min(order.replica_capacity, capacity))
    ranges = (unseeded | delta | grown).coalesced(SMALLEST_GAP)
    return _plan(order, ranges, full=bool(unseeded), areas=areas)


def _plan(
    order: PlanDisk,
    ranges: ByteRanges,
    *,
    full: bool,
    skip_zeroes: bool = False,
    reseed_reason: str = "",
    areas: int = 0,
) -> DiskPlan:
    encoded = ranges.encode(order.ranges_limit)
    return DiskPlan(
        disk_key=order.disk.key,
        ranges=encoded,
        # What is encoded may be more than what was found, and is what will be copied.
        bytes=ByteRanges.decode(encoded).total,
        full=full,
        skip_zeroes=skip_zeroes,
        reseed_reason=reseed_reason,
        areas=areas,
    )


def _allocated_or_whole(allocated: Callable[[], Areas], capacity: int) -> tuple[ByteRanges, int]:
    """Some datastores do not tell what is allocated. Reading the whole disk is right too, only slower."""
    try:
        return _collect(allocated(), capacity)
    except (ChangeTrackingReset, ChangeTrackingBroken):
        return ByteRanges.whole(capacity), 0


def _collect(areas: Areas, capacity: int) -> tuple[ByteRanges, int]:
    """The areas within the disk, and how many were named."""
    count = 0

    def counted() -> Areas:
        nonlocal count
        for area in areas:
            count += 1
            yield area

    ranges = ByteRanges(counted()).below(capacity)
    return ranges, count
