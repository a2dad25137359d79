"""The catalogue of OpenStack's errors is that of the cases that the tests play."""

from __future__ import annotations

from tests.cloud_contract.error_cases import ACCEPTED, CASES
from tests.cloud_contract.error_page import PAGE, SERVICES, section, section_of_page, service_of
from tests.docs.pages import rows


def test_the_tables_of_the_page_are_those_of_the_cases() -> None:
    assert section_of_page() == section(), "run: .venv/bin/python -m tests.cloud_contract.error_page"


def test_every_case_is_in_the_table_of_its_service() -> None:
    for service in SERVICES:
        told = set(rows(PAGE, f"## {service}"))
        assert told == {case.name for case in CASES if service_of(case) == service}, service
    assert set(rows(PAGE, "## What is not refused")) == {case.name for case in ACCEPTED}


def test_no_two_cases_have_one_name() -> None:
    names = [case.name for case in (*CASES, *ACCEPTED)]
    assert len(names) == len(set(names))
