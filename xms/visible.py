"""Text that others wrote, made fit to be shown: names of VMs, consoles, what programs said.

A terminal obeys escape sequences, and characters that turn the direction of writing hide what is really there. Here
each of them is shown, and none works.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final, TypeVar

from pydantic import BaseModel

Whole = TypeVar("Whole", bound=BaseModel)

_KEPT: Final = "\n\t"
_TURNS_WRITING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """The text, with every character that controls something shown as its code. Lines and tabs stay."""
    return "".join(character if character in _KEPT or _is_shown(character) else _code(character) for character in text)


def one_line(text: str) -> str:
    """The same in one line: lines are joined by a space."""
    return visible(" ".join(text.split()))


def all_visible(model: Whole) -> Whole:
    """The same model with every text in it made visible; lines stay."""
    return type(model).model_validate(_all_visible(model.model_dump()))


def _all_visible(value: Any) -> Any:  # noqa: ANN401 - whatever a model dumps
    match value:
        case str():
            return visible(value)
        case dict():
            return {name: _all_visible(held) for name, held in value.items()}
        case list() | tuple():
            return [_all_visible(held) for held in value]
        case _:
            return value


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cs"} and character not in _TURNS_WRITING


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"  # noqa: PLR2004 - where one byte ends
