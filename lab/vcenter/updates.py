"""Property filters that are watched: what changed since the version that the client knows."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from lab.vcenter import soap
from lab.vcenter.property_collector import Lookup, Selected, select
from lab.vcenter.vocabulary import Data, Reference, identity, vmodl

_LONGEST_WAIT: Final = 600.0
"""Seconds: a client that sets no limit is answered "nothing new" then, as vCenter's own policy does."""

_LOOK_EVERY: Final = 0.2
"""Seconds: what a machine does by itself (a guest that shuts down) announces itself to nobody."""

Known: TypeAlias = dict[str, dict[str, dict[str, str]]]
"""Fingerprints by filter, object and path, as one version told them."""


@dataclass
class Collector:
    """A property collector of a session with its filters.

    Attributes:
        versions: what the client was told at the last versions; the one before the last is kept because an answer
            may get lost on its way.
    """

    reference: Reference
    filters: dict[str, Data] = field(default_factory=dict)
    versions: dict[int, Known] = field(default_factory=dict)
    last_version: int = 0
    cancellations: int = 0

    def add_filter(self, spec: Data) -> Reference:
        """Watch a filter."""
        reference = vmodl.query.PropertyCollector.Filter(f"session[{identity(self.reference)}]{uuid.uuid4()}", None)
        self.filters[identity(reference)] = spec
        return reference

    def filter_references(self) -> list[Reference]:
        """The filters, as the collector's property `filter` tells them."""
        return [vmodl.query.PropertyCollector.Filter(key, None) for key in self.filters]

    def known_at(self, version: str | None) -> Known:
        """What the client knows.

        Raises:
            vmodl.query.InvalidCollectorVersion: it was never told that version, or too long ago.
        """
        if not version:
            return {}
        for number, known in self.versions.items():
            if str(number) == version:
                return known
        raise vmodl.query.InvalidCollectorVersion(msg=f"The collector version {version} is not known")

    def remember(self, known: Known) -> str:
        """A new version."""
        self.last_version += 1
        self.versions = {number: told for number, told in self.versions.items() if number >= self.last_version - 1} | {
            self.last_version: known
        }
        return str(self.last_version)


def wait_for_updates(
    collector: Collector,
    version: str | None,
    *,
    lookup: Lookup,
    changed: threading.Condition,
    ended: Callable[[], Exception | None],
    limit: float | None,
) -> Data | None:
    """Wait until something that is watched differs from what the client knows.

    Args:
        collector: whose filters are watched.
        version: the last one that the client was told; None or "" begins anew.
        lookup: gives the properties of objects.
        changed: notified when a task changes.
        ended: the fault to raise when the session or the server ended meanwhile.
        limit: seconds; 0 looks once; None is as long as vCenter's own policy allows.

    Returns:
        An UpdateSet; None when nothing changed within the limit.

    Raises:
        vmodl.query.InvalidCollectorVersion: see `Collector.known_at`.
        vmodl.fault.RequestCanceled: CancelWaitForUpdates was called.
    """
    known = collector.known_at(version)
    cancellations = collector.cancellations
    deadline = time.monotonic() + (_LONGEST_WAIT if limit is None else limit)
    while True:
        fault = ended()
        if fault is not None:
            raise fault
        if collector.cancellations != cancellations:
            raise vmodl.fault.RequestCanceled(msg="The request was canceled by a user")
        update_set = _difference(collector, known, lookup)
        if update_set is not None:
            return update_set
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None
        with changed:
            changed.wait(min(remaining, _LOOK_EVERY))


def _difference(collector: Collector, known: Known, lookup: Lookup) -> Data | None:
    now_known: Known = {}
    updates = []
    for key, spec in list(collector.filters.items()):
        selected = {identity(one.reference): one for one in _existing(spec, lookup)}
        prints = {
            moref: {path: soap.fingerprint(value) for path, value in one.values.items()}
            for moref, one in selected.items()
        }
        now_known[key] = prints
        told = known.get(key, {})
        objects = [
            update
            for moref, one in selected.items()
            if (update := _object_update(one, prints[moref], told.get(moref))) is not None
        ]
        objects += [_left(moref, spec) for moref in told if moref not in selected]
        if objects:
            watched = vmodl.query.PropertyCollector.Filter(key, None)
            updates.append(vmodl.query.PropertyCollector.FilterUpdate(filter=watched, objectSet=objects))
    if not updates:
        return None
    return vmodl.query.PropertyCollector.UpdateSet(
        version=collector.remember(now_known), filterSet=updates, truncated=False
    )


def _existing(spec: Data, lookup: Lookup) -> list[Selected]:
    """What a filter selects; nothing when its starting object is gone, which the client is told as a leave."""
    try:
        return select(spec, lookup)
    except vmodl.fault.ManagedObjectNotFound:
        return []


def _object_update(one: Selected, prints: dict[str, str], told: dict[str, str] | None) -> Data | None:
    changes = [
        vmodl.query.PropertyCollector.Change(name=path, op="assign", val=value)
        for path, value in one.values.items()
        if told is None or told.get(path) != prints[path]
    ]
    if told is not None:
        changes += [vmodl.query.PropertyCollector.Change(name=path, op="remove") for path in told if path not in prints]
        if not changes:
            return None
    return vmodl.query.PropertyCollector.ObjectUpdate(
        kind="enter" if told is None else "modify", obj=one.reference, changeSet=changes
    )


def _left(moref: str, spec: Data) -> Data:
    kinds = [wanted.type for wanted in spec.propSet]
    starts = [start.obj for start in spec.objectSet if identity(start.obj) == moref]
    reference = starts[0] if starts else kinds[0](moref, None)
    return vmodl.query.PropertyCollector.ObjectUpdate(kind="leave", obj=reference)
