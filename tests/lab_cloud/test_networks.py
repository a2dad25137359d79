"""Networks and ports."""

from __future__ import annotations

import pytest
from openstack import exceptions
from openstack.network.v2.network import Network
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


UNKNOWN = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def dual(member: Member) -> Network:
    """A network of the project with a subnet of each IP version; the cloud ends with the test."""
    network = member.network.create_network(name="dual")
    for cidr, version in (("10.40.0.0/24", 4), ("2001:db8:40::/64", 6)):
        member.network.create_subnet(network_id=network.id, name=f"v{version}", cidr=cidr, ip_version=version)
    return network


def refusal(member: Member, network: Network, **attributes: object) -> tuple[int | None, str]:
    with pytest.raises(exceptions.HttpException) as refused:
        member.network.create_port(network_id=network.id, **attributes)
    return refused.value.status_code, str(refused.value.details)


def test_a_port_gets_an_address_of_each_version_or_just_those_that_it_asks_for(member: Member, dual: Network) -> None:
    def addresses(**wish: object) -> list[str]:
        port = member.network.create_port(network_id=dual.id, **wish)
        return [fixed["ip_address"] for fixed in port.fixed_ips]

    assert addresses() == ["10.40.0.10", "2001:db8:40::a"]
    assert addresses(fixed_ips=[{"ip_address": "2001:DB8:40::0:99"}]) == ["2001:db8:40::99"]
    assert addresses(fixed_ips=[{"ip_address": "10.40.0.1"}]) == ["10.40.0.1"]


@pytest.mark.parametrize(
    ("wish", "status", "words"),
    [
        ({"fixed_ips": [{"ip_address": "10.41.0.9"}]}, 400, "10.41.0.9 is not a valid IP for any of the subnets"),
        ({"fixed_ips": [{"ip_address": "10.40.0.255"}]}, 400, "10.40.0.255 is not a valid IP for"),
        ({"fixed_ips": [{"ip_address": "10.40.0.999"}]}, 400, "Invalid input for fixed_ips"),
        ({"fixed_ips": [{"subnet_id": UNKNOWN}]}, 404, f"Subnet {UNKNOWN} could not be found."),
        ({"security_groups": [UNKNOWN]}, 404, f"Security group {UNKNOWN} does not exist"),
        ({"security_groups": [UNKNOWN], "mac_address": "00:50:56:00:00:01"}, 404, "Security group"),
        ({"security_groups": [UNKNOWN], "port_security_enabled": False}, 400, "Port security must be enabled"),
        ({"mac_address": ""}, 400, "'' is not a valid MAC address."),
        ({"mac_address": "00:00:00:00:00:00"}, 400, "is not a valid MAC address."),
    ],
)
def test_a_wish_that_neutron_does_not_grant_is_refused_in_its_words_and_makes_nothing(
    member: Member, dual: Network, wish: dict[str, object], status: int, words: str
) -> None:
    code, text = refusal(member, dual, **wish)

    assert code == status
    assert words in text
    assert list(member.network.ports()) == []


@pytest.mark.parametrize(
    ("wish", "rule"),
    [
        ({"mac_address": "00:50:56:00:00:01"}, "rule:create_port:mac_address"),
        ({"fixed_ips": [{"ip_address": "10.78.0.50"}]}, "rule:create_port:fixed_ips:ip_address"),
        ({"port_security_enabled": True}, "rule:create_port:port_security_enabled"),
    ],
)
def test_the_policy_of_another_projects_network_is_asked_before_anything_else(
    member: Member, wish: dict[str, object], rule: str
) -> None:
    network = member.network.find_network("provider-net", ignore_missing=False)

    code, text = refusal(member, network, security_groups=[UNKNOWN], **wish)

    assert code == 403
    assert rule in text
    assert text.endswith("is disallowed by policy")


def test_a_mac_keeps_its_case_and_is_the_same_in_any(member: Member, dual: Network) -> None:
    port = member.network.create_port(network_id=dual.id, mac_address="00:50:56:AA:00:01")

    assert port.mac_address == "00:50:56:AA:00:01"
    assert "is in use" in refusal(member, dual, mac_address="00:50:56:aa:00:01")[1]


def test_a_security_group_is_made_found_and_deleted_unless_a_port_has_it(member: Member, dual: Network) -> None:
    group = member.network.create_security_group(name="web")
    port = member.network.create_port(network_id=dual.id, security_groups=[group.id])

    assert member.network.find_security_group("web", ignore_missing=False).id == group.id
    with pytest.raises(exceptions.ConflictException):
        member.network.delete_security_group(group.id, ignore_missing=False)
    member.network.delete_port(port)
    member.network.delete_security_group(group.id, ignore_missing=False)
    assert member.network.find_security_group("web", ignore_missing=True) is None


def test_a_member_makes_no_network_for_everybody_and_deletes_none_in_use(member: Member, dual: Network) -> None:
    with pytest.raises(exceptions.ForbiddenException, match="rule:create_network:shared"):
        member.network.create_network(name="all", shared=True)
    port = member.network.create_port(network_id=dual.id)
    with pytest.raises(exceptions.ConflictException, match="ports still in use"):
        member.network.delete_network(dual.id, ignore_missing=False)
    member.network.delete_port(port)
    member.network.delete_network(dual.id, ignore_missing=False)
    assert member.network.find_subnet("v4", ignore_missing=True) is None
