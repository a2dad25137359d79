"""Answers of change tracking in any order and shape: the right copy, or a clean refusal, and never a wrong replica.

An answer may be as odd as it likes, as long as what changed within the window that it claims is among its areas. What
it leaves out there without a word nobody can notice: that is what comparisons are for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lab.esxi.memory import GRAIN
from lab.vcenter.switches import Page
from tests.vsphere.conftest import CountingPulse, a_vcenter
from xms.change_map import ByteRanges
from xms.errors import ChangeTrackingBroken
from xms.models import Baseline
from xms.orders.source import DiskPlan, PlanDisk, SnapshotDisk, VmOrder
from xms.planning import plan_disk
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.snapshots import remove_snapshots, take_snapshot

PIECE = 2 * GRAIN
"""Bytes of a piece of the disk; wider than the gap that the planner joins over, or lost areas would hide there."""

VM = VmOrder(job_id="job", source="lab", moref="vm-101", vm="web")
Query = Callable[..., Iterator[tuple[int, int]]]


class Area(NamedTuple):
    start: int
    length: int


class Answer(NamedTuple):
    """As pyVmomi's DiskChangeInfo, which takes a hundred times longer to make."""

    startOffset: int  # noqa: N815 - vSphere's name
    length: int
    changedArea: Sequence[Area]  # noqa: N815 - vSphere's name


# --- distortions: from the right answer to another that is not false --------------------------------------------------

Distortion = Callable[[random.Random, Page, int], Page]


def shuffled(dice: random.Random, page: Page, _capacity: int) -> Page:
    start, length, areas = page
    return start, length, dice.sample(areas, len(areas))


def repeated(dice: random.Random, page: Page, _capacity: int) -> Page:
    start, length, areas = page
    return start, length, [area for area in areas for _ in range(dice.randint(1, 3))]


def overlapping(dice: random.Random, page: Page, _capacity: int) -> Page:
    start, length, areas = page
    wider = []
    for at, size in areas:
        before = dice.randint(0, min(at, PIECE))
        wider.append((at - before, before + size + dice.randint(0, PIECE)))
    return start, length, wider


def cut_up(dice: random.Random, page: Page, _capacity: int) -> Page:
    start, length, areas = page
    pieces = []
    for at, size in areas:
        cut = dice.randint(1, size) if size > 1 else size
        pieces += [(at, cut), (at + cut, size - cut)] if cut < size else [(at, size)]
    return start, length, pieces


def with_strays(dice: random.Random, page: Page, capacity: int) -> Page:
    """Areas outside of the window, at the end of the disk, over it and far behind it."""
    start, length, areas = page
    places = (0, dice.randint(0, capacity), capacity - 1, capacity, capacity + PIECE, 1 << 60)
    strays = [(place, dice.choice((1, PIECE, capacity, 1 << 61))) for place in places if dice.random() < 0.5]
    return start, length, areas + strays


def with_many(_dice: random.Random, page: Page, _capacity: int) -> Page:
    start, length, areas = page
    return start, length, areas * 50


def with_impossible(dice: random.Random, page: Page, capacity: int) -> Page:
    """Areas of no and of negative length, and before the beginning."""
    start, length, areas = page
    at = dice.randint(0, capacity)
    impossible = dice.choice([(at, 0), (at, -PIECE), (-PIECE, PIECE), (-1, 0), (-(1 << 62), 1 << 61)])
    return start, length, [*areas, impossible]


def going_back(dice: random.Random, page: Page, _capacity: int) -> Page:
    """The window begins before what was asked for."""
    start, length, areas = page
    back = dice.randint(1, start + PIECE)
    return start - back, length + back, areas


def standing_still(dice: random.Random, page: Page, _capacity: int) -> Page:
    start, _, areas = page
    return start, dice.choice((0, -1, -PIECE)), areas


def over_the_end(dice: random.Random, page: Page, capacity: int) -> Page:
    """A window that claims to reach beyond the disk has to have told all that is left."""
    start, length, areas = page
    return (start, length + dice.choice((1, PIECE, 1 << 61)), areas) if start + length == capacity else page


def leaving_out(dice: random.Random, page: Page, _capacity: int) -> Page:
    """The window begins after what was asked for: what lies between is told by nobody."""
    start, length, areas = page
    later = dice.randint(1, max(1, length))
    rest = [(at, size) for at, size in areas if at + size > start + later]
    return start + later, max(1, length - later), rest


DISTORTIONS: tuple[Distortion, ...] = (
    shuffled,
    repeated,
    overlapping,
    cut_up,
    with_strays,
    with_many,
    with_impossible,
    going_back,
    standing_still,
    over_the_end,
    leaving_out,
)
"""In the order in which they are applied: what leaves something out comes last, or a window could claim it again."""


