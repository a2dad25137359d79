from __future__ import annotations

import re
from functools import cache
from typing import Final

import pytest

from tests.docs.pages import ROOT, rows
from workflows.itinerary import ITINERARY
from workflows.rehearsal_steps import COPIES, REHEARSAL, REMOVAL_STEP
from xms.models import Phase

PAGE: Final = ROOT / "docs" / "architecture.md"
OPERATING: Final = ROOT / "docs" / "operating.md"
CUTOVER: Final = ROOT / "docs" / "cutover.md"


@cache
def all_tests() -> frozenset[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return frozenset(found for file in files for found in re.findall(r"def (test_\w+)", file.read_text()))


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(test_\w+)`", PAGE.read_text()))))
def test_a_test_that_the_page_names_exists(test: str) -> None:
    assert test in all_tests()


def test_every_invariant_names_its_guards_or_says_that_there_is_none() -> None:
    invariants = rows(PAGE, "## Invariants, and what guards them")
    assert list(invariants) == [str(number) for number in range(1, 12)]
    assert all("`test_" in guards or "No test" in guards for _, guards in invariants.values())


def test_every_phase_is_explained_to_the_operator() -> None:
    assert list(rows(OPERATING, "## The phases, and what to do in each")) == list(Phase)


def test_every_step_of_the_cutover_is_explained_with_its_undo() -> None:
    steps = rows(CUTOVER, "## What it does")
    assert list(steps) == [step.name for step in ITINERARY]
    for step in ITINERARY:
        what, undo = steps[step.name]
        assert (undo.strip(" |") == "-") is (step.undo is None), step.name
        assert ("downtime begins" in what) is step.downtime_starts
        assert ("downtime ends" in what) is step.downtime_ends


def test_every_step_of_a_rehearsal_is_explained() -> None:
    steps = [COPIES, *(step.name for step in REHEARSAL), REMOVAL_STEP]
    assert list(rows(CUTOVER, "## Rehearsals"))[: len(steps)] == steps
