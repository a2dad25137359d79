from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.workflows.conftest import client, server

__all__ = ["client", "server"]


@pytest.fixture(autouse=True)
def no_traces_of_what_is_meant() -> Iterator[None]:
    """Hundreds of activities fail here, and each would be logged with its stack."""
    log = logging.getLogger("temporalio")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)
