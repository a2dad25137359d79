"""Its NICs: how many, with which addresses, and where they go."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from xms.orders.preflight import PortFacts, Subject
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule
from xms.preflight.target import judged

MANY: Final = 10
"""NICs beyond which vSphere itself goes no further."""

ETHERNET_MTU: Final = 1500
"""Bytes: what a guest sends in one packet unless its network says otherwise."""


@rule(
    "network.nics",
    WARN,
    finds=f"no NIC, or more than {MANY}",
    do="see whether the instance can do without a network, or with so many ports",
)
def nics(subject: Subject) -> Found | None:
    """An instance gets one port a NIC."""
    number = len(subject.vm.nics)
    if number == 0:
        return Found("it has no NIC: its instance will have no network")
    return Found(f"it has {number} NICs") if number > MANY else None


@rule(
    "network.connected",
    WARN,
    finds="a NIC whose network or MAC is not known",
    do="connect the NIC to a network in vSphere, or remove it from the VM",
)
def connected(subject: Subject) -> Found | None:
    """A mapping goes by the network's name, a port by the MAC."""
    lost = [f"{nic.label} (no network)" for nic in subject.vm.nics if not nic.network]
    lost += [f"{nic.label} (no MAC)" for nic in subject.vm.nics if not nic.mac]
    return Found(f"not all is known of {', '.join(lost)}") if lost else None


@rule(
    "network.duplicate-mac",
    BLOCK,
    WARN,
    finds="two of its NICs have the same MAC on one network; as a warning: on several networks, or with another VM "
    "of the same preflight",
    do="give each NIC a MAC of its own in vSphere, and in the guest's network settings where they name it",
)
def duplicate_mac(subject: Subject) -> Found | None:
    """Ports keep the NICs' MACs unless they are mapped with a new one, and a network takes each MAC once."""
    networks: dict[str, list[str]] = defaultdict(list)
    renewed = {port.nic.key for port in _ports(subject) if not port.nic.mac_kept}
    for nic in subject.vm.nics:
        if nic.mac and nic.key not in renewed:
            networks[nic.mac].append(nic.network)
    twice = {mac: found for mac, found in networks.items() if len(found) > 1}
    if any(len(set(found)) < len(found) for found in twice.values()):
        return Found(f"several of its NICs have the MAC {', '.join(twice)}")
    if twice:
        return Found(f"several of its NICs, on different networks, have the MAC {', '.join(twice)}", WARN)
    if subject.same_mac:
        return Found(f"other VMs have its MACs: {'; '.join(subject.same_mac)}", WARN)
    return None


@rule(
    "network.mapping",
    BLOCK,
    NOTE,
    finds="a NIC without a --network-map, a mapping without a NIC, or one that asks for what cannot be (addresses that "
    "the guest does not report, one address for two NICs, a multicast MAC, groups without port security)",
    do="give one --network-map for each of the VM's networks",
)
def mapping(subject: Subject) -> Found | None:
    """Every NIC needs a target network."""
    return judged(subject, "network map", "--network-map")


@rule(
    "network.port",
    BLOCK,
    NOTE,
    finds="a port that could not be made as it is mapped: its MAC, address or port security is not this project's to "
    "choose there (403), is in use, or does not fit the subnets; a security group is missing; the network is external",
    do="map the NIC otherwise; the finding tells how",
)
def port(subject: Subject) -> Found | None:
    """Ports are made before the downtime, but only at the cutover: that is late for a refusal."""
    return judged(subject, "ports", "--network-map")


@rule(
    "network.new-mac",
    WARN,
    finds="a NIC that gets a new MAC (mac=new)",
    do="see that nothing in the guest goes by the old MAC: network settings (HWADDR, match: macaddress, udev rules), "
    "licences, reservations in DHCP",
)
def new_mac(subject: Subject) -> Found | None:
    """A guest whose settings name the old MAC leaves the new NIC alone."""
    renewed = [f"{found.nic.label} (was {found.nic.mac})" for found in _ports(subject) if _is_renewed(found)]
    return Found(f"a new MAC for {', '.join(renewed)}") if renewed else None


def _is_renewed(found: PortFacts) -> bool:
    return bool(found.nic.mac) and not found.nic.mac_kept


@rule(
    "network.new-address",
    NOTE,
    finds="a NIC whose address in the guest is not the one that its port will have",
    do="a guest that has its address by DHCP takes the new one; for one with a static address give ip=keep or "
    "ip=ADDRESS, or change it in the guest: with port security on, Neutron drops what comes from another address",
)
def new_address(subject: Subject) -> Found | None:
    """What the guest's tools reported against what is asked of Neutron."""
    changed = [
        f"{found.nic.label} has {', '.join(found.nic.addresses)} and gets "
        f"{', '.join(found.nic.fixed_ips) or 'an address that the cloud chooses'}"
        for found in _ports(subject)
        if found.nic.addresses and set(found.nic.addresses) != set(found.nic.fixed_ips)
    ]
    return Found("; ".join(changed)) if changed else None


@rule(
    "network.target-down",
    WARN,
    finds="a target network that is administratively down, or that has no DHCP to tell the guest its new address",
    do="have the network set up, or DHCP turned on in its subnet; else give the guest the port's address yourself",
)
def target_down(subject: Subject) -> Found | None:
    """Nova boots there all the same, and nobody reaches the guest."""
    down = [f"'{found.network}' is down ({found.nic.label})" for found in _ports(subject) if not found.up]
    down += [
        f"'{found.network}' has no DHCP, and the cloud chooses the address of {found.nic.label}"
        for found in _ports(subject)
        if found.up and not found.dhcp and not found.nic.fixed_ips
    ]
    return Found("; ".join(down)) if down else None


@rule(
    "network.mtu",
    NOTE,
    finds=f"a target network that takes no packets of {ETHERNET_MTU} bytes",
    do="see that the guest takes its MTU from DHCP, or set it in the guest: larger packets are dropped",
)
def mtu(subject: Subject) -> Found | None:
    """Networks that are tunnelled have less room in a packet than a VLAN."""
    small = [
        f"'{found.network}' takes {found.mtu} bytes ({found.nic.label})"
        for found in _ports(subject)
        if found.mtu and found.mtu < ETHERNET_MTU
    ]
    return Found("; ".join(small)) if small else None


def _ports(subject: Subject) -> tuple[PortFacts, ...]:
    return subject.target.ports if subject.target else ()


RULES: Final[tuple[Rule, ...]] = (
    nics,
    connected,
    duplicate_mac,
    mapping,
    port,
    new_mac,
    new_address,
    target_down,
    mtu,
)
