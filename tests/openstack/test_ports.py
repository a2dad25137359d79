"""A job's ports."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from openstack.compute.v2.server import Server

from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT
from xms.errors import BadInput, QuotaExceeded, TargetFault, TargetNotFound, TargetRejected
from xms.models import Nic
from xms.openstack import ports
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.orders.target import MakePorts, TargetOrder
from xms.pulse import no_pulse

if TYPE_CHECKING:
    from openstack.network.v2.network import Network
    from openstack.network.v2.port import Port
    from openstack.network.v2.subnet import Subnet


def a_mac() -> str:
    COUNTER.append(0)
    return f"00:50:56:00:{len(COUNTER) // 256:02x}:{len(COUNTER) % 256:02x}"


COUNTER: list[int] = []


def making(target: TargetOrder, *networks: str, **nic: Any) -> MakePorts:  # noqa: ANN401 - fields of Nic
    return MakePorts(
        target=target,
        instance_name="db-prod-01",
        nics=tuple(
            Nic(
                **{
                    "key": 4000 + place,
                    "label": f"Network adapter {place + 1}",
                    "mac": a_mac(),
                    "source_network": "VM Network",
                    "network": network,
                }
                | nic
            )
            for place, network in enumerate(networks)
        ),
    )


@dataclass
class Net:
    """A network of the project with a subnet of each IP version."""

    network: Network
    four: Subnet
    six: Subnet
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = str(self.network.name)


@pytest.fixture
def net(cloud: Cloud) -> Iterator[Net]:
    network = cloud.network.create_network(name=f"net-{uuid.uuid4().hex[:6]}")
    four = cloud.network.create_subnet(network_id=network.id, name="four", cidr="10.40.0.0/24", ip_version=4)
    six = cloud.network.create_subnet(network_id=network.id, name="six", cidr="2001:db8:40::/64", ip_version=6)
    yield Net(network, four, six)
    for port in cloud.network.ports(network_id=network.id):
        cloud.network.delete_port(port.id)
    cloud.network.delete_network(network.id)


@pytest.fixture
def groups(cloud: Cloud) -> Iterator[dict[str, str]]:
    made = {name: str(cloud.network.create_security_group(name=name).id) for name in ("web", "db")}
    yield made
    for port in cloud.network.ports():
        if set(port.security_group_ids) & set(made.values()):
            cloud.network.delete_port(port.id)
    for group in made.values():
        cloud.network.delete_security_group(group)


def one(cloud: Cloud, order: MakePorts) -> Port:
    """The port of the order's only NIC."""
    (nic,) = ports.make(cloud, order, no_pulse)
    return cloud.network.get_port(str(nic.port_id))


def addresses(port: Port) -> list[str]:
    return [fixed["ip_address"] for fixed in port.fixed_ips]


def changed(order: MakePorts, **nic: Any) -> MakePorts:  # noqa: ANN401 - fields of Nic
    return order.model_copy(update={"nics": (order.nics[0].model_copy(update=nic),)})


