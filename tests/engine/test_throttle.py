"""The limit on a stream's rate, by a clock that the test winds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from xms.engine.throttle import Throttle
from xms.errors import Interrupted

MIB = 1 << 20


@dataclass
class Clock:
    now: float = 0.0
    naps: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_throttle(clock: Clock, rate: float | None) -> Throttle:
    return Throttle(rate, clock=clock, sleep=clock.sleep)


def nothing() -> None:
    pass


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    throttle = a_throttle(clock, None)
    for _ in range(1000):
        throttle.passed(MIB, nothing)
    assert clock.naps == []


def test_bytes_take_the_time_that_the_rate_gives_them(clock: Clock) -> None:
    throttle = a_throttle(clock, 10 * MIB)
    for _ in range(100):
        throttle.passed(MIB, nothing)
    assert clock.now == pytest.approx(10)


def test_time_in_which_nothing_passed_is_no_credit(clock: Clock) -> None:
    throttle = a_throttle(clock, MIB)
    clock.now = 3600
    throttle.passed(5 * MIB, nothing)
    assert clock.now == pytest.approx(3605)


def test_a_wait_is_made_of_short_naps_with_life_between_them(clock: Clock) -> None:
    beats = []
    throttle = a_throttle(clock, MIB)
    throttle.passed(2 * MIB, lambda: beats.append(clock.now))
    assert max(clock.naps) <= 0.1
    assert len(beats) == len(clock.naps) >= 20


@pytest.mark.parametrize(("rate", "takes"), [(10 * MIB, 1.9), (MIB // 2, 21.0), (None, 1.0)])
def test_another_rate_counts_in_the_middle_of_a_wait(clock: Clock, rate: float | None, takes: float) -> None:
    throttle = a_throttle(clock, MIB)

    def after_a_second() -> None:
        if clock.now >= 1:
            throttle.rate = rate

    throttle.passed(10 * MIB if rate is None or rate > MIB else 11 * MIB, after_a_second)
    assert clock.now == pytest.approx(takes, abs=0.21)


def test_a_limit_that_comes_later_counts_from_then_on_and_not_for_what_passed_before(clock: Clock) -> None:
    throttle = a_throttle(clock, None)
    throttle.passed(100 * MIB, nothing)
    throttle.rate = MIB
    throttle.passed(2 * MIB, nothing)
    assert clock.now == pytest.approx(2)


def test_what_the_idle_call_raises_ends_the_wait(clock: Clock) -> None:
    def stop() -> None:
        raise Interrupted("by a test")

    with pytest.raises(Interrupted):
        a_throttle(clock, 1).passed(MIB, stop)
    assert len(clock.naps) == 1
