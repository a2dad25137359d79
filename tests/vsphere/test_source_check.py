"""The check of a source: what it is, what its account lacks by name, and which hosts serve it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.vcenter import authorization
from lab.vcenter.certificate import make
from tests.vsphere.conftest import AVcenter, a_vcenter
from xms.errors import ConfigurationError, XmsError
from xms.orders.source import MarkMigrated, MissingPrivilege, PowerOff, SourceHost
from xms.pulse import no_pulse
from xms.transport.reachability import reach_hosts
from xms.vsphere import power
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.inventory import find_vm, list_vms
from xms.vsphere.privileges import NEEDED
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.shown_certificate import shown_certificate
from xms.vsphere.snapshots import remove_snapshots, take_snapshot
from xms.vsphere.source_check import look_at
from xms.vsphere.trust import thumbprint_of, verified_certificate


def test_a_check_tells_product_version_build_api_and_time(session: VsphereSession) -> None:
    report = look_at(session)
    assert (report.source, report.product, report.version) == ("lab", "VMware vCenter Server", "8.0.3")
    assert (report.build, report.api, report.api_version) == ("24022515", "VirtualCenter", "8.0.3.0")
    assert report.time is not None
    assert abs((report.time - datetime.now(UTC)).total_seconds()) < 5
    assert abs(report.clock_ahead_seconds) < 5
    assert report.missing_privileges == ()


def test_a_check_names_each_missing_privilege_its_reason_and_the_place(
    session: VsphereSession, vcenter: AVcenter
) -> None:
    withheld = {"VirtualMachine.State.CreateSnapshot", "VirtualMachine.Interact.PowerOn", "Global.Licenses"}
    vcenter.server.faults.withheld_privileges = withheld
    assert look_at(session).missing_privileges == (
        MissingPrivilege(
            privilege="VirtualMachine.State.CreateSnapshot",
            needed_for="every sync reads from a snapshot",
            where=("lab-dc",),
        ),
        MissingPrivilege(
            privilege="VirtualMachine.Interact.PowerOn",
            needed_for="a cutover that failed starts the VM again",
            where=("lab-dc",),
        ),
    )


def test_a_check_looks_at_the_configured_datacenter_alone(vcenter: AVcenter) -> None:
    there = vcenter.config.model_copy(update={"datacenter": "lab-dc"})
    with connect("lab", there) as session:
        assert [host.name for host in look_at(session).hosts] == ["esxi-1.lab"]
    nowhere = vcenter.config.model_copy(update={"datacenter": "moon"})
    with pytest.raises(ConfigurationError, match="no datacenter called 'moon'"), connect("lab", nowhere) as session:
        look_at(session)


def whole_life(session: VsphereSession, vcenter: AVcenter) -> None:
    """Every call of vSphere that a migration makes, the log-in and the reads aside."""
    order = vcenter.order
    enable_change_tracking(session, order, pulse=no_pulse)
    taken = take_snapshot(session, order, pulse=no_pulse)
    query = ChangeQuery(vm=order, snapshot=taken.moref, disk=taken.disks[0])
    list(query_changes(session, query, since=ALLOCATED, pulse=no_pulse))
    vcenter.server.faults.consolidation_needed.add("web")
    remove_snapshots(session, order, pulse=no_pulse)
    power.power_off(session, PowerOff(vm=order), pulse=no_pulse)
    power.power_on(session, order, pulse=no_pulse)
    power.mark_migrated(session, MarkMigrated(vm=order, text="moved"), pulse=no_pulse)


def test_a_migration_needs_no_privilege_beside_those_that_a_check_looks_for(
    session: VsphereSession, vcenter: AVcenter
) -> None:
    every = {*authorization.NEEDED.values(), *authorization.TO_READ_DISKS}
    assert every <= set(NEEDED)
    vcenter.server.faults.withheld_privileges = {"VirtualMachine.Config.AdvancedConfig"}
    whole_life(session, vcenter)


BY_VDDK = set(authorization.TO_READ_DISKS) - {"VirtualMachine.Provisioning.DiskRandomRead"}


@pytest.mark.parametrize("privilege", sorted(set(NEEDED) - BY_VDDK))
def test_without_any_one_of_them_a_call_is_refused_and_the_privilege_named(
    session: VsphereSession, vcenter: AVcenter, privilege: str
) -> None:
    vcenter.server.faults.withheld_privileges = {privilege}
    with pytest.raises(XmsError) as refused:
        whole_life(session, vcenter)
    assert f"NoPermission: Permission to perform this operation was denied.; the account lacks {privilege}" in str(
        refused.value
    )


# --- the hosts --------------------------------------------------------------------------------------------------------


def test_a_check_names_the_hosts_and_whether_vcenter_is_connected_to_them(session: VsphereSession) -> None:
    assert look_at(session).hosts == (SourceHost(name="esxi-1.lab", connection="connected"),)


def test_a_host_whose_transport_port_is_open_is_reached_and_the_others_say_why_not() -> None:
    hosts = (
        SourceHost(name="127.0.0.1", connection="connected"),
        SourceHost(name="esxi-9.invalid", connection="connected"),
        SourceHost(name="127.0.0.1", connection="notResponding"),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = reach_hosts(hosts, port)
    assert [host.reachable for host in found] == [True, False, None]
    assert found[1].because == "its name cannot be resolved"
    assert found[2].because == "vCenter says that it is notResponding"
    (closed,) = reach_hosts(hosts[:1], port)
    assert not closed.reachable
    assert closed.because == f"port {port}: Connection refused"


# --- an ESXi host of its own ------------------------------------------------------------------------------------------


@pytest.fixture
def esxi(tmp_path: Path) -> Iterator[AVcenter]:
    with a_vcenter(tmp_path, standalone=True) as running:
        yield running


def test_an_esxi_host_without_a_vcenter_is_a_source(esxi: AVcenter) -> None:
    with connect("lab", esxi.config) as session:
        report = look_at(session)
        assert (report.product, report.api, report.missing_privileges) == ("VMware ESXi", "HostAgent", ())
        assert [vm.path for vm in list_vms(session)][-1] == "/ha-datacenter/vm/web"
        assert find_vm(session, "web").name == "web"
        whole_life(session, esxi)


def test_on_an_esxi_host_only_its_own_datacenter_can_be_configured(esxi: AVcenter) -> None:
    own = esxi.config.model_copy(update={"datacenter": "ha-datacenter"})
    with connect("lab", own) as session:
        assert len(list_vms(session)) == 4
    other = esxi.config.model_copy(update={"datacenter": "Frankfurt"})
    with pytest.raises(ConfigurationError) as refused, connect("lab", other):
        pass
    assert "no datacenter called 'Frankfurt'" in refused.value.what
    assert "ESXi host without a vCenter" in refused.value.because
    assert esxi.server.sessions == 0


# --- certificates -----------------------------------------------------------------------------------------------------


def test_a_ca_bundle_that_vouches_for_the_server_and_its_name_is_enough(tmp_path: Path) -> None:
    with a_vcenter(tmp_path, names=("127.1",)) as vcenter:
        pem = (tmp_path / "vcenter.pem").read_text()
        bundle = tmp_path / "ca.pem"
        bundle.write_text(pem[pem.index("-----BEGIN CERTIFICATE") :])
        trusting = vcenter.config.model_copy(update={"thumbprint": None, "ca_file": bundle})
        with connect("lab", trusting) as session:
            assert len(list_vms(session)) == 4
        assert thumbprint_of(verified_certificate("lab", trusting)) == vcenter.config.thumbprint


def test_a_server_that_shows_another_certificate_later_is_refused_by_the_handshake(
    tmp_path: Path, vcenter: AVcenter
) -> None:
    with connect("lab", vcenter.config) as session:
        list_vms(session)
        make(tmp_path / "other.pem", ["vcenter.lab"])
        listener: Any = vcenter.server._server.socket
        listener.context.load_cert_chain(tmp_path / "other.pem")
        vcenter.server._server.end_connections()
        session._shared._login._transport.DropConnections()  # type: ignore[union-attr]
        with pytest.raises(Exception, match="is not trusted"):
            list_vms(session)


def test_a_certificate_is_shown_with_subject_validity_and_thumbprint(vcenter: AVcenter) -> None:
    shown = shown_certificate("127.1", vcenter.server.port, timeout_seconds=5)
    assert shown.thumbprint == vcenter.config.thumbprint
    assert (shown.subject, shown.issuer, shown.names) == ("CN=vcenter.lab", "CN=vcenter.lab", ("vcenter.lab",))
    assert shown.valid_from < datetime.now(UTC) < shown.valid_until
    assert vcenter.server.sessions == 0
