"""Which addresses of a guest count: those that somebody gave it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.esxi.memory import a_machine
from tests.vsphere.places import a_vcenter, changed
from xms.vsphere.bindings import vim
from xms.vsphere.guest_addresses import addresses_by_card
from xms.vsphere.inventory import find_vm
from xms.vsphere.session import connect

CONFIG = vim.net.IpConfigInfo


def reported(*addresses: object, key: int = 4000, plainly: tuple[str, ...] = ()) -> object:
    config = CONFIG(ipAddress=list(addresses)) if addresses else None
    return vim.vm.GuestInfo.NicInfo(deviceConfigId=key, connected=True, ipAddress=list(plainly), ipConfig=config)


def address(text: str, origin: str | None = None, state: str | None = None) -> object:
    return CONFIG.IpAddress(ipAddress=text, prefixLength=24, origin=origin, state=state)


def test_ipv4_and_ipv6_addresses_are_told_by_the_nic_that_has_them() -> None:
    found = addresses_by_card(
        [reported(address("10.1.0.5", "manual"), address("2001:DB8:0::5")), reported(address("10.2.0.7"), key=4001)]
    )
    assert found == {4000: ("10.1.0.5", "2001:db8::5"), 4001: ("10.2.0.7",)}


@pytest.mark.parametrize(
    "one",
    [
        address("fe80::250:56ff:fe9a:1102"),
        address("fe80::1%eth0"),
        address("169.254.10.1"),
        address("127.0.0.1"),
        address("2001:db8::dead", "random"),
        address("2001:db8::250:56ff:fe9a:1102", "linklayer"),
        address("2001:db8::5", "dhcp", "deprecated"),
        address("10.1.0.5", "manual", "duplicate"),
        address("none"),
    ],
)
def test_what_the_guest_made_up_and_what_nobody_can_reach_does_not_count(one: object) -> None:
    assert addresses_by_card([reported(one)]) == {4000: ()}


def test_bridges_inside_the_guest_are_no_nics_of_the_vm() -> None:
    assert addresses_by_card([reported(address("172.17.0.1"), key=-1)]) == {}


def test_tools_that_give_only_the_plain_list_are_believed() -> None:
    assert addresses_by_card([reported(plainly=("10.1.0.5", "fe80::1"))]) == {4000: ("10.1.0.5",)}


@pytest.mark.parametrize(("tools", "seen"), [(True, ("10.1.0.5", "2001:db8::5")), (False, ())])
def test_a_vm_is_told_with_its_addresses_as_long_as_its_tools_run(
    tmp_path: Path, *, tools: bool, seen: tuple[str, ...]
) -> None:
    machine = a_machine("web", networks=("LAN", "Backup"))
    first, second = machine.spec.nics
    nics = (replace(first, addresses=("10.1.0.5", "2001:db8::5")), second)
    with (
        a_vcenter(tmp_path, changed(machine, nics=nics, plays_tools=tools)) as center,
        connect("lab", center.config) as session,
    ):
        center.web.power_on()
        vm = find_vm(session, "web")
        assert [nic.addresses for nic in vm.nics] == [seen, ()]
        assert [nic.addresses for nic in find_vm(session, "web", vm.moref).nics] == [seen, ()]
