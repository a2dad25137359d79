"""The lease on a volume: at most one writer, and a dead one is told from a live one without trusting any two clocks.

The record stands in the volume's metadata: "worker/token/counter" while it is held, "worker/token/released" afterwards.
A holder counts the record up; who wants the volume watches it, by its own clock only, for `lease_seconds`. A record
that changed has a live holder. One that did not has a dead holder, even where it bears the watcher's own name: a
process of that name from before a restart may still be about to write. Cinder's metadata knows no compare-and-swap;
that two claimants who both saw a free record do not both write is settled by the attachment (see
`xms.openstack.claim`), which Cinder gives once only.

The holder's side: a renewal counts from the moment it was STARTED, and for 0.7 of the lease only. A renewal that was
answered later than that counts as lost, since somebody may have taken over in between. So a holder that was stopped for
a while knows, before it writes again, that it has lost the volume.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

from xms.errors import LeaseLost, TargetUnreachable, VolumeBusy
from xms.openstack.cloud import Cloud, rest
from xms.openstack.faults import translated
from xms.pulse import Pulse

LEASE_KEY: Final = "xms_lease"
RELEASED: Final = "released"
TRUSTED_SHARE: Final = 0.7
"""Share of the lease during which the holder trusts its last renewal; the rest is the margin against slow writes."""
SETTLE_SHARE: Final = 0.02
"""Share of the lease that a claimant waits before it reads its own record back."""
LOOKS_PER_LEASE: Final = 20
RENEWALS_PER_LEASE: Final = 4


Heritage = Callable[[str, str], str]
"""Volume and the token of its claim before this one -> what the token of this one begins with; without slashes."""


class LeaseStore(Protocol):
    """Where the record of one volume is kept."""

    def read(self) -> str:
        """The record; "" where there never was one."""

    def write(self, record: str) -> None:
        """Replace the record."""


@dataclass(frozen=True)
class LeaseRecord:
    """Who holds a volume, and how often it has said so."""

    worker: str
    token: str
    count: int | None
    """None: given back."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The record of a text that this module wrote; None for anything else, which nobody holds."""
        parts = text.rsplit("/", 2)
        if len(parts) != 3:  # noqa: PLR2004 - worker, token, count
            return None
        worker, token, count = parts
        if count == RELEASED:
            return cls(worker, token, None)
        return cls(worker, token, int(count)) if count.isdigit() else None

    def __str__(self) -> str:
        return f"{self.worker}/{self.token}/{RELEASED if self.count is None else self.count}"


@dataclass(frozen=True)
class Holder:
    """Who takes leases, and for how long."""

    worker: str
    lease_seconds: float


class MetadataLease:
    """The record of a volume in its own metadata."""

    def __init__(self, cloud: Cloud, volume_id: str) -> None:
        self._cloud = cloud
        self._volume_id = volume_id

    def read(self) -> str:
        """Ask Cinder."""
        with translated(f"the lease of volume {self._volume_id} was not read"), self._cloud.asked_once():
            volume = self._cloud.volumes.get_volume(self._volume_id)
        return str((volume.metadata or {}).get(LEASE_KEY, ""))

    def write(self, record: str) -> None:
        """Tell Cinder; no other metadata changes."""
        # A record that is written late may overwrite that of who took the volume over meanwhile.
        with translated(f"the lease of volume {self._volume_id} was not written"), self._cloud.asked_once():
            self._cloud.volumes.set_volume_metadata(self._volume_id, **{LEASE_KEY: record})


