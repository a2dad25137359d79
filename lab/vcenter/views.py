"""Container views: a live list of the entities below another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.vcenter.inventory import Inventory
from lab.vcenter.properties import Properties
from lab.vcenter.vocabulary import Kind, Reference


@dataclass(frozen=True)
class ContainerView:
    """What a client asked to see; its content is reckoned when it is read.

    Attributes:
        kinds: classes of the entities in it; none means all.
    """

    reference: Reference
    container: Reference
    kinds: Sequence[Kind]
    recursive: bool

    def properties(self, inventory: Inventory) -> Properties:
        """The view's properties."""
        return {
            "container": lambda: self.container,
            "type": lambda: list(self.kinds),
            "recursive": lambda: self.recursive,
            "view": lambda: [
                entity
                for entity in inventory.below(self.container, recursive=self.recursive)
                if not self.kinds or isinstance(entity, tuple(self.kinds))
            ],
        }