def in_order(distortions: Sequence[Distortion]) -> tuple[Distortion, ...]:
    return tuple(sorted(distortions, key=DISTORTIONS.index))


# --- a vSphere that answers so ----------------------------------------------------------------------------------------


@dataclass
class Oddity:
    """A disk, what changed on it, and how its answers are distorted, one entry an answer, going round."""

    pieces: int
    tail: int
    changed: frozenset[int]
    windows: list[int]
    distortions: list[tuple[Distortion, ...]]
    seed: int
    again: frozenset[int] = frozenset()
    """answers that are given twice"""

    name: str = "odd"
    asked: int = 0
    given: list[Page] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        return self.pieces * PIECE + self.tail

    def areas(self) -> list[tuple[int, int]]:
        return [(piece * PIECE, PIECE) for piece in sorted(self.changed)]

    def virtual_machine(self, _moref: str) -> Oddity:
        return self

    def snapshot(self, moref: str) -> str:
        return moref

    def QueryChangedDiskAreas(self, *, startOffset: int, **_: object) -> Answer:  # noqa: N802, N803 - pyVmomi's names
        assert 0 <= startOffset < self.capacity, "vSphere refuses that with InvalidArgument"
        number = self.asked
        self.asked += 1
        if number in self.again and self.given:
            page = self.given[-1]
        else:
            page = self._right(startOffset, self.windows[number % len(self.windows)])
            dice = random.Random(self.seed + number)  # noqa: S311 - distortions, no secrets
            for distort in self.distortions[number % len(self.distortions)]:
                page = distort(dice, page, self.capacity)
        self.given.append(page)
        start, length, areas = page
        return Answer(start, length, [Area(*area) for area in areas])

    def _right(self, offset: int, pieces: int) -> Page:
        """The window from what was asked for, as long as it is to be, and what changed in it."""
        end = min(self.capacity, offset + pieces * PIECE)
        inside = [
            (max(at, offset), min(at + size, end) - max(at, offset))
            for at, size in self.areas()
            if at < end and at + size > offset
        ]
        return offset, end - offset, inside


@st.composite
def oddities(draw: st.DrawFn) -> Oddity:
    pieces = draw(st.integers(1, 24))
    one = st.lists(st.sampled_from(DISTORTIONS), max_size=3, unique=True).map(in_order)
    return Oddity(
        pieces=pieces,
        tail=draw(st.sampled_from((0, 512, GRAIN))),
        changed=draw(st.frozensets(st.integers(0, pieces - 1))),
        windows=draw(st.lists(st.integers(1, 30), min_size=1, max_size=4)),
        distortions=draw(st.lists(one, min_size=1, max_size=4)),
        seed=draw(st.integers(0, 1 << 16)),
        again=draw(st.frozensets(st.integers(1, 6), max_size=2)),
    )


def planned(odd: Oddity, query: Query, *, first: bool) -> DiskPlan:
    disk = SnapshotDisk(key=2000, label="Hard disk 1", capacity=odd.capacity, path="[ds1] web.vmdk", change_id="e/2")
    asked = ChangeQuery(vm=VM, snapshot="snapshot-101-1", disk=disk)
    session = cast("VsphereSession", odd)
    order = PlanDisk(
        vm=VM,
        snapshot="snapshot-101-1",
        disk=disk,
        baseline=Baseline(change_id=None if first else "e/1"),
        replica_capacity=odd.capacity,
        volume_is_zeroed=first,
    )
    pulse = CountingPulse()
    return plan_disk(
        order,
        allocated=lambda: query(session, asked, since=ALLOCATED, pulse=pulse),
        changed=lambda since: query(session, asked, since=since, pulse=pulse),
    )


def the_replica_is_right(odd: Oddity, query: Query, *, first: bool) -> None:
    """Copy what is planned, and compare; or find the whole disk planned."""
    plan = planned(odd, query, first=first)
    ranges = ByteRanges.decode(plan.ranges)
    assert ranges.end <= odd.capacity
    if plan.reseed_reason:
        assert ranges == ByteRanges.whole(odd.capacity)
    source = [1 if piece in odd.changed else 0 for piece in range(odd.pieces)]
    replica = [
        wanted if not ByteRanges([(piece * PIECE, PIECE)]) - ranges else 0 for piece, wanted in enumerate(source)
    ]
    assert replica == source


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(odd=oddities(), first=st.booleans())
def test_whatever_change_tracking_answers_the_replica_is_right_or_the_disk_is_copied_in_full(
    odd: Oddity, *, first: bool
) -> None:
    the_replica_is_right(odd, query_changes, first=first)


