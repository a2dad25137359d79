"""Screens as they are drawn on terminals of 80 and 100 columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from cli import screens
from cli.figures import Progress, as_json, sync_progress
from tests.report.samples import COMPLETED, MADE_AT, REHEARSAL, ROLLED_BACK
from xms.client.listing import Listed, Listing
from xms.cutover import Cutover, StepRecord
from xms.models import Attempt, Baseline, Disk, DiskProgress, MigrationSpec, Nic, Phase, SyncRecord, Trouble
from xms.status import JobStatus

NOW = datetime(2026, 11, 22, 1, 19, 19, tzinfo=UTC)
GIB = 1 << 30
SPEC = MigrationSpec(
    source="prod-vcenter",
    vm="db-prod-01",
    target_project="infra",
    instance_name="db-prod-01",
    flavor="m1.xlarge",
    volume_type="ssd",
    availability_zone="az-1",
    cadence_seconds=900,
)
READY = JobStatus(
    job_id="warm-prod-vcenter-db-prod-01",
    spec=SPEC,
    phase=Phase.READY,
    since=NOW - timedelta(seconds=250),
    disks=(
        Disk(
            key=2000,
            label="Hard disk 1",
            capacity=100 * GIB,
            volume_id="8f2c0000-0000-4000-8000-0000000000e1",
            baseline=Baseline(change_id="52/1"),
            allocated=61 * GIB,
            last_delta=GIB // 2,
        ),
        Disk(
            key=2001, label="Hard disk 2", capacity=500 * GIB, baseline=Baseline(change_id="52/1", unseeded_bytes=GIB)
        ),
    ),
    nics=(
        Nic(
            key=4000,
            label="Network adapter 1",
            mac="00:50:56:9a:11:02",
            source_network="VM Network",
            network="internal-net",
            subnet="10.20.0.0",
        ),
    ),
    cadence_seconds=900,
    next_sync_at=NOW + timedelta(seconds=648),
    last_sync_at=NOW - timedelta(seconds=250),
    replica_of=NOW - timedelta(seconds=252),
    bytes_full=412 * GIB,
    bytes_incremental=61 * GIB,
    sync_count=37,
    last_rate=208.0 * (1 << 20),
)
SYNCING = READY.model_copy(
    update={
        "phase": Phase.SYNCING,
        "doing": "copying",
        "next_sync_at": None,
        "sync": SyncRecord(reason="cadence", started_at=NOW, planned=4 * GIB, done=GIB),
        "progress": (
            DiskProgress(
                disk_key=2001, planned=3 * GIB, bytes_read=GIB, bytes_written=GIB // 2, rate=200.0 * (1 << 20)
            ),
        ),
    }
)
FAILED = READY.model_copy(
    update={
        "phase": Phase.FAILED,
        "trouble": Trouble(
            kind="QuotaExceeded",
            what="the quota of infra does not cover db-prod-01",
            because="volumes: 600 GiB needed, 500 GiB allowed",
            means="the replica is intact",
            do="have the quota raised",
            needs_person=True,
        ),
    }
)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def drawn(screen: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, highlight=False, markup=False).print(screen)
    text = out.getvalue()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    return text


def test_show_tells_a_rate_limit_where_there_is_one() -> None:
    assert "limit " not in drawn(screens.job(READY, NOW, 100), 100)
    limited = READY.model_copy(update={"rate_limit": 50 << 20})
    assert "limit      50 MiB/s for all streams together" in drawn(screens.job(limited, NOW, 100), 100)


@pytest.mark.parametrize("width", [80, 100, 400])
def test_show_has_every_metric_of_the_specification(width: int) -> None:
    text = " ".join(drawn(screens.job(READY, NOW, width), width).split())
    for figure in (
        "Last Sync 2026-11-22 01:15:09 UTC",
        "Lag 4m 12s",
        "Bytes (Full) 412 GiB",
        "Bytes (Incr) 61 GiB",
        "Sync Count 37",
        "Rate - (last 208 MiB/s)",
    ):
        assert figure in text


def test_lag_is_reckoned_from_the_snapshot_of_the_last_sync() -> None:
    assert as_json(READY, NOW)["lag_seconds"] == 252.0


def test_show_says_when_the_next_sync_is_and_how_to_cut_over() -> None:
    text = drawn(screens.job(READY, NOW, 100), 100)
    assert "sync in 10m 48s (every 15m)" in text
    assert "xms migration cutover warm-prod-vcenter-db-prod-01" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_sync_shows_bytes_read_and_written_rate_and_estimated_completion(width: int) -> None:
    text = drawn(screens.live(SYNCING, NOW, width), width)
    assert "Syncing 50 %" in text
    assert "read 1 GiB of 3 GiB, written 512 MiB, 200 MiB/s, ETA 10s" in text
    assert "done about 01:19:29" in text
    assert "[####################....................]  50 %" in drawn(screens.bar(sync_of(SYNCING)), width)


def sync_of(status: JobStatus) -> Progress:
    progress = sync_progress(status)
    assert progress is not None
    return progress


def test_a_stream_that_finished_between_two_questions_is_not_counted_twice() -> None:
    raced = SYNCING.model_copy(
        update={"sync": SyncRecord(reason="cadence", started_at=NOW, planned=4 * GIB, done=4 * GIB)}
    )
    assert sync_of(raced).read == 4 * GIB
    assert sync_of(raced).share == 1.0


def test_a_failed_job_says_why_what_it_means_and_what_to_do() -> None:
    lines = [" ".join(line.split()) for line in drawn(screens.job(FAILED, NOW, 80), 80).splitlines()]
    start = lines.index("needs you the quota of infra does not cover db-prod-01")
    assert lines[start + 1 : start + 4] == [
        "because volumes: 600 GiB needed, 500 GiB allowed",
        "means the replica is intact",
        "do have the quota raised",
    ]


def test_a_call_that_is_tried_again_is_shown_with_its_last_failure() -> None:
    again = SYNCING.model_copy(
        update={"attempts": (Attempt(call="take_snapshot", number=4, because="vCenter did not answer\nmore"),)}
    )
    assert "try 4 of take_snapshot: vCenter did not answer\n" in drawn(screens.job(again, NOW, 100), 100)


def test_a_cutover_is_shown_by_step_with_its_downtime() -> None:
    steps = tuple(
        StepRecord(
            name=name, started_at=NOW + timedelta(seconds=n), ended_at=NOW + timedelta(seconds=n + 60), outcome="done"
        )
        for n, name in enumerate(("gates", "power off", "final delta"))
    )
    done = READY.model_copy(
        update={
            "phase": Phase.COMPLETED,
            "cutover": Cutover(
                ordered_at=NOW,
                steps=steps,
                downtime_started_at=NOW,
                downtime_ended_at=NOW + timedelta(seconds=151),
                power_off="guest shut down",
                evidence="SEQ 42 on the console",
                server_id="6a1f",
            ),
        }
    )
    text = " ".join(drawn(screens.job(done, NOW, 80), 80).split())
    for figure in (
        "final delta 01:19:21 1m done",
        "downtime 2m 31s (guest shut down)",
        "evidence SEQ 42 on the console",
    ):
        assert figure in text


def jobs() -> Listing:
    found = {"warm-prod-vcenter-db-prod-01": READY, "warm-prod-vcenter-web-03": SYNCING, "warm-old-erp": FAILED}
    listed = [
        Listed(job_id=name, phase=status.phase, last_sync_at=status.last_sync_at, status=status)
        for name, status in found.items()
    ]
    return Listing(jobs=(*listed, Listed(job_id="warm-silent", phase="Ready", no_answer="the worker is busy")))


def test_the_list_has_a_line_a_job_where_there_is_room() -> None:
    lines = drawn(screens.listing(jobs(), NOW, 400), 400).splitlines()
    assert lines[0].split() == ["JOB", "PHASE", "LAST", "SYNC", "LAG", "CADENCE", "SYNCS", "NEXT"]
    assert "in 10m 48s" in lines[1]
    assert "Syncing 50 %" in lines[2]
    assert "needs you: the quota of infra does not cover db-prod-01" in lines[3]
    assert "no answer: the worker is busy" in lines[4]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_job_id_is_never_cut_or_broken(width: int) -> None:
    long_id = "warm-prod-vcenter-" + "a-machine-with-a-long-name-" * 3
    found = Listing(jobs=(*jobs().jobs, Listed(job_id=long_id, phase="Ready", status=READY)))
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(screens.listing(found, NOW, width), crop=False)
    shown = status_with_id(long_id)
    Console(file=out, width=width, force_terminal=False).print(screens.job(shown, NOW, width), crop=False)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert long_id in lines
    assert f"job        {long_id}" in lines
    assert f"cut over with: xms migration cutover {long_id}" in lines


def status_with_id(job_id: str) -> JobStatus:
    return READY.model_copy(update={"job_id": job_id})


def test_json_has_no_change_map_in_it() -> None:
    assert all("unseeded" not in disk["baseline"] for disk in as_json(READY, NOW)["disks"])


def test_colours_are_for_phase_and_trouble_alone_and_need_a_terminal() -> None:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard", highlight=False).print(
        screens.job(FAILED, NOW, 100)
    )
    coloured = [line for line in out.getvalue().splitlines() if "\x1b[3" in line or "\x1b[1;3" in line]
    assert len(coloured) == 2
    assert "\x1b[" not in drawn(screens.job(FAILED, NOW, 100), 100)


@pytest.mark.parametrize("width", [80, 100])
def test_a_cutover_that_was_rolled_back_tells_where_it_failed_what_it_moved_and_how_long_the_source_was_off(
    width: int,
) -> None:
    text = " ".join(drawn(screens.job(ROLLED_BACK, MADE_AT, width), width).split())
    for figure in (
        "Final Delta 02:01:30 5.0s done 300 MiB",
        "Guest Fixes 02:01:35 1m 17s failed, undone -",
        "downtime 1m 53s (guest shut down), until the source ran again",
        "undone 2026-11-21 02:03:00 UTC after Guest Fixes failed",
        "Power Off Source 02:01:03 27s undone - guest shut down",
    ):
        assert figure in text, figure


def test_show_tells_what_is_ahead_the_ordered_cutover_its_prediction_by_part_and_rehearsals() -> None:
    text = " ".join(drawn(screens.job(ROLLED_BACK, MADE_AT, 80), 80).split())
    for line in (
        "predicted downtime of 2m 42s: shutdown 20s, final delta 1.2s, conversion 1m 32s, boot 45s, own share 4.0s",
        "(assumed, not measured: shutdown, own share)",
        "rehearsal rehearsed Nov 21 14:56, passed, conversion 1m 32s, boot 45s",
        "only with predicted downtime at most 5m and rehearsed within 14d",
    ):
        assert line in text, line
    never = ROLLED_BACK.model_copy(update={"rehearsal": None, "rehearsed": None})
    assert "rehearsal  not rehearsed" in drawn(screens.job(never, MADE_AT, 80), 80)
    since = REHEARSAL.model_copy(update={"number": 4, "outcome": "failed"})
    again = ROLLED_BACK.model_copy(update={"rehearsal": since})
    words = "rehearsed Nov 21 14:56, failed; the last one that passed: Nov 21 14:56"
    assert words in " ".join(drawn(screens.job(again, MADE_AT, 100), 100).split())


def test_a_completed_job_says_until_when_it_can_be_rolled_back_and_what_was_tried_before() -> None:
    text = " ".join(drawn(screens.job(COMPLETED, MADE_AT, 100), 100).split())
    assert "roll-back possible until 2026-11-23 02:05:25 UTC" in text
    assert "xms migration finalize warm-prod-vcenter-db-prod-01" in text
    assert "xms migration rollback warm-prod-vcenter-db-prod-01" in text
    before = "earlier Nov 21 02:00 by bob@jump-1: failed at Guest Fixes, rolled back, the source was off for 1m 53s"
    assert before in text


def test_what_moves_fits_a_terminal_of_24_lines_while_a_cutover_runs() -> None:
    running = COMPLETED.model_copy(update={"phase": Phase.CUTTING_OVER, "doing": "Evidence"})
    assert len(drawn(screens.live(running, MADE_AT, 80), 80).splitlines()) <= 24
