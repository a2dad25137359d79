"""The catalogue of vSphere's faults is that of the cases that the tests run."""

from __future__ import annotations

from tests.docs.pages import rows
from tests.vsphere.fault_cases import CASES, Outcome
from tests.vsphere.fault_page import PAGE, PURPOSE, section, section_of_page


def test_the_tables_of_the_page_are_those_of_the_cases() -> None:
    assert section_of_page() == section(), "run: .venv/bin/python -m tests.vsphere.fault_page"


def test_every_call_and_every_outcome_is_explained() -> None:
    assert {case.call for case in CASES} == set(PURPOSE)
    assert {case.outcome for case in CASES} == set(Outcome)


def test_every_fault_of_a_case_is_in_the_table_of_its_call() -> None:
    for call in PURPOSE:
        told = "`".join(rows(PAGE, f"## {call}"))
        assert {case.fault for case in CASES if case.call == call} <= set(told.split("`")), call
