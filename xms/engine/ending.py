"""When a copy or a comparison ends early and cleanly, with what it has done by then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

TOO_OLD = "the snapshot reached its greatest age"


def never() -> str:
    """Nothing asks for an end."""
    return ""


class Ending:
    """Whether it is time, and why; once it is, it stays so.

    Args:
        at: UTC; the snapshot is too old then. None: never.
        asked: says why somebody else wants the end now; empty: nobody does.
    """

    def __init__(self, at: datetime | None, asked: Callable[[], str]) -> None:
        self._at = at
        self._asked = asked
        self.reason = ""

    def come(self) -> bool:
        """Look at the clock, and ask."""
        if not self.reason:
            self.reason = self._asked()
        if not self.reason and self._at is not None and datetime.now(UTC) >= self._at:
            self.reason = TOO_OLD
        return bool(self.reason)
