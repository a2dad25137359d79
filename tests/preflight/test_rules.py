"""Each rule on a VM that it has nothing to say of, and on those that it is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.preflight.subjects import (
    DISK,
    FINE,
    GIB,
    LOOKS,
    NIC,
    TIB,
    with_datastore,
    with_disk,
    with_nics,
    with_port,
    with_subject,
    with_vm,
)
from xms.models import Trouble, job_id
from xms.orders.preflight import HostFacts, Severity, Subject, TargetFacts, TargetLook, Verdict
from xms.preflight.guests import Conversion, conversion_of
from xms.preflight.judge import RULES, judge
from xms.preflight.rule import Found, Rule, rule

BLOCK, WARN, NOTE = Severity.BLOCK, Severity.WARN, Severity.NOTE
BY_ID: Final = {one.id: one for one in RULES}
OTHER_NIC: Final = NIC.model_copy(update={"key": 4001, "label": "Network adapter 2"})
WINDOWS: Final = with_vm(guest_id="windows2019srv_64Guest", guest_name="Windows Server 2019")


@dataclass(frozen=True)
class Case:
    """A subject of which a rule has this to say."""

    rule: str
    severity: Severity
    subject: Subject
    words: str


def refused(what: str) -> Subject:
    trouble = Trouble(kind="TargetNotFound", what=f"no {what} is called 'x'", because="there are: 'y'")
    return with_subject(target=TargetFacts(looks=(TargetLook(what=what, trouble=trouble),)))


def skipped(what: str) -> Subject:
    return with_subject(target=TargetFacts(looks=(TargetLook(what=what, skipped="not looked at: why"),)))


NOT_ASKED: Final = with_subject(target=None)

CASES: Final = (
    Case("compute.template", BLOCK, with_vm(template=True), "it is a template"),
    Case("compute.connection", BLOCK, with_vm(connection="orphaned"), "vCenter calls it orphaned"),
    Case("compute.connection", WARN, with_vm(connection=""), "could not be looked at"),
    Case("compute.suspended", BLOCK, with_vm(power_state="suspended"), "it is suspended"),
    Case("compute.suspended", WARN, with_vm(power_state=""), "could not be looked at"),
    Case("compute.hardware-version", BLOCK, with_vm(hardware_version="vmx-04"), "is vmx-04"),
    Case("compute.hardware-version", BLOCK, with_vm(hardware_version=""), "of an unknown version"),
    Case("compute.change-tracking", BLOCK, with_vm(change_tracking_supported=False), "does not support"),
    Case("compute.fault-tolerance", BLOCK, with_vm(fault_tolerance="running"), "Fault Tolerance is on (running)"),
    Case("compute.fault-tolerance", WARN, with_vm(fault_tolerance=""), "could not be looked at"),
    Case("compute.encryption", BLOCK, with_vm(encrypted=True), "the VM is encrypted"),
    Case("compute.encryption", BLOCK, with_disk(encrypted=True), "encrypted by vSphere: Hard disk 1"),
    Case("compute.vtpm", BLOCK, with_vm(trusted_platform_module=True), "virtual TPM"),
    Case("compute.passthrough", BLOCK, with_vm(passthrough=("PCI device 0",)), "PCI device 0"),
    Case("compute.passthrough", BLOCK, with_nics(NIC.model_copy(update={"kind": "sriov"})), "Network adapter 1"),
    Case("compute.firmware", NOTE, with_vm(firmware="efi"), "UEFI"),
    Case("compute.firmware", WARN, with_vm(firmware="coreboot"), "'coreboot' is not known"),
    Case("compute.secure-boot", WARN, with_vm(firmware="efi", secure_boot=True), "only where its host can"),
    Case("storage.disks", BLOCK, with_vm(disks=()), "it has no disk"),
    Case("storage.disk-count", WARN, with_vm(disks=(DISK,) * 25), "25 disks"),
    Case("storage.disk-size", BLOCK, with_disk(capacity=0), "Hard disk 1 of 0 bytes"),
    Case("storage.disk-size", BLOCK, with_disk(capacity=63 * TIB), "Hard disk 1 of"),
    Case("storage.disk-size", BLOCK, with_disk(capacity=GIB + 100), "Hard disk 1 of"),
    Case("storage.disk-size", NOTE, with_disk(capacity=GIB // 2), "rounded up to whole GiB: Hard disk 1 (512 MiB)"),
    Case("storage.disk-mode", BLOCK, with_disk(mode="independent_persistent"), "Hard disk 1 (independent_persistent)"),
    Case("storage.raw-device", BLOCK, with_disk(raw_device="physicalMode"), "physical raw device mapping: Hard disk 1"),
    Case("storage.raw-device", NOTE, with_disk(raw_device="virtualMode"), "virtual raw device mapping"),
    Case("storage.shared-disk", BLOCK, with_disk(shared="multi-writer"), "Hard disk 1 (multi-writer)"),
    Case("storage.controller", WARN, with_disk(controller="nvme"), "Hard disk 1 (nvme)"),
    Case("storage.controller", WARN, with_disk(controller=""), "controller not known"),
    Case(
        "storage.snapshots", WARN, with_vm(snapshots=("before", "after")), "2 snapshots of others ('before', 'after')"
    ),
    Case(
        "storage.snapshots", BLOCK, with_vm(snapshots=("old",), change_tracking_enabled=False), "change tracking is off"
    ),
    Case(
        "storage.snapshots",
        BLOCK,
        with_vm(snapshots=("old",), disks=(DISK.model_copy(update={"change_id": None}),)),
        "change tracking is off",
    ),
    Case("storage.consolidation", WARN, with_vm(consolidation_needed=True), "need consolidation"),
    Case("storage.datastore-space", WARN, with_datastore(free=TIB // 20), "ds1 has 51.2 GiB free of 1 TiB"),
    Case("storage.datastore-space", WARN, with_datastore(capacity=80 * GIB, free=9 * GIB), "little room"),
    Case("storage.datastore-space", WARN, with_datastore(free=None), "the free space of ds1 could not be looked at"),
    Case("storage.datastore-space", WARN, with_subject(datastores=()), "the free space of ds1 could not be looked at"),
    Case("storage.datastore-space", BLOCK, with_datastore(free=TIB // 50), "no room for snapshots: ds1"),
    Case("storage.datastore-space", BLOCK, with_datastore(accessible=False), "ds1 cannot be reached"),
    Case("storage.datastore-maintenance", WARN, with_datastore(in_maintenance=True), "in maintenance: ds1"),
    Case("network.nics", WARN, with_nics(), "it has no NIC"),
    Case("network.nics", WARN, with_nics(*(NIC,) * 11), "11 NICs"),
    Case(
        "network.connected", WARN, with_nics(NIC.model_copy(update={"network": ""})), "Network adapter 1 (no network)"
    ),
    Case("network.connected", WARN, with_nics(NIC.model_copy(update={"mac": ""})), "Network adapter 1 (no MAC)"),
    Case("network.duplicate-mac", BLOCK, with_nics(NIC, OTHER_NIC), "have the MAC 00:50:56:9a:11:02"),
    Case(
        "network.duplicate-mac",
        WARN,
        with_nics(NIC, OTHER_NIC.model_copy(update={"network": "DMZ"})),
        "on different networks",
    ),
    Case("network.duplicate-mac", WARN, with_subject(same_mac=(f"{NIC.mac}: /dc/vm/twin",)), "/dc/vm/twin"),
    Case("network.mapping", BLOCK, refused("network map"), "no network map is called 'x'"),
    Case("network.mapping", NOTE, NOT_ASKED, "not checked: --network-map not given"),
    Case("network.port", BLOCK, refused("ports"), "no ports is called 'x'"),
    Case("network.port", NOTE, skipped("ports"), "not looked at: why"),
    Case("network.new-mac", WARN, with_port(mac_kept=False), f"a new MAC for Network adapter 1 (was {NIC.mac})"),
    Case(
        "network.new-address",
        NOTE,
        with_port(addresses=("10.1.0.5",)),
        "Network adapter 1 has 10.1.0.5 and gets an address that the cloud chooses",
    ),
    Case("network.new-address", NOTE, with_port(addresses=("10.1.0.5",), fixed_ips=("10.2.0.5",)), "gets 10.2.0.5"),
    Case("network.target-down", WARN, with_port(up=False), "'net' is down (Network adapter 1)"),
    Case("network.target-down", WARN, with_port(dhcp=False), "'net' has no DHCP"),
    Case("network.mtu", NOTE, with_port(mtu=1450), "'net' takes 1450 bytes (Network adapter 1)"),
    Case("guest.system", WARN, with_vm(guest_id="other5xLinux64Guest", guest_name="Other Linux"), "Other Linux"),
    Case("guest.system", WARN, with_vm(guest_id=""), "could not be looked at"),
    Case("guest.system", BLOCK, with_vm(guest_id="freebsd13_64Guest", guest_name="FreeBSD 13"), "FreeBSD 13"),
    Case("guest.windows-drivers", NOTE, WINDOWS, "virtio-win"),
    Case("guest.tools", WARN, with_vm(tools_running=False, tools="not installed"), "VMware Tools: not installed"),
    Case("guest.tools", WARN, with_vm(tools_running=False, tools=""), "could not be looked at"),
    Case("guest.device-names", NOTE, FINE, "cannot be known before the conversion"),
    Case(
        "source.host", BLOCK, with_subject(host=HostFacts(name="esxi-1", connection="notResponding")), "notResponding"
    ),
    Case("source.host", WARN, with_subject(host=None), "the host esxi-1 could not be looked at"),
    Case(
        "source.host",
        WARN,
        with_subject(host=HostFacts(name="esxi-1", connection="connected", in_maintenance=True)),
        "maintenance mode",
    ),
    Case(
        "source.privileges",
        BLOCK,
        with_subject(missing_privileges=("VirtualMachine.State.CreateSnapshot",)),
        "lacks VirtualMachine.State.CreateSnapshot",
    ),
    Case("source.privileges", NOTE, with_subject(missing_privileges=None), "not checked"),
    Case("target.project", BLOCK, refused("project"), "no project is called 'x'"),
    Case("target.project", NOTE, NOT_ASKED, "--target-project not given"),
    Case("target.flavor", BLOCK, refused("flavor"), "no flavor is called 'x'"),
    Case("target.flavor", NOTE, NOT_ASKED, "--flavor not given"),
    Case("target.encryption", BLOCK, refused("encryption"), "no encryption is called 'x'"),
    Case("target.encryption", NOTE, skipped("encryption"), "not looked at: why"),
    Case("target.instance", BLOCK, refused("instance"), "no instance is called 'x'"),
    Case("target.volume-type", BLOCK, refused("volume type"), "no volume type is called 'x'"),
    Case("target.volume-type", NOTE, NOT_ASKED, "--volume-type not given"),
    Case("target.availability-zone", BLOCK, refused("availability zone"), "no availability zone is called 'x'"),
    Case("target.availability-zone", NOTE, NOT_ASKED, "--availability-zone not given"),
    Case("target.network", BLOCK, refused("networks"), "no networks is called 'x'"),
    Case("target.network", NOTE, skipped("networks"), "not looked at: why"),
    Case("target.quota", BLOCK, refused("quota"), "no quota is called 'x'"),
    Case("target.quota", NOTE, NOT_ASKED, "--target-project and --flavor not given"),
)

PASSES: Final = {"guest.device-names": WINDOWS}
"""Where it is another than the VM with which nothing is wrong."""


def names() -> Iterator[str]:
    for case in CASES:
        yield f"{case.rule}-{case.severity}-{case.words}"


@pytest.mark.parametrize("case", CASES, ids=names())
def test_a_rule_finds_what_it_is_for(case: Case) -> None:
    finding = BY_ID[case.rule].judge(case.subject)
    assert finding is not None
    assert (finding.rule, finding.severity) == (case.rule, case.severity)
    assert case.words in finding.found
    assert finding.do or finding.found.startswith(("not checked: ", "not looked at: "))


@pytest.mark.parametrize("one", RULES, ids=lambda one: one.id)
def test_a_rule_has_nothing_to_say_of_a_vm_that_is_fine(one: Rule) -> None:
    assert one.judge(PASSES.get(one.id, FINE)) is None


def test_every_rule_has_a_case_of_each_of_its_severities() -> None:
    tried = {(case.rule, case.severity) for case in CASES}
    assert tried == {(one.id, severity) for one in RULES for severity in one.severities}


def test_ids_are_unique_and_begin_with_a_category() -> None:
    assert len(BY_ID) == len(RULES)
    categories = {"compute", "storage", "network", "guest", "source", "target"}
    assert {one.id.partition(".")[0] for one in RULES} == categories
    assert all(one.finds and one.do for one in RULES)


@pytest.mark.parametrize(
    ("subject", "verdict"),
    [
        (FINE, Verdict.PASS),
        (with_vm(firmware="efi"), Verdict.PASS),
        (with_vm(tools_running=False, tools="not running"), Verdict.WARN),
        (with_vm(tools_running=False, tools="not running", template=True), Verdict.BLOCK),
    ],
)
def test_the_verdict_is_the_worst_finding_and_notes_do_not_count(subject: Subject, verdict: Verdict) -> None:
    found = judge(subject)
    assert found.verdict is verdict
    order = [BLOCK, WARN, NOTE]
    assert sorted(found.findings, key=lambda finding: order.index(finding.severity)) == list(found.findings)


def test_a_rule_that_cannot_tell_never_passes() -> None:
    nothing_known = with_vm(
        connection="", fault_tolerance="", tools="", tools_running=False, guest_id="", power_state="poweredOn"
    ).model_copy(update={"host": None, "datastores": (), "target": None, "missing_privileges": None})
    found = {finding.rule: finding for finding in judge(nothing_known).findings}
    for name in (
        "compute.connection",
        "compute.fault-tolerance",
        "storage.datastore-space",
        "guest.system",
        "guest.tools",
        "source.host",
    ):
        assert found[name].severity is WARN, name
        assert "could not be looked at" in found[name].found
    for name in ("source.privileges", "target.flavor", "target.quota", "network.mapping"):
        assert found[name].severity is NOTE, name
        assert "not checked" in found[name].found


def test_a_rule_gives_no_severity_that_it_does_not_declare() -> None:
    @rule("compute.test", NOTE, finds="nothing", do="nothing")
    def liar(subject: Subject) -> Found:
        del subject
        return Found("it", BLOCK)

    with pytest.raises(AssertionError, match=r"compute\.test"):
        liar.judge(FINE)


def test_a_project_that_cannot_be_entered_is_told_with_what_to_do_about_the_project() -> None:
    trouble = Trouble(kind="TargetRefusedLogin", what="no log-in", do="correct the credentials in clouds.yaml")
    subject = with_subject(target=TargetFacts(looks=(TargetLook(what="project", trouble=trouble),)))
    finding = BY_ID["target.project"].judge(subject)
    assert finding is not None
    assert finding.do == BY_ID["target.project"].do


@pytest.mark.parametrize("path", ["web", "/dc/vm/web"])
def test_snapshots_of_a_job_of_this_vm_are_not_those_of_others(path: str) -> None:
    own = f"xms-{job_id('prod-vcenter', path)}"
    assert BY_ID["storage.snapshots"].judge(with_vm(snapshots=(own,), change_tracking_enabled=False)) is None


def test_two_nics_may_have_one_mac_where_each_gets_a_new_one() -> None:
    target = with_port(mac_kept=False).target
    assert target is not None
    second = target.ports[0].model_copy(update={"nic": target.ports[0].nic.model_copy(update={"key": 4001})})
    both = target.model_copy(update={"ports": (*target.ports, second)})
    subject = with_nics(NIC, OTHER_NIC).model_copy(update={"target": both})
    assert BY_ID["network.duplicate-mac"].judge(subject) is None


def test_a_port_with_the_guests_own_address_needs_neither_dhcp_nor_a_word() -> None:
    found = judge(with_port(addresses=("10.1.0.5",), fixed_ips=("10.1.0.5",), dhcp=False)).findings
    assert not {"network.new-address", "network.target-down"} & {finding.rule for finding in found}


def test_a_powered_off_vm_needs_no_tools() -> None:
    assert BY_ID["guest.tools"].judge(with_vm(power_state="poweredOff", tools_running=False)) is None


def test_no_zone_is_needed_where_a_target_is_given() -> None:
    looks = tuple(TargetLook(what=what) for what in LOOKS if what != "availability zone")
    assert BY_ID["target.availability-zone"].judge(with_subject(target=TargetFacts(looks=looks))) is None


@pytest.mark.parametrize(
    ("guest_id", "expected"),
    [
        ("debian12_64Guest", Conversion.LINUX),
        ("debian5Guest", Conversion.OPEN),
        ("rhel9_64Guest", Conversion.LINUX),
        ("rhel10_64Guest", Conversion.LINUX),
        ("rhel2Guest", Conversion.OPEN),
        ("centos64Guest", Conversion.LINUX),
        ("oracleLinux8_64Guest", Conversion.LINUX),
        ("rockylinux_64Guest", Conversion.LINUX),
        ("almalinux_64Guest", Conversion.OPEN),
        ("amazonlinux2_64Guest", Conversion.OPEN),
        ("sles15_64Guest", Conversion.LINUX),
        ("slesGuest", Conversion.OPEN),
        ("opensuse64Guest", Conversion.LINUX),
        ("ubuntu64Guest", Conversion.LINUX),
        ("fedoraGuest", Conversion.LINUX),
        ("otherLinux64Guest", Conversion.OPEN),
        ("otherGuest64", Conversion.OPEN),
        ("otherGuest", Conversion.OPEN),
        ("winXPPro64Guest", Conversion.WINDOWS),
        ("winNetEnterpriseGuest", Conversion.WINDOWS),
        ("winLonghorn64Guest", Conversion.WINDOWS),
        ("windows7Server64Guest", Conversion.WINDOWS),
        ("windows9_64Guest", Conversion.WINDOWS),
        ("windows2019srv_64Guest", Conversion.WINDOWS),
        ("windows2022srvNext_64Guest", Conversion.WINDOWS),
        ("win2000ServGuest", Conversion.NEVER),
        ("winNTGuest", Conversion.NEVER),
        ("darwin19_64Guest", Conversion.NEVER),
        ("freebsd64Guest", Conversion.NEVER),
        ("solaris11_64Guest", Conversion.NEVER),
        ("vmkernel7Guest", Conversion.NEVER),
        ("somethingNew_64Guest", Conversion.OPEN),
    ],
)
def test_guests_are_told_apart_by_what_virt_v2v_converts(guest_id: str, expected: Conversion) -> None:
    assert conversion_of(guest_id) is expected
