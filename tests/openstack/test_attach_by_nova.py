"""Volumes attached by Nova: the worker is an instance of the stand-in cloud, whose devices are links in a directory."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, PROJECT, volume_order
from xms.config import TargetConfig, WorkerConfig
from xms.errors import ConfigurationError, Interrupted, VolumeBusy, VolumeFailed
from xms.models import Model
from xms.openstack import attach_by_nova, attachments, claim, volumes, worker_instance
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.attach_by_nova import AttachByNova
from xms.openstack.attach_way import AttachWay, attach_way
from xms.openstack.claim import Claim, claim_volume, keep_alive
from xms.openstack.cloud import Cloud
from xms.openstack.lease import Holder, Lease, MetadataLease
from xms.orders.target import TargetOrder
from xms.pulse import Pulse, no_pulse

LEASE = 2.0


@pytest.fixture
def volume_id(cloud: Cloud, target: TargetOrder) -> str:
    return volumes.make(cloud, volume_order(target), no_pulse).volume_id


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    directory = tmp_path / "by-id"
    directory.mkdir()
    return directory


@pytest.fixture
def instance(cloud_server: CloudServer, devices: Path) -> Iterator[str]:
    yield cloud_server.add_worker_instance(PROJECT, devices)
    cloud_server.faults.stick_in = ""
    cloud_server.faults.attach_fails = False


@pytest.fixture
def way(instance: str, devices: Path) -> AttachByNova:
    return AttachByNova(instance=instance, devices=devices)


def claimed(
    cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachWay, *, worker: str = "w-1", pulse: Pulse = no_pulse
) -> AbstractContextManager[Claim]:
    return claim_volume(
        cloud, volume_id, job_id=target.job_id, worker=worker, lease_seconds=LEASE, pulse=pulse, way=way
    )


def die_holding(cloud: Cloud, volume_id: str, instance: str) -> None:
    """What a worker leaves that is killed while it writes to a volume that Nova attached."""
    Lease(MetadataLease(cloud, volume_id), volume=volume_id, worker="w-1", seconds=LEASE).claim(no_pulse)
    cloud.volumes.set_volume_metadata(volume_id, **{attachments.worker_key(instance): "w-1"})
    cloud.compute.create_volume_attachment(instance, volume_id=volume_id)


def test_a_claimed_volume_is_the_device_of_its_serial(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str, way: AttachByNova
) -> None:
    with claimed(cloud, target, volume_id, way) as claim:
        assert claim.size == GIB
        with Path(claim.path).open("r+b") as file:
            file.write(b"xms")
        assert cloud.volumes.get_volume(volume_id).attachments[0]["server_id"] == way.instance
    with cloud_server.volume_file(volume_id).open("rb") as file:
        assert file.read(3) == b"xms"
    volume = cloud.volumes.get_volume(volume_id)
    assert (volume.status, volume.attachments, attachments.worker_keys(volume)) == ("available", [], ())
    assert not list(way.devices.iterdir())


def test_a_volume_is_taken_over_from_the_instance_of_a_dead_worker(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str, way: AttachByNova, tmp_path: Path
) -> None:
    others = tmp_path / "other"
    others.mkdir()
    dead = cloud_server.add_worker_instance(PROJECT, others)
    die_holding(cloud, volume_id, dead)
    with claimed(cloud, target, volume_id, way, worker="w-2") as claim:
        assert Path(claim.path) == cloud_server.volume_file(volume_id)
        assert not list(others.iterdir())
        assert not list(cloud.compute.volume_attachments(dead))


def test_a_worker_that_came_back_takes_the_volume_from_its_own_instance(
    cloud: Cloud, target: TargetOrder, volume_id: str, way: AttachByNova, instance: str
) -> None:
    die_holding(cloud, volume_id, instance)
    with claimed(cloud, target, volume_id, way):
        assert len(attachments.listed(cloud, volume_id)) == 1


def test_a_worker_with_the_storage_network_takes_over_from_one_that_is_an_instance(
    cloud: Cloud, target: TargetOrder, volume_id: str, instance: str, devices: Path
) -> None:
    die_holding(cloud, volume_id, instance)
    with claimed(cloud, target, volume_id, AttachByCinder(), worker="w-2") as claim:
        assert claim.size == GIB
        assert not list(devices.iterdir())


def test_released_volumes_are_taken_from_a_dead_workers_instance(
    cloud: Cloud, target: TargetOrder, volume_id: str, instance: str
) -> None:
    die_holding(cloud, volume_id, instance)
    volumes.release(cloud, [volume_id], job_id=target.job_id, holder=Holder("w-2", LEASE), pulse=no_pulse)
    assert cloud.volumes.get_volume(volume_id).status == "available"


def test_an_instance_that_is_no_worker_is_never_robbed(
    cloud: Cloud,
    target: TargetOrder,
    volume_id: str,
    way: AttachByNova,
    instance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claim, "INSTANCE_LEAVES_SECONDS", 0.5)
    cloud.compute.create_volume_attachment(instance, volume_id=volume_id)
    with pytest.raises(VolumeBusy, match=instance), claimed(cloud, target, volume_id, way):
        pytest.fail("it got in")
    assert len(attachments.listed(cloud, volume_id)) == 1


def test_a_volume_that_nova_gives_back_is_told_and_nothing_stays(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str, way: AttachByNova
) -> None:
    cloud_server.faults.attach_fails = True
    with pytest.raises(VolumeFailed, match="was not attached to instance"), claimed(cloud, target, volume_id, way):
        pytest.fail("it got in")
    with claimed(cloud, target, volume_id, way) as claim:
        claim.check()


def test_a_device_of_another_size_is_not_taken_for_the_volume(
    cloud: Cloud,
    cloud_server: CloudServer,
    target: TargetOrder,
    volume_id: str,
    way: AttachByNova,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attach_by_nova, "APPEAR_SECONDS", 1.0)
    with cloud_server.volume_file(volume_id).open("r+b") as file:
        file.truncate(GIB - 512)
    with pytest.raises(VolumeFailed) as failed, claimed(cloud, target, volume_id, way):
        pytest.fail("it got in")
    assert f"{GIB - 512} bytes" in failed.value.because
    assert cloud.volumes.get_volume(volume_id).status == "available"


@pytest.mark.parametrize(
    ("name", "is_the_volumes"),
    [
        ("virtio-{short}", True),
        ("scsi-0QEMU_QEMU_HARDDISK_{id}", True),
        ("scsi-SQEMU_QEMU_HARDDISK_{short}", True),
        ("virtio-{short}-part1", False),
        ("virtio-{other}", False),
    ],
)
def test_a_volume_is_known_by_its_serial_on_every_bus(devices: Path, name: str, is_the_volumes: bool) -> None:  # noqa: FBT001
    volume_id = "8f2cb1e1-53a0-4d4b-9a3c-0123456789ab"
    other = "11d0aa9a-53a0-4d4b-9a3c"
    link = devices / name.format(short=volume_id[:20], id=volume_id, other=other[:20])
    link.symlink_to("/dev/vdz")
    assert AttachByNova(devices=devices)._paths(volume_id) == ({"/dev/vdz"} if is_the_volumes else set())


@pytest.mark.parametrize("state", ["reserved", "attaching"])
def test_an_attachment_that_sticks_is_told_with_what_an_administrator_does(
    cloud: Cloud,
    cloud_server: CloudServer,
    target: TargetOrder,
    volume_id: str,
    way: AttachByNova,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attach_by_nova, "APPEAR_SECONDS", 0.5)
    monkeypatch.setattr(attachments, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(attach_by_nova, "LEAVE_SECONDS", 0.5)
    cloud_server.faults.stick_in = state
    with pytest.raises(VolumeFailed) as failed, claimed(cloud, target, volume_id, way):
        pytest.fail("it got in")
    assert state in failed.value.because
    assert "administrator" in str(failed.value.__notes__)


def test_a_volume_that_sticks_without_any_attachment_is_told_with_the_administrators_command(
    cloud: Cloud, cloud_server: CloudServer, volume_id: str
) -> None:
    cloud_server.cloud.volumes[volume_id].status = "detaching"
    with pytest.raises(VolumeFailed) as failed:
        attachments.wait_available(cloud, volume_id, pulse=no_pulse, timeout=0.3)
    assert f"openstack volume set --state available --detached {volume_id}" in failed.value.do
    assert "no attachment is left" in failed.value.do


def test_an_attachment_that_cinder_made_for_itself_is_not_removed(
    cloud: Cloud, cloud_server: CloudServer, volume_id: str
) -> None:
    cloud.volumes.create_attachment(volume_id, connector={"host": "backup", "ip": "127.0.0.1"}, mode="rw")
    cloud_server.cloud.volumes[volume_id].status = "backing-up"
    with pytest.raises(VolumeBusy, match="by Cinder itself"):
        attachments.of_workers(cloud, volume_id)


def test_an_interruption_while_the_device_is_waited_for_leaves_nothing(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, volume_id: str, way: AttachByNova
) -> None:
    def stop_once_attached(detail: Model | None = None) -> None:
        del detail
        if cloud_server.cloud.volumes[volume_id].status == "in-use":
            raise Interrupted("stop")

    with pytest.raises(Interrupted), claimed(cloud, target, volume_id, way, pulse=stop_once_attached) as claim:
        keep_alive([claim], stop_once_attached)()
    assert cloud.volumes.get_volume(volume_id).status == "available"
    assert not attachments.listed(cloud, volume_id)


def test_a_machine_that_is_no_instance_of_the_project_is_told_so(
    cloud: Cloud, target: TargetOrder, volume_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = AttachByNova(instance="11111111-1111-1111-1111-111111111111")
    with pytest.raises(ConfigurationError) as refused, claimed(cloud, target, volume_id, stranger):
        pytest.fail("it got in")
    assert "not in the target project" in refused.value.because
    assert "xms_lease" not in cloud.volumes.get_volume(volume_id).metadata
    monkeypatch.setattr(worker_instance, "by_metadata", lambda: None)
    monkeypatch.setattr(worker_instance, "by_machine", lambda: None)
    with pytest.raises(ConfigurationError) as refused:
        AttachByNova().refuse(cloud, cloud.volumes.get_volume(volume_id))
    assert "worker.instance" in refused.value.do


def test_the_metadata_service_says_which_instance_the_worker_is() -> None:
    own = "8f2cb1e1-53a0-4d4b-9a3c-0123456789ab"

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"uuid": own, "name": "xms-worker"}).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/openstack/latest/meta_data.json"
        assert worker_instance.by_metadata(url) == own
    assert worker_instance.by_metadata(f"{url}?again") is None


def test_the_machines_own_id_is_the_instance_where_no_metadata_are(tmp_path: Path) -> None:
    product_uuid = tmp_path / "product_uuid"
    assert worker_instance.by_machine(product_uuid) is None
    product_uuid.write_text("8F2CB1E1-53A0-4D4B-9A3C-0123456789AB\n")
    assert worker_instance.by_machine(product_uuid) == "8f2cb1e1-53a0-4d4b-9a3c-0123456789ab"
    product_uuid.write_text("Not Settable\n")
    assert worker_instance.by_machine(product_uuid) is None


def test_the_configuration_names_the_way(tmp_path: Path) -> None:
    worker = WorkerConfig(data_dir=tmp_path, instance="i", devices=tmp_path)
    assert attach_way(TargetConfig(cloud="c"), worker) == AttachByCinder(data_dir=tmp_path)
    assert attach_way(TargetConfig(cloud="c", attach="nova"), worker) == AttachByNova(instance="i", devices=tmp_path)
