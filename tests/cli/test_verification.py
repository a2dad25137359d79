"""xms migration verify, and what a comparison looks like on screens and in JSON."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cli import comparing, screens
from cli.figures import as_json
from tests.cli.conftest import House
from tests.cli.test_screens import GIB, NOW, READY, SYNCING, drawn
from tests.workflows.world import BLOCK
from xms.change_map import ByteRanges
from xms.models import DiskProgress, DiskVerification, Verification
from xms.status import JobStatus

JOB = "warm-prod-vcenter-db-prod-01"


# --- as it is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_equal_replica_is_verified_with_exit_code_0(house: House) -> None:
    job = house.a_ready_job()
    done = house.xms("migration", "verify", job, "--wait", "--timeout", "30s")
    assert (done.code, done.err) == (0, "")
    assert f"{job}: every byte of the replica is compared with the source, 8 MiB, beginning now" in done.out
    assert "Hard disk 1: compared 4 MiB of 4 MiB, equal" in done.out
    shown = house.xms("migration", "show", job).out
    assert "verified" in shown
    assert "Hard disk 2: compared 4 MiB of 4 MiB, equal" in shown


@pytest.mark.slow
def test_a_replica_that_differs_is_told_by_exit_code_7_and_by_its_ranges(house: House) -> None:
    job = house.a_ready_job()
    house.place.corrupt(2001, 5)
    done = house.xms("migration", "verify", "--job", job, "--wait", "--timeout", "30s")
    assert done.code == 7
    assert "Hard disk 2: compared 4 MiB of 4 MiB, 64 KiB DIFFERED in 1 range: 327680+65536" in done.out
    assert "error: the replica of" in done.err
    assert "copied again" in done.err
    house.eventually(house.place.replica_equals_source)
    assert "64 KiB DIFFERED" in house.xms("migration", "show", job).out

    house.place.corrupt(2000, 9)
    again = house.xms("migration", "verify", job, "--wait", "--timeout", "30s", "--output", "json")
    assert again.code == 7
    last = json.loads(again.out.splitlines()[-1])
    assert [disk["differing"] for disk in last["verification"]["disks"]] == [
        [{"offset": 9 * BLOCK, "length": BLOCK}],
        [],
    ]
    assert [disk["compared"] for disk in last["verification"]["disks"]] == [64 * BLOCK, 64 * BLOCK]
    assert last["verification"]["snapshots"] == 1
    assert "@" in last["verification"]["asked_by"]
    assert json.loads(again.err)["error"]["exit_code"] == 7


@pytest.mark.slow
def test_a_verification_is_ordered_once_and_is_cut_off_by_a_cutover_with_exit_code_5(house: House) -> None:
    job = house.a_ready_job()
    house.place.compares_at_most = BLOCK
    house.place.hold = True
    assert house.xms("migration", "verify", job, "-o", "json").json["job_id"] == job
    refused = house.xms("migration", "verify", job)
    assert refused.code == 3
    assert "asked for it at" in refused.err
    assert "verifying" in house.xms("migration", "show", job).out
    assert "compared 0 B of 8 MiB" in house.xms("migration", "list").out
    assert house.xms("migration", "cutover", job, "--yes").code == 0
    house.place.hold = False
    house.eventually(lambda: house.status(job)["phase"] == "Completed")
    found = house.status(job)["verification"]
    assert "comes first" in found["ended_because"]


def test_scrub_and_verification_of_syncs_are_submitted(house: House) -> None:
    done = house.submit("db-prod-01", "--verify-syncs", "--scrub", "2.5%")
    assert done.code == 0
    spec = house.status(JOB)["spec"]
    assert (spec["verify_syncs"], spec["scrub_percent"]) == (True, 2.5)


# --- as it is drawn ---------------------------------------------------------------------------------------------------


WRONG = ByteRanges((number << 20, 4096) for number in range(9))
VERIFICATION = Verification(
    asked_by="ann@host",
    asked_at=NOW - timedelta(hours=1),
    snapshots=2,
    disks=(
        DiskVerification(disk_key=2000, label="Hard disk 1", capacity=100 * GIB, compared=100 * GIB),
        DiskVerification(
            disk_key=2001,
            label="Hard disk 2",
            capacity=500 * GIB,
            compared=100 * GIB,
            differing=WRONG.encode(),
            differing_bytes=WRONG.total,
        ),
    ),
)
COMPARING = SYNCING.model_copy(
    update={
        "verification": VERIFICATION,
        "progress": (
            DiskProgress(
                disk_key=2001,
                planned=0,
                to_compare=400 * GIB,
                compared=100 * GIB,
                rate=float(GIB),
                differing=WRONG.encode(),
            ),
        ),
    }
)


def scrubbing() -> JobStatus:
    return COMPARING.model_copy(update={"verification": None})


def test_how_far_a_comparison_is_counts_what_earlier_snapshots_compared() -> None:
    words = "compared 300 GiB of 600 GiB, 1 GiB/s, ETA 5m"
    for screen in (screens.job(COMPARING, NOW, 80), screens.live(COMPARING, NOW, 80)):
        assert words in drawn(screen, 80)
    assert screens.what_is_next(COMPARING, NOW).plain == words


def test_how_far_a_scrub_is_is_shown_while_it_goes_on_and_not_after() -> None:
    assert "compared 100 GiB of 400 GiB" in drawn(screens.job(scrubbing(), NOW, 80), 80)
    assert comparing.compared(READY) is None
    assert comparing.compared(SYNCING) is None


@pytest.mark.parametrize("width", [80, 100])
def test_the_report_names_the_first_ranges_and_says_how_many_there_are(width: int) -> None:
    ended = READY.model_copy(update={"verification": VERIFICATION.model_copy(update={"ended_at": NOW})})
    text = " ".join(drawn(screens.job(ended, NOW, width), width).split())
    assert "36 KiB DIFFERED in 9 ranges: 0+4096, 1048576+4096" in text
    assert "and 4 more" in text
    assert "Hard disk 1: compared 100 GiB of 100 GiB, equal" in text


def test_json_has_every_range_by_offset_and_length() -> None:
    shown = as_json(COMPARING, NOW)
    expected = [{"offset": offset, "length": length} for offset, length in WRONG]
    assert shown["verification"]["disks"][1]["differing"] == expected
    assert shown["progress"][0]["differing"] == expected
    assert "differed" not in shown["disks"][0]
    assert as_json(READY, NOW)["verification"] is None
