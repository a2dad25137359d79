"""Methods of the property collector."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from lab.vcenter.calls import Call, Handler
from lab.vcenter.center import PROPERTY_COLLECTOR, SERVICE
from lab.vcenter.property_collector import Lookup, check_filter, select, select_without_session
from lab.vcenter.sessions import not_authenticated
from lab.vcenter.updates import Collector, wait_for_updates
from lab.vcenter.vocabulary import Data, Reference, identity, invalid_argument, not_found, vmodl

_MOST_OBJECTS: Final = 10_000
"""Objects in one answer when the client sets no limit."""


_READABLE_BY_EVERYBODY: Final = {identity(SERVICE): frozenset({"content"})}

WITHOUT_SESSION: Final = frozenset({"RetrieveProperties", "RetrievePropertiesEx"})
"""Methods that `retrieve_without_session` answers."""


def _lookup(call: Call) -> Lookup:
    return lambda reference: call.center.properties(reference, call.session)


def _collector(call: Call) -> Collector:
    """The collector that is called; every session has its own behind the one well-known name."""
    collectors = call.caller.collectors
    key = identity(call.target)
    if key == identity(PROPERTY_COLLECTOR):
        return collectors.setdefault(key, Collector(call.target))
    if key not in collectors:
        raise not_found(call.target)
    return collectors[key]


def _select(call: Call) -> list[Data]:
    _collector(call)
    found: dict[str, Data] = {}
    for spec in call.arguments["specSet"]:
        for one in select(spec, _lookup(call)):
            found.setdefault(identity(one.reference), one.content(call.center.switches.hidden_properties))
    return list(found.values())


def retrieve_without_session(call: Call, method: str) -> Data:
    """The answer of a retrieval to somebody who is not logged in, or not any more.

    Reading properties needs no privilege of its own (System.Anonymous): the call succeeds, and each value is told as
    missing. A client that does not look at missingSet takes the end of its session for an empty answer.
    """
    told = [
        content
        for spec in call.arguments["specSet"]
        for content in select_without_session(spec, _lookup(call), _READABLE_BY_EVERYBODY)
    ]
    if method == "RetrieveProperties":
        return told
    return vmodl.query.PropertyCollector.RetrieveResult(objects=told) if told else None


def _retrieve_properties(call: Call) -> list[Data]:
    return _select(call)


def _retrieve_properties_ex(call: Call) -> Data:
    limit = call.arguments["options"].maxObjects
    if limit is not None and limit <= 0:
        raise invalid_argument("options.maxObjects")
    limit = _MOST_OBJECTS if limit is None else min(limit, _MOST_OBJECTS)
    return _first_page(call, _select(call), limit)


def _continue_retrieve(call: Call) -> Data:
    token = call.arguments["token"]
    limit, _, _ = token.partition("-")
    rest = call.caller.unread.pop(token, None)
    if rest is None:
        raise invalid_argument("token")
    return _first_page(call, rest, int(limit))


def _cancel_retrieve(call: Call) -> None:
    if call.caller.unread.pop(call.arguments["token"], None) is None:
        raise invalid_argument("token")


def _first_page(call: Call, objects: Sequence[Data], limit: int) -> Data | None:
    """The first objects; a token for the rest, which knows the size of the pages."""
    page, rest = list(objects[:limit]), list(objects[limit:])
    if not page:
        return None
    token = None
    if rest:
        token = f"{limit}-{uuid.uuid4()}"
        call.caller.unread[token] = rest
    return vmodl.query.PropertyCollector.RetrieveResult(objects=page, token=token)


def _create_filter(call: Call) -> Reference:
    check_filter(call.arguments["spec"])
    return _collector(call).add_filter(call.arguments["spec"])


def _destroy_filter(call: Call) -> None:
    for collector in call.caller.collectors.values():
        if collector.filters.pop(identity(call.target), None) is not None:
            return
    raise not_found(call.target)


def _create_collector(call: Call) -> Reference:
    reference = vmodl.query.PropertyCollector(f"session[{call.caller.key}]{uuid.uuid4()}", None)
    call.caller.collectors[identity(reference)] = Collector(reference)
    return reference


def _destroy_collector(call: Call) -> None:
    collector = _collector(call)
    collector.cancellations += 1
    call.caller.collectors.pop(identity(call.target), None)


def _wait(call: Call, limit: float | None) -> Data | None:
    session = call.caller

    def ended() -> Exception | None:
        if session.ended or call.center.closing.is_set():
            return not_authenticated(call.target)
        return None

    return wait_for_updates(
        _collector(call),
        call.arguments.get("version"),
        lookup=_lookup(call),
        changed=call.center.changed,
        ended=ended,
        limit=limit,
    )


def _wait_for_updates_ex(call: Call) -> Data | None:
    options = call.arguments.get("options")
    limit = options.maxWaitSeconds if options else None
    if limit is not None and limit < 0:
        raise invalid_argument("options.maxWaitSeconds")
    return _wait(call, limit)


def _wait_for_updates(call: Call) -> Data | None:
    return _wait(call, None)


def _check_for_updates(call: Call) -> Data | None:
    return _wait(call, 0)


def _cancel_wait(call: Call) -> None:
    _collector(call).cancellations += 1
    with call.center.changed:
        call.center.changed.notify_all()


METHODS: Final[dict[str, Handler]] = {
    "RetrieveProperties": _retrieve_properties,
    "RetrievePropertiesEx": _retrieve_properties_ex,
    "ContinueRetrievePropertiesEx": _continue_retrieve,
    "CancelRetrievePropertiesEx": _cancel_retrieve,
    "CreateFilter": _create_filter,
    "DestroyPropertyFilter": _destroy_filter,
    "CreatePropertyCollector": _create_collector,
    "DestroyPropertyCollector": _destroy_collector,
    "WaitForUpdatesEx": _wait_for_updates_ex,
    "WaitForUpdates": _wait_for_updates,
    "CheckForUpdates": _check_for_updates,
    "CancelWaitForUpdates": _cancel_wait,
}
