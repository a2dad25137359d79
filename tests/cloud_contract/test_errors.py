"""Refusals: the same class, status and words on the stand-in and on a real OpenStack, and what XMS makes of them."""

from __future__ import annotations

import re

import pytest
from openstack.exceptions import HttpException

from tests.cloud_contract.error_cases import ACCEPTED, CASES, Accepted, Case
from tests.cloud_contract.scene import Scene
from xms.errors import XmsError
from xms.openstack.faults import translated


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_a_refusal_is_the_one_of_the_table_and_is_told_to_the_operator(scene: Scene, case: Case) -> None:
    with pytest.raises(XmsError) as told, translated("it was not done"):
        case.make(scene)
    refusal = told.value.__cause__
    assert type(refusal) is case.raises, f"{type(refusal)}: {refusal}"
    assert re.search(case.words, str(refusal)), str(refusal)
    assert getattr(refusal, "status_code", None) == case.status
    assert type(told.value) is case.becomes
    assert told.value.do == case.do
    assert told.value.because
    if isinstance(refusal, HttpException):
        assert re.search(case.words, told.value.because), told.value.because
        assert re.search(r"\(HTTP \d{3}, request req-\S+\)$", told.value.because)


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name.replace(" ", "_"))
def test_what_one_would_expect_to_be_refused_is_not(scene: Scene, case: Accepted) -> None:
    answer = case.make(scene)
    assert case.seen(answer), answer