def boot_clock() -> float:
    """Seconds since the machine started, those included in which it slept: a sleeper's lease runs out, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One worker's hold on one volume. Not for use by several threads at a time, except `check`."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        volume: str,
        worker: str,
        seconds: float,
        clock: Callable[[], float] = boot_clock,
        heritage: Heritage | None = None,
    ) -> None:
        self.seconds = seconds
        self.previous = ""
        """Token of the holder before this one: tells whether anybody had the volume in between."""
        self._store = store
        self._volume = volume
        self._clock = clock
        self._heritage = heritage
        self._record = LeaseRecord(worker.replace("/", "-"), uuid.uuid4().hex, 0)
        self._started = 0.0
        self._lost = "it was never claimed"
        self._unanswered = ""

    @property
    def token(self) -> str:
        """The name of this claim, unique among all claims."""
        return self._record.token

    def claim(self, pulse: Pulse, *, rest: Callable[[float, Pulse], None] = rest) -> None:
        """Take the volume as soon as nobody holds it, waiting out a silent holder.

        Raises:
            VolumeBusy: another holder lives, or was quicker.
            xms.errors.Interrupted: the pulse said so.
        """
        self._wait_until_free(pulse, rest)
        if self._heritage is not None:
            self._record = replace(self._record, token=self._heritage(self._volume, self.previous) + self.token)
        started = self._clock()
        self._store.write(str(self._record))
        rest(self.seconds * SETTLE_SHARE, pulse)
        found = self._store.read()
        if found != str(self._record):
            raise self._busy(LeaseRecord.parse(found), "it was quicker")
        self._started, self._lost = started, ""

    def check(self) -> None:
        """Make sure that a write is still allowed; asks no one, so it is cheap enough for every write.

        Raises:
            LeaseLost: the last renewal is too old, or the volume is known to be another's.
        """
        if not self._lost and self._clock() - self._started > self.seconds * TRUSTED_SHARE:
            self._lost = f"it was not renewed for {self.seconds * TRUSTED_SHARE:.1f} s" + (
                f" ({self._unanswered})" if self._unanswered else ""
            )
        if self._lost:
            raise LeaseLost(
                f"worker {self._record.worker} no longer holds volume {self._volume}",
                because=self._lost,
                means="nothing more was written; what is flushed counts",
                do="nothing: another attempt goes on",
            )

    def renew(self) -> None:
        """Say that this holder lives.

        Raises:
            LeaseLost: the record is another's, or the answer came too late to be sure that nobody took over meanwhile.
        """
        self.check()
        started = self._clock()
        self._ours()
        following = replace(self._record, count=(self._record.count or 0) + 1)
        self._store.write(str(following))
        self.check()
        self._record, self._started = following, started

    def keep(self) -> None:
        """Renew when it is time to.

        A cloud that does not answer is no loss yet: the lease runs on until its time is over.

        Raises:
            LeaseLost: as `renew`.
        """
        self.check()
        if self._clock() - self._started > self.seconds / RENEWALS_PER_LEASE:
            try:
                self.renew()
            except TargetUnreachable as error:
                self._unanswered = error.because
                self.check()

    def release(self) -> bool:
        """Give the volume back, so that the next one need not wait; False where it was another's already."""
        found = LeaseRecord.parse(self._store.read())
        if found is None or found.token != self.token:
            self._lost = self._lost or "it was taken over"
            return False
        self._store.write(str(replace(self._record, count=None)))
        self._lost = "it was given back"
        return True

    def _ours(self) -> None:
        """Make sure that the record is this claim's.

        Its count may be older or newer after a write without an answer.
        """
        text = self._store.read()
        found = LeaseRecord.parse(text)
        if found is None or found.token != self.token or found.count is None:
            self._lost = f"its record is now '{text}'"
            self.check()

    def _wait_until_free(self, pulse: Pulse, rest: Callable[[float, Pulse], None]) -> None:
        first = LeaseRecord.parse(self._store.read())
        seen_at = self._clock()
        found = first
        while found is not None and found.count is not None:
            if found != first:
                raise self._busy(found, "its record changes")
            if self._clock() - seen_at > self.seconds:
                break
            rest(self.seconds / LOOKS_PER_LEASE, pulse)
            found = LeaseRecord.parse(self._store.read())
        self.previous = found.token if found else ""

    def _busy(self, holder: LeaseRecord | None, because: str) -> VolumeBusy:
        name = holder.worker if holder else "somebody"
        return VolumeBusy(
            f"volume {self._volume} is held by worker {name}",
            because=because,
            means="nothing was written by this attempt",
            do="nothing: it is tried again",
        )
