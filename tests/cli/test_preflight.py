"""The preflight as it is typed, and what a submit makes of it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console, RenderableType

from cli.findings import refusal, screen
from cli.machines import listing
from tests.cli.conftest import House, Terminal
from tests.cli.test_terminal import picture
from tests.preflight.subjects import DISK, FINE, NIC, with_nics, with_vm
from xms.errors import BadInput, PreflightBlocked, TargetNotFound
from xms.models import Trouble
from xms.orders.preflight import PreflightReport, Subject, TargetFacts, TargetLook
from xms.preflight.judge import judge

BLOCKED = {"trusted_platform_module": True}
WARNED = {"tools": "not running", "tools_running": False}
TOOLS_DOWN = "VMware Tools: not running; its file systems are not frozen for snapshots, nor is"
PREFLIGHT = ("preflight", "--source", "prod-vcenter")


def drawn(what: RenderableType, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False, emoji=False).print(what, crop=False)
    return [line.rstrip() for line in out.getvalue().splitlines()]


# --- screens ----------------------------------------------------------------------------------------------------------


def report_of(*subjects: Subject) -> PreflightReport:
    return PreflightReport(source="prod-vcenter", vms=tuple(judge(subject) for subject in subjects))


def test_one_vm_is_shown_with_every_finding_and_what_to_do() -> None:
    assert drawn(screen(report_of(with_vm(**BLOCKED, **WARNED)), 110), 110) == [
        "web  Block",
        "  Block  compute.vtpm        it has a virtual TPM, whose content cannot be moved",
        f"{' ' * 29}do: in the guest take off what is sealed to it (suspend BitLocker, LUKS by",
        "                             passphrase), then remove the vTPM",
        f"  Warn   guest.tools         {TOOLS_DOWN}",
        "                             it shut down cleanly",
        f"{' ' * 29}do: install or start open-vm-tools or VMware Tools in the guest; else the cutover",
        "                             has to pull the plug",
        "  Note   guest.device-names  whether /etc/fstab names disks by device cannot be known before the conversion",
        f"{' ' * 29}do: see that /etc/fstab and the boot loader use UUID=, LABEL= or LVM; virt-v2v",
        "                             rewrites some /dev/sdX, not all",
    ]


def test_on_a_narrow_terminal_a_rule_has_a_line_of_its_own_and_no_line_is_too_long() -> None:
    lines = drawn(screen(report_of(with_vm(**BLOCKED)), 60), 60)
    assert lines[:3] == [
        "web  Block",
        "  Block  compute.vtpm",
        "         it has a virtual TPM, whose content cannot be moved",
    ]
    assert max(map(len, lines)) <= 60


def test_of_several_vms_the_notes_come_together_at_the_end() -> None:
    other = with_vm(name="db", moref="vm-102", **WARNED)
    lines = drawn(screen(report_of(FINE, other), 120), 120)
    assert lines[:2] == ["web  Pass", "db   Warn"]
    assert lines[2].startswith("  Warn   guest.tools  VMware Tools: not running")
    assert any(line.startswith("  Note   guest.device-names  all VMs: whether /etc/fstab") for line in lines)
    assert lines[-1] == "2 VMs: 1 Warn, 1 Pass"


def test_vms_of_the_same_name_are_told_apart_by_their_paths() -> None:
    twins = [FINE, with_vm(moref="vm-102", path="/dc/vm/old/web"), with_vm(moref="vm-103", name="db", path="/dc/vm/db")]
    assert [line.split()[0] for line in drawn(screen(report_of(*twins), 120), 120)[:3]] == [
        "/dc/vm/web",
        "/dc/vm/old/web",
        "db",
    ]
    names = [line.split()[0] for line in drawn(listing([twin.vm for twin in twins], 150), 150)]
    assert names == ["VM", "/dc/vm/web", "/dc/vm/old/web", "db"]


def test_a_vm_is_listed_with_all_that_discovery_knows_on_wide_and_on_narrow_terminals() -> None:
    vm = with_nics(NIC, NIC.model_copy(update={"network": "Backup"})).vm
    assert drawn(listing([vm], 150), 150) == [
        "VM   POWER  VCPUS  MEMORY  DISKS    GUEST                         FIRMWARE  CBT  TOOLS    NETWORKS",
        "web  on         2   4 GiB  100 GiB  Debian GNU/Linux 12 (64-bit)  bios      on   running  LAN, Backup",
    ]
    assert drawn(listing([vm], 60), 60) == [
        "web  on",
        "  Debian GNU/Linux 12 (64-bit), 2 vCPUs, 4 GiB, bios",
        "  disks: 100 GiB; CBT on, tools running",
        "  networks: LAN, Backup",
    ]


def test_of_many_disks_the_number_and_the_sum_are_shown() -> None:
    few, many = with_vm(disks=(DISK,) * 3).vm, with_vm(disks=(DISK,) * 4).vm
    assert "100 GiB + 100 GiB + 100 GiB" in "\n".join(drawn(listing([few], 200), 200))
    assert "4, 400 GiB" in "\n".join(drawn(listing([many], 200), 200))


# --- what blocks a submit ---------------------------------------------------------------------------------------------


def refused(*looks: str) -> Subject:
    found = [
        TargetLook(what=what, trouble=Trouble(kind="TargetNotFound", what=f"no {what} 'x'", because="there is: 'y'"))
        for what in looks
    ]
    others = [look for look in FINE.target.looks if look.what not in looks] if FINE.target else []
    return FINE.model_copy(update={"target": TargetFacts(looks=(*others, *found))})


def test_what_was_typed_wrong_is_an_error_of_the_command_line() -> None:
    one = refusal(judge(refused("flavor")), "prod-vcenter")
    assert (type(one), one.what, one.because) == (TargetNotFound, "no flavor 'x'", "there is: 'y'")
    several = refusal(judge(refused("flavor", "volume type")), "prod-vcenter")
    assert type(several) is TargetNotFound
    assert len(several.because.splitlines()) == 2
    assert not isinstance(several, BadInput)


def test_what_is_wrong_with_the_vm_is_told_with_its_rule() -> None:
    one = refusal(judge(with_vm(**BLOCKED)), "prod-vcenter")
    assert type(one) is PreflightBlocked
    assert one.what == "web cannot be migrated: compute.vtpm"
    assert one.do
    spoiled = refused("flavor").model_copy(update={"vm": with_vm(**BLOCKED).vm})
    both = refusal(judge(spoiled), "prod-vcenter")
    assert type(both) is PreflightBlocked
    assert both.because.startswith("compute.vtpm: it has a virtual TPM")
    assert "target.flavor: no flavor 'x' (there is: 'y')" in both.because


# --- as it is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (PREFLIGHT, "neither --vm nor --all is given"),
        ((*PREFLIGHT, "--all", "--vm", "web-03"), "both are given"),
        ((*PREFLIGHT, "--vm", " "), "--vm is empty"),
        ((*PREFLIGHT, "--all", "--network-map", "LAN"), "--network-map 'LAN' is no mapping"),
        (("vm", "list", "--source", "s", "--match", ""), "--match is empty"),
    ],
)
def test_a_preflight_that_says_not_which_vms_is_refused(
    without_server: Terminal, arguments: tuple[str, ...], words: str
) -> None:
    done = without_server.xms(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.slow
def test_a_preflight_tells_verdicts_and_its_exit_code_the_worst(house: House) -> None:
    fine = house.xms(*PREFLIGHT, "--vm", "web-03")
    assert fine.code == 0
    assert fine.out.startswith("web-03  Pass\n")
    asked_for = "--network-map, --target-project, --flavor, --volume-type, --availability-zone"
    assert f"not checked: {asked_for} not given" in fine.out
    house.place.spoiled["web-03"] = WARNED
    assert house.xms(*PREFLIGHT, "--all").code == 0
    house.place.spoiled["db-prod-01"] = BLOCKED
    both = house.xms(*PREFLIGHT, "--all", "--output", "json")
    assert both.code == 8
    assert both.json["verdict"] == "Block"
    assert {one["vm"]["name"]: one["verdict"] for one in both.json["vms"]} == {"db-prod-01": "Block", "web-03": "Warn"}
    finding = both.json["vms"][0]["findings"][0]
    assert (finding["rule"], finding["category"], finding["severity"]) == ("compute.vtpm", "compute", "Block")
    assert house.xms(*PREFLIGHT, "--vm", "web-*").code == 0
    target = ("--target-project", "infra", "--flavor", "m1.tiny", "--network-map", "VM Network=internal-net")
    small = house.xms(*PREFLIGHT, "--vm", "web-*", *target)
    assert small.code == 8
    assert "no flavor is called 'm1.tiny'" in small.out
    assert house.xms(*PREFLIGHT, "--vm", "nowhere").code == 2
    assert house.xms("vm", "list", "--source", "prod-vcenter", "--match", "web-*", "-o", "json").json["vms"][0]["name"]


@pytest.mark.slow
def test_a_submit_is_refused_where_the_preflight_blocks_and_warnings_have_to_be_accepted(house: House) -> None:
    house.place.spoiled["db-prod-01"] = BLOCKED
    blocked = house.submit("db-prod-01", "--accept-warnings")
    assert blocked.code == 8
    assert "error: db-prod-01 cannot be migrated: compute.vtpm" in blocked.err
    assert "means: nothing was started" in blocked.err
    house.place.spoiled["db-prod-01"] = WARNED
    warned = house.submit("db-prod-01")
    assert warned.code == 3
    assert "has 1 warning, and there is no terminal to ask at" in warned.err
    assert "because: guest.tools: VMware Tools: not running" in warned.err
    assert json.loads(house.submit("db-prod-01", "-o", "json").err)["error"]["exit_code"] == 3
    assert house.xms("migration", "list", "-o", "json").json["jobs"] == []
    accepted = house.submit("db-prod-01", "--accept-warnings")
    assert accepted.code == 0
    assert "  preflight: Warn, accepted: guest.tools" in accepted.out


@pytest.mark.slow
def test_at_a_terminal_warnings_are_asked_about_and_no_is_no(house: House) -> None:
    house.place.spoiled["db-prod-01"] = WARNED
    submit = (
        *("migration", "submit", "--source", "prod-vcenter", "--vm", "db-prod-01", "--target-project", "infra"),
        *("--flavor", "m1.xlarge", "--volume-type", "ssd", "--network-map", "VM Network=internal-net"),
    )
    asked = picture(house, *submit)
    assert asked.shows("guest.tools", "Submit db-prod-01 in spite of 1 warning? [y/N]:"), asked.text
    asked.child.sendline("n")
    assert asked.ends() == 3
    assert "nothing was started" in asked.text
    again = picture(house, *submit)
    assert again.shows("[y/N]:"), again.text
    again.child.sendline("y")
    assert again.shows("submitted: warm-prod-vcenter-db-prod-01"), again.text
    assert again.ends() == 0
