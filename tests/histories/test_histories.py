"""After any history one finished sync makes every replica equal to its source: played with the real engine."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import find as find_example
from hypothesis import strategies as st

from tests.histories.conftest import Workshop
from tests.histories.job import MIB, Attempt, Job
from tests.histories.source import GRAIN, TrackedDisk
from xms.change_map import ByteRanges
from xms.engine.copy import CopyResult
from xms.errors import VerificationFailed
from xms.models import DiskProgress
from xms.orders.source import DiskPlan, PlanDisk

SECTOR: Final = 512
LARGEST_DISK: Final = 3 * MIB


def a_source(capacity: int, seed: int) -> TrackedDisk:
    source = TrackedDisk(bytearray(capacity))
    if seed:
        source.write(0, random.Random(seed).randbytes(capacity))  # noqa: S311 - repeatable
    return source


@dataclass(frozen=True)
class Add:
    """A seed of 0 gives an empty disk, another one full of data."""

    capacity: int
    zeroed: bool
    seed: int = 0

    def happen(self, job: Job) -> None:
        job.add_disk(a_source(self.capacity, self.seed), zeroed=self.zeroed)


@dataclass(frozen=True)
class Write:
    """A seed of 0 writes zeroes: allocated, but nothing but zeroes."""

    disk: int
    offset: int
    length: int
    seed: int

    def happen(self, job: Job) -> None:
        data = random.Random(self.seed).randbytes(self.length) if self.seed else bytes(self.length)  # noqa: S311
        job.disks[self.disk % len(job.disks)].source.write(self.offset, data)


@dataclass(frozen=True)
class Unmap:
    disk: int
    first: int
    grains: int

    def happen(self, job: Job) -> None:
        job.disks[self.disk % len(job.disks)].source.unmap(self.first, self.grains)


@dataclass(frozen=True)
class Grow:
    disk: int
    sectors: int

    def happen(self, job: Job) -> None:
        source = job.disks[self.disk % len(job.disks)].source
        source.grow(min(self.sectors * SECTOR, LARGEST_DISK - source.capacity))


@dataclass(frozen=True)
class Reset:
    disk: int

    def happen(self, job: Job) -> None:
        job.disks[self.disk % len(job.disks)].source.reset_tracking()


@dataclass(frozen=True)
class Replace:
    disk: int
    capacity: int
    seed: int = 0

    def happen(self, job: Job) -> None:
        job.disks[self.disk % len(job.disks)].replace_source(a_source(self.capacity, self.seed))


@dataclass(frozen=True)
class Convert:
    disk: int
    seed: int

    def happen(self, job: Job) -> None:
        job.disks[self.disk % len(job.disks)].convert(random.Random(self.seed))  # noqa: S311


@dataclass(frozen=True)
class Sync:
    attempts: tuple[Attempt, ...]
    seed: int
    told: bool = True
    verify: bool = False
    limit: int = 262144
    commits_failed: bool = True

    def happen(self, job: Job) -> None:
        job.sync(
            self.attempts,
            seed=self.seed,
            told=self.told,
            verify=self.verify,
            limit=self.limit,
            commits_failed=self.commits_failed,
        )


Step = Add | Write | Unmap | Grow | Reset | Replace | Convert | Sync
History = Sequence[Step]

DISK = st.integers(0, 1)
SEED = st.integers(0, 1 << 16)
CAPACITY = st.one_of(
    st.integers(GRAIN // SECTOR, LARGEST_DISK // SECTOR), st.integers(2 * MIB // SECTOR, LARGEST_DISK // SECTOR)
).map(lambda sectors: sectors * SECTOR)
OFFSET = st.integers(0, LARGEST_DISK // SECTOR).map(lambda sector: sector * SECTOR)
LENGTH = st.one_of(st.integers(1, 16), st.integers(1, MIB // SECTOR)).map(lambda sectors: sectors * SECTOR)

ADDS = st.builds(Add, capacity=CAPACITY, zeroed=st.booleans(), seed=st.integers(0, 2))
ATTEMPTS = st.builds(
    Attempt,
    how=st.sampled_from(["kill", "kill", "stop", "age", "age", "finish"]),
    after=st.one_of(st.integers(0, 6), st.integers(0, 30)),
    checkpoints=st.booleans(),
    reads=st.sampled_from([1, 1, 2, 16]),
    seed=SEED,
)
SYNCS = st.builds(
    Sync,
    attempts=st.lists(ATTEMPTS, min_size=1, max_size=3).map(tuple),
    seed=SEED,
    told=st.sampled_from([True, True, True, False]),
    verify=st.sampled_from([False, False, False, True]),
    limit=st.sampled_from([64, 100, 262144, 262144]),
    commits_failed=st.booleans(),
)
WRITES = st.builds(Write, disk=DISK, offset=OFFSET, length=LENGTH, seed=SEED)
UNMAPS = st.builds(Unmap, disk=DISK, first=st.integers(0, 48), grains=st.integers(1, 32))
RARELY = st.one_of(
    st.builds(Reset, disk=DISK),
    st.builds(Grow, disk=DISK, sectors=st.integers(1, MIB // SECTOR)),
    st.builds(Convert, disk=DISK, seed=SEED),
    st.builds(Replace, disk=DISK, capacity=CAPACITY, seed=st.integers(0, 2)),
    ADDS,
)
CHANGES = st.lists(st.one_of(WRITES, WRITES, WRITES, UNMAPS, RARELY), max_size=5)
ROUNDS = st.lists(st.tuples(CHANGES, SYNCS), min_size=1, max_size=6)
HISTORIES = st.builds(
    lambda first, rounds, rest: (first, *(step for changes, sync in rounds for step in (*changes, sync)), *rest),
    ADDS,
    ROUNDS,
    CHANGES,
)

THE_LAST: Final = Sync(attempts=(Attempt(),), seed=7)


def play(job: Job, history: History) -> None:
    """Play it, then let one sync finish, and compare every replica with its source."""
    for step in (*history, THE_LAST):
        step.happen(job)
    for disk in job.disks:
        assert disk.baseline.unseeded == ""
        assert disk.volume.read()[: disk.source.capacity] == disk.source.content


@pytest.mark.timeout(3600)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=HISTORIES)
def test_after_any_history_with_the_real_engine_one_finished_sync_makes_every_replica_equal_to_its_source(
    workshop: Workshop, history: History
) -> None:
    play(Job(workshop.directory, workshop.exports), history)


# --- the same property has to fail when a rule is broken --------------------------------------------------------------


class TakesEveryVolumeForZeroed(Job):
    def plan(self, order: PlanDisk, *rest: Any, **how: Any) -> DiskPlan:  # noqa: ANN401 - as Job takes them
        return super().plan(order.model_copy(update={"volume_is_zeroed": True}), *rest, **how)


class ForgetsTheNewTailOfAGrownDisk(Job):
    def plan(self, order: PlanDisk, *rest: Any, **how: Any) -> DiskPlan:  # noqa: ANN401
        return super().plan(order.model_copy(update={"replica_capacity": order.disk.capacity}), *rest, **how)


class ForgetsWhatIsUnseeded(Job):
    def plan(self, order: PlanDisk, *rest: Any, **how: Any) -> DiskPlan:  # noqa: ANN401
        baseline = order.baseline.model_copy(update={"unseeded": ""})
        return super().plan(order.model_copy(update={"baseline": baseline}), *rest, **how)


class CommitsWhatWasNotReached(Job):
    def unseeded(self, _remaining: ByteRanges) -> ByteRanges:
        return ByteRanges()


class SkipsZeroesAlways(Job):
    def copy(self, **how: Any) -> CopyResult:  # noqa: ANN401
        return super().copy(**{**how, "skip_zeroes": True})


class GoesOnBehindWhatWasWritten(Job):
    def resumes_at(self, ranges: ByteRanges, heard: DiskProgress) -> int:
        for offset, length in ranges:
            if ranges.below(offset + length).total >= heard.bytes_written:
                return offset + length - (ranges.below(offset + length).total - heard.bytes_written)
        return 0


class NeverReallyFlushes(Job):
    def copy(self, **how: Any) -> CopyResult:  # noqa: ANN401
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _fd: None)
            return super().copy(**how)


class CopiesMoreThanIsPlanned(Job):
    def copy(self, **how: Any) -> CopyResult:  # noqa: ANN401
        return super().copy(**{**how, "ranges": how["ranges"].aligned(MIB, how["capacity"])})


@pytest.mark.slow
@pytest.mark.parametrize("broken", Job.__subclasses__(), ids=lambda broken: str(broken.__name__))
def test_the_property_fails_when_a_rule_is_broken(workshop: Workshop, broken: type[Job]) -> None:
    seen: list[History] = []

    def shows_it(history: History) -> bool:
        # Once is enough: the engine's threads need not meet in the same way again when it is played once more.
        if not seen:
            try:
                play(broken(workshop.directory, workshop.exports), history)
            except (AssertionError, VerificationFailed):
                seen.append(history)
        return bool(seen)

    find_example(
        HISTORIES,
        shows_it,
        settings=settings(max_examples=3000, deadline=None, derandomize=True, database=None, phases=[Phase.generate]),
    )
