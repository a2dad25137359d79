"""Neutron: networks, subnets, ports and groups as the product reads them."""

from __future__ import annotations

from datetime import datetime

import pytest
from openstack.exceptions import ConflictException, NotFoundException

from tests.cloud_contract.scene import NOBODY, Scene


def test_networks_and_subnets_are_found_by_name_and_by_id(scene: Scene) -> None:
    network = scene.cloud.network.find_network(scene.place.network, ignore_missing=True)
    assert network is not None
    assert network.name == scene.place.network
    assert scene.cloud.network.find_network(network.id, ignore_missing=False).id == network.id
    subnet = scene.cloud.network.find_subnet(scene.place.subnet, ignore_missing=True, network_id=network.id)
    assert subnet is not None
    assert (subnet.name, subnet.network_id) == (scene.place.subnet, network.id)
    assert scene.cloud.network.find_network("contract-nowhere", ignore_missing=True) is None
    assert scene.cloud.network.find_subnet("contract-nowhere", ignore_missing=True, network_id=network.id) is None


def test_the_lists_have_what_the_project_owns_and_what_is_shared_with_it(scene: Scene) -> None:
    networks = {network.name: network for network in scene.cloud.network.networks()}
    assert {scene.place.network, scene.place.foreign_network} <= set(networks)
    assert networks[scene.place.network].project_id == scene.cloud.project_id
    assert networks[scene.place.foreign_network].project_id != scene.cloud.project_id
    subnets = list(scene.cloud.network.subnets(network_id=scene.network.id))
    assert [subnet.name for subnet in subnets] == [scene.place.subnet]
    assert subnets[0].cidr.startswith(scene.place.prefix)
    assert subnets[0].ip_version == 4


def test_a_port_has_the_addresses_that_it_was_given(scene: Scene) -> None:
    mac = scene.mac()
    fixed = {"subnet_id": scene.subnet.id, "ip_address": f"{scene.place.prefix}.77"}
    made = scene.cloud.network.create_port(
        name=scene.name(),
        description="xms warm-contract nic 4000",
        network_id=scene.network.id,
        mac_address=mac,
        fixed_ips=[fixed],
    )
    port = next(each for each in scene.cloud.network.ports(project_id=scene.cloud.project_id) if each.id == made.id)
    assert (port.mac_address, port.fixed_ips) == (mac, [fixed])
    assert port.description == "xms warm-contract nic 4000"
    assert (port.network_id, port.device_id, port.device_owner, port.status) == (scene.network.id, "", "", "DOWN")
    assert port.is_port_security_enabled is True
    assert datetime.fromisoformat(port.created_at)
    scene.cloud.network.delete_port(port.id, ignore_missing=True)


def test_a_port_without_wishes_gets_addresses_of_neutrons_choice(scene: Scene) -> None:
    made = scene.cloud.network.create_port(network_id=scene.network.id, name=scene.name())
    assert made.mac_address.startswith("fa:16:3e:")
    assert [fixed["subnet_id"] for fixed in made.fixed_ips] == [scene.subnet.id]
    assert len(made.security_group_ids) == 1


def test_a_mac_is_answered_in_the_letters_that_it_was_given_in(scene: Scene) -> None:
    mac = "52:54:00:" + scene.mac()[9:].upper()
    made = scene.cloud.network.create_port(network_id=scene.network.id, name=scene.name(), mac_address=mac)
    assert made.mac_address == mac
    assert scene.cloud.network.get_port(made.id).mac_address == mac


def test_a_port_may_do_without_port_security_on_the_projects_own_network(scene: Scene) -> None:
    made = scene.cloud.network.create_port(
        network_id=scene.network.id, name=scene.name(), port_security_enabled=False, security_groups=[]
    )
    assert (made.is_port_security_enabled, made.security_group_ids) == (False, [])


def test_a_deleted_port_is_gone_and_may_be_deleted_again(scene: Scene) -> None:
    made = scene.cloud.network.create_port(network_id=scene.network.id, name=scene.name())
    scene.cloud.network.delete_port(made.id, ignore_missing=True)
    scene.cloud.network.delete_port(made.id, ignore_missing=True)
    assert scene.cloud.network.find_port(made.id, ignore_missing=True) is None
    with pytest.raises(NotFoundException, match=f"Port {NOBODY} could not be found"):
        scene.cloud.network.get_port(NOBODY)


def test_a_server_shows_on_its_port_and_ports_are_found_by_it(scene: Scene) -> None:
    server = scene.server
    port = scene.cloud.network.find_port(scene.server_port.id, ignore_missing=True)
    assert port is not None
    assert (port.device_id, port.status) == (server.id, "ACTIVE")
    assert port.device_owner.startswith("compute:")
    assert [each.id for each in scene.cloud.network.ports(device_id=server.id)] == [port.id]


def test_a_member_reads_the_quota_of_ports_with_what_is_used_of_it(scene: Scene) -> None:
    assert scene.port.id
    ports = scene.cloud.network.get_quota(scene.cloud.project_id, details=True).ports
    assert 0 < ports["used"] <= ports["limit"]


def test_every_project_has_a_default_security_group(scene: Scene) -> None:
    own = [
        group
        for group in scene.cloud.network.security_groups()
        if group.project_id == scene.cloud.project_id and group.name == "default"
    ]
    assert len(own) == 1


def test_a_member_makes_a_network_of_its_own_with_nothing_that_leads_out_of_it(scene: Scene) -> None:
    mark = f"xms rehearsal-{scene.name()} network"
    made = scene.cloud.network.create_network(name=scene.name(), description=mark)
    subnet = scene.cloud.network.create_subnet(
        network_id=made.id,
        name=scene.name(),
        description=mark,
        ip_version=4,
        cidr="198.18.0.0/24",
        gateway_ip=None,
        enable_dhcp=True,
    )
    found = [each for each in scene.cloud.network.networks(project_id=scene.cloud.project_id) if each.id == made.id]
    assert [(network.description, network.is_shared, network.is_router_external) for network in found] == [
        (mark, False, False)
    ]
    assert datetime.fromisoformat(found[0].created_at)
    assert (subnet.gateway_ip, subnet.is_dhcp_enabled, subnet.cidr) == (None, True, "198.18.0.0/24")
    assert [each.id for each in scene.cloud.network.subnets(network_id=made.id)] == [subnet.id]
    port = scene.cloud.network.create_port(network_id=made.id, name=scene.name())
    assert port.fixed_ips[0]["ip_address"].startswith("198.18.0.")
    on_it = [each for each in scene.cloud.network.ports(network_id=made.id) if each.device_owner != "network:dhcp"]
    assert [each.id for each in on_it] == [port.id]
    with pytest.raises(ConflictException, match="ports still in use on the network"):
        scene.cloud.network.delete_network(made.id, ignore_missing=True)
    scene.cloud.network.delete_port(port.id, ignore_missing=True)
    scene.cloud.network.delete_network(made.id, ignore_missing=True)
    scene.cloud.network.delete_network(made.id, ignore_missing=True)
    assert made.id not in [each.id for each in scene.cloud.network.networks()]


def test_a_member_reads_the_quotas_of_networks_and_subnets(scene: Scene) -> None:
    quota = scene.cloud.network.get_quota(scene.cloud.project_id, details=True)
    for of_one in (quota.networks, quota.subnets):
        assert 0 < of_one["used"] <= of_one["limit"]
