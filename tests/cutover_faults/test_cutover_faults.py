"""Whatever happens to a call of the itinerary: both sides never run together, and one of them always can."""

from __future__ import annotations

from typing import Final

import pytest
from temporalio.client import Client

from tests.cutover_faults.cases import Case, Fault, load, places
from tests.cutover_faults.page import section, section_of_page
from tests.cutover_faults.play import all_places, play_all
from workflows.itinerary import ITINERARY

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANEW: Final = "run: .venv/bin/python -m tests.cutover_faults.page"

MARKS: Final = {
    Fault.REFUSED: (),
    Fault.KILLED_AFTER: (),
    Fault.ABANDONED: (pytest.mark.slow,),
    Fault.CANCELLED: (pytest.mark.slow,),
}
"""The others are for `make soak`."""

SOAK: Final = (pytest.mark.slow, pytest.mark.soak)

WITHOUT_A_CALL: Final = {
    "-Reserve Stream": "a signal to the budget of the host, which cannot fail for the job",
    "-Finishing Touches": "of a completed cutover that is taken back alone: tests/workflows/test_roll_back.py",
}
"""Steps, and with a dash their undos, for which no activity is called, and why there is nothing to strike."""


async def test_every_call_of_the_itinerary_is_struck(client: Client) -> None:
    assert await all_places(client) == places(load()), ANEW


async def test_every_step_and_every_undo_has_a_call_that_is_struck() -> None:
    struck = {("-" if place.undoing else "") + place.step for place in places(load())}
    steps = {step.name for step in ITINERARY} | {f"-{step.name}" for step in ITINERARY if step.undo is not None}
    assert struck | set(WITHOUT_A_CALL) == steps, ANEW
    assert not struck & set(WITHOUT_A_CALL)


async def test_every_fault_strikes_every_call() -> None:
    seen = [outcome.case for outcome in load()]
    assert seen == [Case(place, fault) for place in places(load()) for fault in Fault], ANEW


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=MARKS.get(fault, SOAK), id=fault.name) for fault in Fault],
)
async def test_a_fault_at_any_call_breaks_no_promise_and_comes_to_what_the_page_says(
    client: Client, fault: Fault
) -> None:
    known = {str(outcome.case): outcome.rests for outcome in load() if outcome.case.fault is fault}
    outcomes, broken = await play_all(client, [Case(place, fault) for place in places(load())])
    assert broken == []
    assert {str(outcome.case): outcome.rests for outcome in outcomes} == known, ANEW


async def test_the_tables_of_the_page_are_what_was_observed() -> None:
    assert section_of_page() == section(load()), ANEW
