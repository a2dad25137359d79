"""Whatever call of the target's side its worker is killed at, or its cloud breaks off at, nothing is there twice."""

from __future__ import annotations

import pytest

from tests.target_killed.calls import Blow
from tests.target_killed.holdings import Holdings
from tests.target_killed.itinerary import CLEAN_UP, WAY_BACK, WAY_THERE
from tests.target_killed.stage import Run, Stage
from tests.target_killed.striking import blows, last_changes, strike, strike_everywhere

pytestmark = pytest.mark.lab

CALLS_AT_LEAST = 120
CHANGES_AT_LEAST = 30


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
    copied = untouched.after["copy the volumes"].volumes
    originals = [volume for volume in copied if "rehearsal" not in volume.name]
    assert [volume.name for volume in copied] == [
        "VM 2000",
        "VM 2001",
        "VM rehearsal Hard disk 1",
        "VM rehearsal Hard disk 2",
    ]
    assert [volume.digest for volume in copied[2:]] == [volume.digest for volume in originals]
    (network,) = untouched.after["make the isolated network"].networks
    assert (network.name, network.subnets, network.routed) == ("VM rehearsal", ("198.18.0.0/24",), False)
    assert untouched.after["delete the copies"] == untouched.after["release after the sync"]
    assert back.servers == ()
    assert back.ports == ()
    replica = untouched.after["make snapshots of the volumes"]
    assert [snapshot.volume for snapshot in replica.snapshots] == ["VM 2000", "VM 2001"]
    assert [(volume.status, volume.attached_to, volume.digest) for volume in back.volumes] == [
        ("available", (), volume.digest) for volume in replica.volumes
    ]
    assert [volume.digest for volume in there.volumes] != [volume.digest for volume in replica.volumes]
    assert back.snapshots == ()
    assert end == Holdings((), (), ())
    calls = [point for points in untouched.points.values() for point in points]
    assert len(calls) >= CALLS_AT_LEAST
    assert len([point for point in calls if point.changes]) >= CHANGES_AT_LEAST


def test_a_blow_at_the_last_change_of_each_step_leaves_what_an_untouched_job_leaves(
    stage: Stage, untouched: Run
) -> None:
    plan = last_changes(stage, untouched)
    runs = strike(stage, untouched, [(Blow.KILLED_AFTER, plan), (Blow.CUT_AFTER, plan)])
    assert [run.struck for run in runs] == [set(plan.items())] * 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("blow", blows(Blow.KILLED_BEFORE, Blow.KILLED_AFTER, Blow.CUT_AFTER))
def test_a_blow_at_any_call_leaves_what_an_untouched_job_leaves(stage: Stage, untouched: Run, blow: Blow) -> None:
    strike_everywhere(stage, untouched, blow)
