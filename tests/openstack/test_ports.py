"""A job's ports."""

from __future__ import annotations

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT
from xms.errors import QuotaExceeded, TargetNotFound, TargetRejected
from xms.models import Nic
from xms.openstack import ports
from xms.openstack.cloud import Cloud
from xms.orders.target import MakePorts, TargetOrder
from xms.pulse import no_pulse


def a_mac() -> str:
    COUNTER.append(0)
    return f"00:50:56:00:{len(COUNTER) // 256:02x}:{len(COUNTER) % 256:02x}"


COUNTER: list[int] = []


def making(target: TargetOrder, *networks: str, subnet: str | None = None) -> MakePorts:
    return MakePorts(
        target=target,
        instance_name="db-prod-01",
        nics=tuple(
            Nic(
                key=4000 + place,
                label=f"Network adapter {place + 1}",
                mac=a_mac(),
                source_network="VM Network",
                network=network,
                subnet=subnet,
            )
            for place, network in enumerate(networks)
        ),
    )


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


def test_a_mac_on_a_network_of_another_project_is_refused_with_what_to_do(cloud: Cloud, target: TargetOrder) -> None:
    with pytest.raises(TargetRejected, match="no port for Network adapter 1") as error:
        ports.make(cloud, making(target, "provider-net"), no_pulse)
    assert "may not choose the MAC" in error.value.because
    assert "administrator" in error.value.do


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
