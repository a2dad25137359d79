"""A comparison of the whole replica with the source, on an operator's word.

It takes as many syncs as it needs: each compares from where the one before had ended until its snapshot grows too old.
So it holds no snapshot for long, and whatever dies, it goes on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from xms import quantities
from xms.change_map import ByteRanges
from xms.differences import text_limit
from xms.job import JobState
from xms.models import Disk, DiskVerification, Verification
from xms.scrub import unbroken_to

FAILURES_BEFORE_THE_END: Final = 10
"""Syncs in a row that failed. The job goes on after that, its verification does not."""


def runs(state: JobState) -> bool:
    """Whether one was asked for and has not ended."""
    return state.verification is not None and state.verification.ended_at is None


def begin(state: JobState, who: str, now: datetime) -> None:
    """Take up a new one; the report of an earlier one gives way to it."""
    disks = tuple(_beginning(disk) for disk in state.disks)
    state.verification = Verification(asked_by=who, asked_at=now, disks=disks)
    state.verify_at = None


def follow_disks(state: JobState) -> None:
    """A sync takes part, with the disks as its snapshot has them: some may have come, gone or grown."""
    found = state.verification
    if found is None:
        return
    known = {disk.disk_key: disk for disk in found.disks}
    disks = tuple(known.get(disk.key, _beginning(disk)) for disk in state.disks)
    state.verification = found.model_copy(update={"disks": disks, "snapshots": found.snapshots + 1})


def _beginning(disk: Disk) -> DiskVerification:
    return DiskVerification(disk_key=disk.key, label=disk.label, capacity=disk.capacity)


def rest_of(state: JobState, key: int, capacity: int) -> ByteRanges:
    """What is still to be compared of a disk that has `capacity` bytes in the present snapshot."""
    disk = _disk(state, key)
    return ByteRanges.whole(capacity).from_offset(disk.compared) if disk else ByteRanges()


def take_in(state: JobState, key: int, capacity: int, compared: ByteRanges, differing: ByteRanges) -> bool:
    """Keep what a sync compared of a disk, and what it found.

    Returns:
        Whether the verification got on by it.
    """
    disk = _disk(state, key)
    found = state.verification
    if disk is None or found is None:
        return False
    text = (ByteRanges.decode(disk.differing) | differing).encode(text_limit(state))
    after = disk.model_copy(
        update={
            "capacity": capacity,
            "compared": unbroken_to(compared, disk.compared),
            "differing": text,
            # Of what is kept, which may be more than what was found.
            "differing_bytes": ByteRanges.decode(text).total,
        }
    )
    disks = tuple(after if known.disk_key == key else known for known in found.disks)
    state.verification = found.model_copy(update={"disks": disks})
    return after.compared > disk.compared


def _disk(state: JobState, key: int) -> DiskVerification | None:
    disks = state.verification.disks if state.verification else ()
    return next((disk for disk in disks if disk.disk_key == key), None)


def is_through(state: JobState) -> bool:
    """Whether every byte of every disk is compared."""
    return all(disk.compared >= disk.capacity for disk in state.verification.disks) if state.verification else False


def end(state: JobState, now: datetime, because: str = "") -> None:
    """End it, and tell what it found.

    Args:
        state: the job.
        now: UTC.
        because: why it ends before everything is compared; empty where everything is.
    """
    if state.verification is None or not runs(state):
        return
    state.verification = state.verification.model_copy(update={"ended_at": now, "ended_because": because})
    state.verify_at = None
    state.note(now, "verification ended" if because else "verified", summary(state.verification))


def sync_failed(state: JobState, now: datetime, pause: timedelta) -> None:
    """A sync that took part failed: try again after a pause, and not for ever."""
    if not runs(state):
        return
    state.verify_at = now + pause
    if state.failures >= FAILURES_BEFORE_THE_END:
        end(state, now, f"{state.failures} syncs in a row failed")


def summary(found: Verification) -> str:
    """The outcome in one sentence."""
    compared = sum(disk.compared for disk in found.disks)
    capacity = sum(disk.capacity for disk in found.disks)
    differing = sum(disk.differing_bytes for disk in found.disks)
    snapshots = f"{found.snapshots} snapshot{'s' * (found.snapshots != 1)}"
    outcome = f"{quantities.size(differing)} differed" if differing else "all of it is equal"
    if compared >= capacity and not found.ended_because:
        return f"{quantities.size(capacity)} compared over {snapshots}: {outcome}"
    of_all = f"{quantities.size(compared)} of {quantities.size(capacity)} compared over {snapshots}: {outcome}"
    return f"incomplete, {found.ended_because}; {of_all}" if found.ended_because else f"{of_all} so far"
