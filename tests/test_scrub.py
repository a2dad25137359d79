"""The rolling scrub's windows, and what becomes of what a comparison finds: without Temporal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xms import differences, scrub, verification
from xms.change_map import ByteRanges
from xms.comparing import Comparing
from xms.job import JobState
from xms.lifecycle import Synchronize, Wait, next_step
from xms.models import Baseline, Disk, MigrationSpec, Phase

MIB = 1 << 20
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPEC = MigrationSpec(
    source="lab", vm="db", target_project="infra", instance_name="db", flavor="m1", volume_type="ssd", scrub_percent=10
)

capacities = st.integers(512, 300 * MIB)
percents = st.floats(min_value=0.01, max_value=100)


def a_job(capacity: int = 64 * MIB, **changes: object) -> JobState:
    disk = Disk(key=2000, label="Hard disk 1", capacity=capacity, volume_id="v1", baseline=Baseline(change_id="u/1"))
    return JobState(
        job_id="j", since=NOON, phase=Phase.READY, disks=(disk.model_copy(update=changes),), last_sync_at=NOON
    )


# --- the window -------------------------------------------------------------------------------------------------------


@given(capacity=capacities, percent=percents, start=st.integers(0, 400 * MIB))
def test_a_window_is_within_the_disk_aligned_and_never_less_than_its_share(
    capacity: int, percent: float, start: int
) -> None:
    ((offset, length),) = scrub.window(capacity, start, percent)
    end = offset + length
    assert 0 <= offset < end <= capacity
    assert offset % MIB == 0
    assert end % MIB == 0 or end == capacity
    assert length >= min(MIB, capacity - offset)
    assert length >= min(capacity * percent / 100, capacity - offset)
    assert length < capacity * percent / 100 + 2 * MIB


@given(capacity=capacities, start=st.integers(0, 400 * MIB))
def test_nothing_is_compared_where_the_share_is_nothing(capacity: int, start: int) -> None:
    assert not scrub.window(capacity, start, 0)


def test_all_of_a_disk_is_one_window_where_the_share_is_all() -> None:
    assert scrub.window(3 * MIB + 5, 0, 100) == ByteRanges.whole(3 * MIB + 5)


@given(
    data=st.data(),
    capacity=capacities,
    percent=st.floats(min_value=1, max_value=100),
    start=st.integers(0, 400 * MIB),
)
def test_over_enough_syncs_every_byte_is_compared_though_some_are_cut_short(
    data: st.DataObject, capacity: int, percent: float, start: int
) -> None:
    seen = ByteRanges()
    for number in range(1200):
        window = scrub.window(capacity, start, percent)
        compared = window
        if number < 100 and data.draw(st.booleans()):
            # It is cut short, but never for ever.
            compared = window.below(data.draw(st.integers(0, capacity)))
        seen |= compared
        start = scrub.goes_on_at(capacity, window, compared, start)
        if seen == ByteRanges.whole(capacity):
            return
    raise AssertionError(ByteRanges.whole(capacity) - seen)


def test_a_sync_that_compared_nothing_of_its_window_leaves_it_to_the_next() -> None:
    window = scrub.window(8 * MIB, 2 * MIB, 1)
    assert scrub.goes_on_at(8 * MIB, window, ByteRanges(), 2 * MIB) == 2 * MIB
    other_ranges_only = ByteRanges([(0, MIB), (5 * MIB, MIB)])
    assert scrub.goes_on_at(8 * MIB, window, other_ranges_only, 2 * MIB) == 2 * MIB


# --- what a sync compares ---------------------------------------------------------------------------------------------


def test_what_differed_before_is_compared_again_beside_the_window() -> None:
    state = a_job(differed=ByteRanges([(40 * MIB, 4096)]).encode(), differed_bytes=4096)
    ranges = Comparing(SPEC, state, final=False).ranges(2000, 64 * MIB)
    assert ranges == ByteRanges([(0, 7 * MIB), (40 * MIB, 4096)])


def test_a_verification_compares_its_rest_and_no_window() -> None:
    state = a_job(scrub_from=30 * MIB)
    verification.begin(state, "ann", NOON)
    comparing = Comparing(SPEC, state, final=False)
    comparing.take_in(2000, 64 * MIB, ByteRanges([(0, 5 * MIB)]), ByteRanges(), NOON)
    assert comparing.ranges(2000, 64 * MIB) == ByteRanges([(5 * MIB, 59 * MIB)])
    assert state.disks[0].scrub_from == 30 * MIB


def test_the_last_delta_compares_nothing_whatever_else_was_asked_for() -> None:
    state = a_job(differed=ByteRanges([(0, 4096)]).encode(), differed_bytes=4096)
    verification.begin(state, "ann", NOON)
    assert not Comparing(SPEC, state, final=True).ranges(2000, 64 * MIB)


def test_what_a_disk_that_shrank_in_the_snapshot_no_longer_has_is_not_compared() -> None:
    state = a_job(differed=ByteRanges([(60 * MIB, MIB)]).encode(), differed_bytes=MIB)
    assert Comparing(SPEC, state, final=False).ranges(2000, 8 * MIB).end <= 8 * MIB


def test_a_verification_that_is_asked_for_while_a_sync_runs_begins_with_the_next_one() -> None:
    state = a_job()
    running = Comparing(SPEC, state, final=False)
    verification.begin(state, "ann", NOON)
    running.take_in(2000, 64 * MIB, ByteRanges([(0, 7 * MIB)]), ByteRanges(), NOON)
    running.end(NOON)
    assert state.verification is not None
    assert state.verification.disks[0].compared == 0
    assert not running.stands_still


# --- a verification ---------------------------------------------------------------------------------------------------


def test_disks_that_come_go_and_grow_take_part_in_a_verification() -> None:
    state = a_job()
    verification.begin(state, "ann", NOON)
    verification.take_in(state, 2000, 64 * MIB, ByteRanges.whole(64 * MIB), ByteRanges())
    assert verification.is_through(state)
    state.disks = (*state.disks, Disk(key=2001, label="Hard disk 2", capacity=MIB))
    verification.follow_disks(state)
    assert not verification.is_through(state)
    assert verification.rest_of(state, 2000, 65 * MIB) == ByteRanges([(64 * MIB, MIB)])
    verification.take_in(state, 2001, MIB, ByteRanges.whole(MIB), ByteRanges())
    assert verification.is_through(state)
    state.disks = state.disks[1:]
    verification.follow_disks(state)
    assert state.verification is not None
    assert [disk.disk_key for disk in state.verification.disks] == [2001]
    assert state.verification.snapshots == 2


def test_what_was_compared_elsewhere_does_not_move_a_verification_on() -> None:
    state = a_job()
    verification.begin(state, "ann", NOON)
    assert not verification.take_in(state, 2000, 64 * MIB, ByteRanges([(MIB, MIB)]), ByteRanges())
    assert verification.rest_of(state, 2000, 64 * MIB) == ByteRanges.whole(64 * MIB)


def test_a_verification_whose_syncs_fail_goes_on_later_and_later_and_then_ends() -> None:
    state = a_job()
    verification.begin(state, "ann", NOON)
    assert next_step(state, NOON) == Synchronize("verification")
    state.failures = 1
    verification.sync_failed(state, NOON, timedelta(seconds=30))
    assert next_step(state, NOON) == Wait(NOON + timedelta(seconds=30))
    assert next_step(state, NOON + timedelta(seconds=30)) == Synchronize("verification")
    state.failures = 10
    verification.sync_failed(state, NOON, timedelta(seconds=900))
    assert next_step(state, NOON + timedelta(days=9)) == Wait(None)
    assert state.verification is not None
    assert state.verification.ended_because == "10 syncs in a row failed"
    assert "incomplete" in state.events[-1].text


def test_neither_a_pause_nor_the_cadence_holds_up_a_verification() -> None:
    state = a_job()
    state.paused, state.cadence_seconds = True, 86_400
    verification.begin(state, "ann", NOON)
    assert next_step(state, NOON) == Synchronize("verification")


# --- what differs -----------------------------------------------------------------------------------------------------


def found(state: JobState, *blocks: int, compared: ByteRanges | None = None, sweeping: bool = False) -> bool:
    differing = ByteRanges((block * 4096, 4096) for block in blocks)
    everything = ByteRanges.whole(64 * MIB)
    return differences.take_in(state, 2000, everything if compared is None else compared, differing, sweeping=sweeping)


def test_what_differed_is_kept_until_it_is_compared_again_and_equal() -> None:
    state = a_job()
    assert not found(state, 1, 9)
    assert state.disks[0].differed_bytes == 8192
    assert differences.trouble(state) is not None
    assert not found(state, compared=ByteRanges([(0, 8192)]))
    assert ByteRanges.decode(state.disks[0].differed) == ByteRanges([(9 * 4096, 4096)])
    assert found(state)
    assert differences.trouble(state) is None
    assert state.disks[0].differed_syncs == 0


def test_a_disk_that_differs_three_times_in_a_row_is_left_alone_for_a_while() -> None:
    state = a_job()
    state.disks = (state.disks[0].model_copy(update={"baseline": Baseline(change_id="u", unseeded_bytes=4096)}),)
    for number in range(3):
        assert differences.goes_on_at_once(state), number
        found(state, number)
    assert not differences.goes_on_at_once(state)
    trouble = differences.trouble(state)
    assert trouble is not None
    assert "the storage behind volume v1" in trouble.do
    assert "3 syncs in a row" in trouble.do


def test_what_the_syncs_of_one_verification_find_is_not_counted_as_again_and_again() -> None:
    state = a_job()
    for number in range(5):
        found(state, number, compared=ByteRanges([(number * 4096, 4096)]), sweeping=True)
    assert state.disks[0].differed_syncs == 1
    assert state.disks[0].differed_bytes == 5 * 4096


@pytest.mark.parametrize("disks", [1, 60])
def test_a_record_in_which_everything_differs_stays_within_one_message(disks: int) -> None:
    state = a_job()
    chance = ByteRanges((number * number * 4096, 4096) for number in range(1 << 15))
    state.disks = tuple(
        state.disks[0].model_copy(update={"key": 2000 + number, "capacity": 1 << 43}) for number in range(disks)
    )
    verification.begin(state, "ann", NOON)
    for disk in state.disks:
        verification.take_in(state, disk.key, disk.capacity, chance, chance)
        differences.take_in(state, disk.key, chance, chance)
    assert len(state.model_dump_json()) < 400 << 10


def test_what_differs_is_told_by_its_first_ranges() -> None:
    ranges = ByteRanges((offset * MIB, 65536) for offset in (4, 8, 9, 12))
    assert differences.told(ranges) == (
        "4 ranges, 256 KiB, from byte 4194304 (4194304 to 4259839, 8388608 to 8454143, 9437184 to 9502719 and 1 more)"
    )
    assert differences.told(ByteRanges([(0, 1)])) == "1 range, 1 B, from byte 0 (0 to 0)"
