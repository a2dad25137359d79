"""Who may write to a volume, as the engine sees it."""

from __future__ import annotations

from typing import Protocol


class Guard(Protocol):
    """A claim on a volume that can be lost at any moment (`xms.openstack.claim.Claim` is one)."""

    def check(self) -> None:
        """Asked before every write, so it costs next to nothing.

        Raises:
            xms.errors.LeaseLost: the volume may be another writer's by now; nothing more is written.
        """

    def renew(self) -> None:
        """Called several times a second while the work goes on, and after every flush; the claim decides when it acts.

        Raises:
            xms.errors.LeaseLost: the volume is another writer's.
        """
