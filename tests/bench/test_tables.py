"""What people see of a result."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from bench import results, tables
from bench.__main__ import newest, why_partial
from bench.cost import Cost
from bench.errors import CannotMeasure
from bench.machine import describe
from bench.results import Result, Row


@pytest.fixture
def result(tmp_path: Path) -> Result:
    row = Row(
        name="full-0ms",
        peer="nbdcopy",
        target="file",
        ratio_median=0.8149,
        ratio_min=0.5,
        ratio_max=1.25,
        rounds=7,
        ours=Cost(wall=2.5, user=0.25, system=1.0, server=1.0, memory=64 << 20),
        theirs=Cost(wall=3.0, user=0.0, system=0.0002, server=0.0),
    )
    return Result(
        started=datetime(2026, 11, 24, 13, 5, tzinfo=UTC),
        seconds=600,
        machine=describe(tmp_path),
        partial="",
        notes=["block target: not possible here: no such device"],
        rows=[row],
    )


def test_a_row_shows_ratio_time_cpu_of_all_processes_and_memory(result: Result) -> None:
    line = "| full-0ms | nbdcopy | 0.81 | 0.50 | 1.25 | 7 | 2.5 | 3 | 2.25 | <0.001 | 64 MiB |"
    assert line in tables.section(Path("x.json"), result).splitlines()

    console = Console(width=160)
    with console.capture() as capture:
        console.print(tables.terminal_table(result))
    assert [cell for cell in line.split() if cell != "|" and cell not in capture.get()] == []


def test_a_partial_run_and_what_could_not_be_measured_are_said_in_the_page(result: Result) -> None:
    whole = tables.section(Path("x.json"), result)
    assert "- block target: not possible here: no such device" in whole.splitlines()
    assert "Not a run of the whole protocol" not in whole
    partly = result.model_copy(update={"partial": "; ".join(why_partial(1, ["full-*"], quick=True))})
    expected = "**Not a run of the whole protocol: tiny disks; rounds: 1 instead of 7; only full-*.**"
    assert expected in tables.section(Path("x.json"), partly).splitlines()
    assert why_partial(7, [], quick=False) == []


def test_the_newest_file_is_put_into_the_page_and_the_rest_of_the_page_stays(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    monkeypatch.setattr(tables, "PAGE", page)
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "results")
    monkeypatch.setattr("bench.__main__.DIRECTORY", tmp_path / "results")
    with pytest.raises(CannotMeasure, match="there are no results"):
        newest()
    result.model_copy(update={"started": datetime(2025, 1, 1, tzinfo=UTC)}).save()
    saved = result.save()

    assert newest() == saved
    assert saved.name.startswith("2026-11-24T1305-")
    assert Result.load(saved) == result
    tables.write_page(saved)
    assert page.read_text() == f"before\n{tables.section(saved, result)}\nafter\n"


def test_a_page_cannot_be_written_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotMeasure, match="there is no file"):
        tables.write_page(tmp_path / "none.json")
