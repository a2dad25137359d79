"""What a comparison found to differ: how it is kept until it is seen to be mended, and how it is told.

A replica that is not what its snapshot is has been spoiled by the storage behind it, or change tracking left something
out. Copying mends both, so what differed is not copied yet, as far as the next sync is concerned; and it is compared
again after that, since storage that spoils bytes may do it again.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from xms import quantities
from xms.change_map import ByteRanges
from xms.errors import ReplicaDiffers
from xms.job import JobState, shortened
from xms.models import Disk, Trouble

SYNCS_BEFORE_A_REST: Final = 3
"""Syncs in a row that find something on one disk. To copy it again at once will not help then."""

RANGES_NAMED: Final = 3

TEXT_LIMIT: Final = 128 << 10
"""Characters that what differed may take in a job's record, all disks together."""


def text_limit(state: JobState) -> int:
    """Characters that what differed may take in the record of one disk."""
    return max(1 << 10, TEXT_LIMIT // max(1, len(state.disks)))


def take_in(state: JobState, key: int, compared: ByteRanges, differing: ByteRanges, *, sweeping: bool = False) -> bool:
    """Keep what a sync found on a disk.

    Args:
        state: the job.
        key: the disk's.
        compared: what was compared of it.
        differing: what of that was not equal.
        sweeping: the sync is one of several that go over a disk once: what the next of them finds lies elsewhere, and
            says nothing of how the mending went.

    Returns:
        Whether it showed that all that had differed before is mended.
    """
    disk = state.disk(key)
    before = ByteRanges.decode(disk.differed)
    after = (before - compared) | differing
    syncs = disk.differed_syncs if after else 0
    if differing:
        syncs = max(1, syncs) if sweeping else syncs + 1
    changes = {"differed": after.encode(text_limit(state)), "differed_bytes": after.total, "differed_syncs": syncs}
    state.replace_disk(disk.model_copy(update=changes))
    return bool(before) and not after


def rests(disk: Disk) -> bool:
    """Whether what this disk lacks waits for the next sync's own time, because copying it at once did not help."""
    return disk.differed_syncs >= SYNCS_BEFORE_A_REST


def goes_on_at_once(state: JobState) -> bool:
    """Whether something is missing that another sync right now can be expected to bring."""
    return any(
        (disk.baseline.change_id is None or disk.baseline.unseeded_bytes) and not rests(disk) for disk in state.disks
    )


def trouble(state: JobState) -> Trouble | None:
    """What a person has to know as long as something that differed is not seen to be mended; None where nothing is."""
    spoiled = [disk for disk in state.disks if disk.differed_bytes]
    if not spoiled:
        return None
    volumes = shortened(", ".join(disk.volume_id or disk.label for disk in spoiled))
    again = [disk for disk in spoiled if rests(disk)]
    return ReplicaDiffers(
        f"the replica of {state.vm_name or state.job_id} was not what its snapshot is",
        because=shortened("; ".join(f"{disk.label}: {told(ByteRanges.decode(disk.differed))}" for disk in spoiled)),
        means="it is copied again and then compared again; a cutover does that first",
        do=f"look at the storage behind volume {volumes}: it differed in {max(disk.differed_syncs for disk in again)} "
        "syncs in a row, so it is not copied again at once any more"
        if again
        else f"nothing, unless it comes again: then look at the storage behind volume {volumes}",
    ).trouble()


def told(ranges: ByteRanges) -> str:
    """'2 ranges, 128 KiB, from byte 4194304', the first few ranges by their first and last bytes."""
    named = [f"{offset} to {offset + length - 1}" for offset, length in islice(ranges, RANGES_NAMED)]
    more = f" and {len(ranges) - len(named)} more" if len(ranges) > len(named) else ""
    count = f"{len(ranges)} range{'s' * (len(ranges) != 1)}"
    first = next((offset for offset, _ in ranges), 0)
    return f"{count}, {quantities.size(ranges.total)}, from byte {first} ({', '.join(named)}{more})"
