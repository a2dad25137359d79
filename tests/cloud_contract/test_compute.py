"""Nova: a server from its making to its end, its volumes, its console, and what a member may read."""

from __future__ import annotations

from datetime import datetime

import pytest
from openstack.exceptions import BadRequestException, NotFoundException, ResourceFailure

from tests.cloud_contract.scene import NOBODY, Scene
from xms.pulse import no_pulse

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJo3cTMeITW/pEsuk902USGHWrfM2JmXf+NhHDHxBMr contract"


def test_a_server_is_active_on_its_volumes_and_ports(scene: Scene) -> None:
    server = scene.cloud.compute.get_server(scene.server.id)
    assert server.status == "ACTIVE"
    assert server.metadata == {"xms_job": "contract"}
    assert len(server.attached_volumes) == 2
    assert all(each["delete_on_termination"] is False for each in server.attached_volumes)
    assert server.fault is None
    assert datetime.fromisoformat(server.created_at)
    addresses = next(iter(server.addresses.values()))
    assert [each["OS-EXT-IPS-MAC:mac_addr"] for each in addresses] == [scene.server_port.mac_address]
    listed = [each for each in scene.cloud.compute.servers(details=True) if each.id == server.id]
    assert [each.metadata for each in listed] == [{"xms_job": "contract"}]


def test_the_volumes_of_a_server_are_in_use_by_it(scene: Scene) -> None:
    volume = scene.cloud.volumes.get_volume(scene.root_of_server)
    scene.settled(volume, "in-use")
    attached = scene.cloud.volumes.get_volume(volume.id).attachments
    assert [each["server_id"] for each in attached] == [scene.server.id]
    listed = list(scene.cloud.volumes.attachments(volume_id=volume.id))
    assert [(each.instance, each.status) for each in listed] == [(scene.server.id, "attached")]


def test_a_servers_console_is_read_by_lines(scene: Scene) -> None:
    answer = scene.cloud.compute.get_server_console_output(scene.server.id, length=400)
    assert isinstance(answer["output"], str)
    assert scene.cloud.compute.get_server_console_output(scene.server.id, length=0)["output"] == ""


def test_a_volume_is_attached_to_a_running_server(scene: Scene) -> None:
    compute, server = scene.cloud.compute, scene.server
    volume = scene.new_volume()
    compute.create_volume_attachment(server.id, volume_id=volume.id)
    scene.settled(volume, "in-use")
    assert volume.id in [each.volume_id for each in scene.cloud.compute.volume_attachments(server.id)]
    assert [each.instance for each in scene.cloud.volumes.attachments(volume_id=volume.id)] == [server.id]


def test_a_volume_is_detached_from_a_server_that_is_off(scene: Scene) -> None:
    """From a running one, too, but only a guest with a kernel lets go of a disk."""
    compute = scene.cloud.compute
    scene.cloud.volumes.set_volume_image_metadata(scene.bootable.id, os_shutdown_timeout="0")
    with scene.removed_afterwards(scene.new_server(scene.bootable, scene.volume)) as server:
        scene.active(server)
        compute.stop_server(server.id)
        compute.wait_for_server(server, status="SHUTOFF", failures=["ERROR"], interval=1, wait=120)
        compute.delete_volume_attachment(server.id, scene.volume.id, ignore_missing=True)
        scene.settled(scene.volume, "available")

        def forgotten() -> bool | None:
            nova = [each.volume_id for each in compute.volume_attachments(server.id)]
            cinder = list(scene.cloud.volumes.attachments(volume_id=scene.volume.id))
            return True if nova == [scene.bootable.id] and cinder == [] else None

        # The volume is available for a moment before Nova and Cinder forget its attachment.
        assert scene.cloud.wait_for(forgotten, timeout=30, pulse=no_pulse)


def test_a_volume_that_is_not_attached_is_detached_without_a_complaint(scene: Scene) -> None:
    scene.cloud.compute.delete_volume_attachment(scene.server.id, NOBODY, ignore_missing=True)
    with pytest.raises(NotFoundException):
        scene.cloud.compute.delete_volume_attachment(scene.server.id, scene.volume.id, ignore_missing=False)


