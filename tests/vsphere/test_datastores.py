"""Room for a snapshot to grow: looked at before it is made, and told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.esxi.interface import DiskSpec
from tests.vsphere.conftest import AVcenter, CountingPulse
from xms.errors import DatastoreFull, SourceFault
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.datastores import without_room
from xms.vsphere.inventory import find_vm
from xms.vsphere.session import VsphereSession
from xms.vsphere.snapshots import take_snapshot

GIB = 1 << 30


def looked(session: VsphereSession, reserve: int = 10 * GIB) -> str:
    return without_room(session, "vm-101", vm="web", reserve=reserve)


def test_a_datastore_with_room_is_not_told(vcenter: AVcenter, session: VsphereSession) -> None:
    vcenter.server.faults.free_space["ds1"] = 10 * GIB
    assert looked(session) == ""


def test_a_datastore_below_its_reserve_is_named_with_what_is_free(vcenter: AVcenter, session: VsphereSession) -> None:
    vcenter.server.faults.free_space["ds1"] = 3 * GIB
    assert looked(session) == "datastore ds1 has 3 GiB free, less than the reserve of 10 GiB"


def test_no_snapshot_is_made_where_it_has_no_room_and_the_refusal_is_tried_again(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.free_space["ds1"] = 3 * GIB
    with pytest.raises(DatastoreFull, match="no snapshot of web is made") as refused:
        take_snapshot(session, vcenter.order, pulse=pulse, reserve=10 * GIB)
    assert refused.value.retryable
    assert not refused.value.needs_person
    assert "snapshot_reserve_gib" in refused.value.do
    assert find_vm(session, "web").snapshots == ()
    vcenter.server.faults.free_space["ds1"] = 30 * GIB
    assert take_snapshot(session, vcenter.order, pulse=pulse, reserve=10 * GIB).disks


def test_the_snapshot_of_a_vm_that_is_off_needs_no_room_since_nothing_makes_it_grow(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.free_space["ds1"] = 3 * GIB
    vcenter.web.power_off()
    assert take_snapshot(session, vcenter.order, pulse=pulse, reserve=10 * GIB).disks


def test_without_a_reserve_nothing_is_looked_at(
    vcenter: AVcenter, session: VsphereSession, pulse: CountingPulse
) -> None:
    vcenter.server.faults.free_space["ds1"] = 0
    assert take_snapshot(session, vcenter.order, pulse=pulse).disks


def test_every_datastore_of_the_disks_is_looked_at_and_no_other(vcenter: AVcenter, session: VsphereSession) -> None:
    free = vcenter.server.faults.free_space
    free["ds2"] = 3 * GIB
    assert looked(session) == ""
    other = DiskSpec(key=2002, label="Hard disk 3", file=Path("/nowhere"), datastore_path="[ds2] web/other.vmdk")
    vcenter.web.add_disk(other, GIB)
    assert looked(session).startswith("datastore ds2 has 3 GiB free")
    free["ds1"] = 2 * GIB
    assert looked(session).count("less than the reserve") == 2


def test_a_datastore_that_cannot_be_refreshed_is_judged_by_what_is_known(
    vcenter: AVcenter, session: VsphereSession
) -> None:
    faults = vcenter.server.faults
    faults.fail("RefreshDatastore", lambda: vim.fault.HostConfigFault(msg="busy"), times=None)
    faults.free_space["ds1"] = 3 * GIB
    assert "ds1" in looked(session)


def test_a_look_that_vcenter_does_not_answer_is_an_error_of_its_own(vcenter: AVcenter, session: VsphereSession) -> None:
    vcenter.server.faults.fail("RetrievePropertiesEx", vmodl.fault.HostCommunication, times=None)
    with pytest.raises(SourceFault, match="datastores of web could not be looked at"):
        looked(session)
