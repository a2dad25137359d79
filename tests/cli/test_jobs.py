"""A job's life as it is typed: a real Temporal server, the real workflows and a small place."""

from __future__ import annotations

import pytest

from tests.cli.conftest import SUBMIT, House
from tests.workflows.world import failure

JOB = "warm-prod-vcenter-db-prod-01"


@pytest.mark.slow
def test_a_migration_from_submit_to_completed(house: House) -> None:
    submitted = house.submit("db-prod-01", "--sync-cadence", "1h", "--rate-limit", "50MiB", "--output", "json")
    assert submitted.code == 0
    assert submitted.json["job_id"] == JOB
    assert [nic["network"] for nic in submitted.json["checked"]["target"]["nics"]] == ["internal-net"]
    assert house.xms("migration", "watch", JOB, "--until", "ready", "--timeout", "30s").code == 0

    assert house.xms("migration", "sync", "--job", JOB).out == f"{JOB}: a sync starts now\n"
    house.eventually(lambda: house.status(JOB)["sync_count"] == 1)
    assert house.xms("migration", "pause", JOB).code == 0
    assert house.status(JOB)["paused"] is True
    assert "Ready (paused)" in house.xms("migration", "list").out
    assert house.xms("migration", "resume", JOB).code == 0
    assert house.xms("migration", "cadence", JOB, "15m").code == 0
    assert house.status(JOB)["cadence_seconds"] == 900
    assert house.xms("migration", "cadence", "manual", "--job", JOB).code == 0
    assert house.status(JOB)["cadence_seconds"] is None
    assert "limit      50 MiB/s for all streams together" in house.xms("migration", "show", JOB).out
    assert house.xms("migration", "rate-limit", JOB, "20MiB").code == 0
    assert house.status(JOB)["rate_limit"] == 20 << 20
    assert house.xms("migration", "rate-limit", "none", "--job", JOB).code == 0
    assert house.status(JOB)["rate_limit"] is None

    signs = ("--evidence", "console=SEQ [0-9]+, all", "--evidence", "command=db-answers")
    moved = house.xms(
        "migration", "cutover", JOB, "--yes", "--wait", "--timeout", "30s", "--rollback-period", "none", *signs
    )
    assert moved.code == 0
    assert "Completed" in moved.out
    ordered = house.status(JOB)["cutover"]["order"]["evidence"]
    assert [(one["kind"], one["pattern"], one["command"]) for one in ordered] == [
        ("console", "SEQ [0-9]+, all", ""),
        ("command", "", "db-answers"),
    ]
    shown = house.xms("migration", "show", JOB).out
    assert "downtime" in shown
    assert "SEQ 42 on the console" in shown
    kinds = [event["kind"] for event in house.xms("migration", "events", JOB, "-o", "json").json["events"]]
    assert kinds[0] == "submitted"
    assert [kind for kind in kinds if kind != "report kept"][-1] == "completed"

    refused = house.xms("migration", "sync", JOB)
    assert refused.code == 3
    assert "it is Completed since" in refused.err
    assert house.submit("db-prod-01").code == 0


def test_a_vm_is_not_migrated_twice_at_once(house: House) -> None:
    house.a_ready_job()
    second = house.submit("db-prod-01")
    assert second.code == 3
    assert f"because: job {JOB} is in phase Ready" in second.err
    assert house.place.calls.count("check_target") == 2


def test_evidence_that_no_worker_could_see_is_refused_when_the_cutover_is_ordered(house: House) -> None:
    job = house.a_ready_job()
    done = house.xms(
        "migration", "cutover", job, "--yes", "--evidence", "console=up", "--evidence", "command=db-answer"
    )
    assert (done.code, done.out) == (2, "")
    assert "because: the commands of worker place are: db-answers" in done.err
    assert house.status(job)["cutover_ordered"] is None


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--source", "other"], 2, "no source is called 'other'"),
        (["--vm", "nowhere"], 2, "has no VM 'nowhere'"),
        (["--flavor", "m1.tiny"], 2, "no flavor is called 'm1.tiny'"),
    ],
)
def test_a_submit_that_cannot_work_is_refused_before_it_starts(
    house: House, more: list[str], code: int, words: str
) -> None:
    done = house.xms("migration", "submit", *SUBMIT, "--vm", "web-03", *more)
    assert done.code == code
    assert words in done.err
    assert house.xms("migration", "list", "-o", "json").json["jobs"] == []


def test_a_nic_that_is_not_mapped_is_named(house: House) -> None:
    without_map = [part for part in SUBMIT if part not in {"--network-map", "VM Network=internal-net"}]
    done = house.xms("migration", "submit", *without_map, "--vm", "web-03")
    assert done.code == 2
    assert "error: Network adapter 1 of web-03 is not mapped\n  because: its network is 'VM Network'" in done.err


def test_a_command_that_the_phase_does_not_allow_is_refused_with_the_phase(house: House) -> None:
    job = house.a_ready_job()
    done = house.xms("migration", "retry", job)
    assert done.code == 3
    assert "because: it is in phase Ready" in done.err


def test_who_ordered_it_is_in_the_events(house: House) -> None:
    job = house.a_ready_job()
    house.xms("migration", "pause", job)
    last = house.xms("migration", "events", job, "-o", "json", "--limit", "1").json["events"][-1]
    assert "@" in last["who"]


