"""The rules of rehearsals, without Temporal and without a cloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xms.commands import refuse_unless_allowed
from xms.cutover import CutoverOrder, Evidence, Measured, Rehearsal, Rehearse
from xms.errors import BadInput, NotRehearsed, Refused
from xms.job import JobState
from xms.lifecycle import BeginRehearsal, CopyForRehearsal, CutOver, DropRehearsal, Synchronize, Wait, next_step
from xms.models import Baseline, Disk, Phase, job_id
from xms.openstack import ports
from xms.rehearsal import is_rehearsal, refuse_unless_rehearsed, rehearsal_id, take_in

NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
DAY = 86_400


def a_job(phase: Phase = Phase.READY, *, seeded: bool = True) -> JobState:
    baseline = Baseline(change_id="u/1", unseeded="" if seeded else "x", unseeded_bytes=0 if seeded else 5)
    disk = Disk(key=2000, label="Hard disk 1", capacity=1 << 30, volume_id="v", baseline=baseline)
    return JobState(job_id="warm-prod-db", since=NOW, phase=phase, disks=(disk,), vm_name="db")


def a_rehearsal(
    outcome: Literal["passed", "failed", "broken off"] = "passed", *, ended: datetime = NOW, number: int = 1
) -> Rehearsal:
    return Rehearsal(
        number=number,
        started_at=ended - timedelta(minutes=3),
        ended_at=ended,
        outcome=outcome,
        conversion_seconds=100.0,
        boot_seconds=20.0,
    )


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_job_is_ever_taken_for_a_rehearsal(source: str, vm: str) -> None:
    job = job_id(source, vm)
    assert not is_rehearsal(job)
    assert is_rehearsal(rehearsal_id(job))
    assert not ports.job_mark(rehearsal_id(job)).startswith(ports.job_mark(job))
    assert not ports.job_mark(job).startswith(ports.job_mark(rehearsal_id(job)))


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_without_the_option_nobody_has_to_have_rehearsed() -> None:
    refuse_unless_rehearsed(a_job(), "db", CutoverOrder(), NOW)


def test_a_rehearsal_counts_until_its_time_is_over() -> None:
    job = a_job()
    job.rehearsed = a_rehearsal(ended=NOW - timedelta(days=14))
    order = CutoverOrder(require_rehearsal_seconds=14 * DAY)
    refuse_unless_rehearsed(job, "db", order, NOW)
    with pytest.raises(NotRehearsed) as refused:
        refuse_unless_rehearsed(job, "db", order, NOW + timedelta(seconds=1))
    assert refused.value.what == "db was not rehearsed in the last 14d"
    assert refused.value.because == "the last one that passed ended at 2026-11-08 01:00 UTC"
    assert refused.value.means == "the source was not touched"
    assert "xms migration rehearse warm-prod-db" in refused.value.do


@pytest.mark.parametrize(
    ("outcome", "words"), [("failed", "number 2 failed"), ("broken off", "number 2 was broken off")]
)
def test_one_that_did_not_pass_does_not_count_and_is_told(outcome: Literal["failed", "broken off"], words: str) -> None:
    job = a_job()
    job.rehearsal = a_rehearsal(outcome, number=2)
    with pytest.raises(NotRehearsed) as refused:
        refuse_unless_rehearsed(job, "db", CutoverOrder(require_rehearsal_seconds=DAY), NOW)
    assert refused.value.because == f"no rehearsal of it has passed, and {words}"


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_what_a_rehearsal_measured_is_remembered_beside_the_last_shutdown() -> None:
    job = a_job()
    job.measured = Measured(shutdown=12.0, conversion=1.0, boot=1.0, at=NOW - timedelta(days=1), by="cutover")
    take_in(job, a_rehearsal(), NOW)
    assert job.measured == Measured(shutdown=12.0, conversion=100.0, boot=20.0, at=NOW, by="rehearsal")
    assert job.rehearsed == job.rehearsal


def test_one_that_failed_leaves_the_last_one_that_passed() -> None:
    job = a_job()
    passed = a_rehearsal()
    take_in(job, passed, NOW)
    take_in(job, a_rehearsal("failed", number=2), NOW + timedelta(hours=1))
    assert job.rehearsed == passed
    assert job.rehearsal is not None
    assert job.rehearsal.number == 2
    assert job.measured.at == NOW


# --- when -------------------------------------------------------------------------------------------------------------


def test_the_copies_come_before_the_next_sync_and_after_a_cutover() -> None:
    job = a_job()
    job.rehearsal_waits, job.sync_asked_by = True, "ann"
    assert next_step(job, NOW) == CopyForRehearsal()
    job.cutover_asked = CutoverOrder()
    assert next_step(job, NOW) == CutOver(CutoverOrder())


def test_a_paused_job_is_rehearsed() -> None:
    job = a_job()
    job.paused, job.rehearsal_asked = True, Rehearse(who="ann")
    assert next_step(job, NOW) == BeginRehearsal(Rehearse(who="ann"))


def test_an_incomplete_replica_is_completed_first_or_not_copied() -> None:
    job = a_job(seeded=False)
    job.rehearsal_waits, job.sync_asked_by = True, ""
    assert next_step(job, NOW) == Synchronize("asked for")
    job.sync_asked_by = None
    assert next_step(job, NOW) == DropRehearsal()


def test_a_job_that_needs_a_person_gives_up_a_rehearsal_that_waits() -> None:
    job = a_job(Phase.FAILED)
    job.rehearsal_waits = True
    assert next_step(job, NOW) == DropRehearsal()
    job.rehearsal_waits = False
    assert next_step(job, NOW) == Wait(None)


@pytest.mark.parametrize("phase", [Phase.INITIALIZING, Phase.FULL_SYNC, Phase.CUTTING_OVER, Phase.FAILED])
def test_there_is_nothing_to_rehearse_in_other_phases(phase: Phase) -> None:
    with pytest.raises(Refused, match="cannot be rehearsed now"):
        refuse_unless_allowed(a_job(phase), Rehearse())


@pytest.mark.parametrize(
    "sign",
    [Evidence(kind="tcp", port=22), Evidence(kind="ping"), Evidence(kind="command", command="answers")],
    ids=lambda sign: sign.kind,
)
def test_evidence_that_needs_a_network_is_refused(sign: Evidence) -> None:
    with pytest.raises(BadInput, match=f"evidence '{sign.kind}' cannot be seen of a rehearsal"):
        refuse_unless_allowed(a_job(), Rehearse(evidence=(sign,)))
    refuse_unless_allowed(a_job(), Rehearse(evidence=(Evidence(kind="console", pattern="login:"),)))
