"""Discovery of many VMs: in how many calls, in what time, and what they look like when they are odd."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from lab.esxi.memory import MemoryMachine, a_machine
from lab.vcenter.dispatcher import answer
from tests.vsphere.conftest import AVcenter
from tests.vsphere.places import THOUSAND, a_thousand, a_vcenter, changed, with_disk
from xms.errors import BadInput, VmNotFound
from xms.orders import packing
from xms.orders.preflight import PreflightOrder, PreflightReport, Severity, Subjects, Verdict
from xms.orders.source import VmDetails, VmDisk, VmList
from xms.preflight.judge import judge
from xms.vsphere.bindings import vim
from xms.vsphere.inventory import find_vm, list_vms
from xms.vsphere.places import Inventory
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.subjects import subjects

PAYLOAD_LIMIT = 2 << 20
"""Temporal's, for one payload."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the stand-in is asked."""
    made: list[bytes] = []

    def counted(center: Any, body: bytes, **others: Any) -> Any:  # noqa: ANN401 - whatever the server passes on
        made.append(body)
        return answer(center, body, **others)

    monkeypatch.setattr("lab.vcenter.server.answer", counted)
    return made


@pytest.mark.slow
def test_a_thousand_vms_are_listed_and_preflighted_in_a_few_calls_and_fit_into_a_payload(
    tmp_path: Path, calls: list[bytes]
) -> None:
    machines = a_thousand()
    with a_vcenter(tmp_path, *machines) as many, connect("lab", many.config) as session:
        calls.clear()
        began = time.thread_time()
        found = list_vms(session)
        took = time.thread_time() - began
        assert len(calls) == 3  # a view, one retrieval, the view's end
        assert took < 5.0  # of this thread alone: the machine may have other work
        assert len(found) == THOUSAND
        calls.clear()
        gathered = subjects(session, PreflightOrder(source="lab", every_vm=True))
        # Names, hosts and datastores with their view; the VMs; the session's key; the privileges for 250 VMs each.
        assert len(calls) == 3 + 1 + 1 + 4
    assert encoded(VmList(vms=tuple(found))) > PAYLOAD_LIMIT * 3 // 4  # why it is packed
    assert encoded(VmList.of(found)) < PAYLOAD_LIMIT // 8
    assert VmList.of(found).unpacked().vms == tuple(found)
    asked = Subjects.of("lab", gathered)
    report = PreflightReport.of("lab", [judge(subject) for subject in asked.unpacked()])
    assert encoded(asked) < PAYLOAD_LIMIT // 8
    assert encoded(report) < PAYLOAD_LIMIT // 8
    assert [one.vm.name for one in report.unpacked().vms] == [machine.spec.name for machine in machines]


def encoded(model: Any) -> int:  # noqa: ANN401 - any model
    (payload,) = pydantic_data_converter.payload_converter.to_payloads([model])
    return len(payload.data)


def test_a_short_list_stays_readable() -> None:
    few = [
        VmDetails(moref=f"vm-{number}", name="web", power_state="poweredOn", cpus=1, memory=1) for number in range(9)
    ]
    assert VmList.of(few) == VmList(vms=tuple(few))
    assert VmList.of(few).unpacked() == VmList(vms=tuple(few))


def test_a_list_that_is_too_long_even_so_is_refused_and_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "READABLE", 100)
    monkeypatch.setattr(packing, "LIMIT", 200)
    many = [
        VmDetails(moref=f"vm-{number}", name=f"{number * 7919:x}", power_state="poweredOn", cpus=1, memory=number)
        for number in range(100)
    ]
    with pytest.raises(BadInput, match="100 VMs") as refused:
        VmList.of(many)
    assert refused.value.do == "narrow the list with --match"


def test_what_is_no_packed_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "READABLE", 0)
    packed = VmList.of([VmDetails(moref="vm-1", name="web", power_state="poweredOn", cpus=1, memory=1)]).packed
    with pytest.raises(ValueError, match="cut off"):
        packing.unpacked(packed[:-8], VmDetails)


# --- which are meant --------------------------------------------------------------------------------------------------


def test_a_list_is_narrowed_by_a_pattern_of_names_or_paths(session: VsphereSession) -> None:
    assert [vm.name for vm in list_vms(session, "t*")] == ["twin", "twin"]
    assert [vm.name for vm in list_vms(session, "/lab-dc/vm/w?b")] == ["web"]
    assert list_vms(session, "nothing*") == []
    assert list_vms(session, "web") == [find_vm(session, "web")]


def test_vms_are_selected_by_name_path_and_pattern_each_once(session: VsphereSession) -> None:
    inventory = Inventory(session)
    chosen = inventory.select(["w*", "web", "/lab-dc/vm/web", "db/prod"])
    assert [vm.name for vm in chosen] == ["db/prod", "web"]
    assert len(inventory.select([], every_vm=True)) == 4


