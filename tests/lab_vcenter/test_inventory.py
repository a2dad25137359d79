"""What the inventory shows of the host's machines."""

from __future__ import annotations

import pytest

from lab.vcenter.hardware import chain_of, slot
from lab.vcenter.inventory import escaped
from tests.lab_vcenter.client import Remote, change_id_of, disks_of, snapshot_of, turn_tracking, vim, vmodl, wait_for
from tests.lab_vcenter.conftest import Lab


def test_the_first_machine_is_vm_101(web: Remote, database: Remote) -> None:
    assert (web._moId, database._moId) == ("vm-101", "vm-102")
    assert web.name == "web01"


def test_a_vm_is_found_by_path_and_by_both_uuids(service: Remote, web: Remote) -> None:
    index = service.content.searchIndex
    config = web.config
    assert index.FindByUuid(None, config.uuid, True, False) == web  # noqa: FBT003 - the API's parameters
    assert index.FindByUuid(None, config.instanceUuid.upper(), True, True) == web  # noqa: FBT003 - the same
    assert list(index.FindAllByUuid(None, config.instanceUuid, True, True)) == [web]  # noqa: FBT003 - the same
    assert index.FindByUuid(None, config.instanceUuid, True, False) is None  # noqa: FBT003 - the same
    assert index.FindByInventoryPath("lab-dc/vm/nothing") is None
    assert index.FindByInventoryPath("lab-dc/vm/WEB01") == web


def test_the_parents_lead_from_the_vm_to_the_root_folder(web: Remote) -> None:
    names = []
    entity = web
    while entity is not None:
        names.append(entity.name)
        entity = entity.parent
    assert names == ["web01", "vm", "lab-dc", "Datacenters"]


def test_names_with_separators_are_escaped_as_vsphere_does() -> None:
    assert escaped("a/b%c\\d") == "a%2fb%25c%5cd"


def test_a_disk_tells_key_slot_size_file_and_datastore(database: Remote) -> None:
    disks = disks_of(database.config)
    controllers = {
        one.key: one
        for one in database.config.hardware.device
        if isinstance(one, vim.vm.device.ParaVirtualSCSIController)
    }
    assert sorted(disks) == [2000, 2001]
    second = disks[2001]
    assert second.deviceInfo.label == "Hard disk 2"
    assert second.capacityInBytes == 1 << 20
    assert second.capacityInKB == 1 << 10
    assert controllers[second.controllerKey].busNumber == 0
    assert second.unitNumber == 1
    assert isinstance(second.backing, vim.vm.device.VirtualDisk.FlatVer2BackingInfo)
    assert second.backing.fileName == "[ds1] db01/db01_1.vmdk"
    assert second.backing.diskMode == "persistent"
    assert second.backing.datastore.name == "ds1"
    assert second.backing.parent is None


def test_no_disk_is_on_the_controllers_own_unit() -> None:
    slots = [slot(position) for position in range(31)]
    assert all(unit != 7 for _, unit in slots)
    assert len(set(slots)) == 31
    assert (slots[6], slots[7], slots[14], slots[15]) == ((0, 6), (0, 8), (0, 15), (1, 0))


def test_a_nic_tells_mac_and_network(database: Remote) -> None:
    nics = [one for one in database.config.hardware.device if isinstance(one, vim.vm.device.VirtualVmxnet3)]
    assert [(nic.key, nic.macAddress, nic.backing.deviceName) for nic in nics] == [
        (4000, "00:50:56:aa:00:00", "VM Network"),
        (4001, "00:50:56:aa:00:01", "Backup"),
    ]
    assert {network.name for network in database.network} == {"VM Network", "Backup"}
    assert nics[1].backing.network.name == "Backup"


def test_the_settings_of_a_vm(web: Remote) -> None:
    config = web.config
    assert (config.version, config.firmware, config.guestId) == ("vmx-19", "bios", "debian12_64Guest")
    assert config.guestFullName == "Debian GNU/Linux 12 (64-bit)"
    assert config.hardware.memoryMB == 1024
    assert web.capability.changeTrackingSupported
    assert web.runtime.host.name == "esxi-1.lab"
    assert web.summary.config.numVirtualDisks == 1
    assert web.snapshot is None


def test_the_network_and_the_datastore_know_their_vms(service: Remote, web: Remote, database: Remote) -> None:
    datacenter = service.content.rootFolder.childEntity[0]
    names = {network.name: list(network.vm) for network in datacenter.network}
    assert names == {"VM Network": [web, database], "Backup": [database]}
    assert list(datacenter.datastore[0].vm) == [web, database]
    assert datacenter.datastore[0].summary.capacity > 1 << 40


def test_consolidation_is_needed_until_it_is_done(lab: Lab, web: Remote, database: Remote) -> None:
    lab.server.faults.consolidation_needed.add("web01")
    assert web.runtime.consolidationNeeded
    assert not database.runtime.consolidationNeeded
    wait_for(web.ConsolidateDisks())
    assert not web.runtime.consolidationNeeded


def test_reconfiguring_sets_the_annotation_and_nothing_that_was_not_asked_for(lab: Lab, web: Remote) -> None:
    turn_tracking(web, on=True)
    wait_for(web.Reconfigure(vim.vm.ConfigSpec(annotation="migrated by warm-lab-web01")))
    assert web.config.annotation == "migrated by warm-lab-web01"
    assert lab.web.annotation == "migrated by warm-lab-web01"
    assert web.config.changeTrackingEnabled
    assert {option.key: option.value for option in web.config.extraConfig} == {
        "ctkEnabled": "TRUE",
        "scsi0:0.ctkEnabled": "TRUE",
    }


def test_a_setting_that_the_stand_in_cannot_change_is_refused(web: Remote) -> None:
    with pytest.raises(vmodl.fault.NotSupported, match="memoryMB"):
        web.Reconfigure(vim.vm.ConfigSpec(memoryMB=1024))


def test_a_snapshot_freezes_the_files_and_the_live_disk_gets_a_new_one(web: Remote) -> None:
    first, second = snapshot_of(web, "first"), snapshot_of(web, "second")
    live = disks_of(web.config)[2000].backing
    assert disks_of(first.config)[2000].backing.fileName == "[ds1] web01/web01.vmdk"
    assert disks_of(second.config)[2000].backing.fileName == "[ds1] web01/web01-000001.vmdk"
    assert live.fileName == "[ds1] web01/web01-000002.vmdk"
    assert live.parent.parent.fileName == "[ds1] web01/web01.vmdk"
    wait_for(first.Remove(removeChildren=False))
    assert disks_of(second.config)[2000].backing.fileName == "[ds1] web01/web01.vmdk"


def test_the_chain_begins_with_the_file_that_is_written() -> None:
    assert chain_of("[ds] a/a.vmdk", [1, 3]) == ("[ds] a/a-000003.vmdk", "[ds] a/a-000001.vmdk", "[ds] a/a.vmdk")


def test_the_live_disk_tells_a_change_id_of_its_own(web: Remote) -> None:
    turn_tracking(web, on=True)
    snapshot = snapshot_of(web)
    live = disks_of(web.config)[2000].backing
    assert live.changeId
    assert live.changeId != change_id_of(snapshot)
    assert live.parent.changeId is None


def test_an_object_that_does_not_exist_is_not_found(service: Remote) -> None:
    for ghost in (vim.VirtualMachine("vm-999", service._stub), vim.vm.Snapshot("snapshot-101-9", service._stub)):
        with pytest.raises(vmodl.fault.ManagedObjectNotFound) as caught:
            _ = ghost.config
        assert caught.value.obj == ghost
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = vim.Task("task-999", service._stub).info
