"""What operators type for --network-map: where the NICs of a source network go, and what their ports are like."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from xms.errors import BadInput
from xms.models import NetworkMapping

OPTIONS: Final[Mapping[str, str]] = {
    "mac": "keep or new",
    "ip": "keep, or addresses joined by +, for example 10.20.0.15+2001:db8::15",
    "security-groups": "names or ids joined by :, for example web:db; or none",
    "port-security": "on or off",
}
"""Each option after the target, with what it may be."""

ALLOWED: Final = "allowed: 'SOURCE NETWORK=NETWORK' or 'SOURCE NETWORK=NETWORK/SUBNET', then ,OPTION=VALUE"
BY_ID: Final = "a network or subnet whose name has a comma, a slash or an equals sign is given by its id"


def parse_network_map(texts: Sequence[str], option: str = "--network-map") -> tuple[NetworkMapping, ...]:
    """'VM Network=internal-net' or 'VM Network=internal-net/subnet,mac=new,ip=keep', one a source network or NIC.

    The options follow the target after commas. Before them the last '=' divides source from target, and the first '/'
    after it network from subnet. A target whose name has one of these can be given by its id.

    Raises:
        BadInput: a text is not of this form, an option is unknown, given twice or not of its values, or a source is
            mapped twice.
    """
    found: dict[str, NetworkMapping] = {}
    for text in texts:
        mapping = _mapping(text, option)
        earlier = found.get(mapping.source)
        if earlier is not None:
            raise BadInput(
                f"{option} maps '{mapping.source}' twice",
                because=f"to '{earlier.network}' and to '{mapping.network}'",
                do="to send NICs of one network to different ones, map a NIC by its label: 'Network adapter 2=...'",
            )
        found[mapping.source] = mapping
    return tuple(found.values())


def _mapping(text: str, option: str) -> NetworkMapping:
    head, words = _divided(text)
    source, divider, target = (part.strip() for part in head.rpartition("="))
    network, slash, subnet = (part.strip() for part in target.partition("/"))
    if not (divider and source and network) or (slash and not subnet):
        raise BadInput(
            f"{option} '{text}' is no mapping", because=ALLOWED, do=f"for example: {option} 'VM Network=internal-net'"
        )
    options = _options(text, words, option)
    groups, port_security = _security_groups(text, options, option), _port_security(text, options, option)
    if groups and port_security is False:
        raise BadInput(
            f"{option} '{text}' has security groups without port security",
            because="Neutron applies a group only where port security is on",
            do="leave out port-security=off or security-groups=",
        )
    return NetworkMapping(
        source=source,
        network=network,
        subnet=subnet or None,
        mac=_mac(text, options, option),
        fixed_ips=_fixed_ips(text, options, option),
        security_groups=groups,
        port_security=port_security,
    )


def _divided(text: str) -> tuple[str, list[str]]:
    """The mapping, and the options after it: a source network may have commas in its name, a target may not."""
    parts = text.split(",")
    end = next((place for place, part in enumerate(parts, start=1) if "=" in part), len(parts))
    return ",".join(parts[:end]), parts[end:]


def _options(text: str, words: Sequence[str], option: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, divider, value = (part.strip() for part in word.partition("="))
        name = name.lower()
        if name not in OPTIONS:
            raise BadInput(
                f"{option} '{text}' has the unknown option '{word.strip()}'",
                because=f"allowed: {', '.join(OPTIONS)}",
                do=f"{BY_ID}; a NIC can be named by its label instead of its network: 'Network adapter 1=...'",
            )
        if not (divider and value):
            raise _no_value(text, name, value, option)
        if name in found:
            raise BadInput(
                f"{option} '{text}' gives {name} twice", because=f"'{found[name]}' and '{value}'", do="give it once"
            )
        found[name] = value
    return found


def _mac(text: str, options: Mapping[str, str], option: str) -> str:
    value = options.get("mac", "keep").lower()
    if value not in ("keep", "new"):
        raise _no_value(text, "mac", value, option)
    return value


def _fixed_ips(text: str, options: Mapping[str, str], option: str) -> str | tuple[str, ...]:
    value = options.get("ip", "")
    if not value or value.lower() == "keep":
        return value.lower() or ()
    found = []
    for word in value.split("+"):
        try:
            address = str(ipaddress.ip_address(word.strip()))
        except ValueError:
            raise _no_value(text, "ip", word.strip(), option) from None
        if address in found:
            raise BadInput(f"{option} '{text}' gives the address {address} twice", do="give it once")
        found.append(address)
    return tuple(found)


def _security_groups(text: str, options: Mapping[str, str], option: str) -> tuple[str, ...] | None:
    value = options.get("security-groups")
    if value is None:
        return None
    if value.lower() == "none":
        return ()
    names = [name.strip() for name in value.split(":")]
    if "" in names or len(set(names)) < len(names):
        raise _no_value(text, "security-groups", value, option)
    return tuple(names)


def _port_security(text: str, options: Mapping[str, str], option: str) -> bool | None:
    value = options.get("port-security")
    if value is None:
        return None
    if value.lower() not in ("on", "off"):
        raise _no_value(text, "port-security", value, option)
    return value.lower() == "on"


def _no_value(text: str, name: str, value: str, option: str) -> BadInput:
    return BadInput(f"{option} '{text}': {name} cannot be '{value}'", because=f"allowed for {name}: {OPTIONS[name]}")