def test_the_root_volume_is_not_detached(scene: Scene) -> None:
    with pytest.raises(BadRequestException, match="root device volume"):
        scene.cloud.compute.delete_volume_attachment(scene.server.id, scene.root_of_server)


def test_what_happens_to_a_volume_at_the_servers_end_can_be_changed(scene: Scene) -> None:
    scene.cloud.compute.update_volume_attachment(scene.server.id, scene.root_of_server, delete_on_termination=False)
    found = scene.cloud.compute.get_server(scene.server.id).attached_volumes
    assert all(each["delete_on_termination"] is False for each in found)


def test_a_server_in_error_tells_its_fault(scene: Scene) -> None:
    made = scene.new_server(scene.bootable, flavor=scene.place.huge_flavor, metadata={"xms_job": "contract"})
    with scene.removed_afterwards(made):
        with pytest.raises(ResourceFailure):
            scene.active(made)
        server = scene.cloud.compute.get_server(made.id)
        assert server.status == "ERROR"
        assert server.fault["message"].startswith("No valid host was found.")


def test_a_deleted_server_gives_volumes_and_ports_back(scene: Scene) -> None:
    port = scene.cloud.network.create_port(
        network_id=scene.foreign_network.id, name=scene.name(), fixed_ips=[{"subnet_id": scene.foreign_subnet.id}]
    )
    server = scene.active(scene.new_server(scene.bootable, networks=[{"port": port.id}]))
    scene.cloud.compute.delete_server(server.id, ignore_missing=True)
    scene.cloud.compute.wait_for_delete(server, interval=scene.place.config.poll_seconds, wait=120)

    def gone() -> str | None:
        try:
            # For a moment it may be read as DELETED.
            assert scene.cloud.compute.get_server(server.id).status == "DELETED"
        except NotFoundException as error:
            return str(error)
        return None

    said = scene.cloud.wait_for(gone, timeout=60, pulse=no_pulse)
    assert said is not None
    assert f"Instance {server.id} could not be found" in said
    assert server.id not in [each.id for each in scene.cloud.compute.servers(details=True)]
    scene.cloud.compute.delete_server(server.id, ignore_missing=True)
    scene.settled(scene.bootable, "available")
    free = scene.cloud.network.find_port(port.id, ignore_missing=False)
    assert (free.device_id, free.status) == ("", "DOWN")


def test_a_flavor_is_found_by_name_with_its_size(scene: Scene) -> None:
    flavor = scene.cloud.compute.find_flavor(scene.place.flavor, ignore_missing=True)
    assert flavor is not None
    assert flavor.name == scene.place.flavor
    assert flavor.vcpus == 1
    assert flavor.ram in (192, 256)
    assert scene.cloud.compute.find_flavor("contract-none", ignore_missing=True) is None
    assert scene.place.flavor in [each.name for each in scene.cloud.compute.flavors(details=True)]


def test_a_member_reads_limits_and_zones(scene: Scene) -> None:
    assert scene.server.id
    limits = scene.cloud.compute.get_limits().absolute
    assert 0 < limits.total_cores_used <= limits.total_cores
    assert 0 < limits.total_ram_used <= limits.total_ram
    assert 0 < limits.instances_used <= limits.instances
    assert "nova" in [zone.name for zone in scene.cloud.compute.availability_zones()]


def test_a_server_tells_the_request_that_made_it(scene: Scene) -> None:
    done = {action.action: action for action in scene.cloud.compute.server_actions(scene.server.id)}
    assert done["create"].request_id.startswith("req-")


def test_a_key_pair_is_listed_for_the_user_that_it_belongs_to(scene: Scene) -> None:
    name = scene.name()
    scene.cloud.compute.create_keypair(name=name, public_key=PUBLIC_KEY)
    assert name in [pair.name for pair in scene.cloud.compute.keypairs()]
    scene.cloud.compute.delete_keypair(name)
    assert name not in [pair.name for pair in scene.cloud.compute.keypairs()]
