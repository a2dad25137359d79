"""How long the source would be off: reckoned from few, many and odd figures."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.itinerary import ITINERARY
from xms import go_no_go, measuring, prediction
from xms.cutover import (
    ConversionOptions,
    Cutover,
    CutoverOrder,
    Measured,
    PredictedPart,
    Prediction,
    Rehearsal,
    StepRecord,
    SyncFigures,
    Window,
)
from xms.go_no_go import Verdict
from xms.job import JobState
from xms.models import Baseline, Disk, MigrationSpec, Phase
from xms.prediction import predict

NOW: Final = datetime(2026, 11, 30, 1, tzinfo=UTC)
MIB: Final = 1 << 20
ORDER: Final = CutoverOrder()
DISK: Final = Disk(key=2000, label="Hard disk 1", capacity=100 << 30, baseline=Baseline(change_id="52/1"))


def a_sync(minutes_ago: float, **more: Any) -> SyncFigures:  # noqa: ANN401 - fields
    fields = {"bytes": 60 * MIB, "streaming_seconds": 6.0, "seconds": 16.0}
    return SyncFigures(**fields | {"snapshot_at": NOW - timedelta(minutes=minutes_ago)} | more)


def a_job(*syncs: SyncFigures, **more: Any) -> JobState:  # noqa: ANN401 - fields
    state = JobState(job_id="j", since=NOW, phase=Phase.READY, disks=(DISK,), recent_syncs=syncs, **more)
    if syncs:
        replicate(state, syncs[-1].snapshot_at)
    return state


def replicate(job: JobState, at: datetime) -> None:
    """Its last sync took its snapshot then."""
    job.last_sync_at = at + timedelta(seconds=job.recent_syncs[-1].streaming_seconds)


def part(found: Prediction | None, name: str) -> PredictedPart:
    assert found is not None
    return next(part for part in found.parts if part.name == name)


STEADY: Final = (
    a_sync(60, bytes=50_000 * MIB, streaming_seconds=500.0, seconds=520.0, full=True),
    a_sync(45, bytes=1800 * MIB, streaming_seconds=18.0, seconds=28.0),
    a_sync(30, bytes=1800 * MIB, streaming_seconds=18.0, seconds=28.0),
    a_sync(15, bytes=1800 * MIB, streaming_seconds=18.0, seconds=28.0),
    a_sync(0, bytes=1800 * MIB, streaming_seconds=18.0, seconds=28.0),
)
"""2 MiB changed a second, 100 MiB copied a second, 10 seconds beside it."""


def test_before_the_first_replica_nothing_is_predicted() -> None:
    assert predict(a_job(), ORDER, NOW) is None
    assert prediction.shortest(a_job(), ORDER, NOW) is None


def test_the_final_delta_is_a_syncs_fixed_time_and_what_changes_read_and_read_back() -> None:
    job = a_job(*STEADY, measured=Measured(shutdown=25.0))
    delta = part(predict(job, ORDER, NOW), "final delta")
    # The warm pass takes 10 s, then 5 s to the shutdown and 25 s of it: 80 MiB, twice at 100 MiB/s.
    assert delta.seconds == pytest.approx(10 + 2 * 0.8, rel=0.02)
    assert delta.measured
    assert "2 MiB/s" in delta.basis
    assert "100 MiB/s" in delta.basis


def test_a_replica_that_is_far_behind_needs_a_longer_warm_pass_and_so_a_longer_delta() -> None:
    job = a_job(*STEADY)
    near, far = (part(predict(job, ORDER, NOW + timedelta(hours=hours)), "final delta").seconds for hours in (0, 100))
    assert far > 4 * near


def test_after_a_warm_pass_only_what_changed_since_its_snapshot_is_left() -> None:
    job = a_job(*STEADY)
    replicate(job, NOW - timedelta(seconds=10))
    at_once = part(predict(job, ORDER, NOW, warm_pass=False), "final delta").seconds
    later = part(predict(job, ORDER, NOW + timedelta(seconds=500), warm_pass=False), "final delta").seconds
    assert later - at_once == pytest.approx(2 * 500 * 2 / 100, rel=0.01)


def test_a_stream_that_was_waited_for_counts_neither_as_rate_nor_as_fixed_time() -> None:
    waited = tuple(
        sync.model_copy(
            update={
                "waited_seconds": 300.0,
                "streaming_seconds": sync.streaming_seconds + 300,
                "seconds": sync.seconds + 300,
            }
        )
        for sync in STEADY
    )
    assert predict(a_job(*waited), ORDER, NOW) == predict(a_job(*STEADY), ORDER, NOW)


def test_what_was_compared_or_read_back_counts_as_moved() -> None:
    scrubbed = tuple(
        sync.model_copy(update={"compared": 500 * MIB, "streaming_seconds": 28.0, "seconds": 38.0})
        if not sync.full
        else sync
        for sync in STEADY
    )
    expected = part(predict(a_job(*STEADY), ORDER, NOW), "final delta").seconds
    assert part(predict(a_job(*scrubbed), ORDER, NOW), "final delta").seconds == pytest.approx(expected, rel=0.05)


def test_a_short_interval_is_reckoned_from_the_syncs_of_short_intervals() -> None:
    hot = (a_sync(60, full=True), *(a_sync(60 - 20 * n, bytes=60 * MIB) for n in (1, 2)))
    short = tuple(a_sync(20 - n, bytes=30 * MIB) for n in (1, 2, 3))
    before = part(predict(a_job(*hot), ORDER, NOW), "final delta")
    after = part(predict(a_job(*hot, *short), ORDER, NOW), "final delta")
    assert "512 KiB/s in 3 intervals of 1m or so" in after.basis
    assert "51.2 KiB/s in 2 intervals of 20m or so" in before.basis


def test_the_last_final_delta_says_what_surrounds_one() -> None:
    final = a_sync(0, bytes=0, streaming_seconds=0.0, seconds=4.0, final=True, verified=True)
    delta = part(predict(a_job(*STEADY[:-1], final), ORDER, NOW), "final delta")
    assert "4.0s as in the last final delta" in delta.basis


def test_without_figures_the_parts_are_assumed_and_say_so() -> None:
    job = a_job(a_sync(5, full=True, bytes=0, streaming_seconds=0.0, seconds=0.0))
    found = predict(job, ORDER, NOW)
    assert found is not None
    assert not found.measured
    assert [part.name for part in found.parts if not part.measured] == [
        "shutdown",
        "final delta",
        "conversion",
        "boot",
    ]
    assert all("assumed" in part.basis for part in found.parts if not part.measured)


def test_a_guest_that_is_off_has_neither_shutdown_nor_changes() -> None:
    job = a_job(*STEADY, source_power="poweredOff")
    found = predict(job, ORDER, NOW)
    assert part(found, "shutdown").seconds == 0
    assert part(found, "final delta").seconds == pytest.approx(10, rel=0.02)


def test_the_newer_of_cutover_and_rehearsal_says_what_conversion_and_boot_take() -> None:
    rehearsed = Rehearsal(
        number=1, started_at=NOW, ended_at=NOW, outcome="passed", conversion_seconds=90.0, boot_seconds=20.0
    )
    tried = Measured(conversion=70.0, boot=15.0, at=NOW - timedelta(days=1), by="cutover")
    job = a_job(*STEADY, measured=tried, rehearsed=rehearsed)
    found = predict(job, ORDER, NOW)
    assert (part(found, "conversion").seconds, part(found, "boot").seconds) == (90, 20)
    assert "the rehearsal of 2026-11-30" in part(found, "boot").basis
    # A later cutover got through its conversion and failed at the boot.
    job.measured = tried.model_copy(update={"conversion_at": NOW + timedelta(days=1), "at": NOW + timedelta(days=1)})
    job.measured = job.measured.model_copy(update={"boot_at": NOW - timedelta(days=1)})
    found = predict(job, ORDER, NOW)
    assert (part(found, "conversion").seconds, part(found, "boot").seconds) == (70, 20)


def test_a_conversion_that_is_left_out_takes_no_time() -> None:
    found = predict(a_job(*STEADY), CutoverOrder(conversion=ConversionOptions(skip=True)), NOW)
    assert part(found, "conversion").seconds == 0
    assert part(found, "conversion").measured


ODD = st.floats(min_value=-10, max_value=1e7, allow_nan=False)
FIGURES = st.builds(
    SyncFigures,
    snapshot_at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)).map(  # noqa: DTZ001 - made UTC below
        lambda at: at.replace(tzinfo=UTC)
    ),
    bytes=st.integers(0, 1 << 45),
    streaming_seconds=ODD,
    seconds=ODD,
    full=st.booleans(),
    final=st.booleans(),
    verified=st.booleans(),
    compared=st.integers(0, 1 << 40),
    waited_seconds=ODD,
)


def odd_job(syncs: list[SyncFigures], measured: Measured, power: str, unseeded: int) -> JobState:
    job = a_job(*syncs, measured=measured, source_power=power)
    job.disks = (DISK.model_copy(update={"baseline": Baseline(change_id="1", unseeded_bytes=unseeded)}),)
    return job


SECONDS = st.none() | st.floats(0, 1e4)
JOBS = st.builds(
    odd_job,
    st.lists(FIGURES, min_size=1, max_size=12),
    st.builds(Measured, shutdown=SECONDS, conversion=SECONDS, boot=SECONDS, at=st.none() | st.just(NOW)),
    st.sampled_from(["", "poweredOn", "poweredOff"]),
    st.integers(0, 1 << 40),
)


@settings(deadline=None)
@given(JOBS)
def test_whatever_the_figures_are_every_part_is_a_number_and_passes_do_not_make_it_worse(job: JobState) -> None:
    found, best = predict(job, ORDER, NOW), prediction.shortest(job, ORDER, NOW)
    assert found is not None
    assert best is not None
    for predicted in (found, best):
        assert all(math.isfinite(part.seconds) and part.seconds >= 0 for part in predicted.parts)
        assert all(part.basis for part in predicted.parts)
    assert math.isfinite(prediction.pass_seconds(job, NOW))
    assert prediction.pass_seconds(job, NOW) >= 0


@settings(deadline=None)
@given(JOBS, st.integers(1, 10_000), st.none() | st.integers(-100, 10_000), st.booleans())
def test_a_cutover_goes_on_only_where_it_fits_or_is_forced_and_passes_end(
    job: JobState,
    allowed: int,
    left: int | None,
    force: bool,  # noqa: FBT001 - drawn
) -> None:
    window = None if left is None else Window(opens_at=NOW, closes_at=NOW + timedelta(seconds=left))
    order = CutoverOrder(max_downtime_seconds=allowed, window=window, force=force)
    found = go_no_go.before_the_source_is_stopped(job, order, NOW)
    assert found.verdict in {Verdict.GO, Verdict.NO}
    if found.verdict is Verdict.GO:
        assert found.prediction is not None
        assert found.forced or found.prediction.seconds <= allowed
        assert left is None or left > 0
        assert found.forced or left is None or found.prediction.seconds <= left
    else:
        assert not force or (left is not None and left <= 0)
        assert found.because
    last = go_no_go.after_pass(job, order, NOW, passes=go_no_go.MOST_PASSES)
    assert last.verdict is not Verdict.AGAIN


def test_an_order_without_limits_goes_on_whatever_is_predicted() -> None:
    for ask in (go_no_go.at_opening, go_no_go.after_pass, go_no_go.before_the_source_is_stopped):
        assert ask(a_job(*STEADY), ORDER, NOW).verdict is Verdict.GO


def test_what_no_warm_pass_could_shorten_is_refused_before_the_first_one() -> None:
    found = go_no_go.at_opening(a_job(*STEADY), CutoverOrder(max_downtime_seconds=60), NOW)
    assert found.verdict is Verdict.NO
    assert "predicted downtime 3m 47s (shutdown, conversion, boot only assumed), allowed 1m" in found.because
    assert "with warm passes" in found.because


def test_a_delta_that_still_shrinks_gets_another_pass_and_one_that_does_not_ends_it() -> None:
    measured = Measured(shutdown=5.0, conversion=10.0, boot=5.0, own=1.0)
    job = a_job(*STEADY, measured=measured)
    replicate(job, NOW - timedelta(minutes=10))
    order = CutoverOrder(max_downtime_seconds=40)
    first = go_no_go.after_pass(job, order, NOW)
    assert first.verdict is Verdict.AGAIN
    replicate(job, NOW - timedelta(minutes=5))
    second = go_no_go.after_pass(job, order, NOW, earlier=first.prediction, passes=2)
    assert second.verdict is Verdict.AGAIN
    replicate(job, NOW - timedelta(minutes=4, seconds=55))
    third = go_no_go.after_pass(job, order, NOW, earlier=second.prediction, passes=3)
    assert third.verdict is Verdict.NO
    assert "do not make it shorter any more" in third.because
    replicate(job, NOW)
    assert go_no_go.after_pass(job, order, NOW, earlier=second.prediction, passes=3).verdict is Verdict.GO


def test_the_prediction_has_to_fit_what_is_left_of_the_window() -> None:
    measured = Measured(shutdown=5.0, conversion=10.0, boot=5.0, own=1.0)
    job = a_job(*STEADY, measured=measured)

    def left(seconds: int) -> go_no_go.Finding:
        window = Window(opens_at=NOW - timedelta(hours=1), closes_at=NOW + timedelta(seconds=seconds))
        return go_no_go.at_opening(job, CutoverOrder(window=window), NOW)

    assert left(120).verdict is Verdict.GO
    assert left(20).verdict is Verdict.NO
    assert left(20).late
    assert "the window closes in 20s" in left(20).because
    assert left(0).because == "the window has closed"


# --- what is measured -------------------------------------------------------------------------------------------------


def a_cutover(*steps: tuple[str, float], **more: Any) -> Cutover:  # noqa: ANN401 - fields
    at, records = NOW, []
    for name, seconds in steps:
        records.append(StepRecord(name=name, started_at=at, ended_at=at + timedelta(seconds=seconds), outcome="done"))
        at = records[-1].ended_at or at
    return Cutover(ordered_at=NOW, order=ORDER, steps=tuple(records), **more)


def test_the_steps_that_are_measured_are_those_of_the_itinerary() -> None:
    names = {measuring.POWER_OFF, measuring.CONVERSION, measuring.FINALIZE, measuring.BOOT, measuring.EVIDENCE}
    assert names <= {step.name for step in ITINERARY}
    assert {"Warm Pass"} <= {step.name for step in ITINERARY}


def test_each_part_of_a_downtime_is_remembered_as_its_step_ends() -> None:
    state = a_job(*STEADY)
    state.cutover = a_cutover(("Power Off Source", 12), power_off="guest shut down")
    measuring.take_in(state, "Power Off Source", NOW)
    assert state.measured.shutdown == 12
    state.cutover = a_cutover(("Guest Fixes", 80))
    record = state.cutover.steps[0].model_copy(update={"work_seconds": 78.0})
    state.cutover = state.cutover.model_copy(update={"steps": (record,)})
    measuring.take_in(state, "Guest Fixes", NOW)
    assert state.measured.conversion == 78
    assert state.measured.shutdown == 12
    state.cutover = a_cutover(("Guest Fixes", 80), ("Finalize", 1), ("Boot Target", 7), ("Evidence", 20))
    state.cutover = state.cutover.model_copy(update={"steps": (record, *state.cutover.steps[1:])})
    measuring.take_in(state, "Finalize", NOW)
    assert state.measured.own == 3
    measuring.take_in(state, "Evidence", NOW)
    assert state.measured.boot == 27
    assert state.measured.by == "cutover"


def test_a_source_that_was_off_and_a_conversion_that_was_left_out_measure_nothing() -> None:
    state = a_job(*STEADY)
    state.cutover = a_cutover(("Power Off Source", 1), ("Guest Fixes", 1), power_off="was off")
    measuring.take_in(state, "Power Off Source", NOW)
    skipped = CutoverOrder(conversion=ConversionOptions(skip=True))
    state.cutover = state.cutover.model_copy(update={"order": skipped})
    measuring.take_in(state, "Guest Fixes", NOW)
    assert (state.measured.shutdown, state.measured.conversion) == (None, None)


def test_the_way_to_the_shutdown_is_as_long_as_it_was_the_last_time() -> None:
    state = a_job(*STEADY)
    assert prediction.seconds_to_the_shutdown(state) == prediction.TO_THE_SHUTDOWN
    state.cutover = a_cutover(("Warm Pass", 9), ("Ports", 2), ("Reserve Stream", 1), ("Power Off Source", 4))
    assert prediction.seconds_to_the_shutdown(state) == 3


def test_a_status_predicts_what_the_record_does() -> None:
    spec = MigrationSpec(
        source="lab", vm="db", target_project="infra", instance_name="db", flavor="m1", volume_type="ssd"
    )
    job = a_job(*STEADY, measured=Measured(shutdown=3.0))
    assert predict(job.status(spec), ORDER, NOW) == predict(job, ORDER, NOW)
