"""Whatever call of the target's side its worker is killed at, or its cloud breaks off at, nothing is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import pytest

from tests.target_killed.calls import Blow, Point
from tests.target_killed.holdings import Holdings
from tests.target_killed.itinerary import CLEAN_UP, ITINERARY, WAY_BACK, WAY_THERE, Stop
from tests.target_killed.stage import Run, Stage

AT_A_TIME = 6
CALLS_AT_LEAST = 160
CHANGES_AT_LEAST = 30
CLEARED = {stop.title for stop in ITINERARY[[stop.title for stop in ITINERARY].index("finalize") :]}


@pytest.fixture(scope="module")
def untouched(stage: Stage) -> Run:
    """A job that nothing happens to: what is to be compared with, and the calls that there are."""
    run = stage.play("untouched")
    assert not run.trouble
    assert not run.errors
    return run


def plans(run: Run, blow: Blow) -> Iterator[dict[str, Point]]:
    """The first call of each step, the second one of each, and so on."""
    for points in zip_longest(*(struck_at(run, stop, blow) for stop in ITINERARY)):
        yield {stop.title: point for stop, point in zip(ITINERARY, points, strict=True) if point is not None}


def struck_at(run: Run, stop: Stop, blow: Blow) -> tuple[Point, ...]:
    """The calls of the step that the blow means something for: a question that comes late does nothing."""
    return tuple(point for point in run.points[stop.title] if blow is not Blow.LATE or point.changes)


def test_a_job_that_nothing_happens_to_goes_there_and_back(untouched: Run) -> None:
    there, back, end = (untouched.after[stops[-1].title] for stops in (WAY_THERE, WAY_BACK, CLEAN_UP))
    assert [volume.name for volume in there.volumes] == ["VM 2000", "VM 2001"]
    assert [(volume.status, volume.gibibytes, volume.bootable) for volume in there.volumes] == [
        ("in-use", 2, True),
        ("in-use", 1, False),
    ]
    assert all(volume.attached_to == ("a server, attached",) and not volume.leased for volume in there.volumes)
    assert [dict(volume.metadata)["xms_disk"] for volume in there.volumes] == ["2000", "2001"]
    assert [(port.mac, port.network, port.bound) for port in there.ports] == [
        ("MAC 0", "internal-net", True),
        ("MAC 1", "backup-net", True),
    ]
    (server,) = there.servers
    assert (server.status, server.volumes, server.macs) == ("ACTIVE", ("VM 2000", "VM 2001"), ("MAC 0", "MAC 1"))
    assert back.servers == ()
    assert back.ports == ()
    assert [(volume.status, volume.attached_to, volume.digest) for volume in back.volumes] == [
        ("available", (), volume.digest) for volume in there.volumes
    ]
    assert end == Holdings((), (), ())
    calls = [point for points in untouched.points.values() for point in points]
    assert len(calls) >= CALLS_AT_LEAST
    assert len([point for point in calls if point.changes]) >= CHANGES_AT_LEAST


def expected_of(run: Run, blow: Blow) -> dict[str, Holdings]:
    """What has to be there after each step.

    What a call leaves that comes when its step is long done, nobody can see at once: an attachment, a lease, a second
    volume. The cutover is what has to clear it away, before the target boots.
    """
    if blow is not Blow.LATE:
        return run.after
    return {title: found for title, found in run.after.items() if title in CLEARED}


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.parametrize("blow", Blow)
def test_a_blow_at_any_call_leaves_what_an_untouched_job_leaves(stage: Stage, untouched: Run, blow: Blow) -> None:
    def play(numbered: tuple[int, dict[str, Point]]) -> Run:
        number, plan = numbered
        return stage.play(f"{blow.name.lower().replace('_', '-')}-{number}", blow, plan, expected=expected_of(untouched, blow))

    with ThreadPoolExecutor(AT_A_TIME) as players:
        runs = list(players.map(play, enumerate(plans(untouched, blow))))
    troubles = [run.trouble for run in runs if run.trouble]
    assert not troubles, "\n".join(troubles)
    struck = {place for run in runs for place in run.struck}
    assert struck == {(stop.title, point) for stop in ITINERARY for point in struck_at(untouched, stop, blow)}
    assert not stage.server.cloud.volumes
    assert not stage.server.cloud.ports
    assert not stage.server.cloud.servers
    assert not stage.server.cloud.attachments
