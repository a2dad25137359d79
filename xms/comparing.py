"""What one sync compares beside what it copies, and what becomes of what it finds."""

from __future__ import annotations

from datetime import datetime

from xms import differences, scrub, verification
from xms.change_map import ByteRanges
from xms.job import JobState
from xms.models import MigrationSpec


class Comparing:
    """The comparisons of one sync. They are made after everything is copied, so the replica has to be the snapshot's.

    Args:
        spec: the job as submitted.
        state: its record.
        final: this is the last delta, with the source off: nothing lengthens the downtime then.
    """

    def __init__(self, spec: MigrationSpec, state: JobState, *, final: bool) -> None:
        self._spec = spec
        self._state = state
        self._final = final
        # One that is asked for while this sync runs begins with the next one.
        self._verifies = verification.runs(state) and not final
        self._got_on = False

    def begin(self) -> None:
        """The sync knows the disks of its snapshot."""
        if self._verifies:
            verification.follow_disks(self._state)

    def ranges(self, key: int, capacity: int) -> ByteRanges:
        """What of a disk is compared: the rest of a verification, else the scrub's window and what differed before."""
        if self._final:
            return ByteRanges()
        if self._verifies:
            return verification.rest_of(self._state, key, capacity)
        disk = self._state.disk(key)
        window = scrub.window(capacity, disk.scrub_from, self._spec.scrub_percent)
        return window | ByteRanges.decode(disk.differed).below(capacity)

    def take_in(self, key: int, capacity: int, compared: ByteRanges, differing: ByteRanges, now: datetime) -> None:
        """Keep how far a disk's comparison came, and what it found; the caller makes what differs unseeded."""
        if not compared and not differing:
            return
        state = self._state
        disk = state.disk(key)
        if self._verifies:
            self._got_on |= verification.take_in(state, key, capacity, compared, differing)
        else:
            window = scrub.window(capacity, disk.scrub_from, self._spec.scrub_percent)
            goes_on_at = scrub.goes_on_at(capacity, window, compared, disk.scrub_from)
            state.replace_disk(disk.model_copy(update={"scrub_from": goes_on_at}))
        mended = differences.take_in(state, key, compared, differing, sweeping=self._verifies)
        kind = "verification" if self._verifies else "scrub"
        if differing:
            state.note(now, kind, f"{disk.label} differed in {differences.told(differing)}{self._then(key)}")
        elif mended:
            size = differences.told(ByteRanges.decode(disk.differed))
            state.note(now, kind, f"{disk.label} is equal again in what had differed: {size}")

    def _then(self, key: int) -> str:
        disk = self._state.disk(key)
        if not differences.rests(disk):
            return "; copied again"
        return (
            f"; in {disk.differed_syncs} syncs in a row, so it is copied again by the next sync and not at once: "
            f"look at the storage behind volume {disk.volume_id}"
        )

    def end(self, now: datetime) -> None:
        """Every disk was taken in."""
        state = self._state
        if not (self._verifies and verification.is_through(state)):
            return
        verification.end(state, now)
        if differences.trouble(state) and state.sync_asked_by is None and not state.paused:
            # What differed is copied again, and only the next sync compares it again.
            state.sync_asked_by = ""

    @property
    def stands_still(self) -> bool:
        """Whether a verification goes on and this sync compared nothing more of it."""
        return self._verifies and verification.runs(self._state) and not self._got_on
