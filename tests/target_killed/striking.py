"""Jobs that are struck, several at a time, and what is asked of each and of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Final

import pytest

from tests.target_killed.calls import Blow, Point
from tests.target_killed.holdings import Holdings
from tests.target_killed.itinerary import WAY_THERE, Stop
from tests.target_killed.stage import Run, Stage

AT_A_TIME: Final = 5
BEFORE_THE_TARGET: Final = frozenset(stop.title for stop in WAY_THERE[:-3])
"""The steps before the volumes are made ready for the boot."""

Plan = Mapping[str, Point]


def blows(*quick: Blow, without: tuple[Blow, ...] = ()) -> list[object]:
    """Kinds of blows as a test's parameters: the quick ones for `make test`, the others for `make soak`."""
    return [
        pytest.param(blow, marks=() if blow in quick else pytest.mark.soak, id=blow.name.lower())
        for blow in Blow
        if blow not in without
    ]


def struck_at(run: Run, stop: Stop, blow: Blow) -> tuple[Point, ...]:
    """The calls of the step that the blow is struck at."""
    return tuple(point for point in run.points[stop.title] if blow.at_questions or point.changes)


def everywhere(stage: Stage, run: Run, blow: Blow) -> Iterator[Plan]:
    """The first call of each step, the second one of each, and so on."""
    for points in zip_longest(*(struck_at(run, stop, blow) for stop in stage.itinerary)):
        yield {stop.title: point for stop, point in zip(stage.itinerary, points, strict=True) if point is not None}


def last_changes(stage: Stage, run: Run) -> Plan:
    """The last call of each step that changes something."""
    changes = {stop.title: [point for point in run.points[stop.title] if point.changes] for stop in stage.itinerary}
    return {title: points[-1] for title, points in changes.items() if points}


def expected_of(run: Run, blow: Blow) -> dict[str, Holdings]:
    """What has to be there after each step.

    What a call leaves that comes when its step is long done, nobody can see at once: an attachment, a lease, a second
    volume. The cutover is what has to clear it away, before the target boots.
    """
    if blow is not Blow.LATE:
        return run.after
    return {title: found for title, found in run.after.items() if title not in BEFORE_THE_TARGET}


def strike(stage: Stage, untouched: Run, blows: Iterable[tuple[Blow, Plan]]) -> list[Run]:
    """Play a job for each, and see that all leave what the untouched one leaves, and in the end nothing."""

    def play(numbered: tuple[int, tuple[Blow, Plan]]) -> Run:
        number, (blow, plan) = numbered
        name = f"{blow.name.lower().replace('_', '-')}-{number}"
        return stage.play(name, blow, plan, expected=expected_of(untouched, blow))

    with ThreadPoolExecutor(AT_A_TIME) as players:
        runs = list(players.map(play, enumerate(blows)))
    troubles = [run.trouble for run in runs if run.trouble]
    assert not troubles, "\n".join(troubles)
    cloud = stage.server.cloud
    assert not cloud.volumes
    assert not cloud.ports
    assert [network.name for network in cloud.networks.values() if network.description] == []
    assert not cloud.attachments
    assert [server for server in cloud.servers.values() if server.links is None] == []
    return runs


def strike_everywhere(stage: Stage, untouched: Run, blow: Blow) -> None:
    """Strike at each call that the untouched job made, and see that none was left out."""
    runs = strike(stage, untouched, [(blow, plan) for plan in everywhere(stage, untouched, blow)])
    struck = {place for run in runs for place in run.struck}
    wanted = {(stop.title, point) for stop in stage.itinerary for point in struck_at(untouched, stop, blow)}
    assert struck == wanted, f"never struck: {[f'{title}: {point}' for title, point in wanted - struck]}"
