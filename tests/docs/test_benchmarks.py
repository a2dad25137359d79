"""The numbers of docs/benchmarks.md are those that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from bench.cases import all_cases
from bench.contestants import PEERS
from bench.results import DIRECTORY, Result
from bench.sizes import PROTOCOL
from bench.tables import COLUMNS, PAGE, section, section_of_page
from tests.docs.pages import rows

NAMED: Final = DIRECTORY / re.findall(r"From `bench/results/([^`]+)`", PAGE.read_text())[0]


def test_the_table_of_the_page_is_that_of_its_file_of_results() -> None:
    assert section_of_page() == section(NAMED, Result.load(NAMED)), "run: make bench BENCH=--page"


def test_every_ratio_of_the_file_is_in_the_page() -> None:
    shown = [
        dict(zip(COLUMNS, [cell.strip() for cell in line.strip("|").split("|")], strict=True))
        for line in section_of_page().splitlines()
        if line.startswith("| ") and not line.startswith("| name")
    ]
    measured = json.loads(NAMED.read_text())["rows"]
    assert [(row["name"], row["peer"], float(row["ratio"])) for row in shown] == [
        (row["name"], row["peer"], round(row["ratio_median"], 2)) for row in measured
    ]


def test_a_run_that_is_not_the_whole_protocol_says_so_in_the_page() -> None:
    result = Result.load(NAMED)
    assert ("Not a run of the whole protocol" in section_of_page()) == bool(result.partial)
    assert result.partial or all(row.rounds >= 7 for row in result.rows)


def test_the_page_names_every_case_and_every_peer(tmp_path: Path) -> None:
    assert set(PEERS) <= set(rows(PAGE, "## What is compared"))
    text = PAGE.read_text()
    for case in all_cases(tmp_path, PROTOCOL):
        assert f"`{re.sub('-block(-direct)?$', '', case.name)}" in text, case.name
    assert {f"the same with `-{case.target}`" for case in all_cases(tmp_path, PROTOCOL) if "block" in case.target} <= {
        line.split(" | ")[0].removeprefix("| ") for line in text.splitlines()
    }


def test_what_the_page_says_of_devices_without_a_cache_was_measured() -> None:
    (paragraph,) = re.findall(r"^Where the target is a loop device .*?\n\n", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (name,) = re.findall(r"bench/results/([^`]+)", paragraph)
    ratios = [f"{row.ratio_median:.2f}" for row in Result.load(DIRECTORY / name).rows if row.peer.startswith("nbdcopy")]
    assert len(ratios) == 4
    assert set(re.findall(r"\d\.\d\d", paragraph)) == set(ratios)
