"""Discovery: what is told of a VM, and how one is found."""

from __future__ import annotations

import pytest

from tests.vsphere.conftest import AVcenter
from xms.errors import ConfigurationError, VmNotFound
from xms.vsphere import inventory
from xms.vsphere.bindings import vim
from xms.vsphere.inventory import find_vm, list_vms
from xms.vsphere.session import VsphereSession, connect


def a_distributed_port(portgroup: str) -> object:
    port = vim.dvs.PortConnection(switchUuid="50 2e", portgroupKey=portgroup)
    return vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)


def test_every_vm_is_listed_by_its_path(session: VsphereSession) -> None:
    assert [vm.path for vm in list_vms(session)] == [
        "/lab-dc/vm/db%2fprod",
        "/lab-dc/vm/twin",
        "/lab-dc/vm/twin",
        "/lab-dc/vm/web",
    ]


def test_a_vm_is_described(session: VsphereSession, vcenter: AVcenter) -> None:
    vm = find_vm(session, "web")
    assert (vm.moref, vm.name, vm.path) == ("vm-101", "web", "/lab-dc/vm/web")
    assert (vm.cpus, vm.memory, vm.power_state, vm.tools_running) == (2, 1 << 30, "poweredOn", True)
    assert (vm.firmware, vm.secure_boot, vm.hardware_version) == ("bios", False, "vmx-19")
    assert (vm.guest_id, vm.guest_name) == ("debian12_64Guest", "Debian GNU/Linux 12 (64-bit)")
    assert (vm.change_tracking_supported, vm.change_tracking_enabled) == (True, False)
    assert len(vm.instance_uuid) == 36
    assert [(disk.key, disk.label, disk.capacity, disk.path, disk.change_id) for disk in vm.disks] == [
        (2000, "Hard disk 1", 1 << 30, "[ds1] web/web.vmdk", None),
        (2001, "Hard disk 2", 1 << 30, "[ds1] web/web_1.vmdk", None),
    ]
    assert [(nic.key, nic.label, nic.mac, nic.network) for nic in vm.nics] == [
        (4000, "Network adapter 1", "00:50:56:aa:00:00", "VM Network"),
        (4001, "Network adapter 2", "00:50:56:aa:00:01", "Backup"),
    ]
    assert (vm.consolidation_needed, vm.snapshots) == (False, ())
    vcenter.server.faults.consolidation_needed.add("web")
    vcenter.web.create_snapshot()
    vcenter.web.create_snapshot()
    again = find_vm(session, "web")
    assert (again.consolidation_needed, again.snapshots) == (True, ("Snapshot 1", "Snapshot 2"))


def test_a_vm_is_found_by_its_path(session: VsphereSession) -> None:
    assert find_vm(session, "/lab-dc/vm/web").moref == "vm-101"


def test_a_name_with_a_slash_is_found_as_people_typed_it(session: VsphereSession) -> None:
    vm = find_vm(session, "db/prod")
    assert (vm.moref, vm.name) == ("vm-102", "db/prod")


def test_an_unknown_name_is_answered_with_the_close_ones(session: VsphereSession) -> None:
    with pytest.raises(VmNotFound, match="has no VM called 'webb'") as missing:
        find_vm(session, "webb")
    assert missing.value.because == "it has 4 VMs, among them web"


def test_where_no_name_is_close_some_are_listed(session: VsphereSession) -> None:
    with pytest.raises(VmNotFound) as missing:
        find_vm(session, "xxxxxxxxxxxx")
    assert missing.value.because == "it has 4 VMs, among them db/prod, twin, web"


def test_a_name_that_several_vms_have_is_refused_with_their_paths(session: VsphereSession) -> None:
    with pytest.raises(VmNotFound, match="the name of 2 VMs") as ambiguous:
        find_vm(session, "twin")
    assert "/lab-dc/vm/twin" in ambiguous.value.because


def test_the_datacenter_of_the_configuration_is_the_scope(vcenter: AVcenter) -> None:
    with connect("lab", vcenter.config.model_copy(update={"datacenter": "lab-dc"})) as session:
        assert len(list_vms(session)) == 4


def test_an_unknown_datacenter_is_refused_with_the_known_ones(vcenter: AVcenter) -> None:
    with connect("lab", vcenter.config.model_copy(update={"datacenter": "moon"})) as session:
        with pytest.raises(ConfigurationError, match="no datacenter called 'moon'") as refused:
            list_vms(session)
        assert refused.value.because == "it has lab-dc"


@pytest.mark.parametrize(
    ("backing", "network"),
    [
        (vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network"), "VM Network"),
        (a_distributed_port("dvportgroup-7"), "Production / 12"),
        (a_distributed_port("dvportgroup-8"), "dvportgroup-8"),
        (
            vim.vm.device.VirtualEthernetCard.OpaqueNetworkBackingInfo(
                opaqueNetworkId="segment-1", opaqueNetworkType="nsx.LogicalSwitch"
            ),
            "segment-1",
        ),
    ],
)
def test_a_nic_tells_its_network_whatever_switch_it_is_on(backing: object, network: str) -> None:
    card = vim.vm.device.VirtualVmxnet3(key=4000, backing=backing)
    assert inventory._network_of(card, {"dvportgroup-7": "Production / 12"}) == network


def test_a_vm_that_was_renamed_is_found_by_its_reference(session: VsphereSession) -> None:
    vm = find_vm(session, "its old name", "vm-101")
    assert (vm.moref, vm.name) == ("vm-101", "web")


def test_a_reference_to_a_vm_that_is_gone_is_told_as_such(session: VsphereSession) -> None:
    with pytest.raises(VmNotFound):
        find_vm(session, "web", "vm-999")
