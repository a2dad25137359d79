"""A worker that dies between any two calls to the cloud: the next claim ends well, and nothing is left.

`tests/target_killed` strikes the same calls in the course of a whole job; this is the place to look closer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.session import Session

from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT, volume_order
from xms.openstack import volumes
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.attach_by_nova import AttachByNova
from xms.openstack.attach_way import AttachWay
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import Cloud
from xms.openstack.lease import LeaseRecord
from xms.orders.target import TargetOrder
from xms.pulse import no_pulse

LEASE = 3.0
MOST_CALLS = 60


class Killed(BaseException):
    """The process is gone: nothing that it would do afterwards happens."""


@contextmanager
def killed_at(call: int, *, answered: bool) -> Iterator[Callable[[], int]]:
    """Die at the given call to the cloud, `answered`: when the cloud has done it. Yields what tells the calls made."""
    ordinary = Session.request
    made = 0

    def request(self: Session, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on
        nonlocal made
        made += 1
        if made > call or (made == call and not answered):
            raise Killed
        answer = ordinary(self, *arguments, **named)
        if made == call:
            raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "request", request)
        yield lambda: made


def claim_and_write(cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachWay, worker: str) -> None:
    with (
        claim_volume(
            cloud,
            volume_id,
            job_id=target.job_id,
            worker=worker,
            lease_seconds=LEASE,
            pulse=no_pulse,
            way=way,
        ) as claim,
        Path(claim.path).open("r+b") as file,
    ):
        file.write(worker.encode())


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("answered", [False, True], ids=["before the cloud did it", "after"])
@pytest.mark.parametrize("kind", ["cinder", "nova"])
def test_a_worker_killed_at_any_call_leaves_nothing_that_the_next_claim_does_not_heal(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, tmp_path: Path, kind: str, *, answered: bool
) -> None:
    volume_id = volumes.make(cloud, volume_order(target), no_pulse).volume_id
    cloud_server.faults.attach_seconds = 0.1
    way: AttachWay = AttachByCinder(data_dir=tmp_path)
    if kind == "nova":
        way = AttachByNova(instance=cloud_server.add_worker_instance(PROJECT, tmp_path), devices=tmp_path)
    for call in range(1, MOST_CALLS):
        with killed_at(call, answered=answered) as made:
            try:
                claim_and_write(cloud, target, volume_id, way, "dead")
            except Killed:
                pass
            else:
                assert made() < call
                return
        claim_and_write(cloud, target, volume_id, way, f"next-{call}")
        volume = cloud.volumes.get_volume(volume_id)
        assert (volume.status, volume.attachments) == ("available", []), call
        assert not list(cloud.volumes.attachments(volume_id=volume_id)), call
        record = LeaseRecord.parse(volume.metadata["xms_lease"])
        assert record is not None, call
        assert record.count is None, call
        assert not list(tmp_path.glob("virtio-*")), call
        with cloud_server.volume_file(volume_id).open("rb") as file:
            assert file.read(5) == b"next-", call
    pytest.fail("the claim has more calls than were tried")