def _pages(session: Any, query: ChangeQuery, since: str, following: Callable[[Any], int]) -> Iterator[Any]:  # noqa: ANN401
    """The answers, each asked for from where `following` says that the one before ended."""
    offset = 0
    while offset < query.disk.capacity:
        page = session.QueryChangedDiskAreas(startOffset=offset, changeId=since)
        yield page
        offset, asked = following(page), offset
        if offset <= asked:
            raise ChangeTrackingBroken("it does not get on")


def _end(page: Any) -> int:  # noqa: ANN401
    return int(page.startOffset + page.length)


def _last_area(page: Any) -> int:  # noqa: ANN401
    return max((area.start + area.length for area in page.changedArea), default=_end(page))


def _sane(page: Any, query: ChangeQuery) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    capacity = query.disk.capacity
    for area in page.changedArea:
        if 0 <= area.start < capacity and area.length > 0:
            yield area.start, min(area.length, capacity - area.start)


def until_an_empty_page(session: Any, query: ChangeQuery, *, since: str, pulse: object) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    del pulse
    for page in _pages(session, query, since, _end):
        if not page.changedArea:
            return
        yield from _sane(page, query)


def by_the_last_area(session: Any, query: ChangeQuery, *, since: str, pulse: object) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    del pulse
    for page in _pages(session, query, since, _last_area):
        yield from _sane(page, query)


def whatever_its_window(session: Any, query: ChangeQuery, *, since: str, pulse: object) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    del pulse
    for page in _pages(session, query, since, _end):
        yield from _sane(page, query)


@pytest.mark.parametrize("query", [until_an_empty_page, by_the_last_area, whatever_its_window])
def test_the_property_fails_for_a_client_that_takes_a_shortcut(query: Query) -> None:
    @settings(
        max_examples=2000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
    )
    @given(odd=oddities(), first=st.booleans())
    def holds(odd: Oddity, *, first: bool) -> None:
        the_replica_is_right(odd, query, first=first)

    with pytest.raises(AssertionError):
        holds()


def crawling(_dice: random.Random, page: Page, _capacity: int) -> Page:
    return page[0], 1, []


def test_answers_that_never_get_anywhere_come_to_an_end() -> None:
    slow = Oddity(pieces=10_000, tail=0, changed=frozenset(), windows=[1], distortions=[(crawling,)], seed=0)
    plan = planned(slow, query_changes, first=False)
    assert "very many answers" in plan.reseed_reason
    assert slow.asked < 3000


# --- the same over the wire -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, VsphereSession]]:
    directory: Path = tmp_path_factory.mktemp("vcenter")
    with a_vcenter(directory) as vcenter, connect("lab", vcenter.config) as session:
        yield vcenter, session


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    grains=st.frozensets(st.integers(0, 63), max_size=20),
    distortions=st.lists(st.sampled_from(DISTORTIONS), max_size=3, unique=True),
    page_size=st.integers(1, 8),
    empty_pages=st.booleans(),
    seed=st.integers(0, 1 << 16),
)
def test_over_the_wire_it_is_the_same(
    wired: tuple[Any, VsphereSession],
    *,
    grains: frozenset[int],
    distortions: list[Distortion],
    page_size: int,
    empty_pages: bool,
    seed: int,
) -> None:
    vcenter, session = wired
    pulse = CountingPulse()
    dice = random.Random(seed)  # noqa: S311 - the same

    def change(_asked: int, page: Page) -> Page:
        for distort in in_order(distortions):
            page = distort(dice, page, 1 << 30)
        return page

    enable_change_tracking(session, vcenter.order, pulse=pulse)
    before = take_snapshot(session, vcenter.order, pulse=pulse)
    written = [(grain * PIECE, PIECE) for grain in grains]
    for at, size in written:
        vcenter.web.write(2000, at, bytes(size))
    now = take_snapshot(session, vcenter.order, pulse=pulse)
    faults = vcenter.server.faults
    faults.page_size, faults.empty_pages, faults.change_page = page_size, empty_pages, change
    order = PlanDisk(
        vm=vcenter.order,
        snapshot=now.moref,
        disk=now.disks[0],
        baseline=Baseline(change_id=before.disks[0].change_id),
        replica_capacity=1 << 30,
        volume_is_zeroed=False,
    )
    query = ChangeQuery(vm=vcenter.order, snapshot=now.moref, disk=now.disks[0])
    try:
        plan = plan_disk(
            order,
            allocated=lambda: pytest.fail("not asked for"),
            changed=lambda since: query_changes(session, query, since=since, pulse=pulse),
        )
    finally:
        faults.change_page = None
        remove_snapshots(session, vcenter.order, pulse=pulse)
    ranges = ByteRanges.decode(plan.ranges)
    assert ranges.end <= 1 << 30
    assert not ByteRanges(written) - ranges
