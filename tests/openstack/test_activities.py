"""The activities of the target and of the conversion, run as Temporal runs them, against the stand-in cloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from temporalio.testing import ActivityEnvironment

from activities.conversion import ConversionActivities
from activities.target import TargetActivities
from lab.cloud.server import CloudServer
from tests.conversion.workshop import PROGRAM
from tests.openstack.conftest import GIB, PROJECT, volume_order
from xms.change_map import ByteRanges
from xms.config import Config, ConversionConfig, TargetConfig, WorkerConfig
from xms.errors import ConversionLost, Refused
from xms.models import Disk, Model
from xms.orders.conversion import ConversionOrder, Convert
from xms.orders.source import VmOrder
from xms.orders.target import TargetOrder, VolumesOrder

Order = TypeVar("Order", bound=Model)
Answer = TypeVar("Answer", bound=Model)

BEHAVIOUR = '{"writes": [[0, "write -P 0xaa 1M 64k"], [1, "write -P 0xbb 2M 64k"]]}'


def run(activity: Callable[[Order], Answer], order: Order) -> Answer:
    return ActivityEnvironment().run(activity, order)


@pytest.fixture
def config(target_config: TargetConfig, tmp_path: Path) -> Config:
    (tmp_path / "conversions").mkdir()
    (tmp_path / "conversions" / "behaviour.json").write_text(BEHAVIOUR)
    return Config(
        worker=WorkerConfig(name="worker-1", data_dir=tmp_path, lease_seconds=4),
        target=target_config,
        conversion=ConversionConfig(program=str(PROGRAM), memory_mib=256),
    )


def read(cloud_server: CloudServer, volume_id: str | None, offset: int) -> bytes:
    with cloud_server.volume_file(str(volume_id)).open("rb") as file:
        file.seek(offset)
        return file.read(65536)


def test_a_conversion_goes_from_the_volumes_over_overlays_into_the_volumes(
    config: Config, cloud_server: CloudServer, target: TargetOrder
) -> None:
    made = [run(TargetActivities(config).make_volume, volume_order(target, key=key)) for key in (2000, 2001)]
    disks = tuple(
        Disk(key=2000 + place, label=f"Hard disk {place}", capacity=GIB, volume_id=volume.volume_id)
        for place, volume in enumerate(made)
    )
    vm = VmOrder(job_id=target.job_id, source="prod", moref="vm-101", vm="db-prod-01")
    activities = ConversionActivities(config)
    converted = run(activities.convert, Convert(vm=vm, target_project=PROJECT, disks=disks, nics=()))
    assert converted.worker_queue == "xms-data-worker-1"
    assert [list(ByteRanges.decode(disk.ranges)) for disk in converted.written] == [
        [(1 << 20, 65536)],
        [(2 << 20, 65536)],
    ]
    assert read(cloud_server, disks[0].volume_id, 1 << 20) == bytes(65536)

    order = ConversionOrder(vm=vm, target_project=PROJECT, disks=disks)
    committed = run(activities.commit_conversion, order)
    assert committed.bytes == 2 * 65536
    assert read(cloud_server, disks[0].volume_id, 1 << 20) == b"\xaa" * 65536
    assert read(cloud_server, disks[1].volume_id, 2 << 20) == b"\xbb" * 65536
    assert run(activities.commit_conversion, order) == committed

    run(activities.discard_conversion, order)
    run(activities.discard_conversion, order)
    with pytest.raises(ConversionLost):
        run(activities.commit_conversion, order)


def test_volumes_are_deleted_for_their_own_job_only(config: Config, target: TargetOrder) -> None:
    activities = TargetActivities(config)
    made = run(activities.make_volume, volume_order(target))
    other = TargetOrder(job_id="warm-other", target_project=PROJECT)
    with pytest.raises(Refused):
        run(activities.delete_volumes, VolumesOrder(target=other, volume_ids=(made.volume_id,)))
    run(activities.release_volumes, VolumesOrder(target=target, volume_ids=(made.volume_id,)))
    run(activities.delete_volumes, VolumesOrder(target=target, volume_ids=(made.volume_id,)))
