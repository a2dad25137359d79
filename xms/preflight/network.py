"""Its NICs: how many, with which addresses, and where they go."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from xms.orders.preflight import Subject
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule
from xms.preflight.target import judged

MANY: Final = 10
"""NICs beyond which vSphere itself goes no further."""


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
    """Ports keep the NICs' MACs, and a network takes each MAC once."""
    networks: dict[str, list[str]] = defaultdict(list)
    for nic in subject.vm.nics:
        if nic.mac:
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
    finds="a NIC without a --network-map, or a mapping without a NIC",
    do="give one --network-map for each of the VM's networks",
)
def mapping(subject: Subject) -> Found | None:
    """Every NIC needs a target network."""
    return judged(subject, "network map", "--network-map")


RULES: Final[tuple[Rule, ...]] = (nics, connected, duplicate_mac, mapping)
