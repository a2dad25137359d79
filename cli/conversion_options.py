"""How a guest is converted, as operators type it: the options of `cutover` and of `rehearse`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from xms.errors import BadInput

if TYPE_CHECKING:
    from xms.cutover import ConversionOptions, StaticAddress

SkipConversionOption = Annotated[
    bool, typer.Option("--skip-conversion", help="The guest is ready for KVM (virtio drivers): do not change it.")
]
LuksKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[DEVICE=]NAME",
        help="Passphrase for the guest's encrypted disks: a file in the workers' conversion.keys_dir; may be repeated.",
    ),
]
StaticIpOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MAC=ADDRESS/LENGTH",
        help="Address that a Windows guest sets on this NIC; then ,gw=ADDRESS and ,dns=ADDRESS+ADDRESS; may be "
        "repeated.",
    ),
]

EXAMPLE: Final = "00:50:56:9a:11:02=10.20.0.15/24,gw=10.20.0.1,dns=10.20.0.2+10.20.0.3"
ALLOWED: Final = f"allowed: MAC=ADDRESS/LENGTH,gw=ADDRESS and then ,dns=ADDRESS+ADDRESS, for example {EXAMPLE}"


def parse_conversion_options(
    *, skip_conversion: bool = False, luks_key: Sequence[str] | None = None, static_ip: Sequence[str] | None = None
) -> ConversionOptions:
    """The options of a conversion.

    Args:
        skip_conversion: --skip-conversion.
        luks_key: each --luks-key.
        static_ip: each --static-ip.

    Raises:
        BadInput: a value cannot be; the text names the option and what is allowed.
    """
    from xms.conversion.options import refuse_unusable
    from xms.cutover import ConversionOptions

    options = ConversionOptions(
        skip=skip_conversion,
        luks_keys=tuple(dict.fromkeys(name.strip() for name in luks_key or ())),
        static_addresses=tuple(_static_address(text) for text in static_ip or ()),
    )
    refuse_unusable(options)
    return options


def _static_address(text: str) -> StaticAddress:
    from xms.cutover import StaticAddress

    head, *words = (part.strip() for part in text.split(","))
    mac, divider, network = (part.strip() for part in head.partition("="))
    try:
        interface = ipaddress.ip_interface(network)
    except ValueError:
        raise _refused(text, f"'{network}' is no address") from None
    if not (divider and "/" in network):
        raise _refused(text, "it lacks the NIC or the prefix length")
    named = _named(text, words)
    return StaticAddress(
        mac=mac.lower().replace("-", ":"),
        address=str(interface.ip),
        prefix_length=interface.network.prefixlen,
        gateway=_address(text, named["gw"]) if "gw" in named else "",
        nameservers=tuple(_address(text, word) for word in named["dns"].split("+")) if "dns" in named else (),
    )


def _named(text: str, words: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in ("gw", "dns") or not value or name in found:
            raise _refused(text, f"'{word}' cannot be used")
        found[name] = value
    return found


def _address(text: str, word: str) -> str:
    try:
        return str(ipaddress.ip_address(word.strip()))
    except ValueError:
        raise _refused(text, f"'{word.strip()}' is no address") from None


def _refused(text: str, because: str) -> BadInput:
    return BadInput(f"--static-ip '{text}' cannot be used", because=f"{because}; {ALLOWED}")
