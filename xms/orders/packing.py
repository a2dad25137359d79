"""Long lists in one payload: Temporal takes 2 MiB, and a thousand VMs with their disks are more than that.

A short list stays readable in Temporal's Web UI. A long one is compressed: of what VMs say most is alike, so that it
becomes a tenth or less. What is too long even so is refused; nothing is left out silently.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final, TypeVar

from pydantic_core import from_json

from xms.errors import BadInput
from xms.models import Model

Item = TypeVar("Item", bound=Model)

READABLE: Final = 128 << 10
"""Bytes of JSON up to which a list is left as it is."""

LIMIT: Final = 1_500_000
"""Characters of a packed list, with room for the rest of the payload."""

EXPANDED: Final = 256 << 20
"""Bytes that a packed list may become: what is longer was not packed here."""


def packed(items: Sequence[Item], *, do: str) -> str:
    """A long list as a text; the empty text where it can stay as it is.

    Args:
        items: of one model.
        do: how the list can be made shorter, for the error.

    Raises:
        BadInput: it does not fit.
    """
    if not items:
        return ""
    raw = b"[" + b",".join(item.model_dump_json(exclude_defaults=True).encode() for item in items) + b"]"
    if len(raw) <= READABLE:
        return ""
    text = base64.b64encode(zlib.compress(raw, 6)).decode()
    if len(text) > LIMIT:
        raise BadInput(
            f"the answer is too long: {len(items)} VMs",
            because=f"packed it has {len(text):,} characters, and Temporal passes {LIMIT:,} on",
            do=do,
        )
    return text


def unpacked(text: str, kind: type[Item]) -> tuple[Item, ...]:
    """The list that was packed.

    Raises:
        ValueError: it was not packed here.
    """
    inflater = zlib.decompressobj()
    raw = inflater.decompress(base64.b64decode(text, validate=True), EXPANDED)
    if not inflater.eof:
        raise ValueError("a packed list is longer than any that is packed, or cut off")
    return tuple(kind.model_validate(item) for item in from_json(raw))
