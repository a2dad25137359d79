"""A job of one VM: its disks, their volumes and baselines, and syncs that end in every way in which a sync may end.

What the workflow does with plans and results (`workflows/sync.py`) is done here in the same way; planner, engine and
NBD are the real ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.histories.power_loss import FragileVolume
from tests.histories.source import GRAIN, Frozen, TrackedDisk
from xms.change_map import ByteRanges
from xms.engine import copy as engine
from xms.engine import reader
from xms.engine.copy import CopyResult, copy_ranges
from xms.engine.write_behind import WriteBehind
from xms.errors import Interrupted
from xms.models import Baseline, DiskProgress, Model
from xms.orders.source import DiskPlan, PlanDisk, SnapshotDisk, VmOrder
from xms.planning import plan_disk

MIB = 1 << 20
VM = VmOrder(job_id="job", source="lab", moref="vm-101", vm="web")
HEARD_SHARE = 0.7
MANY_READS = 16
HandOver = Callable[[WriteBehind, reader.Block, Callable[[], None]], None]
NEVER = datetime.max.replace(tzinfo=UTC)


class Killed(Exception):
    """The worker is gone from this moment on; what its code still does after it does not count."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a stream.

    Args:
        how: it ends so, unless it is finished before.
        after: moments until it ends: each write, each beginning and end of a flush, each heartbeat with news.
        checkpoints: as often as it can be, or only where it has to.
        reads: in flight at a time; with few of them each block is also written before the next one is handed over, so
            that the attempt may end between any two.
        seed: of what a power loss leaves of a killed attempt, and of the heartbeat that was heard last.
    """

    how: Literal["finish", "kill", "stop", "age"] = "finish"
    after: int = 0
    checkpoints: bool = False
    reads: int = 16
    seed: int = 0


@dataclass
class Exported:
    """An export whose content can be changed between two connections."""

    uri: str
    file: Path

    def show(self, frozen: Frozen) -> None:
        """Serve a snapshot, with holes where it has nothing but zeroes in its unallocated grains."""
        with self.file.open("r+b") as file:
            file.truncate(0)
            file.truncate(len(frozen.content))
            for grain in sorted(frozen.allocated):
                file.seek(grain * GRAIN)
                file.write(frozen.content[grain * GRAIN : (grain + 1) * GRAIN])


@dataclass
class Moments:
    """Counts everything that an attempt does, and ends it at one of these moments."""

    attempt: Attempt
    volume: FragileVolume
    chance: random.Random
    heard: DiskProgress
    left: bytes | None = None
    """what the power loss left of the volume; None: there was none"""
    passed: int = 0
    _told: tuple[int, int] = (0, 0)

    def pass_one(self) -> None:
        """Be killed here, if it is time."""
        self.passed += 1
        self._live()
        if self.attempt.how == "kill" and self.passed > self.attempt.after:
            self.left = self.volume.after_a_power_loss(self.chance)
            self._live()

    def _live(self) -> None:
        if self.left is not None:
            raise Killed

    # --- as the engine's guard ---

    def check(self) -> None:
        self.pass_one()

    def renew(self) -> None:
        self._live()

    # --- as the engine's pulse ---

    def pulse(self, detail: Model | None = None) -> None:
        self._live()
        assert isinstance(detail, DiskProgress)
        if (detail.bytes_written, detail.flushed_to) != self._told:
            self._told = detail.bytes_written, detail.flushed_to
            self.pass_one()
        stopping = self.attempt.how == "stop" and self.passed > self.attempt.after
        # Not every heartbeat is heard before a worker dies; the last one of a worker that is told to stop is.
        if self.attempt.how != "kill" or self.chance.random() < HEARD_SHARE:
            self.heard = detail
        if stopping:
            raise Interrupted("the worker shuts down")

    # --- as the engine's clock ---

    def now(self, _zone: object = None) -> datetime:
        late = self.attempt.how == "age" and self.passed > self.attempt.after
        return NEVER if late else datetime.now(UTC)


@dataclass
class ReplicatedDisk:
    """One disk of the VM, its volume, and what the job knows of it."""

    key: int
    source: TrackedDisk
    volume_path: Path
    exported: Exported
    volume_is_zeroed: bool
    pristine: bool = True
    baseline: Baseline = field(default_factory=Baseline)
    capacity: int = 0
    volume: FragileVolume = field(init=False)

    def __post_init__(self) -> None:
        self.capacity = self.source.capacity
        self.volume = FragileVolume(self.volume_path, self._unwritten(self._volume_size()))

    def _volume_size(self) -> int:
        """Volumes have sizes of their own."""
        return -(-self.source.capacity // MIB) * MIB + 4096

    def _unwritten(self, length: int) -> bytes:
        return bytes(length) if self.volume_is_zeroed else b"\xa5" * length

    def extend(self) -> None:
        """Make the volume large enough. What an extended volume has at its new end is nobody's promise."""
        content = self.volume.read()
        missing = self._volume_size() - len(content)
        if missing > 0:
            self.volume.put(content + b"\x5a" * missing)

    def replace_source(self, source: TrackedDisk) -> None:
        """The disk was taken out, and another one put in its place: its volume is found again, with what is there."""
        self.source, self.baseline, self.pristine, self.capacity = source, Baseline(), False, source.capacity

    def convert(self, chance: random.Random) -> None:
        """A conversion was committed to the volume, and the cutover rolled back. Only a seeded job is cut over."""
        if self.baseline.change_id is None or self.baseline.unseeded:
            return
        written = ByteRanges(
            (offset, chance.randrange(1, 1 + min(200_000, self.capacity - offset)))
            for offset in (chance.randrange(self.capacity) for _ in range(chance.randrange(1, 4)))
        )
        content = bytearray(self.volume.read())
        for offset, length in written:
            content[offset : offset + length] = chance.randbytes(length)
        self.volume.put(bytes(content))
        self.baseline = self.baseline.model_copy(update={"unseeded": written.encode(), "unseeded_bytes": written.total})