def test_a_name_or_a_pattern_that_fits_none_is_refused_with_what_there_is(session: VsphereSession) -> None:
    inventory = Inventory(session)
    with pytest.raises(VmNotFound, match=r"no VM that matches 'x\*'") as missing:
        inventory.select(["web", "x*"])
    assert "db/prod" in missing.value.because
    with pytest.raises(VmNotFound, match="called 'webb'"):
        inventory.select(["webb"])
    with pytest.raises(VmNotFound, match="the name of 2 VMs"):
        inventory.select(["twin"])
    with pytest.raises(VmNotFound, match=r"called 'w\*'"):
        inventory.select(["w*"], patterns=False)


def test_a_template_is_no_vm_unless_it_is_named(tmp_path: Path) -> None:
    machines = (a_machine("web-1"), changed(a_machine("web-golden"), template=True))
    with a_vcenter(tmp_path, *machines) as some, connect("lab", some.config) as session:
        assert [vm.name for vm in list_vms(session)] == ["web-1"]
        assert [vm.name for vm in list_vms(session, "web-*")] == ["web-1"]
        assert [vm.name for vm in Inventory(session).select(["web-*"])] == ["web-1"]
        with pytest.raises(VmNotFound, match="is a template"):
            find_vm(session, "web-golden")
        (named,) = subjects(session, PreflightOrder(source="lab", vms=("web-golden",)))
    assert [finding.rule for finding in judge(named).of_severity(Severity.BLOCK)] == ["compute.template"]


# --- odd machines, from the wire to the verdict -----------------------------------------------------------------------


def found_on(machine: MemoryMachine, directory: Path) -> dict[str, str]:
    """Rules that warn or block, with their severity."""
    with a_vcenter(directory, machine) as one, connect("lab", one.config) as session:
        (subject,) = subjects(session, PreflightOrder(source="lab", vms=(machine.spec.name,)))
    findings = judge(subject).findings
    return {finding.rule: finding.severity for finding in findings if finding.severity is not Severity.NOTE}


def running(machine: MemoryMachine) -> MemoryMachine:
    machine.power_on()
    return machine


def tracked(machine: MemoryMachine) -> MemoryMachine:
    machine.set_change_tracking(True)
    machine.create_snapshot()
    return machine


def suspended(machine: MemoryMachine) -> MemoryMachine:
    machine.power_state = "suspended"
    return machine


def a_web_server() -> MemoryMachine:
    return a_machine("web", networks=("LAN",))


@pytest.mark.parametrize(
    ("machine", "found"),
    [
        (a_web_server(), {}),
        (running(a_web_server()), {}),
        (changed(a_web_server(), hardware_version="vmx-04"), {"compute.hardware-version": "Block"}),
        (changed(a_web_server(), change_tracking_supported=False), {"compute.change-tracking": "Block"}),
        (changed(a_web_server(), fault_tolerance="running"), {"compute.fault-tolerance": "Block"}),
        (changed(a_web_server(), encrypted=True), {"compute.encryption": "Block"}),
        (with_disk(a_web_server(), encrypted=True), {"compute.encryption": "Block"}),
        (
            changed(a_web_server(), trusted_platform_module=True),
            {"compute.encryption": "Block", "compute.vtpm": "Block"},
        ),
        (changed(a_web_server(), passthrough=("PCI device 0",)), {"compute.passthrough": "Block"}),
        (
            changed(a_web_server(), nics=(replace(a_web_server().spec.nics[0], kind="sriov"),)),
            {"compute.passthrough": "Block"},
        ),
        (changed(a_web_server(), nics=(replace(a_web_server().spec.nics[0], kind="e1000"),)), {}),
        (changed(a_web_server(), firmware="efi", secure_boot=True), {"compute.secure-boot": "Warn"}),
        (suspended(a_web_server()), {"compute.suspended": "Block"}),
        (changed(a_web_server(), disks=()), {"storage.disks": "Block"}),
        (with_disk(a_web_server(), mode="independent_persistent"), {"storage.disk-mode": "Block"}),
        (with_disk(a_web_server(), raw_device="physicalMode"), {"storage.raw-device": "Block"}),
        (with_disk(a_web_server(), raw_device="virtualMode"), {}),
        (with_disk(a_web_server(), multi_writer=True), {"storage.shared-disk": "Block"}),
        (changed(a_web_server(), shared_bus="physicalSharing"), {"storage.shared-disk": "Block"}),
        (changed(a_web_server(), controller="nvme"), {"storage.controller": "Warn"}),
        (changed(a_web_server(), controller="lsisas"), {}),
        (changed(a_web_server(), controller="ide"), {}),
        (tracked(a_web_server()), {"storage.snapshots": "Warn"}),
        (changed(a_web_server(), nics=()), {"network.nics": "Warn"}),
        (changed(a_web_server(), guest_id="otherLinux64Guest"), {"guest.system": "Warn"}),
        (changed(a_web_server(), guest_id="freebsd13_64Guest"), {"guest.system": "Block"}),
        (running(a_machine("web", networks=("LAN",), plays_tools=False)), {"guest.tools": "Warn"}),
        (running(changed(a_web_server(), plays_tools=False, tools_installed=False)), {"guest.tools": "Warn"}),
    ],
    ids=lambda value: ",".join(value) or "nothing" if isinstance(value, dict) else "",
)
def test_what_is_odd_about_a_vm_is_found_through_the_api(
    tmp_path: Path, machine: MemoryMachine, found: dict[str, str]
) -> None:
    assert found_on(machine, tmp_path) == found


