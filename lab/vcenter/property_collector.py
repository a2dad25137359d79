"""The property collector's selection: from a filter's starting objects along its traversals to property values."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from lab.vcenter.authorization import no_permission
from lab.vcenter.properties import ObjectReader, Properties, check_path
from lab.vcenter.sessions import not_authenticated
from lab.vcenter.vocabulary import (
    Data,
    Kind,
    Reference,
    Support,
    identity,
    invalid_argument,
    not_found,
    vmodl,
)

Lookup: TypeAlias = Callable[[Reference], Properties | None]
"""Gives an object's properties, None where there is no such object."""


@dataclass(frozen=True)
class Selected:
    """An object that a filter selects, with the values that it asks for."""

    reference: Reference
    values: dict[str, Data]

    def content(self, hidden: AbstractSet[str] = frozenset()) -> Data:
        """As a retrieval answers it to an account that may not see the properties in `hidden`: "HostSystem.name"."""
        kind = Support.GetWsdlName(type(self.reference))
        untold = {path for path in self.values if f"{kind}.{path}" in hidden}
        return vmodl.query.PropertyCollector.ObjectContent(
            obj=self.reference,
            propSet=[
                vmodl.DynamicProperty(name=path, val=value) for path, value in self.values.items() if path not in untold
            ],
            missingSet=[
                vmodl.query.PropertyCollector.MissingProperty(
                    path=path, fault=no_permission(self.reference, "System.Read")
                )
                for path in self.values
                if path in untold
            ],
        )


def check_filter(spec: Data) -> None:
    """Refuse a filter that the schema does not allow.

    Raises:
        vmodl.query.InvalidProperty: a path that its type does not have.
        vmodl.fault.InvalidType: a type that has no properties to select, since it is no managed object's.
        vmodl.fault.InvalidArgument: a selection set's name that nothing in the filter has.
    """
    for wanted in spec.propSet:
        _refuse_data_type(wanted.type, "type")
        for path in wanted.pathSet:
            check_path(wanted.type, path)
    for start in spec.objectSet:
        named = _named_traversals(start.selectSet)
        for selection in _all_selections(start.selectSet):
            if _is_traversal(selection):
                _refuse_data_type(selection.type, "type")
                check_path(selection.type, selection.path)
            elif selection.name not in named:
                raise invalid_argument("specSet.objectSet.selectSet.name")


def _refuse_data_type(kind: Kind | None, argument: str) -> None:
    if kind is None or not issubclass(kind, Support.ManagedObject):
        name = "" if kind is None else Support.GetWsdlName(kind)
        raise vmodl.fault.InvalidType(
            argument=argument, msg=f"The request refers to an unexpected or unknown type: {name}"
        )


def select(spec: Data, lookup: Lookup) -> list[Selected]:
    """Evaluate a filter.

    Raises:
        vmodl.fault.ManagedObjectNotFound: a starting object is gone.
        vmodl.query.InvalidProperty: a path that its type does not have.
    """
    check_filter(spec)
    found: dict[str, Selected] = {}
    for start in spec.objectSet:
        if lookup(start.obj) is None:
            if spec.reportMissingObjectsInResults:
                continue
            raise not_found(start.obj)
        for reference in _reach(start, lookup):
            if identity(reference) not in found:
                chosen = _values(reference, spec.propSet, lookup)
                if chosen is not None:
                    found[identity(reference)] = Selected(reference, chosen)
    return list(found.values())


def select_without_session(spec: Data, lookup: Lookup, readable: Mapping[str, frozenset[str]]) -> list[Data]:
    """What a filter tells somebody who is not logged in: that objects exist, and why no value of theirs is told.

    Nothing is reached through traversals, since these are values too.

    Args:
        spec: the filter.
        lookup: gives the properties of objects, for nobody's session.
        readable: by object id, the paths that everybody may read.

    Raises:
        vmodl.fault.ManagedObjectNotFound: a starting object is gone, as everything is that belonged to a session.
    """
    check_filter(spec)
    told = []
    for start in spec.objectSet:
        properties = lookup(start.obj)
        if properties is None:
            if spec.reportMissingObjectsInResults:
                continue
            raise not_found(start.obj)
        wanted = _fitting(start.obj, spec.propSet)
        if wanted is None or start.skip:
            continue
        open_paths = readable.get(identity(start.obj), frozenset())
        reader = ObjectReader(type(start.obj), properties)
        paths = list(properties) if wanted.all else list(wanted.pathSet)
        told.append(
            vmodl.query.PropertyCollector.ObjectContent(
                obj=start.obj,
                propSet=[
                    vmodl.DynamicProperty(name=path, val=reader.read(path)) for path in paths if path in open_paths
                ],
                missingSet=[
                    vmodl.query.PropertyCollector.MissingProperty(path=path, fault=not_authenticated(start.obj))
                    for path in paths
                    if path not in open_paths
                ],
            )
        )
    return told


def _fitting(reference: Reference, wanted: Sequence[Data]) -> Data | None:
    """The specification that speaks for an object: that of the most derived type which fits."""
    fitting = [spec for spec in wanted if issubclass(type(reference), spec.type)]
    return max(fitting, key=lambda one: len(one.type.__mro__), default=None)


def _values(reference: Reference, wanted: Sequence[Data], lookup: Lookup) -> dict[str, Data] | None:
    """The values of an object; None when the filter does not speak of its type, or it vanished meanwhile."""
    spec = _fitting(reference, wanted)
    properties = lookup(reference) if spec is not None else None
    if spec is None or properties is None:
        return None
    reader = ObjectReader(type(reference), properties)
    try:
        values = reader.read_all() if spec.all else {path: reader.read(path) for path in spec.pathSet}
    except vmodl.fault.ManagedObjectNotFound:
        return None
    return {path: value for path, value in values.items() if value is not None}


def _reach(start: Data, lookup: Lookup) -> Iterator[Reference]:
    """The objects that an object specification leads to; a traversal may name itself, so each step is made once."""
    named = _named_traversals(start.selectSet)
    if not start.skip:
        yield start.obj
    done: set[tuple[str, int]] = set()
    pending = deque([(start.obj, start.selectSet)])
    while pending:
        reference, selections = pending.popleft()
        for selection in selections:
            traversal = selection if _is_traversal(selection) else named[selection.name]
            step = (identity(reference), id(traversal))
            if step in done or not isinstance(reference, traversal.type):
                continue
            done.add(step)
            for neighbour in _neighbours(reference, traversal.path, lookup):
                if not traversal.skip:
                    yield neighbour
                pending.append((neighbour, traversal.selectSet))


def _neighbours(reference: Reference, path: str, lookup: Lookup) -> list[Reference]:
    properties = lookup(reference)
    if properties is None:
        return []
    value = ObjectReader(type(reference), properties).read(path)
    if isinstance(value, list):
        return [one for one in value if isinstance(one, Support.ManagedObject)]
    return [value] if isinstance(value, Support.ManagedObject) else []


def _is_traversal(selection: Data) -> bool:
    kind: Kind = vmodl.query.PropertyCollector.TraversalSpec
    return isinstance(selection, kind)


def _all_selections(selections: Sequence[Data]) -> Iterator[Data]:
    for selection in selections:
        yield selection
        if _is_traversal(selection):
            yield from _all_selections(selection.selectSet)


def _named_traversals(selections: Sequence[Data]) -> dict[str, Data]:
    return {one.name: one for one in _all_selections(selections) if _is_traversal(one) and one.name}
