"""A source that is down is left alone for a growing pause."""

from __future__ import annotations

import re

import pytest

from xms.errors import SourceUnreachable
from xms.vsphere.outage import Outage


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def an_outage(clock: Clock, *, chance: float = 0.0) -> Outage:
    return Outage("lab", clock=clock, chance=lambda: chance)


def admits(outage: Outage) -> bool:
    try:
        outage.admit()
    except SourceUnreachable:
        return False
    return True


def pause_of(outage: Outage, clock: Clock) -> float:
    """How long nobody is admitted; the one who then is has not come back yet."""
    begin = clock.now
    while not admits(outage):
        clock.now += 0.25
        assert clock.now - begin < 100
    return clock.now - begin


def test_while_it_answers_everybody_is_admitted() -> None:
    outage = an_outage(Clock())
    assert all(admits(outage) for _ in range(1000))
    assert not outage.lasts


def test_the_pause_grows_from_1_second_to_60_and_no_further() -> None:
    clock = Clock()
    outage = an_outage(clock)
    pauses = []
    for _ in range(9):
        outage.not_connected("refused")
        pauses.append(pause_of(outage, clock))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_pause_has_a_part_by_chance_and_is_never_longer_than_60_seconds() -> None:
    clock = Clock()
    outage = an_outage(clock, chance=1.0)
    pauses = []
    for _ in range(8):
        outage.not_connected("refused")
        pauses.append(pause_of(outage, clock))
    assert pauses == [1.25, 2.5, 5, 10, 20, 40, 60, 60]


def test_who_comes_during_a_pause_is_told_the_reason_and_when_it_is_tried_again() -> None:
    clock = Clock()
    outage = an_outage(clock)
    for _ in range(5):
        outage.not_connected("Connection refused")
        pause_of(outage, clock)
    outage.not_connected("Connection refused")
    with pytest.raises(SourceUnreachable) as refused:
        outage.admit()
    assert re.search(r"Connection refused; it is tried again in 32 s", refused.value.because)
    assert refused.value.retryable


def test_after_a_pause_one_is_admitted_and_decides_for_all() -> None:
    clock = Clock()
    outage = an_outage(clock)
    outage.not_connected("refused")
    clock.now += 1.5
    assert [admits(outage) for _ in range(100)] == [True] + [False] * 99
    outage.answered()
    assert all(admits(outage) for _ in range(100))


def test_one_who_was_admitted_and_never_came_back_keeps_the_others_away_for_60_seconds_at_most() -> None:
    clock = Clock()
    outage = an_outage(clock)
    outage.not_connected("refused")
    clock.now += 1.5
    assert admits(outage)
    assert pause_of(outage, clock) == 60


def test_the_first_success_resets_the_pause() -> None:
    clock = Clock()
    outage = an_outage(clock)
    for _ in range(6):
        outage.not_connected("refused")
        pause_of(outage, clock)
    outage.answered()
    outage.not_connected("refused")
    assert pause_of(outage, clock) == 1


def test_attempts_that_fail_together_are_one_failure() -> None:
    clock = Clock()
    outage = an_outage(clock)
    for _ in range(20):
        outage.not_connected("refused")
    assert pause_of(outage, clock) == 1


def test_one_slow_call_is_no_outage_and_three_in_a_row_are() -> None:
    clock = Clock()
    outage = an_outage(clock)
    outage.broken("timed out")
    outage.broken("timed out")
    outage.answered()
    outage.broken("timed out")
    outage.broken("timed out")
    assert not outage.lasts
    outage.broken("timed out")
    assert outage.lasts
