"""The same for a worker that is an instance of the cloud, and for its successor, which is another one.

Without calls that come late: an attachment that Nova makes after a whole claim has come and gone is taken for a
stranger's instance, and the volume is not touched.
"""

from __future__ import annotations

from typing import Literal

import pytest

from tests.target_killed.calls import Blow
from tests.target_killed.stage import Run, Stage
from tests.target_killed.striking import blows, strike_everywhere


@pytest.fixture(scope="module")
def attach() -> Literal["cinder", "nova"]:
    return "nova"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("blow", blows(Blow.KILLED_AFTER, without=(Blow.LATE,)))
def test_a_blow_at_any_call_of_attaching_by_nova_leaves_what_an_untouched_job_leaves(
    stage: Stage, untouched: Run, blow: Blow
) -> None:
    strike_everywhere(stage, untouched, blow)
