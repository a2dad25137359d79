"""CBT: when it takes effect, what it answers, how it fails."""

from __future__ import annotations

import pytest

from lab.esxi.memory import GRAIN
from tests.lab_vcenter.client import (
    Remote,
    areas,
    change_id_of,
    disks_of,
    snapshot_of,
    turn_tracking,
    vim,
    vmodl,
    wait_for,
    windows,
)
from tests.lab_vcenter.conftest import Lab

CAPACITY = 1 << 20


@pytest.fixture
def tracked(web: Remote) -> Remote:
    turn_tracking(web, on=True)
    return web


def test_a_running_vm_is_tracked_only_after_a_stun(lab: Lab, web: Remote) -> None:
    lab.web.power_on()
    turn_tracking(web, on=True)
    assert web.config.changeTrackingEnabled
    assert disks_of(web.config)[2000].backing.changeId is None
    snapshot = snapshot_of(web)
    assert change_id_of(snapshot)
    assert disks_of(web.config)[2000].backing.changeId


def test_a_vm_that_is_off_is_tracked_at_once(tracked: Remote) -> None:
    assert disks_of(tracked.config)[2000].backing.changeId


def test_every_disk_of_a_snapshot_has_its_own_change_id(database: Remote) -> None:
    turn_tracking(database, on=True)
    snapshot = snapshot_of(database)
    first, second = change_id_of(snapshot, 2000), change_id_of(snapshot, 2001)
    assert first
    assert second
    assert first != second


def test_a_delta_is_what_was_written_between_two_snapshots(lab: Lab, tracked: Remote) -> None:
    lab.web.write(2000, 0, b"before")
    first = snapshot_of(tracked, "first")
    since = change_id_of(first)
    wait_for(first.Remove(removeChildren=False))
    lab.web.write(2000, 5 * GRAIN + 7, b"between")
    second = snapshot_of(tracked, "second")
    lab.web.write(2000, 9 * GRAIN, b"after")
    assert areas(tracked, second, since) == [(5 * GRAIN, GRAIN)]


def test_a_star_gives_the_allocated_areas(lab: Lab, tracked: Remote) -> None:
    lab.web.write(2000, 3 * GRAIN, bytes(2 * GRAIN))
    assert areas(tracked, snapshot_of(tracked), "*") == [(3 * GRAIN, 2 * GRAIN)]


def test_the_window_reaches_the_capacity_when_everything_was_told(tracked: Remote) -> None:
    page = tracked.QueryChangedDiskAreas(snapshot_of(tracked), 2000, 0, "*")
    assert (page.startOffset, page.length, list(page.changedArea)) == (0, CAPACITY, [])


def test_pages_cover_the_disk_and_lose_nothing(lab: Lab, tracked: Remote) -> None:
    lab.server.faults.page_size = 3
    for grain in range(1, 16, 2):
        lab.web.write(2000, grain * GRAIN, b"x")
    snapshot = snapshot_of(tracked)
    pages = list(windows(tracked, snapshot, "*", CAPACITY))
    assert [len(page.changedArea) for page in pages] == [3, 3, 2]
    assert sum(page.length for page in pages) == CAPACITY
    told = [(area.start, area.length) for page in pages for area in page.changedArea]
    assert told == [(grain * GRAIN, GRAIN) for grain in range(1, 16, 2)]


def test_a_page_holds_at_most_two_thousand_areas(lab: Lab) -> None:
    assert lab.server.faults.page_size == 2000


def test_an_empty_page_is_not_the_end(lab: Lab, tracked: Remote) -> None:
    lab.server.faults.empty_pages = True
    lab.web.write(2000, 4 * GRAIN, b"x")
    lab.web.write(2000, 8 * GRAIN, b"y")
    snapshot = snapshot_of(tracked)
    pages = list(windows(tracked, snapshot, "*", CAPACITY))
    assert list(pages[0].changedArea) == []
    assert pages[0].length == 4 * GRAIN
    told = [(area.start, area.length) for page in pages for area in page.changedArea]
    assert told == [(4 * GRAIN, GRAIN), (8 * GRAIN, GRAIN)]


def test_an_area_that_begins_before_the_offset_is_cut(lab: Lab, tracked: Remote) -> None:
    lab.web.write(2000, 0, bytes(4 * GRAIN))
    page = tracked.QueryChangedDiskAreas(snapshot_of(tracked), 2000, GRAIN + 512, "*")
    assert [(area.start, area.length) for area in page.changedArea] == [(GRAIN + 512, 3 * GRAIN - 512)]
    assert page.startOffset == GRAIN + 512
    assert page.startOffset + page.length == CAPACITY


