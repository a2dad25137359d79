"""Why Neutron made no port: each of its refusals with what it means and what to do, in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from xms.errors import QuotaExceeded, TargetFault, TargetNotFound, TargetRefusedLogin, TargetRejected
from xms.models import Nic
from xms.openstack.faults import translated
from xms.openstack.networks import typed

NOT_YOURS: Final = "Neutron's policy leaves that to the network's owner, or to administrators; no port was made"


@dataclass(frozen=True)
class Refusal:
    """One of Neutron's refusals.

    Attributes:
        words: what its text says, as a regular expression.
        because: put before Neutron's own words; "{mac}", "{addresses}" and "{network}" stand for the port's.
        means: for the migration.
        do: what to do; "{typed}" stands for a --network-map that asks for less.
    """

    words: str
    because: str
    means: str
    do: str


REFUSALS: Final = (
    Refusal(
        r"create_port:.*disallowed by policy",
        "this project may not choose {chosen} there",
        NOT_YOURS,
        "order the cutover with {typed}; or have an administrator allow it (policy create_port:mac_address, "
        "create_port:fixed_ips:ip_address, create_port:port_security_enabled), or map the NIC to a network of the "
        "target project",
    ),
    Refusal(
        r"mac address .* is in use",
        "another port there has the MAC {mac}",
        "two ports of one network cannot have the same MAC",
        "find it with: openstack port list --mac-address {mac}; free it and order the cutover again, or "
        "order it with {typed}",
    ),
    Refusal(
        r"already allocated in subnet",
        "another port there has one of the addresses {addresses}",
        "two ports of one network cannot have the same address",
        "find it with: openstack port list --network {network} --fixed-ip ip-address=ADDRESS; free it and order the "
        "cutover again, or order it with {typed}",
    ),
    Refusal(
        r"No more IP addresses available",
        "no address of network {network} is free",
        "every address of the subnets' allocation pools is taken",
        "free one, have the pools enlarged, or name an address outside of them (ip=ADDRESS)",
    ),
    Refusal(
        r"not a valid IP for|IP allocation requires subnets|invalid subnet",
        "{addresses} does not lie in the network's subnets",
        "the network's subnets changed since the target was checked",
        "order the cutover with {typed}",
    ),
    Refusal(
        r"not a valid MAC address",
        "{mac} is no MAC",
        "the source has a MAC that Neutron does not take",
        "correct it in vSphere, or order the cutover with {typed}",
    ),
    Refusal(
        r"Port security must be enabled",
        "security groups need port security and an address",
        "port security is off in that network, or for this port",
        "order the cutover with security-groups=none, or have port security turned on in the network",
    ),
    Refusal(
        r"Security group .* does not exist",
        "a security group is gone",
        "it was there when the target was checked",
        "make it again, or order the cutover with others (security-groups=)",
    ),
)


@contextmanager
def explained(what: str, nic: Nic, network: str) -> Iterator[None]:
    """Tell a refusal of a port by what was asked for it.

    Args:
        what: the error's first line.
        nic: whose port it is.
        network: name of its network.

    Raises:
        TargetRejected: Neutron does not make such a port; trying again cannot help.
        QuotaExceeded: the project's quota for ports is used up.
        XmsError: everything else, as `translated` has it.
    """
    try:
        with translated(what):
            yield
    except QuotaExceeded as error:
        raise QuotaExceeded(
            what,
            because=error.because,
            means="no instance was made, and the source runs as before",
            do="have the project's quota for ports raised, or delete ports that nothing uses; then cut over again",
        ) from error
    except (TargetFault, TargetNotFound, TargetRefusedLogin, TargetRejected) as error:
        found = next((each for each in REFUSALS if re.search(each.words, error.because)), None)
        if found is None:
            raise
        words = {
            "mac": nic.mac,
            "addresses": ", ".join(nic.fixed_ips) or "its address",
            "network": f"'{network}'",
            "chosen": chosen(nic),
            "typed": typed(nic, mac_kept=False, fixed_ips=(), port_security=None),
        }
        raise TargetRejected(
            what,
            because=f"{found.because.format(**words)}: {error.because}",
            means=found.means,
            do=found.do.format(**words),
        ) from error


def chosen(nic: Nic) -> str:
    """What is chosen of its port, and Neutron's policy may leave to a network's owner."""
    parts = [f"the MAC {nic.mac}"] if nic.mac_kept else []
    parts += [f"the address {address}" for address in nic.fixed_ips]
    parts += [f"port security {'on' if nic.port_security else 'off'}"] if nic.port_security is not None else []
    return ", ".join(parts) or "anything"
