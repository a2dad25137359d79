"""How long the source would be off, reckoned from what this job's own syncs, cutovers and rehearsals took.

Pure, and the same for a worker and for whoever asks. The predicted times:

| part | reckoned from |
|---|---|
| shutdown | the last one in a cutover |
| final delta | a sync's fixed time, and the bytes that change until then, read and read back at the measured rate |
| conversion, boot | the newer of the last cutover that came so far, and the last rehearsal that passed |
| own share | what the product itself did in the last cutover that came so far |

What was never measured is assumed, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final, Protocol

from xms.cutover import Cutover, CutoverOrder, Measured, PredictedPart, Prediction, Rehearsal, SyncFigures
from xms.models import Disk, Phase
from xms.quantities import rate as rate_in_words
from xms.quantities import short_duration, size
from xms.status import JobStatus

ASSUMED_SHUTDOWN: Final = 30.0
ASSUMED_CONVERSION: Final = 120.0
ASSUMED_BOOT: Final = 60.0
ASSUMED_OWN_SHARE: Final = 5.0
ASSUMED_SYNC: Final = 20.0
"""Seconds that a sync takes beside its streaming, where none was seen."""

ASSUMED_RATE: Final = float(50 << 20)
ASSUMED_CHANGE: Final = float(1 << 20)
"""Bytes a second that the guest changes, where no sync told."""

TO_THE_SHUTDOWN: Final = 5.0
"""Seconds from the warm pass to the shutdown: ports, and the stream that is reserved."""

TELLING_BYTES: Final = 64 << 20
"""An incremental sync that moved so much tells the rate; that of a smaller one is the time of its set-up."""

LIKE_SYNCS: Final = 3
"""So many syncs of about the same interval say what changes in it."""


class Job(Protocol):
    """What a prediction needs to know of a job; its record and its status both have it."""

    @property
    def last_sync_at(self) -> datetime | None: ...  # noqa: D102 - as of JobStatus, like those below
    @property
    def recent_syncs(self) -> tuple[SyncFigures, ...]: ...  # noqa: D102
    @property
    def measured(self) -> Measured: ...  # noqa: D102
    @property
    def rehearsed(self) -> Rehearsal | None: ...  # noqa: D102
    @property
    def source_power(self) -> str: ...  # noqa: D102
    @property
    def disks(self) -> tuple[Disk, ...]: ...  # noqa: D102
    @property
    def unseeded_bytes(self) -> int: ...  # noqa: D102
    @property
    def cutover(self) -> Cutover | None: ...  # noqa: D102


@dataclass(frozen=True)
class Figure:
    """A number, what it was reckoned from, and whether that was seen in this job."""

    value: float
    basis: str
    measured: bool


# --- what syncs take --------------------------------------------------------------------------------------------------


def _touched(sync: SyncFigures) -> int:
    """Bytes that the streams moved: what is read back, or compared, is moved twice."""
    return sync.bytes * (2 if sync.final or sync.verified else 1) + 2 * sync.compared


def _streamed(sync: SyncFigures) -> float:
    return sync.streaming_seconds - sync.waited_seconds


def _rate(syncs: Sequence[SyncFigures]) -> Figure:
    """Bytes a second of the streams: those of the sync that moved most, in which the set-up weighs least."""
    telling = [sync for sync in syncs if _touched(sync) > 0 and _streamed(sync) > 0]
    large = [sync for sync in telling if not sync.full and _touched(sync) >= TELLING_BYTES]
    if not telling:
        return Figure(ASSUMED_RATE, f"an assumed rate of {rate_in_words(ASSUMED_RATE)}", measured=False)
    best = max(large or telling, key=_touched)
    value = _touched(best) / _streamed(best)
    return Figure(value, f"the {rate_in_words(value)} measured at {best.snapshot_at:%Y-%m-%d %H:%M} UTC", measured=True)


def _fixed(syncs: Sequence[SyncFigures], rate: float) -> Figure:
    """Seconds of a sync that do not come from its bytes: snapshots, change maps, the claim of the volumes."""

    def beside(sync: SyncFigures) -> float:
        return max(0.0, sync.seconds - sync.waited_seconds - _touched(sync) / rate)

    final = [beside(sync) for sync in syncs if sync.final][-1:]
    incremental = [beside(sync) for sync in syncs if not sync.full and not sync.final]
    if final:
        return Figure(final[0], "as in the last final delta", measured=True)
    if incremental:
        return Figure(median(incremental), f"as in {_counted(len(incremental))}", measured=True)
    if syncs:
        around = max(0.0, syncs[-1].seconds - syncs[-1].streaming_seconds)
        return Figure(around, "as around the full sync", measured=True)
    return Figure(ASSUMED_SYNC, "assumed", measured=False)


def _counted(syncs: int) -> str:
    return "the last sync" if syncs == 1 else f"the last {syncs} syncs"


def _changing(syncs: Sequence[SyncFigures], seconds: float) -> Figure:
    """Bytes that change in so many seconds.

    A guest writes the same blocks again and again, so a short interval has more bytes a second than a long one: the
    syncs whose intervals are most alike tell.
    """
    seen = [
        (length, later.bytes / length)
        for earlier, later in pairwise(syncs)
        if not later.full and (length := (later.snapshot_at - earlier.snapshot_at).total_seconds()) > 0
    ]
    if not seen:
        return Figure(ASSUMED_CHANGE * seconds, f"an assumed {rate_in_words(ASSUMED_CHANGE)}", measured=False)
    alike = sorted(seen, key=lambda pair: abs(math.log(pair[0] / max(seconds, 1.0))))[:LIKE_SYNCS]
    pace = median(pace for _, pace in alike)
    words = f"{rate_in_words(pace)} in {len(alike)} interval{'s' * (len(alike) != 1)} of {short_duration(alike[0][0])}"
    return Figure(pace * seconds, words + (" or so" if len(alike) > 1 else ""), measured=True)


def _changed(job: Job, seconds: float) -> Figure:
    """The same, of the job's own syncs, and never more than its disks hold."""
    found = _changing(job.recent_syncs, seconds)
    whole = float(sum(disk.capacity for disk in job.disks))
    return found if found.value <= whole else Figure(whole, "all of the disks", measured=found.measured)


