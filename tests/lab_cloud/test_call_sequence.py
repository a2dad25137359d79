"""The target side of a migration, call by call, as it ran against a real OpenStack."""

from __future__ import annotations

import pytest

from lab.cloud.server import CloudServer
from tests.lab_cloud.conftest import Member, boot_from

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

CONNECTOR = {"platform": "x86_64", "os_type": "linux", "ip": "127.0.0.1", "host": "worker1", "multipath": False}


def test_a_migration_goes_from_empty_volumes_to_a_running_server_and_back(cloud: CloudServer, member: Member) -> None:
    storage, network, compute = member.block_storage, member.network, member.compute
    made = [storage.create_volume(size=size, name=f"mig-{size}", volume_type="ssd") for size in (1, 2)]
    volumes = [storage.wait_for_status(each, "available", failures=["error"], interval=0.02, wait=10) for each in made]
    storage.set_volume_bootable_status(volumes[0], True)  # noqa: FBT003 - the SDK's signature
    storage.set_volume_image_metadata(volumes[0], hw_disk_bus="virtio", hw_vif_model="virtio")

    for volume in volumes:
        attachment = storage.create_attachment(volume, connector=CONNECTOR, mode="rw")
        assert attachment.connection_info["driver_volume_type"] == "local"
        assert attachment.connection_info["device_path"] == str(cloud.volume_file(volume.id))
        assert storage.get_volume(volume).status == "attaching"
        storage.complete_attachment(attachment.id)
        assert storage.get_volume(volume).status == "in-use"
        storage.delete_attachment(attachment.id, ignore_missing=False)
        assert storage.get_volume(volume).status == "available"

    internal = network.find_network("internal-net", ignore_missing=False)
    subnet = next(network.subnets(network_id=internal.id))
    port = network.create_port(
        network_id=internal.id,
        mac_address="52:54:00:12:34:01",
        fixed_ips=[{"subnet_id": subnet.id, "ip_address": "10.20.0.50"}],
    )
    server = compute.create_server(
        name="mig-vm",
        flavor_id=compute.find_flavor("m1.nano", ignore_missing=False).id,
        networks=[{"port": port.id}],
        availability_zone="nova",
        metadata={"job": "warm-1"},
        block_device_mapping=boot_from(*volumes),
    )
    server = compute.wait_for_server(server, "ACTIVE", failures=["ERROR"], interval=0.05, wait=30)

    assert server.metadata == {"job": "warm-1"}
    assert [each["addr"] for each in server.addresses["internal-net"]] == ["10.20.0.50"]
    assert [each.id for each in server.attached_volumes] == [volume.id for volume in volumes]
    assert network.get_port(port).status == "ACTIVE"
    assert network.get_port(port).device_id == server.id
    assert storage.get_volume(volumes[0]).attachments[0]["server_id"] == server.id
    assert compute.get_server_console_output(server)["output"] == ""

    extra = storage.create_volume(size=1, volume_type="hdd")
    extra = storage.wait_for_status(extra, "available", interval=0.02, wait=10)
    compute.create_volume_attachment(server, volume=extra)
    storage.wait_for_status(extra, "in-use", interval=0.02, wait=10)

    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.05, wait=10)
    assert network.get_port(port).device_id == ""
    network.delete_port(port)
    for volume in (*volumes, extra):
        storage.wait_for_status(storage.get_volume(volume), "available", interval=0.02, wait=5)
        storage.delete_volume(volume)
        storage.wait_for_delete(volume, interval=0.02, wait=5)
    assert list((cloud.directory / "volumes").iterdir()) == []
    assert list(network.ports()) == []


def test_preflight_reads_limits_and_usage_as_a_member(member: Member, cloud: CloudServer) -> None:
    cloud.set_quota("infra", cores=8, ram=4096, volumes=5, gigabytes=100, ports=7)
    member.block_storage.create_volume(size=3, volume_type="ssd")
    project = member.project

    assert member.compute.get_limits().absolute.total_cores == 8
    assert member.compute.get_quota_set(project, usage=True).usage["ram"] == 0
    assert member.block_storage.get_limits().absolute.total_gigabytes_used == 3
    assert member.block_storage.get_quota_set(project, usage=True).usage["volumes_ssd"] == 1
    assert member.network.get_quota(project, details=True).ports == {"limit": 7, "used": 0, "reserved": 0}
    assert {flavor.name: flavor.ram for flavor in member.compute.flavors()}["m1.xlarge"] == 8192
    assert [each.name for each in member.block_storage.types()] == ["ssd", "hdd"]
    assert [each.name for each in member.compute.availability_zones()] == ["nova", "az-1"]
    assert [each.name for each in member.block_storage.availability_zones()] == ["nova", "az-1"]
    assert {each.name for each in member.network.networks()} == {"internal-net", "backup-net", "provider-net"}
    assert list(member.connection.image.images()) == []
