"""docs/preflight.md against the rules: its table is made of them."""

from __future__ import annotations

import re
from typing import Final

from tests.docs.pages import ROOT
from xms.preflight import storage
from xms.preflight.judge import RULES

PAGE: Final = ROOT / "docs" / "preflight.md"
HEAD: Final = "| rule | gives | what is found | what to do |\n|---|---|---|---|\n"


def table() -> str:
    return HEAD + "".join(
        f"| `{rule.id}` | {', '.join(rule.severities)} | {rule.finds} | {rule.do} |\n" for rule in RULES
    )


def test_the_table_of_rules_is_made_of_the_rules() -> None:
    shown = PAGE.read_text().split("<!-- rules -->\n")[1]
    assert shown == table(), f"write this between the marks of {PAGE.name}:\n{table()}"


def test_the_shares_that_the_page_names_are_those_of_the_rule() -> None:
    named = re.findall(r"(\d+) %", PAGE.read_text().split("<!-- rules -->")[0])
    assert named == [f"{storage.WARN_BELOW * 100:.0f}", f"{storage.BLOCK_BELOW * 100:.0f}"]
