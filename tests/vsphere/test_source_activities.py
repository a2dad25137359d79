"""The activities of the source, as a worker runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

import pytest
from temporalio.testing import ActivityEnvironment

from activities.source import SourceActivities
from lab.esxi.memory import GRAIN
from tests.vsphere.conftest import AVcenter
from xms.change_map import ByteRanges
from xms.config import Config, SourceConfig, TargetConfig
from xms.errors import ConfigurationError, VmNotFound
from xms.models import Baseline
from xms.orders.source import (
    ListSources,
    ListVms,
    MarkMigrated,
    PlanDisk,
    PowerOff,
    SnapshotTaken,
    SourceQuery,
    SourceSummary,
    VmQuery,
)

Order = TypeVar("Order")
Answer = TypeVar("Answer")


def activities_with(config: SourceConfig) -> SourceActivities:
    return SourceActivities(Config(sources={"lab": config}, target=TargetConfig(cloud="lab")))


@pytest.fixture
def source(vcenter: AVcenter) -> Iterator[SourceActivities]:
    with closing(activities_with(vcenter.config)) as activities:
        yield activities


def run(activity: Callable[[Order], Answer], order: Order) -> Answer:
    return ActivityEnvironment().run(activity, order)


def a_plan_order(vcenter: AVcenter, taken: SnapshotTaken, baseline: Baseline, *, zeroed: bool = False) -> PlanDisk:
    return PlanDisk(
        vm=vcenter.order,
        snapshot=taken.moref,
        disk=taken.disks[0],
        baseline=baseline,
        replica_capacity=taken.disks[0].capacity,
        volume_is_zeroed=zeroed,
    )


def test_sources_are_listed_without_their_secrets(source: SourceActivities, vcenter: AVcenter) -> None:
    listed = run(source.list_sources, ListSources())
    assert listed.sources == (
        SourceSummary(
            name="lab",
            host="127.1",
            port=vcenter.config.port,
            username=vcenter.config.username,
            trust=f"thumbprint {vcenter.config.thumbprint}",
            timeout_seconds=20,
        ),
    )
    assert listed.worker
    assert str(vcenter.config.password_file) not in listed.model_dump_json()


def test_a_source_is_checked(source: SourceActivities) -> None:
    report = run(source.check_source, SourceQuery(source="lab"))
    assert (report.product, report.version, report.api) == ("VMware vCenter Server", "8.0.3", "VirtualCenter")
    assert report.build
    assert report.hosts_tried_by == ""


def test_the_activities_of_a_source_share_one_session(source: SourceActivities, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    for _ in range(3):
        run(source.list_vms, ListVms(source="lab"))
        run(source.take_snapshot, vcenter.order)
    assert len(sent) == 1
    assert vcenter.server.sessions == 1
    source.close()
    assert vcenter.server.sessions == 0


def test_an_unknown_source_is_answered_with_the_known_ones(source: SourceActivities) -> None:
    with pytest.raises(ConfigurationError, match="no source is called 'moon'") as failed:
        run(source.check_source, SourceQuery(source="moon"))
    assert "lab" in failed.value.because


def test_vms_are_listed_and_inspected(source: SourceActivities) -> None:
    listed = run(source.list_vms, ListVms(source="lab"))
    assert len(listed.vms) == 4
    assert run(source.inspect_vm, VmQuery(source="lab", vm="web")) == listed.vms[-1]
    with pytest.raises(VmNotFound):
        run(source.inspect_vm, VmQuery(source="lab", vm="nothing"))


def test_a_whole_story_of_syncs(source: SourceActivities, vcenter: AVcenter) -> None:
    vcenter.web.write(2000, 3 * GRAIN, b"x")
    assert run(source.enable_change_tracking, vcenter.order).turned_on_now
    assert not run(source.enable_change_tracking, vcenter.order).turned_on_now

    first = run(source.take_snapshot, vcenter.order)
    full = run(source.plan_disk, a_plan_order(vcenter, first, Baseline(), zeroed=True))
    assert list(ByteRanges.decode(full.ranges)) == [(3 * GRAIN, GRAIN)]
    assert (full.full, full.skip_zeroes) == (True, True)

    vcenter.web.write(2000, 8 * GRAIN, b"x")
    assert run(source.remove_snapshots, vcenter.order).removed == 1
    assert run(source.remove_snapshots, vcenter.order).removed == 0
    assert run(source.power_off, PowerOff(vm=vcenter.order)).how == "guest shut down"

    last = run(source.take_snapshot, vcenter.order)
    baseline = Baseline(change_id=first.disks[0].change_id)
    delta = run(source.plan_disk, a_plan_order(vcenter, last, baseline))
    assert list(ByteRanges.decode(delta.ranges)) == [(8 * GRAIN, GRAIN)]
    assert (delta.full, delta.bytes, delta.areas) == (False, GRAIN, 1)

    run(source.remove_snapshots, vcenter.order)
    run(source.mark_migrated, MarkMigrated(vm=vcenter.order, text="moved"))
    assert vcenter.web.annotation == "moved"
    assert not run(source.power_on, vcenter.order).was_on


def test_a_reset_of_change_tracking_reseeds_the_disk_and_tells_why(source: SourceActivities, vcenter: AVcenter) -> None:
    run(source.enable_change_tracking, vcenter.order)
    first = run(source.take_snapshot, vcenter.order)
    vcenter.web.reset_change_tracking()
    second = run(source.take_snapshot, vcenter.order)
    baseline = Baseline(change_id=first.disks[0].change_id)
    plan = run(source.plan_disk, a_plan_order(vcenter, second, baseline))
    assert plan.bytes == second.disks[0].capacity
    assert plan.full
    assert "began anew" in plan.reseed_reason


def test_a_snapshot_tells_on_which_host_it_is_read_and_what_the_source_allows_there(
    source: SourceActivities, vcenter: AVcenter
) -> None:
    taken = run(source.take_snapshot, vcenter.order)
    assert (taken.host, taken.host_streams, taken.host_bytes_in_flight) == ("esxi-1.lab", 3, 48 << 20)


def test_the_limits_are_those_of_the_configuration_and_0_streams_is_none(vcenter: AVcenter) -> None:
    told = []
    for streams in (5, 0):
        config = vcenter.config.model_copy(update={"host_streams": streams, "host_mib_in_flight": 20})
        with closing(activities_with(config)) as activities:
            taken = run(activities.take_snapshot, vcenter.order)
        told.append((taken.host, taken.host_streams, taken.host_bytes_in_flight))
    assert told == [("esxi-1.lab", 5, 20 << 20), ("esxi-1.lab", None, None)]