@pytest.mark.parametrize(
    ("key", "offset", "change_id", "named"),
    [
        (2000, CAPACITY, "*", "startOffset"),
        (2000, CAPACITY + GRAIN, "*", "startOffset"),
        (2000, -1, "*", "startOffset"),
        (2001, 0, "*", "deviceKey"),
        (2000, 0, "52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/1", "changeId"),
        (2000, 0, "", "changeId"),
    ],
)
def test_a_wrong_argument_is_named(tracked: Remote, key: int, offset: int, change_id: str, named: str) -> None:
    snapshot = snapshot_of(tracked)
    with pytest.raises(vmodl.fault.InvalidArgument, match=named) as caught:
        tracked.QueryChangedDiskAreas(snapshot, key, offset, change_id)
    assert caught.value.invalidProperty == named


def test_a_change_id_of_a_later_snapshot_is_refused(tracked: Remote) -> None:
    first, second = snapshot_of(tracked, "first"), snapshot_of(tracked, "second")
    with pytest.raises(vmodl.fault.InvalidArgument, match="changeId"):
        areas(tracked, first, change_id_of(second))


def test_a_reset_makes_old_change_ids_unknown_and_their_uuid_another(lab: Lab, tracked: Remote) -> None:
    old = change_id_of(snapshot_of(tracked, "old"))
    lab.web.reset_change_tracking()
    snapshot = snapshot_of(tracked, "new")
    assert change_id_of(snapshot).split("/")[0] != old.split("/")[0]
    with pytest.raises(vmodl.fault.InvalidArgument, match="changeId"):
        areas(tracked, snapshot, old)


def test_turning_it_off_and_on_again_is_a_reset(tracked: Remote) -> None:
    first = snapshot_of(tracked)
    old = change_id_of(first)
    wait_for(first.Remove(removeChildren=False))
    turn_tracking(tracked, on=False)
    assert disks_of(tracked.config)[2000].backing.changeId is None
    turn_tracking(tracked, on=True)
    assert change_id_of(snapshot_of(tracked)).split("/")[0] != old.split("/")[0]


def test_without_change_tracking_nobody_can_tell(web: Remote) -> None:
    snapshot = snapshot_of(web)
    assert change_id_of(snapshot) is None
    with pytest.raises(
        vim.fault.FileFault, match=r"Error caused by file /vmfs/volumes/ds1/web01/web01\.vmdk"
    ) as caught:
        areas(web, snapshot, "*")
    assert caught.value.file == "[ds1] web01/web01.vmdk"


def test_a_snapshot_from_before_tracking_took_effect_stays_untold(lab: Lab, web: Remote) -> None:
    lab.web.power_on()
    before = snapshot_of(web, "before")
    turn_tracking(web, on=True)
    snapshot_of(web, "after")
    with pytest.raises(vim.fault.FileFault):
        areas(web, before, "*")


def test_the_allocated_map_alone_can_be_refused(lab: Lab, tracked: Remote) -> None:
    lab.server.faults.refuse_allocated_map = True
    since = change_id_of(snapshot_of(tracked, "first"))
    lab.web.write(2000, GRAIN, b"x")
    second = snapshot_of(tracked, "second")
    with pytest.raises(vim.fault.FileFault):
        areas(tracked, second, "*")
    assert areas(tracked, second, since) == [(GRAIN, GRAIN)]


def test_the_live_disk_is_told_only_while_the_vm_is_off(lab: Lab, tracked: Remote) -> None:
    since = change_id_of(snapshot_of(tracked))
    lab.web.write(2000, 2 * GRAIN, b"x")
    assert areas(tracked, None, since) == [(2 * GRAIN, GRAIN)]
    lab.web.power_on()
    with pytest.raises(vim.fault.FileFault):
        areas(tracked, None, since)


def test_a_snapshot_that_is_gone_is_not_found(tracked: Remote) -> None:
    snapshot = snapshot_of(tracked)
    wait_for(snapshot.Remove(removeChildren=False))
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        areas(tracked, snapshot, "*")


def test_the_snapshot_of_another_vm_is_refused(tracked: Remote, database: Remote) -> None:
    turn_tracking(database, on=True)
    with pytest.raises(vmodl.fault.InvalidArgument, match="snapshot"):
        areas(tracked, snapshot_of(database), "*")


def test_a_disk_that_grew_keeps_its_old_size_in_the_snapshot(lab: Lab, tracked: Remote) -> None:
    snapshot = snapshot_of(tracked)
    lab.web.grow(2000, 2 * CAPACITY)
    assert disks_of(snapshot.config)[2000].capacityInBytes == CAPACITY
    assert disks_of(tracked.config)[2000].capacityInBytes == 2 * CAPACITY
    with pytest.raises(vmodl.fault.InvalidArgument, match="startOffset"):
        tracked.QueryChangedDiskAreas(snapshot, 2000, CAPACITY, "*")
