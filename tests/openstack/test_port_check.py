"""What a preflight says of the ports that a VM would get, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import a_spec, a_vm
from tests.openstack.test_preflight import WANTED, preflight, subject
from xms.config import TargetConfig
from xms.errors import BadInput, TargetRejected, TargetUnreachable
from xms.models import NetworkMapping, Nic
from xms.openstack import port_rights, ports
from xms.openstack.check import check_target
from xms.openstack.cloud import Cloud
from xms.orders.preflight import Finding, PreflightReport, Severity, Subject, TargetWanted
from xms.orders.target import CheckTarget, MakePorts, TargetOrder
from xms.pulse import no_pulse

BACKUP = NetworkMapping(source="Backup", network="backup-net", mac="new")


def mapped(network: str = "internal-net", **options: Any) -> TargetWanted:  # noqa: ANN401 - fields of NetworkMapping
    first = NetworkMapping(source="VM Network", network=network, **options)
    return WANTED.model_copy(update={"network_map": (first, BACKUP)})


def with_addresses(*addresses: str) -> Subject:
    found = subject()
    first, second = found.vm.nics
    nics = (first.model_copy(update={"addresses": addresses}), second)
    return found.model_copy(update={"vm": found.vm.model_copy(update={"nics": nics})})


def finding(report: PreflightReport, rule: str) -> Finding | None:
    return next((found for found in report.vms[0].findings if found.rule == rule), None)


def blocked(report: PreflightReport, rule: str = "network.port") -> Finding:
    found = finding(report, rule)
    assert found is not None
    assert found.severity is Severity.BLOCK
    assert report.vms[0].target is None
    return found


def project_ports(cloud: Cloud) -> set[str]:
    return {str(port.id) for port in cloud.network.ports(project_id=cloud.project_id)}


@pytest.fixture
def provider_net(cloud_server: CloudServer, cloud: Cloud) -> Iterator[Callable[..., None]]:
    """Change the network of another project as its administrator may, until the test is over."""
    network = cloud.network.find_network("provider-net", ignore_missing=False)
    before = cloud_server.cloud.networks[network.id]

    def change(**attributes: Any) -> None:  # noqa: ANN401 - attributes of the stand-in's network
        cloud_server.change_network(network.id, **attributes)

    yield change
    cloud_server.change_network(
        network.id, **{name: getattr(before, name) for name in ("up", "external", "mtu", "shared")}
    )


# --- what may be chosen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "chosen", "typed"),
    [
        ({}, "the MAC of the port", "VM Network=provider-net,mac=new'"),
        ({"mac": "new", "fixed_ips": ("10.78.0.50",)}, "the address of the port", "VM Network=provider-net,mac=new'"),
        ({"mac": "new", "port_security": False}, "the port security of the port", "VM Network=provider-net,mac=new'"),
        (
            {"fixed_ips": ("10.78.0.50",), "subnet": "provider-subnet", "security_groups": ("default",)},
            "the MAC and the address of the port",
            "VM Network=provider-net/provider-subnet,mac=new,security-groups=default'",
        ),
    ],
)
def test_what_another_projects_network_refuses_blocks_with_what_to_type_to_go_on_without(
    cloud: Cloud, target_config: TargetConfig, options: dict[str, Any], chosen: str, typed: str
) -> None:
    before = project_ports(cloud)
    found = blocked(preflight(target_config, mapped("provider-net", **options)))
    assert found.found.startswith(chosen)
    assert "which belongs to another project" in found.found
    assert "disallowed by policy" in found.because
    assert f"go on without: --network-map '{typed}" in found.do
    assert project_ports(cloud) == before


def test_what_is_typed_to_go_on_without_passes_and_the_new_mac_is_a_warning(target_config: TargetConfig) -> None:
    report = preflight(target_config, mapped("provider-net", mac="new"))
    assert finding(report, "network.port") is None
    warned = finding(report, "network.new-mac")
    assert warned is not None
    assert warned.severity is Severity.WARN


def test_asking_for_the_rights_makes_no_port_where_they_are_given(cloud: Cloud, target_config: TargetConfig) -> None:
    before = project_ports(cloud)
    report = preflight(target_config, mapped(fixed_ips=("10.20.0.200",), port_security=False, security_groups=()))
    assert finding(report, "network.port") is None
    assert project_ports(cloud) == before


def test_a_neutron_that_made_the_port_in_spite_of_its_group_is_not_left_with_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = cloud.network.create_port

    def careless(**attributes: Any) -> object:  # noqa: ANN401 - Neutron's attributes
        attributes.pop("security_groups")
        return create(**attributes)

    monkeypatch.setattr(cloud.network, "create_port", careless)
    before = project_ports(cloud)
    network = cloud.network.find_network("internal-net", ignore_missing=False)
    assert port_rights.refusal(cloud, network, mac_address="00:50:56:00:ff:01") == ""
    assert project_ports(cloud) == before


def test_a_cloud_that_does_not_answer_is_not_taken_for_one_that_allows(cloud: Cloud, cloud_server: CloudServer) -> None:
    network = cloud.network.find_network("internal-net", ignore_missing=False)
    cloud_server.faults.refuse("network", times=50)
    try:
        with pytest.raises(TargetUnreachable, match="it is not known what may be chosen"):
            port_rights.refusal(cloud, network, mac_address="00:50:56:00:ff:01")
    finally:
        cloud_server.faults.refuse("network", times=0)


# --- addresses, MACs, groups, the network -----------------------------------------------------------------------------


def test_the_addresses_that_the_guest_has_are_kept_where_they_fit(target_config: TargetConfig) -> None:
    report = preflight(target_config, mapped(fixed_ips="keep"), with_addresses("10.20.0.201"))
    checked = report.vms[0].target
    assert checked is not None
    assert checked.nics[0].fixed_ips == ("10.20.0.201",)
    assert finding(report, "network.new-address") is None


def test_an_address_that_is_not_kept_is_noted_with_how_to_keep_it(target_config: TargetConfig) -> None:
    noted = finding(preflight(target_config, mapped(), with_addresses("10.1.0.5")), "network.new-address")
    assert noted is not None
    assert noted.severity is Severity.NOTE
    assert "Network adapter 1 has 10.1.0.5" in noted.found
    assert "ip=keep" in noted.do


def test_addresses_that_nobody_reported_cannot_be_kept(target_config: TargetConfig) -> None:
    found = blocked(preflight(target_config, mapped(fixed_ips="keep")), "network.mapping")
    assert found.found == "the addresses of NIC 1 of db-prod-01 cannot be kept"
    assert "--network-map 'VM Network=internal-net'" in found.do


def test_an_address_outside_of_the_subnets_blocks(target_config: TargetConfig) -> None:
    found = blocked(preflight(target_config, mapped(fixed_ips="keep"), with_addresses("10.1.0.5")))
    assert found.found == "10.1.0.5 cannot be the address of NIC 1 in network 'internal-net'"
    assert "'internal-subnet 10.20.0.0/24'" in found.because


def test_an_address_or_a_mac_that_the_projects_own_ports_have_blocks(cloud: Cloud, target_config: TargetConfig) -> None:
    network = cloud.network.find_network("internal-net", ignore_missing=False)
    port = cloud.network.create_port(
        network_id=network.id,
        name="a neighbour's",
        mac_address=a_vm().nics[0].mac,
        fixed_ips=[{"ip_address": "10.20.0.202"}],
    )
    try:
        mac = blocked(preflight(target_config, mapped()))
        address = blocked(preflight(target_config, mapped(mac="new", fixed_ips=("10.20.0.202",))))
        assert mac.found == "the MAC 00:50:56:9a:11:02 of NIC 1 is in use in network 'internal-net'"
        assert address.found == "10.20.0.202 is in use in network 'internal-net', where NIC 1 would have it"
        assert f"port {port.id} (a neighbour's)" in mac.because == address.because
    finally:
        cloud.network.delete_port(port.id)


def test_the_ports_that_the_job_has_made_already_are_in_nobodys_way(cloud: Cloud, target_config: TargetConfig) -> None:
    job = TargetOrder(job_id="warm-prod-db-prod-01", target_project="infra")
    spec = a_spec()
    checked = check_target(cloud, target_config, CheckTarget(spec=spec, vm=a_vm()))
    ports.make(cloud, MakePorts(target=job, instance_name="db-prod-01", nics=checked.nics), no_pulse)
    try:
        check_target(cloud, target_config, CheckTarget(spec=spec, vm=a_vm(), for_cutover=True))
    finally:
        ports.remove(cloud, job.job_id, no_pulse)


def test_a_missing_security_group_blocks(target_config: TargetConfig) -> None:
    assert blocked(preflight(target_config, mapped(security_groups=("dmz",)))).found == (
        "no security group is called 'dmz'"
    )


def test_groups_without_port_security_block(target_config: TargetConfig) -> None:
    report = preflight(target_config, mapped(security_groups=("default",), port_security=False))
    assert "cannot have security groups without port security" in blocked(report, "network.mapping").found


def test_a_groups_mac_blocks_with_the_way_to_a_new_one(target_config: TargetConfig) -> None:
    found = subject()
    nics = (found.vm.nics[0].model_copy(update={"mac": "01-50-56-9A-11-02"}), found.vm.nics[1])
    odd = found.model_copy(update={"vm": found.vm.model_copy(update={"nics": nics})})
    block = blocked(preflight(target_config, mapped(), odd), "network.mapping")
    assert "the MAC 01:50:56:9a:11:02 of NIC 1 of db-prod-01 cannot be kept" in block.found
    assert "--network-map 'VM Network=internal-net,mac=new'" in block.do
    assert finding(preflight(target_config, mapped(mac="new"), odd), "network.mapping") is None


def test_one_address_is_not_given_to_two_nics(target_config: TargetConfig) -> None:
    found = subject()
    nics = tuple(nic.model_copy(update={"network": "VM Network"}) for nic in found.vm.nics)
    twins = found.model_copy(update={"vm": found.vm.model_copy(update={"nics": nics})})
    both = NetworkMapping(source="VM Network", network="internal-net", fixed_ips=("10.20.0.9",))
    block = blocked(
        preflight(target_config, WANTED.model_copy(update={"network_map": (both,)}), twins), "network.mapping"
    )
    assert block.found == "10.20.0.9 cannot be the address of 2 NICs of db-prod-01"
    assert "'Network adapter 1=internal-net,ip=ADDRESS'" in block.do


def test_an_external_network_that_is_not_shared_blocks(
    cloud: Cloud, cloud_server: CloudServer, target_config: TargetConfig
) -> None:
    network = cloud.network.create_network(name="outside")
    cloud.network.create_subnet(network_id=network.id, name="outside-subnet", cidr="10.43.0.0/24", ip_version=4)
    cloud_server.change_network(network.id, external=True)
    try:
        assert "no instance may be in network 'outside'" in blocked(preflight(target_config, mapped("outside"))).found
    finally:
        cloud.network.delete_network(network.id)


def test_a_network_that_is_down_warns_and_one_with_small_packets_is_noted(
    provider_net: Callable[..., None], target_config: TargetConfig
) -> None:
    provider_net(up=False, mtu=1450)
    report = preflight(target_config, mapped("provider-net", mac="new"))
    down, small = finding(report, "network.target-down"), finding(report, "network.mtu")
    assert down is not None
    assert down.found == "'provider-net' is down (Network adapter 1)"
    assert small is not None
    assert small.found == "'provider-net' takes 1450 bytes (Network adapter 1)"


# --- at the cutover ---------------------------------------------------------------------------------------------------


def test_a_guest_that_is_off_keeps_the_addresses_that_it_had_when_it_was_last_seen(
    cloud: Cloud, target_config: TargetConfig
) -> None:
    keep = NetworkMapping(source="VM Network", network="internal-net", fixed_ips="keep")
    spec = a_spec().model_copy(update={"network_map": (keep, BACKUP)})
    running = with_addresses("10.20.0.203").vm
    known = check_target(cloud, target_config, CheckTarget(spec=spec, vm=running)).nics
    later = CheckTarget(spec=spec, vm=a_vm(), for_cutover=True, known=known)
    assert check_target(cloud, target_config, later).nics == known
    with pytest.raises(BadInput, match="cannot be kept"):
        check_target(cloud, target_config, later.model_copy(update={"known": ()}))


def test_a_nic_of_an_older_record_has_what_ports_were_like_then() -> None:
    old = {"key": 4000, "label": "Network adapter 1", "mac": "00:50:56:9a:11:02", "source_network": "LAN"}
    nic = Nic.model_validate(old)
    assert (nic.mac_kept, nic.fixed_ips, nic.security_groups, nic.port_security) == (True, (), None, None)


def test_what_preflight_blocks_the_cutover_would_be_refused(cloud: Cloud, target: TargetOrder) -> None:
    nic = Nic(
        key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", source_network="LAN", network="provider-net"
    )
    with pytest.raises(TargetRejected):
        ports.make(cloud, MakePorts(target=target, instance_name="web", nics=(nic,)), no_pulse)
