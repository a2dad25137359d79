"""Steps of a claim: calls that block for long and show life meanwhile, and how what a step made is given back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from xms.errors import XmsError
from xms.pulse import Pulse

log = logging.getLogger(__name__)

T = TypeVar("T")

LIFE_SECONDS: Final = 0.5


def showing_life(call: Callable[[], T], pulse: Pulse) -> T:
    """Make a call that blocks for as long as a back end likes, iSCSI log-ins for half a minute, and pulse meanwhile.

    The call is always waited for, since what it made has to be undone. So a pulse that wants to stop the work is not
    heard here; the next one says so again.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="blocking") as helper:
        future = helper.submit(call)
        while not wait([future], LIFE_SECONDS).done:
            with suppress(XmsError):
                pulse()
        return future.result()


@contextmanager
def given_back(what: str, undo: Callable[[], object]) -> Iterator[None]:
    """One step of giving back. It never hides the failure that the work ended with; without one, its own is raised."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except XmsError as second:
            error.add_note(f"besides, {what} was not given back: {second}")
            log.warning("%s was not given back: %s", what, second)
        raise
    undo()
