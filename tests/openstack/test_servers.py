"""A job's server, with a guest of one boot sector that says a line on its serial console."""

from __future__ import annotations

import base64
from pathlib import Path

import openstack.exceptions
import pytest

from lab.cloud.server import CloudServer
from lab.cloud.state import KeyPair
from tests.openstack.conftest import PROJECT
from xms.errors import (
    BootFailed,
    BootRefused,
    NeverStarted,
    QuotaExceeded,
    Refused,
    TargetRejected,
    TargetUnreachable,
    VolumeFailed,
)
from xms.openstack import attachments, image_properties, ports, servers
from xms.openstack.cloud import Cloud
from xms.orders.target import BootServer, FinalizeVolumes, ServerOrder, TargetOrder
from xms.pulse import no_pulse

pytestmark = pytest.mark.lab


def test_a_server_boots_from_the_root_volume_on_its_ports(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    assert servers.boot(cloud, booting, no_pulse) == server_id
    server = cloud.compute.get_server(server_id)
    assert server.metadata["xms_job"] == booting.target.job_id
    root, data = booting.disks[1].volume_id, booting.disks[0].volume_id
    assert [volume.id for volume in server.attached_volumes] == [root, data]
    addresses = [each["OS-EXT-IPS-MAC:mac_addr"] for network in server.addresses.values() for each in network]
    assert sorted(addresses) == sorted(nic.mac for nic in booting.nics)


def the_record(cloud: Cloud, order: BootServer) -> str | None:
    root = next(disk.volume_id for disk in order.disks if disk.key == order.root_disk_key)
    return dict(cloud.volumes.get_volume(str(root)).metadata).get("xms_boot")


def test_a_server_that_goes_to_error_tells_novas_fault_and_is_made_again(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    cloud_server.faults.next_server_fault = "Build of instance aborted: the host broke"
    with pytest.raises(BootFailed, match="went to ERROR") as error:
        servers.boot(cloud, booting, no_pulse)
    assert "the host broke (request req-" in error.value.because
    failed = servers.of_job(cloud, booting.target.job_id)[0].id
    assert servers.boot(cloud, booting, no_pulse) != failed
    assert len(servers.of_job(cloud, booting.target.job_id)) == 1
    assert the_record(cloud, booting) == "ran"


def test_a_server_that_found_no_host_never_ran_and_says_so(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    for _ in range(2):
        cloud_server.faults.next_server_fault = "No valid host was found. "
        with pytest.raises(NeverStarted, match="went to ERROR") as error:
            servers.boot(cloud, booting, no_pulse)
        assert "No valid host" in error.value.because
        assert "no guest ran" in error.value.means
    assert len(servers.of_job(cloud, booting.target.job_id)) == 1
    servers.boot(cloud, booting, no_pulse)
    assert len(servers.of_job(cloud, booting.target.job_id)) == 1


def test_a_server_whose_answer_was_lost_is_found_and_not_made_twice(
    cloud: Cloud, booting: BootServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = cloud.compute.create_server

    def losing(**wishes: object) -> None:
        make(**wishes)
        raise openstack.exceptions.HttpException("the answer was lost", http_status=504)

    monkeypatch.setattr(cloud.compute, "create_server", losing)
    with pytest.raises(TargetUnreachable):
        servers.boot(cloud, booting, no_pulse)
    monkeypatch.undo()
    (made,) = servers.of_job(cloud, booting.target.job_id)
    assert servers.boot(cloud, booting, no_pulse) == made.id


def test_a_server_that_is_refused_after_one_that_somebody_removed_may_have_run(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    servers.boot(cloud, booting, no_pulse)
    servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)
    before = cloud_server.cloud.project_named(PROJECT).quota.cores
    cloud_server.set_quota(PROJECT, cores=0)
    try:
        with pytest.raises(QuotaExceeded):
            servers.boot(cloud, booting, no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, cores=before)


def test_a_new_conversion_forgets_what_ran_before_it(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    servers.boot(cloud, booting, no_pulse)
    servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)
    assert the_record(cloud, booting)
    finalizing = FinalizeVolumes(target=booting.target, disks=booting.disks, root_disk_key=booting.root_disk_key)
    image_properties.finalize(cloud, finalizing)
    assert the_record(cloud, booting) is None
    before = cloud_server.cloud.project_named(PROJECT).quota.cores
    cloud_server.set_quota(PROJECT, cores=0)
    try:
        with pytest.raises(BootRefused):
            servers.boot(cloud, booting, no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, cores=before)
    assert the_record(cloud, booting) is None


def test_of_two_servers_of_a_job_the_one_that_failed_is_removed(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    broken = cloud.compute.create_server(
        name="broken",
        flavor_id=cloud.compute.find_flavor("m1.nano", ignore_missing=False).id,
        networks="none",
        block_device_mapping=[{"uuid": a_bootable_volume(cloud), "source_type": "volume", "boot_index": 0}],
        metadata={"xms_job": booting.target.job_id},
    )
    assert servers.boot(cloud, booting, no_pulse) == server_id
    assert [server.id for server in servers.of_job(cloud, booting.target.job_id)] == [server_id]
    assert cloud.compute.find_server(broken.id, ignore_missing=True) is None


def a_bootable_volume(cloud: Cloud) -> str:
    volume = cloud.volumes.create_volume(size=1, name="another", volume_type="ssd")
    cloud.volumes.wait_for_status(volume, "available", interval=0.1, wait=10)
    cloud.volumes.set_volume_bootable_status(volume.id, bootable=True)
    return str(volume.id)


def test_a_volume_that_was_marked_to_go_with_the_server_stays(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    for disk in booting.disks:
        cloud.compute.update_volume_attachment(server_id, str(disk.volume_id), delete_on_termination=True)
    assert all(disk.delete_on_termination for disk in cloud.compute.get_server(server_id).attached_volumes)
    servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)
    for disk in booting.disks:
        assert cloud.volumes.get_volume(str(disk.volume_id)).status == "available"


def test_a_server_whose_volumes_cannot_be_kept_is_not_removed(
    cloud: Cloud, booting: BootServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    cloud.compute.update_volume_attachment(server_id, str(booting.disks[0].volume_id), delete_on_termination=True)

    def forbidden(*_: object, **__: object) -> None:
        raise openstack.exceptions.ForbiddenException("not allowed", http_status=403)

    with monkeypatch.context() as patched:
        patched.setattr(cloud.compute, "update_volume_attachment", forbidden)
        with pytest.raises(TargetRejected, match="is not removed"):
            servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)
    assert cloud.compute.get_server(server_id).status == "ACTIVE"


def test_a_volume_that_cinder_does_not_let_go_of_is_told(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "SETTLE_SECONDS", 0.3)
    volume = cloud_server.cloud.volumes[str(booting.disks[0].volume_id)]
    volume.status = "detaching"
    with pytest.raises(VolumeFailed, match="gone, but not from its volumes") as error:
        servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)
    assert f"{volume.id} ('detaching')" in error.value.what
    volume.status = "available"
    servers.remove(cloud, ServerOrder(target=booting.target), no_pulse)


def test_key_pair_and_user_data_reach_the_instance(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer, tmp_path: Path
) -> None:
    user = next(iter(cloud_server.cloud.users.values()))
    cloud_server.cloud.key_pairs.append(KeyPair(user.id, "ops", "ssh-ed25519 AAAA"))
    (tmp_path / "first-boot.yaml").write_bytes(b"#cloud-config\n")
    (tmp_path / "first-boot.yaml").chmod(0o600)
    wishes = {"key_pair": "ops", "user_data": "first-boot.yaml", "config_drive": True}
    order = booting.model_copy(update={"spec": booting.spec.model_copy(update=wishes)})
    server_id = servers.boot(cloud, order, no_pulse, user_data_dir=tmp_path)
    assert cloud.compute.get_server(server_id).key_name == "ops"
    made = cloud_server.cloud.servers[server_id]
    assert base64.b64decode(str(made.user_data)) == b"#cloud-config\n"
    assert made.config_drive
    assert made.metadata == {
        "xms_job": order.target.job_id,
        "xms_source": "prod",
        "xms_vm": "tiny",
        "xms_made_by": "XMS",
    }


def test_user_data_that_a_worker_does_not_have_refuses_the_boot_before_anything_ran(
    cloud: Cloud, booting: BootServer, tmp_path: Path
) -> None:
    order = booting.model_copy(update={"spec": booting.spec.model_copy(update={"user_data": "none.yaml"})})
    with pytest.raises(BootRefused, match=r"user data 'none\.yaml'"):
        servers.boot(cloud, order, no_pulse, user_data_dir=tmp_path)


def test_a_removed_server_leaves_the_volumes_and_the_ports(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    order = ServerOrder(target=booting.target, server_id=server_id)
    servers.remove(cloud, order, no_pulse)
    servers.remove(cloud, order, no_pulse)
    assert cloud.compute.find_server(server_id, ignore_missing=True) is None
    for disk in booting.disks:
        assert cloud.volumes.get_volume(str(disk.volume_id)).status == "available"
    assert len(ports.ports_of(cloud, booting.target.job_id)) == len(booting.nics)


def test_a_server_of_somebody_else_is_not_removed(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    other = TargetOrder(job_id="warm-other", target_project=PROJECT)
    with pytest.raises(Refused, match="is not removed"):
        servers.remove(cloud, ServerOrder(target=other, server_id=server_id), no_pulse)
    servers.remove(cloud, ServerOrder(target=other), no_pulse)
    assert cloud.compute.get_server(server_id).status == "ACTIVE"


def test_a_boot_beyond_the_quota_is_refused_as_such(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    before = cloud_server.cloud.project_named(PROJECT).quota.cores
    cloud_server.set_quota(PROJECT, cores=0)
    try:
        with pytest.raises(BootRefused, match=r"instance 'tiny' was not made.*Quota exceeded for cores"):
            servers.boot(cloud, booting, no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, cores=before)


def test_a_boot_without_the_root_disks_volume_is_refused(cloud: Cloud, booting: BootServer) -> None:
    with pytest.raises(TargetRejected, match="cannot be booted"):
        servers.boot(cloud, booting.model_copy(update={"root_disk_key": 9}), no_pulse)
