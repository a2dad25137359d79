"""Inventories larger than the lab's: datacenters, clusters, hosts, nested folders, distributed switches, 1,000 VMs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.esxi.memory import MemoryHost, MemoryMachine, a_machine
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from lab.vcenter.shape import DatacenterShape, Placement, Shape, large_shape
from tests.lab_vcenter.client import USERS, Remote, connected, vim
from xms.config import SourceConfig
from xms.errors import VmNotFound
from xms.vsphere.inventory import find_vm, list_vms
from xms.vsphere.session import connect

MANY = 1000
CPU_SECONDS = 5.0
"""For the list of 1,000 VMs, server and client together; 2.8 were measured on a busy machine."""

ENTITY = vim.ManagedEntity


def a_machine_on(datastore: str, name: str, *, networks: Sequence[str] = ("VM Network",)) -> MemoryMachine:
    machine = a_machine(name, networks=networks)
    (disk,) = machine.spec.disks
    moved = dataclasses.replace(disk, datastore_path=f"[{datastore}] {name}/{name}.vmdk")
    machine.spec = dataclasses.replace(machine.spec, disks=(moved,))
    return machine


@contextmanager
def serving(directory: Path, machines: Sequence[MemoryMachine], shape: Shape) -> Iterator[SourceConfig]:
    pem, password_file = directory / "vcenter.pem", directory / "password"
    thumbprint = make(pem, ["127.0.0.1"])
    password_file.write_text(USERS["xms@lab"])
    password_file.chmod(0o600)
    server = VcenterServer(
        MemoryHost(machines),
        address="127.0.0.1",
        port=0,
        certificate=pem,
        users=USERS,
        shape=shape,
    )
    server.start()
    try:
        yield SourceConfig(
            host="127.0.0.1",
            port=server.port,
            username="xms@lab",
            password_file=password_file,
            thumbprint=thumbprint,
            timeout_seconds=60,
        )
    finally:
        server.stop()


TWO_DATACENTERS = Shape(
    datacenters=(
        DatacenterShape("east", hosts=("esxi-1.east", "esxi-2.east")),
        DatacenterShape(
            "west",
            hosts=(),
            clusters={"cluster-a": ("esxi-1.west", "esxi-2.west")},
            distributed=frozenset({"dv-prod"}),
        ),
    ),
    placements=(
        Placement(0, "prod/web", host=1),
        Placement(0, "test", host=0),
        Placement(1, "prod/web", host=1),
        Placement(1),
    ),
)


@pytest.fixture
def config(tmp_path: Path) -> Iterator[SourceConfig]:
    machines = (
        a_machine_on("ds1", "web"),
        a_machine_on("ds2", "web"),
        a_machine_on("ds1", "web", networks=["dv-prod", "VM Network"]),
        a_machine_on("ds1", "db", networks=["dv-prod"]),
    )
    with serving(tmp_path, machines, TWO_DATACENTERS) as running:
        yield running


@pytest.fixture
def service(config: SourceConfig, tmp_path: Path) -> Iterator[Remote]:
    with connected(config.port, tmp_path / "vcenter.pem") as client:
        yield client


def everything(service: Remote, *kinds: Remote) -> list[Remote]:
    return list(
        service.content.viewManager.CreateContainerView(service.content.rootFolder, list(kinds), recursive=True).view
    )


def at(service: Remote, path: str) -> Remote:
    return service.content.searchIndex.FindByInventoryPath(path)


# --- the default ------------------------------------------------------------------------------------------------------


def test_a_shape_of_nothing_special_is_the_labs_inventory(tmp_path: Path) -> None:
    machines = (a_machine("db-prod-01", networks=["VM Network", "Backup"]), a_machine("web-03"))
    with serving(tmp_path, machines, Shape()) as config, connected(config.port, tmp_path / "vcenter.pem") as service:
        assert {(one._moId, one.name) for one in everything(service, ENTITY)} == {
            ("datacenter-2", "lab-dc"),
            ("group-v3", "vm"),
            ("group-h4", "host"),
            ("group-s5", "datastore"),
            ("group-n6", "network"),
            ("domain-s7", "esxi-1.lab"),
            ("host-8", "esxi-1.lab"),
            ("resgroup-9", "Resources"),
            ("datastore-20", "ds1"),
            ("network-60", "VM Network"),
            ("network-61", "Backup"),
            ("vm-101", "db-prod-01"),
            ("vm-102", "web-03"),
        }


# --- what is where ----------------------------------------------------------------------------------------------------


def test_vms_of_one_name_in_different_folders_are_told_apart_by_their_paths(config: SourceConfig) -> None:
    with connect("lab", config) as session:
        paths = [vm.path for vm in list_vms(session)]
        assert paths == ["/east/vm/prod/web/web", "/east/vm/test/web", "/west/vm/db", "/west/vm/prod/web/web"]
        with pytest.raises(VmNotFound, match="3 VMs"):
            find_vm(session, "web")
        assert find_vm(session, "/east/vm/test/web").moref == "vm-102"


def test_a_folder_is_made_once_and_leads_to_its_vms(service: Remote) -> None:
    folder = at(service, "east/vm/prod/web")
    assert isinstance(folder, vim.Folder)
    assert [child.name for child in folder.childEntity] == ["web"]
    assert [child.name for child in at(service, "east/vm").childEntity] == ["prod", "test"]
    assert at(service, "west/vm/test") is None


def test_every_vm_knows_its_host_and_its_pool_and_they_know_it(service: Remote) -> None:
    for vm in everything(service, vim.VirtualMachine):
        assert vm in list(vm.runtime.host.vm)
        assert vm in list(vm.resourcePool.vm)
        assert vm.resourcePool.owner == vm.runtime.host.parent
    assert at(service, "east/vm/prod/web/web").runtime.host.name == "esxi-2.east"


def test_the_hosts_of_a_cluster_share_it_and_a_host_alone_has_a_compute_resource_of_its_own(service: Remote) -> None:
    cluster = at(service, "west/host/cluster-a")
    assert isinstance(cluster, vim.ClusterComputeResource)
    assert [host.name for host in cluster.host] == ["esxi-1.west", "esxi-2.west"]
    alone = at(service, "east/host/esxi-2.east")
    assert type(alone) is vim.ComputeResource
    assert [host.name for host in alone.host] == ["esxi-2.east"]
    assert alone.resourcePool.name == "Resources"


def test_a_datastores_name_means_another_one_in_another_datacenter(service: Remote) -> None:
    east, west = at(service, "east/vm/prod/web/web"), at(service, "west/vm/db")
    assert [one.name for one in (*east.datastore, *west.datastore)] == ["ds1", "ds1"]
    assert east.datastore[0] != west.datastore[0]
    assert list(east.datastore[0].vm) == [east]
    assert [one.name for one in at(service, "east").datastore] == ["ds1", "ds2"]
    assert list(at(service, "east/datastore/ds2").vm) == [at(service, "east/vm/test/web")]


def test_a_nic_on_a_distributed_switch_names_the_port_group_by_its_key(service: Remote, config: SourceConfig) -> None:
    group = at(service, "west/network/dv-prod")
    assert isinstance(group, vim.dvs.DistributedVirtualPortgroup)
    vm = at(service, "west/vm/prod/web/web")
    cards = [one for one in vm.config.hardware.device if isinstance(one, vim.vm.device.VirtualEthernetCard)]
    assert cards[0].backing.port.portgroupKey == group.key
    assert cards[0].backing.port.switchUuid == at(service, "west/network/dvs").uuid
    assert cards[1].backing.deviceName == "VM Network"
    assert set(group.vm) == {vm, at(service, "west/vm/db")}
    with connect("lab", config) as session:
        assert [nic.network for nic in find_vm(session, "/west/vm/prod/web/web").nics] == ["dv-prod", "VM Network"]


def test_the_configured_datacenter_hides_the_others(config: SourceConfig) -> None:
    with connect("lab", config.model_copy(update={"datacenter": "west"})) as session:
        assert [vm.path for vm in list_vms(session)] == ["/west/vm/db", "/west/vm/prod/web/web"]


def test_a_snapshot_is_found_in_a_large_inventory_by_its_own_id(service: Remote) -> None:
    vm = at(service, "west/vm/db")
    task = vm.CreateSnapshot(name="a", description="", memory=False, quiesce=False)
    while task.info.state != "success":
        time.sleep(0.01)
    assert task.info.result.vm == vm


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_large_shape_spreads_machines_over_everything() -> None:
    shape = large_shape(MANY)
    used = {(where.datacenter, where.folder, where.host) for where in shape.placements}
    assert {datacenter for datacenter, _, _ in used} == {0, 1}
    assert len({folder for _, folder, _ in used}) == 6
    for position, datacenter in enumerate(shape.datacenters):
        hosts = {host for where, _, host in used if where == position}
        assert hosts == set(range(len(datacenter.all_hosts)))


def test_a_thousand_vms_are_listed_quickly(tmp_path: Path) -> None:
    machines = [
        a_machine_on(f"ds{number % 8}", f"vm{number // 2}", networks=["VM Network", "dv-prod"])
        for number in range(MANY)
    ]
    with serving(tmp_path, machines, large_shape(MANY)) as config, connect("lab", config) as session:
        began = time.process_time()
        found = list_vms(session)
        assert time.process_time() - began < CPU_SECONDS
    assert len({vm.path for vm in found}) == MANY
    assert len({vm.name for vm in found}) == MANY // 2