@pytest.mark.slow
def test_live_figures_come_from_the_streams(house: House) -> None:
    house.place.streams_go_on.clear()
    house.submit()
    house.eventually(lambda: len(house.status(JOB)["progress"]) == 2)
    status = house.status(JOB)
    assert status["bytes_read"] == status["sync"]["planned"] // 2
    assert status["bytes_written"] == status["sync"]["planned"] // 4
    assert status["rate"] == 131072.0
    assert status["eta_seconds"] == 32.0
    assert "Full Sync 50 %" in house.xms("migration", "list").out
    waited = house.xms("migration", "watch", JOB, "--timeout", "1s")
    assert waited.code == 6
    assert "read 4 MiB of 8 MiB, written 2 MiB, 128 KiB/s, ETA 32s" in waited.out
    house.place.streams_go_on.set()
    assert house.xms("migration", "watch", JOB, "--until", "ready", "--timeout", "30s").code == 0


@pytest.mark.slow
def test_a_job_that_needs_a_person_ends_the_wait_with_its_trouble(house: House) -> None:
    house.place.fail["make_volume"] = [failure("QuotaExceeded", needs_person=True)]
    house.submit()
    waited = house.xms("migration", "watch", JOB, "--until", "ready", "--timeout", "30s")
    assert waited.code == 5
    assert "error: QuotaExceeded happened\n  because: the test says so" in waited.err
    assert "needs you: QuotaExceeded happened" in house.xms("migration", "list").out
    assert house.xms("migration", "retry", JOB).code == 0
    assert house.xms("migration", "watch", JOB, "--until", "ready", "--timeout", "30s").code == 0


@pytest.mark.slow
def test_a_cutover_that_is_rolled_back_ends_with_why(house: House) -> None:
    job = house.a_ready_job()
    house.place.fail["see_running"] = [failure("BootFailed")]
    done = house.xms("migration", "cutover", job, "--yes", "--wait", "--timeout", "30s")
    assert done.code == 5
    assert "the test says so" in done.err
    assert house.place.power == "poweredOn"


@pytest.mark.slow
def test_a_completed_cutover_is_taken_back_and_the_next_one_stands(house: House) -> None:
    job = house.a_ready_job()
    assert house.xms("migration", "cutover", job, "--yes", "--wait", "--timeout", "30s").code == 0
    shown = house.xms("migration", "show", job).out
    assert "roll-back is possible until" in shown
    assert f"let it stand with: xms migration finalize {job}" in shown
    refused = house.xms("migration", "rollback", job)
    assert refused.code == 2
    assert f"{job}: db-prod-01 runs on the target since" in refused.err
    assert "What it has written since then is LOST." in refused.err
    done = house.xms("migration", "rollback", job, "--yes", "--wait", "--timeout", "30s")
    assert done.code == 0
    assert f"{job}: the target is removed, and the source runs again" in done.out
    assert (house.place.power, house.place.servers) == ("poweredOn", set())
    assert "paused: the volumes hold what the target wrote" in house.xms("migration", "show", job).out
    assert house.xms("migration", "rollback", job, "--yes").code == 3
    assert house.xms("migration", "resume", job).code == 0
    house.eventually(lambda: house.status(job)["phase"] == "Ready" and house.place.replica_equals_source())
    assert house.xms("migration", "cutover", job, "--yes", "--wait", "--timeout", "30s").code == 0
    assert house.xms("migration", "finalize", job, "--yes").out == f"{job}: the cutover stands; the job ends\n"
    house.eventually(lambda: house.status(job)["roll_back_until"] is None)
    assert house.xms("migration", "rollback", job, "--yes").code == 3


@pytest.mark.slow
def test_a_failure_that_is_kept_says_how_it_is_taken_back(house: House) -> None:
    job = house.a_ready_job()
    house.place.fail["see_running"] = [failure("BootFailed")]
    done = house.xms("migration", "cutover", job, "--on-failure", "keep-off", "--yes", "--wait", "--timeout", "30s")
    assert done.code == 5
    assert f"xms migration rollback {job}" in done.err
    assert house.place.power == "poweredOff"
    assert f"take the cutover back with: xms migration rollback {job}" in house.xms("migration", "show", job).out
    taken = house.xms("migration", "rollback", job, "--yes", "--wait", "--timeout", "30s", "-o", "json")
    assert taken.code == 0
    assert house.place.power == "poweredOn"


@pytest.mark.slow
def test_nothing_is_cut_over_or_abandoned_unconfirmed(house: House) -> None:
    job = house.a_ready_job()
    for verb in ("cutover", "abandon"):
        done = house.xms("migration", verb, job)
        assert done.code == 2
        assert "give --yes" in done.err
    assert house.status(job)["phase"] == "Ready"


@pytest.mark.parametrize(("more", "left"), [([], 2), (["--delete-volumes"], 0)])
def test_abandon_keeps_the_volumes_unless_told_otherwise(house: House, more: list[str], left: int) -> None:
    job = house.a_ready_job()
    assert house.xms("migration", "abandon", job, "--yes", *more).code == 0
    house.eventually(lambda: house.status(job)["phase"] == "Abandoned")
    assert len(house.place.volumes) == left


@pytest.mark.slow
def test_the_list_is_filtered(house: House) -> None:
    job = house.a_ready_job()

    def listed(*filters: str) -> list[str]:
        return [found["job_id"] for found in house.xms("migration", "list", "-o", "json", *filters).json["jobs"]]

    house.eventually(lambda: listed("--phase", "ready") == [job])
    assert listed("--phase", "full sync") == []
    assert listed("--source", "prod-vcenter", "--vm", "db-prod-01", "--project", "infra", "--active") == [job]
    assert listed("--source", "it's another \\ one") == []