class Job:
    """All of it. The methods in which a rule stands are small, so that a test can break each rule by itself."""

    def __init__(self, directory: Path, exports: Sequence[Exported]) -> None:
        self.directory = directory
        self.exports = exports
        self.disks: list[ReplicatedDisk] = []

    def add_disk(self, source: TrackedDisk, *, zeroed: bool) -> None:
        number = len(self.disks)
        if number < len(self.exports):
            path = self.directory / f"volume-{number}"
            self.disks.append(ReplicatedDisk(2000 + number, source, path, self.exports[number], zeroed))

    # --- the rules ---

    def plan(
        self, order: PlanDisk, disk: ReplicatedDisk, frozen: Frozen, chance: random.Random, *, told: bool
    ) -> DiskPlan:
        return plan_disk(
            order,
            allocated=lambda: disk.source.allocated_areas(frozen, chance, told=told),
            changed=lambda since: disk.source.changed(since, frozen, chance),
        )

    def copy(self, **how: Any) -> CopyResult:  # noqa: ANN401 - as copy_ranges takes them
        return copy_ranges(**how)

    def resumes_at(self, _ranges: ByteRanges, heard: DiskProgress) -> int:
        return heard.flushed_to

    def unseeded(self, remaining: ByteRanges) -> ByteRanges:
        return remaining

    # --- one sync ---

    def sync(
        self, attempts: Sequence[Attempt], *, seed: int, told: bool, verify: bool, limit: int, commits_failed: bool
    ) -> None:
        """Snapshot, plans, streams, commits. Every claim that is made on the way is checked at once."""
        chance = random.Random(seed)  # noqa: S311 - repeatable
        frozen = [disk.source.freeze() for disk in self.disks]
        for disk, snapshot in zip(self.disks, frozen, strict=True):
            disk.extend()
            order = PlanDisk(
                vm=VM,
                snapshot="snapshot-101-1",
                disk=SnapshotDisk(
                    key=disk.key,
                    label=f"Hard disk {disk.key - 1999}",
                    capacity=len(snapshot.content),
                    path="[ds] web/web.vmdk",
                    change_id=snapshot.change_id,
                ),
                baseline=disk.baseline,
                replica_capacity=disk.capacity,
                volume_is_zeroed=disk.volume_is_zeroed and disk.pristine,
                ranges_limit=limit,
            )
            plan = self.plan(order, disk, snapshot, chance, told=told)
            remaining = ByteRanges()
            if plan.bytes:
                disk.pristine = False
                disk.exported.show(snapshot)
                left = self._stream(disk, snapshot, plan, attempts, verify=verify, commits_failed=commits_failed)
                if left is None:
                    continue
                remaining = left
            self._commit(disk, snapshot, self.unseeded(remaining), limit)

    def _commit(self, disk: ReplicatedDisk, frozen: Frozen, remaining: ByteRanges, limit: int) -> None:
        unseeded = ByteRanges.decode(remaining.encode(limit))
        disk.baseline = Baseline(
            change_id=frozen.change_id, unseeded=unseeded.encode(limit), unseeded_bytes=unseeded.total
        )
        disk.capacity = len(frozen.content)
        replica = disk.volume.read()
        for offset, length in ByteRanges.whole(disk.capacity) - unseeded:
            same = replica[offset : offset + length] == frozen.content[offset : offset + length]
            assert same, f"the replica of disk {disk.key} differs from the snapshot within {offset}+{length}"

    def _stream(
        self,
        disk: ReplicatedDisk,
        frozen: Frozen,
        plan: DiskPlan,
        attempts: Sequence[Attempt],
        *,
        verify: bool,
        commits_failed: bool,
    ) -> ByteRanges | None:
        """What remains to be copied after it; None: nothing can be committed."""
        ranges = ByteRanges.decode(plan.ranges)
        heard = DiskProgress(disk_key=disk.key, planned=ranges.total)
        for attempt in attempts:
            moments = Moments(attempt, disk.volume, random.Random(attempt.seed), heard)  # noqa: S311 - repeatable
            outside = ByteRanges.whole(disk.volume.size) - ranges
            before = disk.volume.read()
            # A stream that writes the right bytes where it has nothing to write shall be seen, too.
            disk.volume.put(inverted(before, outside))
            result: CopyResult | None = None
            with self._counting(moments), suppress(Killed, Interrupted):
                result = self.copy(
                    uri=disk.exported.uri,
                    path=str(disk.volume.path),
                    capacity=len(frozen.content),
                    ranges=ranges,
                    start_at=self.resumes_at(ranges, heard),
                    skip_zeroes=plan.skip_zeroes,
                    guard=moments,
                    pulse=moments.pulse,
                    report=DiskProgress(disk_key=disk.key, planned=ranges.total),
                    give_up_at=NEVER - timedelta(days=1) if attempt.how == "age" else None,
                    verify=verify,
                    bytes_in_flight=attempt.reads * MIB,
                )
            # Whatever the end was, the power fails then: what was said to be flushed has to be there.
            left = inverted(moments.left or disk.volume.after_a_power_loss(moments.chance), outside)
            for offset, length in outside:
                assert left[offset : offset + length] == before[offset : offset + length], "outside of the plan"
            disk.volume.put(left)
            heard = moments.heard
            if result is not None:
                return result.remaining
        remaining = ranges.from_offset(heard.flushed_to)
        return remaining if commits_failed and remaining != ranges else None

    @contextmanager
    def _counting(self, moments: Moments) -> Iterator[None]:
        with moments.volume.watched(moments.pass_one), pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "BEAT_SECONDS", 0.0)
            patch.setattr(engine, "CHECKPOINT_SECONDS", 0.0 if moments.attempt.checkpoints else 5.0)
            patch.setattr(engine, "datetime", moments)
            patch.setattr(reader, "REQUESTS", moments.attempt.reads)
            if moments.attempt.reads < MANY_READS:
                patch.setattr(WriteBehind, "write", _written_at_once)
            yield


def _written_at_once(
    self: WriteBehind, block: reader.Block, idle: Callable[[], None], hand_over: HandOver = WriteBehind.write
) -> None:
    hand_over(self, block, idle)
    while self.wait(0.01):
        self.raise_failure()
        idle()


INVERTED = bytes(255 - value for value in range(256))


def inverted(content: bytes, ranges: ByteRanges) -> bytes:
    """Every bit within the ranges flipped; done twice it is as before."""
    changed = bytearray(content)
    for offset, length in ranges:
        changed[offset : offset + length] = content[offset : offset + length].translate(INVERTED)
    return bytes(changed)
