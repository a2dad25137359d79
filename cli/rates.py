"""Rates as operators type them: 500KiB, 50MiB, 1.5GiB/s, none."""

from __future__ import annotations

import re
from typing import Final

from xms.errors import BadInput

SMALLEST: Final = 64 << 10

_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([kmgt])i?b?(?:/s)?")
_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_rate(text: str, option: str) -> int | None:
    """Bytes a second of '50MiB', '50MiB/s', '50M'; None for 'none'. The units are binary.

    Raises:
        BadInput: it is neither 'none' nor a rate of at least 64 KiB a second.
    """
    compact = "".join(text.lower().split())
    if compact == "none":
        return None
    allowed = "allowed: none, or at least 64KiB a second, with KiB, MiB, GiB or TiB: 500KiB, 50MiB, 1.5GiB"
    match = _RATE.fullmatch(compact)
    if match is None:
        raise BadInput(f"{option} '{text}' is no rate", because=allowed)
    rate = int(float(match[1]) * _UNITS[match[2]])
    if rate < SMALLEST:
        raise BadInput(f"{option} '{text}' is too small", because=allowed)
    return rate
