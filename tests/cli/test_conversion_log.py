"""A conversion as an operator sees it: while it runs, and its log afterwards."""

from __future__ import annotations

import pytest

from cli.screens import conversion_words
from tests.cli.conftest import House
from tests.workflows.world import failure
from xms.cutover import ConversionProgress


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (
            ConversionProgress(stage="waiting for a worker that is free to convert"),
            "waiting for a worker that is free to convert",
        ),
        (ConversionProgress(stage="opening the disks", seconds=3.2), "opening the disks, 3.2s so far"),
        (ConversionProgress(stage="trimming", percent=45.0, seconds=75.0), "trimming 45 %, 1m 15s so far"),
    ],
)
def test_what_a_conversion_does_is_told_in_words(progress: ConversionProgress, words: str) -> None:
    assert conversion_words(progress) == words


@pytest.mark.slow
def test_a_running_conversion_is_shown_and_its_log_can_be_read(house: House) -> None:
    job = house.a_ready_job()
    nothing = house.xms("migration", "log", job)
    assert nothing.code == 3
    assert "has no log of a conversion" in nothing.err
    house.place.conversions_go_on.clear()
    assert house.xms("migration", "cutover", job, "--yes").code == 0
    house.eventually(lambda: (house.status(job)["conversion"] or {}).get("seconds") == 75.0)
    assert "    looking for operating systems, 1m 15s so far\n" in house.xms("migration", "show", job).out
    watched = house.xms("migration", "watch", job, "--timeout", "2s")
    assert "Guest Fixes; looking for operating systems, 1m 15s so far" in watched.out
    running = house.xms("migration", "log", job)
    assert running.code == 0
    assert running.out == f"virt-v2v-in-place: the log of {job}\n"
    assert running.err == "virt-v2v on worker mover-1, last written 2026-11-22 00:00:00 UTC, 2 KiB before it left out\n"
    house.place.conversions_go_on.set()
    assert house.xms("migration", "watch", job, "--timeout", "30s").code == 0
    assert house.status(job)["conversion"] is None
    assert house.xms("migration", "log", job, "--output", "json").json["worker"] == "mover-1"


@pytest.mark.slow
def test_a_worker_that_has_the_log_and_is_gone_is_named(house: House) -> None:
    job = house.a_ready_job()
    house.place.worker_queue = "xms-data-mover-9"
    house.place.fail["commit_conversion"] = [failure("WriteFailed")]
    house.place.conversions_go_on.clear()
    assert house.xms("migration", "cutover", job, "--yes").code == 0
    house.eventually(lambda: house.status(job)["conversion"] is not None)
    lost = house.xms("migration", "log", job)
    assert lost.code == 4
    assert "only worker mover-9 has it, and it does not answer" in lost.err
