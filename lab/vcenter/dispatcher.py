"""From a request's bytes to a response's bytes: who may call, which function answers, how a failure is told."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lab.vcenter import authorization, collector_methods, machine_methods, service_methods, soap
from lab.vcenter.calls import Call, Handler, is_open_to_all
from lab.vcenter.center import PROPERTY_COLLECTOR, Center
from lab.vcenter.collector_methods import WITHOUT_SESSION, retrieve_without_session
from lab.vcenter.request import parse
from lab.vcenter.vocabulary import Data, Reference, Support, identity, not_found, vim, vmodl

logger = logging.getLogger(__name__)

_METHODS: Final[dict[str, Handler]] = {
    **service_methods.METHODS,
    **collector_methods.METHODS,
    **machine_methods.METHODS,
    **authorization.METHODS,
}


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        cookie: the key of a session that this call began. A call without a session is given one in which nobody is
            logged in: a client that takes it over in place of a good one is logged out.
    """

    status: int
    body: bytes
    cookie: str | None = None


def answer(center: Center, body: bytes, *, action: str, cookie: str, address: str, agent: str) -> Answer:
    """Answer a call; a fault of the API goes to the client, anything else is logged and told as a SystemError."""
    version = soap.OURS
    try:
        version = soap.negotiated_version(action)
        request = parse(body)
        call = Call(center, request.target, request.arguments, None, address=address, agent=_printable(agent))
        value = _invoke(call, request.method, cookie)
        reply = soap.result(request.method, value, request.result_kind, version)
        return Answer(200, reply, call.new_session.key if call.new_session else None)
    except vim.fault.NotAuthenticated as fault:
        return Answer(500, soap.fault(fault, version), str(uuid.uuid4()))
    except vmodl.MethodFault as fault:
        return Answer(500, soap.fault(fault, version))
    except Exception as error:
        logger.exception("a call broke the stand-in vCenter")
        broken = vmodl.fault.SystemError(reason=str(error), msg=f"A general system error occurred: {error}")
        return Answer(500, soap.fault(broken, version))


def _invoke(call: Call, method: str, cookie: str) -> object:
    if is_open_to_all(method, call.target, call.arguments):
        call.session = call.center.sessions.find(cookie)
        return _handler(call, method)(call)
    try:
        call.session = call.center.sessions.begin_call(cookie, call.target)
    except vim.fault.NotAuthenticated:
        if method in WITHOUT_SESSION and identity(call.target) == identity(PROPERTY_COLLECTOR):
            return retrieve_without_session(call, method)
        raise
    try:
        for reference in (call.target, *_references(call.arguments)):
            if call.center.properties(reference, call.session) is None:
                raise not_found(reference)
        authorization.refuse_without_privilege(call, method)
        call.center.switches.strike(method)
        return _handler(call, method)(call)
    finally:
        call.center.sessions.end_call(call.session)


def _handler(call: Call, method: str) -> Handler:
    handler = _METHODS.get(method)
    if handler is None:
        raise vmodl.fault.MethodNotFound(receiver=call.target, method=method, msg=f"{method} is not in the stand-in")
    return handler


def _references(arguments: dict[str, Data]) -> Iterator[Reference]:
    """The objects that a call names beside its target; those within data objects are the method's own affair."""
    for value in arguments.values():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Support.ManagedObject):
                yield one


def _printable(text: str) -> str:
    """A header's text as far as XML may hold it: it becomes part of answers."""
    return "".join(character for character in text if character.isprintable())
