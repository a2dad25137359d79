"""What virt-v2v makes of the guest operating systems that vSphere knows by their ids.

From virt-v2v-support(1) of 2.2 ("Guests"), and the distributions that `convert/convert_linux.ml` of virt-v2v 2.2 to 2.9
knows. The id is what somebody chose when the VM was made, so that it may be wrong.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Conversion(StrEnum):
    """What can be said before virt-v2v has seen the guest."""

    LINUX = "Linux that virt-v2v converts"
    WINDOWS = "Windows that virt-v2v converts"
    NEVER = "no Linux and no Windows that virt-v2v converts"
    OPEN = "virt-v2v does not name it"


FAMILIES: Final = (
    # RHEL 3 and up with its kin, SLES and openSUSE 10 and up, Debian 6 and up, Ubuntu 10.04 and up.
    (Conversion.LINUX, r"rhel([3-9]|10)|centos\d*|oracleLinux\d*|rockylinux|fedora"),
    (Conversion.LINUX, r"sles1\d|opensuse|debian([6-9]|1\d)|ubuntu"),
    # Windows XP to 11, Server 2003 to 2025: NT 5.2 and up.
    (Conversion.WINDOWS, r"winXP\w*|winNet\w*|winVista|winLonghorn|windows(7|8|9|11|12)(Server)?"),
    (Conversion.WINDOWS, r"windows20\d\dsrv(Next)?"),
    (Conversion.NEVER, r"win31|win95|win98|winMe|winNT|win2000\w+|dos|os2|eComStation\d?"),
    (Conversion.NEVER, r"darwin\d*|freebsd\d*|solaris\d*|netware\d?|unixWare\d|openServer\d|vmkernel\d*|crx\w+"),
)


def conversion_of(guest_id: str) -> Conversion:
    """What virt-v2v makes of a guest, by vSphere's `guestId`: debian12_64Guest."""
    name = re.sub(r"(_?64)?Guest(64)?$", "", guest_id)
    return next((kind for kind, pattern in FAMILIES if re.fullmatch(pattern, name)), Conversion.OPEN)