def synced_from(job: Job) -> datetime | None:
    """About when the last committed sync took its snapshot, by the clock of the job; None before the first.

    The snapshot's own time is vCenter's, whose clock may be minutes off: it is good for intervals between snapshots.
    """
    if job.last_sync_at is None or not job.recent_syncs:
        return job.last_sync_at
    return job.last_sync_at - timedelta(seconds=min(max(0.0, job.recent_syncs[-1].streaming_seconds), 30 * 86_400.0))


def _behind(job: Job, now: datetime) -> float:
    since = synced_from(job)
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def pass_seconds(job: Job, now: datetime) -> float:
    """How long a sync would take that began now, the source running: what it lacks and what has changed since."""
    rate = _rate(job.recent_syncs).value
    missing = job.unseeded_bytes + _changed(job, _behind(job, now)).value
    return _fixed(job.recent_syncs, rate).value + missing / rate


# --- the parts --------------------------------------------------------------------------------------------------------


def _shutdown(job: Job, order: CutoverOrder) -> PredictedPart:
    known, longest = job.measured.shutdown, float(order.shutdown_timeout_seconds)
    if job.source_power == "poweredOff":
        return PredictedPart(name="shutdown", seconds=0.0, basis="it was off at the last snapshot", measured=True)
    if known is not None:
        return PredictedPart(name="shutdown", seconds=known, basis="as in the last cutover tried", measured=True)
    return PredictedPart(name="shutdown", seconds=min(ASSUMED_SHUTDOWN, longest), basis="assumed, never seen")


def _conversion(job: Job, order: CutoverOrder) -> PredictedPart:
    if order.conversion.skip:
        return PredictedPart(name="conversion", seconds=0.0, basis="left out, as ordered", measured=True)
    tried = (job.measured.conversion, job.measured.conversion_at or job.measured.at)
    found = _newer(job, tried, job.rehearsed.conversion_seconds if job.rehearsed else None)
    if found is None:
        return PredictedPart(name="conversion", seconds=ASSUMED_CONVERSION, basis="assumed, never seen")
    return PredictedPart(name="conversion", seconds=found.value, basis=found.basis, measured=True)


def _boot(job: Job) -> PredictedPart:
    tried = (job.measured.boot, job.measured.boot_at or job.measured.at)
    found = _newer(job, tried, job.rehearsed.boot_seconds if job.rehearsed else None)
    if found is None:
        return PredictedPart(name="boot", seconds=ASSUMED_BOOT, basis="assumed, never seen")
    return PredictedPart(name="boot", seconds=found.value, basis=found.basis, measured=True)