def test_each_nic_gets_a_port_with_its_mac_in_its_network(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net", "backup-net")
    nics = ports.make(cloud, order, no_pulse)
    made = [cloud.network.get_port(str(nic.port_id)) for nic in nics]
    assert [port.mac_address for port in made] == [nic.mac for nic in order.nics]
    assert [cloud.network.get_network(port.network_id).name for port in made] == ["internal-net", "backup-net"]


def test_a_port_is_made_once_and_found_again(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net", "backup-net")
    first = ports.make(cloud, order, no_pulse)
    assert ports.make(cloud, order, no_pulse) == first


def test_a_port_that_no_longer_fits_its_nic_is_made_anew(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net")
    first = ports.make(cloud, order, no_pulse)
    moved = order.model_copy(update={"nics": (order.nics[0].model_copy(update={"network": "backup-net"}),)})
    second = ports.make(cloud, moved, no_pulse)
    assert second[0].port_id != first[0].port_id
    assert len(ports.ports_of(cloud, target.job_id)) == 1


def test_a_subnet_by_name_is_taken(cloud: Cloud, target: TargetOrder) -> None:
    nics = ports.make(cloud, making(target, "internal-net", subnet="internal-subnet"), no_pulse)
    port = cloud.network.get_port(str(nics[0].port_id))
    assert cloud.network.get_subnet(port.fixed_ips[0]["subnet_id"]).name == "internal-subnet"


def test_only_the_jobs_own_ports_are_removed(cloud: Cloud, target: TargetOrder) -> None:
    longer = TargetOrder(job_id=f"{target.job_id}-2", target_project=PROJECT)
    ports.make(cloud, making(target, "internal-net"), no_pulse)
    other = ports.make(cloud, making(longer, "internal-net"), no_pulse)
    ports.remove(cloud, target.job_id, no_pulse)
    ports.remove(cloud, target.job_id, no_pulse)
    assert ports.ports_of(cloud, target.job_id) == []
    assert [port.id for port in ports.ports_of(cloud, longer.job_id)] == [other[0].port_id]


def test_a_mac_that_is_in_use_is_refused_for_good(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net")
    cloud.network.create_port(
        network_id=cloud.network.find_network("internal-net", ignore_missing=False).id, mac_address=order.nics[0].mac
    )
    with pytest.raises(TargetRejected, match="no port for Network adapter 1") as error:
        ports.make(cloud, order, no_pulse)
    assert "is in use" in error.value.because


def test_a_missing_network_is_told_with_those_that_are(cloud: Cloud, target: TargetOrder) -> None:
    with pytest.raises(TargetNotFound, match="no target network is called 'nowhere'") as error:
        ports.make(cloud, making(target, "nowhere"), no_pulse)
    assert "'internal-net'" in error.value.because


def test_the_port_quota_is_told_as_a_quota(cloud: Cloud, cloud_server: CloudServer, target: TargetOrder) -> None:
    before = cloud_server.cloud.project_named(PROJECT).quota.ports
    cloud_server.set_quota(PROJECT, ports=0)
    try:
        with pytest.raises(QuotaExceeded):
            ports.make(cloud, making(target, "internal-net"), no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, ports=before)


# --- what is asked of a port ------------------------------------------------------------------------------------------


def test_a_new_mac_is_neutrons_and_is_told(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net", mac_kept=False)
    (nic,) = ports.make(cloud, order, no_pulse)
    port = cloud.network.get_port(str(nic.port_id))
    assert port.mac_address != nic.mac == order.nics[0].mac
    assert (nic.port_mac, list(nic.port_ips)) == (port.mac_address, addresses(port))
    assert ports.make(cloud, order, no_pulse) == (nic,)


def test_without_a_wish_neutron_gives_an_address_of_each_version(cloud: Cloud, target: TargetOrder, net: Net) -> None:
    assert addresses(one(cloud, making(target, net.name))) == ["10.40.0.10", "2001:db8:40::a"]


def test_asked_addresses_of_both_versions_are_had(cloud: Cloud, target: TargetOrder, net: Net) -> None:
    order = making(target, net.name, fixed_ips=("2001:db8:40::99", "10.40.0.3"))
    assert addresses(one(cloud, order)) == ["2001:db8:40::99", "10.40.0.3"]
    first = ports.make(cloud, order, no_pulse)
    assert ports.make(cloud, order, no_pulse) == first


def test_a_named_subnet_gives_an_address_beside_those_that_are_asked_for(
    cloud: Cloud, target: TargetOrder, net: Net
) -> None:
    order = making(target, net.name, subnet="six", fixed_ips=("10.40.0.3",))
    assert addresses(one(cloud, order)) == ["10.40.0.3", "2001:db8:40::a"]
    assert ports.make(cloud, order, no_pulse) == ports.make(cloud, order, no_pulse)


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"fixed_ips": ("10.41.0.3",)}, "it lies in no subnet that is asked for: 'four 10.40.0.0/24', 'six 2001"),
        ({"fixed_ips": ("2001:db8:41::3",)}, "it lies in no subnet that is asked for"),
        ({"fixed_ips": ("10.40.0.1",)}, "it is the gateway's of subnet four 10.40.0.0/24"),
        ({"fixed_ips": ("10.40.0.0",)}, "it is an address of subnet four 10.40.0.0/24 itself"),
        ({"fixed_ips": ("10.40.0.255",)}, "it is an address of subnet four 10.40.0.0/24 itself"),
    ],
)
def test_an_address_that_does_not_fit_the_subnets_is_refused_with_them(
    cloud: Cloud, target: TargetOrder, net: Net, asked: dict[str, Any], because: str
) -> None:
    with pytest.raises(BadInput, match="cannot be the address of NIC 1 in network") as refused:
        ports.make(cloud, making(target, net.name, **asked), no_pulse)
    assert because in refused.value.because
    assert f"--network-map 'VM Network={net.name}'" in refused.value.do
    assert ports.ports_of(cloud, target.job_id) == []


def test_a_network_without_a_subnet_is_refused_before_the_downtime(cloud: Cloud, target: TargetOrder) -> None:
    network = cloud.network.create_network(name="no-subnet")
    try:
        with pytest.raises(BadInput, match="network 'no-subnet' has no subnet"):
            ports.make(cloud, making(target, "no-subnet"), no_pulse)
    finally:
        cloud.network.delete_network(network.id)


def test_security_groups_go_by_name_or_id(cloud: Cloud, target: TargetOrder, groups: dict[str, str]) -> None:
    port = one(cloud, making(target, "internal-net", security_groups=("web", groups["db"])))
    assert set(port.security_group_ids) == set(groups.values())


def test_without_a_wish_a_port_has_the_default_group(cloud: Cloud, target: TargetOrder) -> None:
    (group,) = one(cloud, making(target, "internal-net")).security_group_ids
    assert cloud.network.get_security_group(group).name == "default"


def test_a_missing_security_group_is_told_with_those_that_are(
    cloud: Cloud, target: TargetOrder, groups: dict[str, str]
) -> None:
    with pytest.raises(TargetNotFound, match="no security group is called 'dmz'") as error:
        ports.make(cloud, making(target, "internal-net", security_groups=("dmz",)), no_pulse)
    assert all(f"'{name}'" in error.value.because for name in groups)


def test_a_name_that_two_security_groups_have_is_refused_with_their_ids(
    cloud: Cloud, target: TargetOrder, groups: dict[str, str]
) -> None:
    twin = cloud.network.create_security_group(name="web")
    try:
        with pytest.raises(BadInput, match="2 security groups are called 'web'") as error:
            ports.make(cloud, making(target, "internal-net", security_groups=("web",)), no_pulse)
        assert groups["web"] in error.value.because
    finally:
        cloud.network.delete_security_group(twin.id)


def test_port_security_off_leaves_every_filter_out(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net", port_security=False)
    port = one(cloud, order)
    assert (port.is_port_security_enabled, port.security_group_ids) == (False, [])
    assert one(cloud, order).id == port.id


# --- found again, replaced, doubled -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "now",
    [
        {"mac_kept": False},
        {"fixed_ips": ("10.40.0.77",)},
        {"security_groups": ("web",)},
        {"security_groups": ()},
        {"port_security": False},
    ],
)
def test_a_port_that_is_not_what_is_asked_for_now_is_replaced(
    cloud: Cloud, target: TargetOrder, net: Net, groups: dict[str, str], now: dict[str, Any]
) -> None:
    assert groups
    order = making(target, net.name)
    first = one(cloud, order)
    second = one(cloud, changed(order, **now))
    assert second.id != first.id
    assert [port.id for port in ports.ports_of(cloud, target.job_id)] == [second.id]


def test_of_two_ports_of_one_nic_the_older_counts_and_the_other_goes(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder
) -> None:
    order = making(target, "internal-net", mac_kept=False)
    first = one(cloud, order)
    cloud_server.cloud.ports[first.id].created -= timedelta(seconds=1)
    cloud.network.create_port(
        network_id=first.network_id, name="of an attempt that raced", description=first.description
    )
    assert one(cloud, order).id == first.id
    assert [port.id for port in ports.ports_of(cloud, target.job_id)] == [first.id]


def test_a_port_that_came_through_after_the_ports_were_listed_is_taken(
    cloud: Cloud, target: TargetOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = making(target, "internal-net")
    late = one(cloud, order)
    listed, looks = ports.ports_of, []

    def too_early(cloud: Cloud, job_id: str) -> list[Port]:
        looks.append(job_id)
        return [] if len(looks) == 1 else listed(cloud, job_id)

    monkeypatch.setattr(ports, "ports_of", too_early)
    assert one(cloud, order).id == late.id


def test_the_port_of_a_nic_that_the_vm_has_no_more_is_removed(cloud: Cloud, target: TargetOrder) -> None:
    order = making(target, "internal-net", "backup-net")
    ports.make(cloud, order, no_pulse)
    (left,) = ports.make(cloud, order.model_copy(update={"nics": order.nics[:1]}), no_pulse)
    assert [port.id for port in ports.ports_of(cloud, target.job_id)] == [left.port_id]


def use(cloud: Cloud, port: Port, user: str, owner: str = "compute:nova") -> None:
    cloud.network.update_port(port.id, device_id=user, device_owner=owner)


@pytest.fixture
def servers(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Instances that Nova knows, by id with their metadata; the test says who they are."""
    known: dict[str, dict[str, str]] = {}
    get = cloud.compute.get_server

    def answer(server: str) -> Server:
        return Server(id=server, name="its name", metadata=known[server]) if server in known else get(server)

    monkeypatch.setattr(cloud.compute, "get_server", answer)
    monkeypatch.setattr(ports, "RELEASE_SECONDS", 0.3)
    return known


def test_the_port_of_the_jobs_own_instance_stays_as_it_is(
    cloud: Cloud, target: TargetOrder, servers: dict[str, dict[str, str]]
) -> None:
    order = making(target, "internal-net")
    first = one(cloud, order)
    servers["s-1"] = {JOB_KEY: target.job_id}
    use(cloud, first, "s-1")
    assert one(cloud, changed(order, mac_kept=False)).id == first.id


def test_a_port_that_was_given_to_something_else_is_refused_with_what_has_it(
    cloud: Cloud, target: TargetOrder, servers: dict[str, dict[str, str]]
) -> None:
    order = making(target, "internal-net")
    servers["s-1"] = {}
    use(cloud, one(cloud, order), "s-1")
    with pytest.raises(TargetRejected, match="NIC 1 cannot have its port") as refused:
        ports.make(cloud, order, no_pulse)
    assert "instance s-1 (its name) uses it" in refused.value.because


def test_a_port_of_an_instance_that_is_gone_is_made_anew(
    cloud: Cloud, target: TargetOrder, servers: dict[str, dict[str, str]]
) -> None:
    assert servers == {}
    order = making(target, "internal-net")
    first = one(cloud, order)
    use(cloud, first, str(uuid.uuid4()))
    assert one(cloud, order).id != first.id
    assert len(ports.ports_of(cloud, target.job_id)) == 1


# --- removed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["compute:nova", "network:router_interface", "baremetal:none", ""])
def test_a_port_that_something_else_uses_is_left_and_told(
    cloud: Cloud, target: TargetOrder, servers: dict[str, dict[str, str]], owner: str
) -> None:
    taken, free = ports.make(cloud, making(target, "internal-net", "backup-net"), no_pulse)
    servers["s-1"] = {}
    use(cloud, cloud.network.get_port(str(taken.port_id)), "s-1", owner)
    removed = ports.remove(cloud, target.job_id, no_pulse)
    assert len(removed.left) == 1
    assert f"port {taken.port_id}" in removed.left[0]
    assert "s-1" in removed.left[0]
    assert [port.id for port in ports.ports_of(cloud, target.job_id)] == [taken.port_id]
    assert cloud.network.find_port(str(free.port_id), ignore_missing=True) is None


def test_a_port_that_the_jobs_instance_still_has_is_not_removed(
    cloud: Cloud, target: TargetOrder, servers: dict[str, dict[str, str]]
) -> None:
    port = one(cloud, making(target, "internal-net"))
    servers["s-1"] = {JOB_KEY: target.job_id}
    use(cloud, port, "s-1")
    with pytest.raises(TargetFault, match="was not removed") as refused:
        ports.remove(cloud, target.job_id, no_pulse)
    assert "instance s-1" in refused.value.because
    use(cloud, port, "", "")
    assert ports.remove(cloud, target.job_id, no_pulse).left == ()
    assert ports.remove(cloud, target.job_id, no_pulse).left == ()


# --- Neutron's refusals -----------------------------------------------------------------------------------------------


def test_an_address_that_is_in_use_is_refused_for_good(cloud: Cloud, target: TargetOrder, net: Net) -> None:
    cloud.network.create_port(network_id=net.network.id, fixed_ips=[{"ip_address": "10.40.0.50"}])
    with pytest.raises(TargetRejected) as error:
        ports.make(cloud, making(target, net.name, fixed_ips=("10.40.0.50",)), no_pulse)
    assert error.value.because.startswith("another port there has one of the addresses 10.40.0.50: IP address")
    assert "openstack port list" in error.value.do


def test_a_mac_that_is_none_is_refused_for_good(cloud: Cloud, target: TargetOrder) -> None:
    with pytest.raises(TargetRejected) as error:
        ports.make(cloud, making(target, "internal-net", mac="00:50:56:zz"), no_pulse)
    assert error.value.because.startswith("00:50:56:zz is no MAC: ")


def test_a_groups_mac_which_neutron_would_take_is_refused(cloud: Cloud, target: TargetOrder) -> None:
    with pytest.raises(TargetRejected) as error:
        ports.make(cloud, making(target, "internal-net", mac="01:54:00:aa:bb:02"), no_pulse)
    assert "multicast" in error.value.because
    assert "mac=new" in error.value.do
    assert one(cloud, making(target, "internal-net", mac="01:54:00:aa:bb:02", mac_kept=False)).mac_address


def test_a_network_that_is_full_is_told_as_one(cloud: Cloud, target: TargetOrder) -> None:
    network = cloud.network.create_network(name="full")
    cloud.network.create_subnet(network_id=network.id, name="tiny", cidr="10.42.0.0/28", ip_version=4)
    try:
        for _ in range(5):
            cloud.network.create_port(network_id=network.id)
        with pytest.raises(TargetRejected) as error:
            ports.make(cloud, making(target, "full"), no_pulse)
        assert error.value.because.startswith("no address of network 'full' is free: ")
    finally:
        for port in cloud.network.ports(network_id=network.id):
            cloud.network.delete_port(port.id)
        cloud.network.delete_network(network.id)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, "the MAC 00:50:56:"),
        ({"mac_kept": False, "fixed_ips": ("10.78.0.50",)}, "the address 10.78.0.50"),
        ({"mac_kept": False, "port_security": False}, "port security off"),
    ],
)
def test_what_only_the_networks_owner_may_choose_is_told_with_what_to_type(
    cloud: Cloud, target: TargetOrder, asked: dict[str, Any], chosen: str
) -> None:
    with pytest.raises(TargetRejected, match="no port for Network adapter 1") as error:
        ports.make(cloud, making(target, "provider-net", **asked), no_pulse)
    assert error.value.because.startswith(f"this project may not choose {chosen}")
    assert "disallowed by policy" in error.value.because
    assert "network's owner" in error.value.means
    assert "--network-map 'VM Network=provider-net,mac=new'" in error.value.do


def test_what_a_member_may_have_in_another_projects_network_is_had(cloud: Cloud, target: TargetOrder) -> None:
    assert one(cloud, making(target, "provider-net", mac_kept=False, subnet="provider-subnet")).fixed_ips