def test_what_is_odd_around_a_vm_is_found_through_the_api(vcenter: AVcenter, session: VsphereSession) -> None:
    faults = vcenter.server.faults

    def found() -> dict[str, str]:
        (subject,) = subjects(session, PreflightOrder(source="lab", vms=("web",)))
        verdict = judge(subject)
        return {finding.rule: finding.found for finding in verdict.findings if finding.severity is not Severity.NOTE}

    assert found() == {}
    faults.free_space["ds1"] = 1 << 40
    assert found() == {"storage.datastore-space": "little room for snapshots: ds1 has 1 TiB free of 16 TiB"}
    faults.free_space["ds1"] = 1 << 30
    assert found() == {"storage.datastore-space": "no room for snapshots: ds1 has 1 GiB free of 16 TiB"}
    faults.free_space.clear()
    faults.unreachable_datastores.add("ds1")
    assert found() == {"storage.datastore-space": "no room for snapshots: ds1 cannot be reached"}
    faults.unreachable_datastores.clear()
    faults.datastores_in_maintenance.add("ds1")
    assert found() == {"storage.datastore-maintenance": "in maintenance: ds1"}
    faults.datastores_in_maintenance.clear()
    faults.host_in_maintenance = True
    assert found() == {"source.host": "its host esxi-1.lab is in maintenance mode"}
    faults.host_connection = "notResponding"
    assert found() == {"source.host": "its host esxi-1.lab is notResponding"}
    faults.host_connection, faults.host_in_maintenance = "connected", False
    faults.vm_connections["web"] = "inaccessible"
    assert found() == {"compute.connection": "vCenter calls it inaccessible"}
    faults.vm_connections.clear()
    faults.consolidation_needed.add("web")
    assert list(found()) == ["storage.consolidation"]
    faults.consolidation_needed.clear()
    vcenter.web.create_snapshot()
    assert list(found()) == ["storage.snapshots"]


def test_macs_are_compared_among_the_vms_of_one_preflight(tmp_path: Path) -> None:
    machines = [a_machine(name, networks=("LAN",)) for name in ("one", "two")]
    with a_vcenter(tmp_path, *machines) as some, connect("lab", some.config) as session:
        both = subjects(session, PreflightOrder(source="lab", every_vm=True))
        (alone,) = subjects(session, PreflightOrder(source="lab", vms=("one",)))
    assert both[0].same_mac == ("00:50:56:aa:00:00: /lab-dc/vm/two",)
    assert judge(both[0]).verdict is Verdict.WARN
    assert alone.same_mac == ()


@pytest.mark.parametrize(("path", "datastore"), [("[ds 1] web/web.vmdk", "ds 1"), ("", ""), ("web.vmdk", "")])
def test_a_disk_tells_its_datastore(path: str, datastore: str) -> None:
    assert VmDisk(key=1, label="d", capacity=1, path=path).datastore == datastore


def test_a_vm_of_a_vapp_has_its_path_through_it(session: VsphereSession, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder, vapp, vm = (
        vim.Datacenter("datacenter-1", None),
        vim.Folder("group-v1", None),
        vim.VirtualApp("resgroup-v1", None),
        vim.VirtualMachine("vm-1", None),
    )
    found = [
        (root, {"name": "dc"}),
        (folder, {"name": "vm", "parent": root}),
        (vapp, {"name": "shop", "parent": vim.ResourcePool("resgroup-1", None), "parentFolder": folder}),
        (vm, {"name": "web", "parentVApp": vapp}),
    ]
    monkeypatch.setattr("xms.vsphere.places.read_inventory", lambda *_: found)
    assert [one.path for one in Inventory(session).virtual_machines()] == ["/dc/vm/shop/web"]