def _newer(job: Job, tried: tuple[float | None, datetime | None], rehearsed: float | None) -> Figure | None:
    """What was measured last, in a cutover or in a rehearsal."""
    measured, at = tried
    ended = (job.rehearsed.ended_at or job.rehearsed.started_at) if job.rehearsed else None
    if rehearsed is not None and ended is not None and (measured is None or at is None or ended >= at):
        return Figure(rehearsed, f"as in the rehearsal of {ended:%Y-%m-%d}", measured=True)
    if measured is None:
        return None
    when = f" on {at:%Y-%m-%d}" if at else ""
    return Figure(measured, f"as in the last {job.measured.by or 'cutover'}{when}", measured=True)


def _own_share(job: Job) -> PredictedPart:
    if job.measured.own is not None:
        return PredictedPart(
            name="own share", seconds=job.measured.own, basis="as in the last cutover tried", measured=True
        )
    # Not from this job's history, and yet no guess: the product's own limit, held by its tests.
    return PredictedPart(name="own share", seconds=ASSUMED_OWN_SHARE, basis="at most, of every cutover", measured=True)


def _final_delta(job: Job, seconds: float) -> PredictedPart:
    """The last sync: what changes in so many seconds before it, beside what every sync takes."""
    rate = _rate(job.recent_syncs)
    fixed = _fixed(job.recent_syncs, rate.value)
    changed = _changed(job, seconds)
    basis = (
        f"{short_duration(fixed.value)} {fixed.basis}, and {size(changed.value)} ({changed.basis}), "
        f"read and read back at {rate.basis}"
    )
    return PredictedPart(
        name="final delta",
        seconds=fixed.value + 2 * changed.value / rate.value,
        basis=basis,
        measured=fixed.measured and (not changed.value or (changed.measured and rate.measured)),
    )


# --- the whole --------------------------------------------------------------------------------------------------------


def seconds_to_the_shutdown(job: Job) -> float:
    """From the end of the warm pass to the order to shut down, as in the last cutover that came so far."""
    steps = {step.name: step for step in job.cutover.steps} if job.cutover else {}
    warm, stopped = steps.get("Warm Pass"), steps.get("Power Off Source")
    if warm is None or stopped is None or warm.ended_at is None:
        return TO_THE_SHUTDOWN
    return max(0.0, (stopped.started_at - warm.ended_at).total_seconds())


def predict(job: Job, order: CutoverOrder, now: datetime, *, warm_pass: bool = True) -> Prediction | None:
    """How long the source would be off in a cutover of this job.

    Args:
        job: its record or its status.
        order: how it would be ordered.
        now: the time (UTC).
        warm_pass: one comes before the shutdown, and what changes during it is the final delta's; False: the last
            sync was it, and the final delta has what changes from its snapshot on.

    Returns:
        None before the first replica is complete.
    """
    if job.last_sync_at is None:
        return None
    since = pass_seconds(job, now) if warm_pass else _behind(job, now)
    shutdown = _shutdown(job, order)
    changing = 0.0 if job.source_power == "poweredOff" else since + seconds_to_the_shutdown(job) + shutdown.seconds
    return _of(job, order, now, shutdown, changing)


def prediction_of(status: JobStatus, now: datetime) -> Prediction | None:
    """Of a job's scheduled cutover, or else of one that was ordered now; None where none can begin.

    It is reckoned by whoever asks: a job that waits knows no time between its tasks.
    """
    if status.phase not in {Phase.READY, Phase.SYNCING}:
        return None
    return predict(status, status.cutover_ordered or CutoverOrder(), now)


def shortest(job: Job, order: CutoverOrder, now: datetime) -> Prediction | None:
    """What warm passes could bring it down to: the last one had nothing to copy. None as of `predict`."""
    if job.last_sync_at is None:
        return None
    shutdown = _shutdown(job, order)
    least = _fixed(job.recent_syncs, _rate(job.recent_syncs).value).value
    changing = 0.0 if job.source_power == "poweredOff" else least + seconds_to_the_shutdown(job) + shutdown.seconds
    return _of(job, order, now, shutdown, changing)


def _of(job: Job, order: CutoverOrder, now: datetime, shutdown: PredictedPart, changing: float) -> Prediction:
    parts = (shutdown, _final_delta(job, changing), _conversion(job, order), _boot(job), _own_share(job))
    return Prediction(made_at=now, parts=parts)
