"""What may be asked of a conversion: refused at the door and again at the job, before anything is stopped for it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from xms.cutover import ConversionOptions, StaticAddress
from xms.errors import BadInput

MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
KEY: Final = re.compile(r"(?:(?P<device>[0-9A-Fa-f-]{36}|/dev/[\w./-]+)=)?(?P<file>\w[\w.-]*)", re.ASCII)
"""The name of a file, after the device that it opens where that is not found by itself."""


def refuse_unusable(options: ConversionOptions) -> None:
    """See that virt-v2v can be told all of it; whether the named keys are there, only a worker knows.

    Raises:
        BadInput: a value cannot be; the text names it and what is allowed.
    """
    if options.skip and (options.luks_keys or options.static_addresses):
        raise BadInput(
            "a conversion cannot be skipped and have options",
            because="LUKS keys and static addresses are given to virt-v2v, which would not run",
            do="leave out one of the two",
        )
    for name in options.luks_keys:
        if not KEY.fullmatch(name):
            raise BadInput(
                f"the LUKS key '{name}' cannot be used",
                because="allowed: NAME or DEVICE=NAME; NAME is a file in the workers' conversion.keys_dir (letters, "
                "digits, '.', '-', '_'), DEVICE the UUID of a LUKS device, or its path in the guest",
            )
    seen: set[str] = set()
    for static in options.static_addresses:
        _refuse_address(static)
        if static.mac in seen:
            raise BadInput(
                f"the NIC {static.mac} is given two static addresses",
                because="virt-v2v sets one a NIC",
                do="give one, and add the other in the guest",
            )
        seen.add(static.mac)


def _refuse_address(static: StaticAddress) -> None:
    what = f"the static address {static.address} of {static.mac} cannot be used"
    if not MAC.fullmatch(static.mac):
        raise BadInput(what, because="the NIC is named by its MAC: six bytes with colons, in lower case")
    try:
        address = ipaddress.ip_address(static.address)
        others = [ipaddress.ip_address(text) for text in (static.gateway, *static.nameservers) if text]
    except ValueError as error:
        raise BadInput(what, because=str(error)) from None
    if not 1 <= static.prefix_length <= address.max_prefixlen:
        raise BadInput(what, because=f"allowed prefix lengths: 1 to {address.max_prefixlen}")
    if not static.gateway:
        # virt-v2v(1): the fields come in a fixed order, and version 2.2 refuses an empty one.
        raise BadInput(
            what, because="it has no gateway: virt-v2v takes a prefix length only after one", do="name the gateway"
        )
    if others[0].version != address.version:
        raise BadInput(what, because=f"its gateway {static.gateway} is of the other version of IP")


def remarks(options: ConversionOptions, os_type: str) -> tuple[str, ...]:
    """What of the options a converted guest does not show, one sentence each."""
    if options.static_addresses and os_type != "windows":
        return (
            "virt-v2v sets static addresses in Windows alone: this guest keeps the network configuration that it had",
        )
    return ()
