"""The planner: examples of each rule, and histories that have to end with replica and source equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xms.change_map import ByteRanges
from xms.errors import ChangeTrackingBroken, ChangeTrackingReset, SnapshotLost
from xms.models import Baseline
from xms.orders.source import DiskPlan, PlanDisk, SnapshotDisk, VmOrder
from xms.planning import plan_disk

GRAIN = 64 << 10
MIB = 1 << 20
Area = tuple[int, int]


def a_plan_order(
    *,
    capacity: int = 10 * MIB,
    change_id: str | None = "old/1",
    unseeded: Iterable[Area] = (),
    replica_capacity: int | None = None,
    volume_is_zeroed: bool = False,
) -> PlanDisk:
    return PlanDisk(
        vm=VmOrder(job_id="job", source="lab", moref="vm-101", vm="web"),
        snapshot="snapshot-101-2",
        disk=SnapshotDisk(
            key=2000, label="Hard disk 1", capacity=capacity, path="[ds] web/web.vmdk", change_id="old/2"
        ),
        baseline=Baseline(change_id=change_id, unseeded=ByteRanges(unseeded).encode()),
        replica_capacity=capacity if replica_capacity is None else replica_capacity,
        volume_is_zeroed=volume_is_zeroed,
    )


def never_asked(*_: object) -> list[Area]:
    pytest.fail("change tracking is asked where its answer is of no use")


def failing(error: Exception) -> Callable[..., Iterable[Area]]:
    def ask(*_: object) -> Iterable[Area]:
        yield 0, GRAIN
        raise error

    return ask


def ranges_of(plan: DiskPlan) -> list[Area]:
    return list(ByteRanges.decode(plan.ranges))


def test_a_first_copy_onto_a_new_zeroed_volume_takes_the_allocated_areas_and_skips_zeroes() -> None:
    plan = plan_disk(
        a_plan_order(change_id=None, volume_is_zeroed=True),
        allocated=lambda: [(0, MIB), (2 * MIB, MIB)],
        changed=never_asked,
    )
    assert ranges_of(plan) == [(0, MIB), (2 * MIB, MIB)]
    assert (plan.full, plan.skip_zeroes, plan.bytes, plan.areas) == (True, True, 2 * MIB, 2)


def test_a_volume_that_was_extended_before_its_first_copy_is_not_taken_for_zeroed() -> None:
    plan = plan_disk(
        a_plan_order(change_id=None, volume_is_zeroed=True, replica_capacity=9 * MIB),
        allocated=never_asked,
        changed=never_asked,
    )
    assert ranges_of(plan) == [(0, 10 * MIB)]
    assert not plan.skip_zeroes


@pytest.mark.parametrize("error", [ChangeTrackingReset("no"), ChangeTrackingBroken("no")])
def test_where_the_allocated_areas_are_refused_the_whole_disk_is_read(error: Exception) -> None:
    plan = plan_disk(a_plan_order(change_id=None, volume_is_zeroed=True), allocated=failing(error), changed=never_asked)
    assert ranges_of(plan) == [(0, 10 * MIB)]
    assert (plan.full, plan.skip_zeroes, plan.reseed_reason) == (True, True, "")


def test_a_copy_onto_a_volume_with_unknown_content_takes_every_byte_and_writes_the_zeroes() -> None:
    plan = plan_disk(a_plan_order(change_id=None), allocated=never_asked, changed=never_asked)
    assert ranges_of(plan) == [(0, 10 * MIB)]
    assert (plan.full, plan.skip_zeroes) == (True, False)


def test_an_incremental_sync_takes_what_changed_since_the_baseline() -> None:
    asked = []

    def changed(since: str) -> list[Area]:
        asked.append(since)
        return [(5 * MIB, GRAIN), (MIB, GRAIN)]

    plan = plan_disk(a_plan_order(), allocated=never_asked, changed=changed)
    assert asked == ["old/1"]
    assert ranges_of(plan) == [(MIB, GRAIN), (5 * MIB, GRAIN)]
    assert (plan.full, plan.skip_zeroes, plan.areas) == (False, False, 2)


def test_the_rest_of_a_full_sync_is_copied_together_with_what_changed() -> None:
    plan = plan_disk(a_plan_order(unseeded=[(8 * MIB, 2 * MIB)]), allocated=never_asked, changed=lambda _: [(0, GRAIN)])
    assert ranges_of(plan) == [(0, GRAIN), (8 * MIB, 2 * MIB)]
    assert (plan.full, plan.skip_zeroes) == (True, False)


@pytest.mark.parametrize("kind", [ChangeTrackingReset, ChangeTrackingBroken])
def test_when_change_tracking_cannot_answer_the_whole_disk_is_copied_and_the_reason_told(
    kind: type[ChangeTrackingReset | ChangeTrackingBroken],
) -> None:
    error = kind("tracking of Hard disk 1 began anew", because="another epoch")
    plan = plan_disk(a_plan_order(volume_is_zeroed=True), allocated=never_asked, changed=failing(error))
    assert ranges_of(plan) == [(0, 10 * MIB)]
    assert plan.reseed_reason == "tracking of Hard disk 1 began anew: another epoch"
    assert (plan.full, plan.skip_zeroes) == (True, False)


def test_other_errors_make_no_plan() -> None:
    with pytest.raises(SnapshotLost):
        plan_disk(a_plan_order(), allocated=never_asked, changed=failing(SnapshotLost("gone")))


def test_the_new_tail_of_a_grown_disk_is_copied() -> None:
    plan = plan_disk(a_plan_order(replica_capacity=9 * MIB), allocated=never_asked, changed=lambda _: [])
    assert ranges_of(plan) == [(9 * MIB, MIB)]
    assert not plan.full


def test_areas_with_a_small_gap_between_them_are_read_as_one() -> None:
    near = [(0, GRAIN), (2 * GRAIN - 512, GRAIN), (4 * GRAIN, GRAIN)]
    plan = plan_disk(a_plan_order(), allocated=never_asked, changed=lambda _since: near)
    assert ranges_of(plan) == [(0, 3 * GRAIN - 512), (4 * GRAIN, GRAIN)]
    assert plan.bytes == 4 * GRAIN - 512


def test_areas_beyond_the_capacity_are_left_out() -> None:
    plan = plan_disk(a_plan_order(), allocated=never_asked, changed=lambda _: [(10 * MIB - GRAIN, 3 * GRAIN)])
    assert ranges_of(plan) == [(10 * MIB - GRAIN, GRAIN)]


def test_nothing_changed_means_nothing_to_copy() -> None:
    plan = plan_disk(a_plan_order(), allocated=never_asked, changed=lambda _: [])
    assert (plan.ranges, plan.bytes, plan.full) == ("", 0, False)


STALE = -1


@dataclass
class AJob:
    """A source disk with change tracking, and its replica, in grains; a grain's value stands for its bytes."""

    source: list[int]
    volumes_are_zeroed: bool
    allocated: set[int] = field(default_factory=set)
    epoch: int = 0
    changes: list[set[int]] = field(default_factory=lambda: [set()])
    replica: list[int] = field(default_factory=list)
    pristine: bool = True
    baseline: Baseline = field(default_factory=Baseline)
    covered: int = 0

    def __post_init__(self) -> None:
        self.covered = len(self.source)
        self.replica = [self.unwritten] * len(self.source)

    @property
    def unwritten(self) -> int:
        return 0 if self.volumes_are_zeroed else STALE

    def write(self, place: int, value: int) -> None:
        index = place % len(self.source)
        self.source[index] = value
        self.changes[-1].add(index)
        if value:
            self.allocated.add(index)
        else:
            self.allocated.discard(index)

    def grow(self, grains: int) -> None:
        self.source += [0] * grains
        # What an extended volume has at its end is nobody's promise.
        self.replica += [STALE] * grains

    def reset_tracking(self) -> None:
        self.epoch += 1
        self.changes = [set()]

    def sync(self, *, copied: int | None, commits: bool, tells_allocated: bool) -> None:
        """Copy `copied` grains of the plan (None: all of them), then commit what was done, or die."""
        frozen, allocated = list(self.source), sorted(self.allocated)
        self.changes.append(set())
        now = len(self.changes) - 1

        def ask_allocated() -> Iterable[Area]:
            if not tells_allocated:
                raise ChangeTrackingBroken("this datastore does not tell")
            return [(grain * GRAIN, GRAIN) for grain in allocated]

        def ask_changed(since: str) -> Iterable[Area]:
            epoch, _, sequence = since.partition("/")
            if int(epoch) != self.epoch:
                raise ChangeTrackingReset("another epoch")
            changed = set().union(*self.changes[int(sequence) : now])
            return [(grain * GRAIN, GRAIN) for grain in changed]

        plan = plan_disk(
            PlanDisk(
                vm=VmOrder(job_id="job", source="lab", moref="vm-101", vm="web"),
                snapshot="snapshot-101-1",
                disk=SnapshotDisk(key=2000, label="Hard disk 1", capacity=len(frozen) * GRAIN, path="[ds] web.vmdk"),
                baseline=self.baseline,
                replica_capacity=self.covered * GRAIN,
                volume_is_zeroed=self.volumes_are_zeroed and self.pristine,
            ),
            allocated=ask_allocated,
            changed=ask_changed,
        )
        planned = ByteRanges.decode(plan.ranges)
        grains = [at // GRAIN for offset, length in planned for at in range(offset, offset + length, GRAIN)]
        done = grains if copied is None else grains[:copied]
        self.pristine = False
        for grain in done:
            if frozen[grain] or not plan.skip_zeroes:
                self.replica[grain] = frozen[grain]
        if commits:
            rest = planned - ByteRanges((grain * GRAIN, GRAIN) for grain in done)
            self.baseline = Baseline(change_id=f"{self.epoch}/{now}", unseeded=rest.encode())
            self.covered = len(frozen)


@st.composite
def a_history(draw: st.DrawFn) -> AJob:
    """A job after any number of writes, unmaps, growths, resets, and syncs that finish, are cut short, or die."""
    job = AJob(source=[0] * draw(st.integers(1, 12)), volumes_are_zeroed=draw(st.booleans()))
    steps = draw(st.lists(st.sampled_from(["write", "write", "unmap", "grow", "reset", "sync", "sync"]), max_size=40))
    for number, step in enumerate(steps):
        match step:
            case "write":
                job.write(draw(st.integers(0, 20)), number + 1)
            case "unmap":
                job.write(draw(st.integers(0, 20)), 0)
            case "grow":
                job.grow(draw(st.integers(1, 3)))
            case "reset":
                job.reset_tracking()
            case _:
                copied = draw(st.one_of(st.none(), st.integers(0, 12)))
                commits = draw(st.booleans())
                job.sync(copied=copied, commits=commits, tells_allocated=draw(st.booleans()))
    return job


@settings(max_examples=400, deadline=None)
@given(job=a_history())
def test_after_any_history_one_finished_sync_makes_the_replica_equal_to_the_source(job: AJob) -> None:
    job.sync(copied=None, commits=True, tells_allocated=True)
    assert job.replica == job.source


def test_a_plan_keeps_within_its_share_of_the_message_by_copying_more() -> None:
    scattered = [(offset * MIB, GRAIN) for offset in range(0, 900, 2)]
    order = a_plan_order(capacity=1 << 30).model_copy(update={"ranges_limit": 400})
    plan = plan_disk(order, allocated=never_asked, changed=lambda _since: scattered)
    assert len(plan.ranges) <= 400
    assert not ByteRanges(scattered) - ByteRanges.decode(plan.ranges)
    assert plan.bytes == ByteRanges.decode(plan.ranges).total
