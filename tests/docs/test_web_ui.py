"""What the Temporal Web UI shows of a job: phase, lag and verbs, readable without the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from tests.report.samples import COMPLETED_CUTOVER, FAILED_CUTOVER, ORDER, REHEARSAL
from workflows.commands import Commands
from workflows.details import describe
from xms import differences, verification
from xms.change_map import ByteRanges
from xms.commands import accept, refuse_unless_allowed
from xms.cutover import Cutover, CutoverOrder, FinalizeOrder, RollBackOrder, StepRecord, SyncFigures, WithdrawCutover
from xms.errors import QuotaExceeded
from xms.job import JobState
from xms.models import (
    Abandon,
    Baseline,
    Command,
    Disk,
    MigrationSpec,
    Pause,
    Phase,
    Resume,
    Retry,
    SetCadence,
    SetRateLimit,
    SyncNow,
    Verify,
)

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPEC: Final = MigrationSpec(
    source="prod-vcenter",
    vm="db-prod-01",
    target_project="infra",
    instance_name="db-prod-01",
    flavor="m1.small",
    volume_type="ssd",
    cadence_seconds=900,
)
VERBS: Final[dict[str, Command]] = {
    "sync-now": SyncNow(),
    "pause": Pause(),
    "resume": Resume(),
    "set-cadence": SetCadence(cadence_seconds=900),
    "verify": Verify(),
    "set-rate-limit": SetRateLimit(rate_limit=50 << 20),
    "cutover": CutoverOrder(),
    "withdraw-cutover": WithdrawCutover(),
    "rollback": RollBackOrder(),
    "finalize": FinalizeOrder(),
    "retry": Retry(),
    "abandon": Abandon(),
}


def a_ready_job() -> JobState:
    state = JobState.fresh(SPEC, NOON)
    state.enter(Phase.READY, NOON)
    state.replica_of, state.last_sync_at = NOON, NOON + timedelta(seconds=7)
    state.bytes_full, state.bytes_incremental, state.sync_count = 412 << 30, 61 << 30, 37
    baseline = Baseline(change_id="52/7")
    state.disks = (Disk(key=2000, label="Hard disk 1", capacity=100 << 30, volume_id="8f2c", baseline=baseline),)
    return state


def test_phase_lag_and_metrics_are_in_words_and_units_for_people() -> None:
    text = describe(SPEC, a_ready_job())
    assert text.startswith("## db-prod-01: Ready\n")
    assert "the time since 2026-11-23 12:00:00 UTC" in text
    assert "**Bytes (Full)**: 412 GiB" in text
    assert "**Cadence**: every 15m" in text
    assert "**Rate limit**: none" in text
    assert "**Next sync**: 2026-11-23 12:15:07 UTC" in text
    assert "**Hard disk 1**, 100 GiB: volume `8f2c`, complete" in text


@pytest.mark.parametrize("phase", [Phase.READY, Phase.SYNCING, Phase.FAILED])
def test_a_scheduled_cutover_is_told_with_its_predicted_downtime_and_can_be_withdrawn(phase: Phase) -> None:
    state = a_ready_job()
    state.recent_syncs = (SyncFigures(snapshot_at=NOON, bytes=1 << 30, streaming_seconds=7, seconds=20, full=True),)
    assert "Cutover ordered" not in describe(SPEC, state)
    accept(state, CutoverOrder(who="ann", at=NOON + timedelta(hours=13)), NOON)
    state.enter(phase, NOON)
    state.failed_in = Phase.READY
    text = describe(SPEC, state)
    assert "**Cutover ordered**: at 2026-11-24 01:00:00 UTC, ordered by ann" in text
    assert "**Predicted downtime**, right after a sync: 3m" in text
    assert ("does not begin while the job is Failed" in text) is (phase is Phase.FAILED)
    assert "- `withdraw-cutover`" in text
    refuse_unless_allowed(state, WithdrawCutover())


def test_a_paused_job_says_so_first_and_offers_resume() -> None:
    state = a_ready_job()
    state.paused = True
    text = describe(SPEC, state)
    assert text.startswith("## db-prod-01: Ready (paused)\n")
    assert "**Next sync**: none while paused" in text
    assert "- `resume`" in text
    assert "- `pause`" not in text


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("paused", [False, True])
def test_exactly_the_commands_that_are_useful_and_allowed_are_offered(phase: Phase, *, paused: bool) -> None:
    state = a_ready_job()
    state.paused = paused
    state.source_is_off = phase is Phase.CUTTING_OVER
    state.enter(phase, NOON)
    offered = re.findall(r"^- `([a-z-]+)`:", describe(SPEC, state), re.MULTILINE)
    for verb in offered:
        refuse_unless_allowed(state, VERBS[verb])
    assert set(offered) <= {name for name in VERBS if hasattr(Commands, name.replace("-", "_"))}
    assert bool(offered) is (phase not in {Phase.CUTTING_OVER, Phase.COMPLETED, Phase.ABANDONED})


def test_a_cutover_can_be_broken_off_until_the_source_is_stopped() -> None:
    state = a_ready_job()
    state.enter(Phase.CUTTING_OVER, NOON)
    refuse_unless_allowed(state, Abandon())
    assert "- `abandon`: breaks the cutover off" in describe(SPEC, state)


def test_with_the_source_off_a_failed_job_offers_the_roll_back_alone() -> None:
    state = a_ready_job()
    state.source_is_off = True
    state.enter(Phase.FAILED, NOON)
    assert re.findall(r"^- `([a-z-]+)`:", describe(SPEC, state), re.MULTILINE) == ["retry"]


def test_trouble_is_told_with_what_to_do_and_is_never_too_long_for_temporal() -> None:
    state = a_ready_job()
    error = QuotaExceeded("no room for Hard disk 1", because="x" * 100_000, do="raise the quota, then: retry")
    state.trouble = error.trouble()
    state.enter(Phase.FAILED, NOON)
    text = describe(SPEC, state)
    assert "**Needs you:** no room for Hard disk 1" in text
    assert "- **do**: raise the quota, then: retry" in text
    assert len(text.encode()) < 20_000


def test_a_cutover_is_told_by_step_with_its_downtime_before_anything_else() -> None:
    state = a_ready_job()
    second = timedelta(seconds=1)
    steps = (
        StepRecord(name="Power Off Source", started_at=NOON, ended_at=NOON + 2 * second, outcome="done"),
        StepRecord(name="Guest Fixes", started_at=NOON + 2 * second, ended_at=NOON + 81 * second, outcome="done"),
        StepRecord(name="Evidence", started_at=NOON + 81 * second),
    )
    state.cutover = Cutover(ordered_at=NOON, steps=steps, downtime_started_at=NOON)
    state.enter(Phase.CUTTING_OVER, NOON, "Evidence")
    text = describe(SPEC, state)
    told = [
        "1. Power Off Source: done, 2.0s",
        "1. Guest Fixes: done, 1m 19s",
        "1. Evidence: running since 12:01:21 UTC",
    ]
    assert "\n".join(told) in text
    assert "**Downtime**: began 2026-11-23 12:00:00 UTC" in text
    assert text.index("Guest Fixes") < text.index("Last Sync")


def test_a_failed_attempt_is_told_with_its_step_its_downtime_and_those_before_it() -> None:
    state = a_ready_job()
    state.cutover, state.earlier_cutovers = FAILED_CUTOVER, (FAILED_CUTOVER,)
    text = describe(SPEC, state)
    assert "1. Guest Fixes: failed, undone, 1m 17s" in text
    assert "1. Final Delta: done, 5.0s, 300 MiB" in text
    assert "1. Power Off Source: undone, 27s, guest shut down" in text
    assert "**Downtime**: 1m 53s, until the source ran again" in text
    before = "2026-11-21 02:00:00 UTC by bob@jump-1: failed at Guest Fixes, rolled back, the source was off for 1m 53s"
    assert f"**Cutovers before it**\n\n- {before}" in text


def test_what_is_ahead_of_a_job_is_told_a_rehearsal_and_an_ordered_cutover() -> None:
    state = a_ready_job()
    assert "- **Rehearsal**: not rehearsed" in describe(SPEC, state)
    state.rehearsal = state.rehearsed = REHEARSAL
    state.cutover_asked = ORDER.model_copy(update={"at": NOON + timedelta(hours=13)})
    text = describe(SPEC, state)
    assert "- **Rehearsal**: rehearsed 2026-11-21 14:56:40 UTC, passed, conversion 1m 32s, boot 45s" in text
    assert "- **Cutover ordered**: at 2026-11-24 01:00:00 UTC, ordered by ann@jump-1, only with predicted" in text
    assert "- `withdraw-cutover`" in text
    assert "- `cutover`: moves the VM now, or at another time: it replaces the scheduled one" in text


def test_a_completed_job_that_can_be_rolled_back_says_until_when_and_offers_that_and_its_end() -> None:
    state = a_ready_job()
    state.cutover = COMPLETED_CUTOVER
    state.enter(Phase.COMPLETED, NOON)
    state.roll_back_until = NOON + timedelta(days=1)
    text = describe(SPEC, state)
    assert "- **Roll-back possible until**: 2026-11-24 12:00:00 UTC" in text
    offered = re.findall(r"^- `([a-z-]+)`:", text, re.MULTILINE)
    assert offered == ["rollback", "finalize"]
    for verb in offered:
        refuse_unless_allowed(state, VERBS[verb])


def test_after_completion_nothing_looks_like_trouble() -> None:
    state = a_ready_job()
    state.disks = tuple(disk.model_copy(update={"baseline": Baseline()}) for disk in state.disks)
    state.cutover = Cutover(
        ordered_at=NOON,
        steps=(StepRecord(name="Evidence", started_at=NOON, ended_at=NOON, outcome="done"),),
        downtime_started_at=NOON,
        downtime_ended_at=NOON + timedelta(seconds=108),
        evidence="console: SEQ 7695",
    )
    state.enter(Phase.COMPLETED, NOON)
    text = describe(SPEC, state)
    assert "**Downtime**: 1m 48s" in text
    assert "**Seen running by**: console: SEQ 7695" in text
    assert "volume `8f2c`, the target's now" in text
    assert "The job is over." in text


def test_a_verification_is_told_with_what_it_found_and_is_not_offered_twice() -> None:
    state = a_ready_job()
    verification.begin(state, "ann", NOON)
    text = describe(SPEC, state)
    assert "**Verification**, asked for by ann 2026-11-23 12:00:00 UTC: running, 0 B of 100 GiB compared" in text
    assert "- `verify`" not in text
    wrong = ByteRanges([(4 << 20, 65536)])
    verification.take_in(state, 2000, 100 << 30, ByteRanges.whole(100 << 30), wrong)
    verification.end(state, NOON)
    text = describe(SPEC, state)
    assert "- **Hard disk 1** differed in 1 range, 64 KiB, from byte 4194304" in text
    assert "- `verify`" in text


def test_a_verification_in_which_every_disk_differs_fits() -> None:
    state = a_ready_job()
    wrong = ByteRanges((number << 30, 65536) for number in range(90))
    state.disks = tuple(
        state.disks[0].model_copy(update={"key": 2000 + number, "volume_id": "8" * 36}) for number in range(60)
    )
    verification.begin(state, "ann", NOON)
    for disk in state.disks:
        verification.take_in(state, disk.key, 100 << 30, ByteRanges.whole(100 << 30), wrong)
        differences.take_in(state, disk.key, ByteRanges.whole(100 << 30), wrong)
    verification.end(state, NOON)
    state.trouble = differences.trouble(state)
    assert len(describe(SPEC, state).encode()) < 20_000


def test_a_job_of_sixty_disks_fits() -> None:
    state = a_ready_job()
    state.disks = tuple(
        state.disks[0].model_copy(update={"key": 2000 + number, "volume_id": "8" * 36}) for number in range(60)
    )
    assert len(describe(SPEC, state).encode()) < 20_000
