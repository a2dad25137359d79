"""Networks and ports."""

from __future__ import annotations

import pytest
from openstack import exceptions
from openstack.network.v2.port import Port

from tests.lab_cloud.conftest import Member

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")


def make_port(member: Member, **attributes: object) -> Port:
    network = next(each for each in member.network.networks(name="internal-net"))
    return member.network.create_port(network_id=network.id, **attributes)


def test_a_port_without_wishes_gets_free_addresses(member: Member) -> None:
    first, second = make_port(member), make_port(member)

    assert first.mac_address != second.mac_address
    assert first.mac_address.startswith("fa:16:3e:")
    assert [port.fixed_ips[0]["ip_address"] for port in (first, second)] == ["10.20.0.10", "10.20.0.11"]


def test_ports_are_found_by_tag_name_description_mac_and_network(member: Member) -> None:
    port = make_port(member, name="nic-1", description="job a", mac_address="00:50:56:9A:11:02")
    make_port(member)
    member.network.set_tags(port, ["xms-job-a", "nic"])
    filters: list[dict[str, str]] = [
        {"tags": "xms-job-a"},
        {"tags": "xms-job-a,nic"},
        {"name": "nic-1"},
        {"description": "job a"},
        {"mac_address": "00:50:56:9a:11:02"},
        {"name": "nic-1", "network_id": port.network_id},
        {"name": "nic-1", "device_id": ""},
        {"fixed_ips": f"ip_address={port.fixed_ips[0]['ip_address']}"},
    ]

    for wanted in filters:
        assert [each.id for each in member.network.ports(**wanted)] == [port.id], wanted
    assert list(member.network.ports(tags="xms-job-a,other")) == []
    assert member.network.get_port(port).tags == ["nic", "xms-job-a"]


def test_tags_can_be_given_at_creation(member: Member) -> None:
    port = make_port(member, tags=["xms"])

    assert [each.id for each in member.network.ports(tags="xms")] == [port.id]


def test_a_deleted_port_frees_its_addresses(member: Member) -> None:
    wish = {"mac_address": "00:50:56:00:00:01", "fixed_ips": [{"ip_address": "10.20.0.77"}]}
    port = make_port(member, **wish)
    member.network.delete_port(port, ignore_missing=False)

    assert make_port(member, **wish).fixed_ips[0]["ip_address"] == "10.20.0.77"
    with pytest.raises(exceptions.NotFoundException):
        member.network.delete_port(port, ignore_missing=False)


def test_networks_and_subnets_are_found_by_name(member: Member) -> None:
    network = member.network.find_network("backup-net", ignore_missing=False)
    subnet = member.network.find_subnet("backup-subnet", ignore_missing=False)

    assert (subnet.network_id, subnet.cidr) == (network.id, "10.30.0.0/24")
    assert network.subnet_ids == [subnet.id]
    assert network.project_id == member.project
    assert member.network.find_security_group("default", ignore_missing=False).name == "default"
    with pytest.raises(exceptions.NotFoundException):
        member.network.find_network("no-net", ignore_missing=False)


def test_the_shared_network_belongs_to_somebody_else(member: Member) -> None:
    network = member.network.find_network("provider-net", ignore_missing=False)

    assert network.is_shared
    assert network.project_id != member.project
