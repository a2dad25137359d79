from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from xms.visible import one_line, visible


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_of_it_controls_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"]
    assert "\n" not in one_line(text)
    shown.encode()


def test_what_people_write_stays_as_it_is() -> None:
    assert visible("Größe: 3 GiB — “日本語”\n\tλ") == "Größe: 3 GiB — “日本語”\n\tλ"


def test_an_escape_sequence_is_shown_as_its_code() -> None:
    assert visible("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"
