"""Reading a property path of a managed object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

from lab.vcenter.vocabulary import Data, Kind, Support, typed, vmodl

Properties: TypeAlias = Mapping[str, Callable[[], Data]]
"""The properties of one object: how each is made when somebody asks. What the schema has besides these is unset."""


@functools.cache
def check_path(kind: Kind, path: str) -> None:
    """Refuse a path that the schema does not have.

    Raises:
        vmodl.query.InvalidProperty: naming the path.
    """
    _steps(kind, path)


@cache
def _steps(kind: Kind, path: str) -> tuple[tuple[str, Kind], ...]:
    """The names along a path, each with the type that its value has.

    Raises:
        vmodl.query.InvalidProperty: naming the path.
    """
    steps = []
    for position, name in enumerate(path.split(".")):
        # A path never leads through a reference into another object; that is what traversal is for.
        if not issubclass(kind, Support.DataObject) and position:
            raise vmodl.query.InvalidProperty(name=path, msg=f"The property path {path} is not known")
        try:
            kind = kind._GetPropertyInfo(name).type  # noqa: SLF001 - pyVmomi's official name
        except AttributeError:
            raise vmodl.query.InvalidProperty(name=path, msg=f"The property path {path} is not known") from None
        steps.append((name, kind))
    return tuple(steps)


class ObjectReader:
    """Reads several paths of one object, making each property once.

    Args:
        kind: the object's class.
    """

    def __init__(self, kind: Kind, properties: Properties) -> None:
        self._kind = kind
        self._properties = properties
        self._made: dict[str, Data] = {}

    def read(self, path: str) -> Data | None:
        """The value at a path, of its declared type; None where it, or something on the way to it, is unset.

        Raises:
            vmodl.query.InvalidProperty: the schema has no such path.
        """
        (first, kind), *rest = _steps(self._kind, path)
        if first not in self._made:
            maker = self._properties.get(first)
            self._made[first] = maker() if maker else None
        value = typed(kind, self._made[first])
        for name, inner in rest:
            if value is None:
                return None
            value = typed(inner, getattr(value, name))
        return value

    def read_all(self) -> dict[str, Data]:
        """Every property that is set."""
        values = {name: self.read(name) for name in self._properties}
        return {name: value for name, value in values.items() if value is not None}
