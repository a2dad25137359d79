"""How long work shows that it lives, and learns that it has to stop, without knowing who asks."""

from __future__ import annotations

from typing import Protocol

from xms.models import Model


class Pulse(Protocol):
    """Call it from the loop that does the work, at least every few seconds.

    An activity's pulse sends a heartbeat; a test's counts. It is cheap enough for a tight loop.
    """

    def __call__(self, detail: Model | None = None) -> None:
        """Show life, with how far the work is.

        Raises:
            xms.errors.Interrupted: the work has to stop now, at the state that `detail` describes.
        """


def no_pulse(detail: Model | None = None) -> None:
    """Never stops anything: for scripts and for tests of one call."""
    del detail
