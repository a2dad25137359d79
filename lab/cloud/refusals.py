"""How the services say no: one exception, and each service's own shape of the answer."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

Json = dict[str, Any]

_FAULT_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    409: "conflictingRequest",
    413: "overLimit",
}
_TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}

UNAUTHENTICATED = "The request you have made requires authentication."


class Refused(Exception):
    """A call that a service refuses.

    Attributes:
        status: the HTTP status.
        text: what a real service was seen to say.
        kind: Neutron's exception class, which its answers carry; empty elsewhere.
    """

    def __init__(self, status: int, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind


def not_found(what: str, identifier: str) -> Refused:
    """'Volume 1111.. could not be found.': the text that Cinder, Nova and Neutron share."""
    return Refused(404, f"{what} {identifier} could not be found.", f"{what.replace(' ', '')}NotFound")


def answer_body(path: str, status: int, text: str, kind: str = "") -> Json:
    """The body in the shape of the service that `path` belongs to."""
    if path.startswith("/network"):
        return {"NeutronError": {"type": kind or "HTTPError", "message": text, "detail": ""}}
    if path.startswith("/identity") or status == 401:  # noqa: PLR2004 - keystonemiddleware answers for every service
        return {"error": {"code": status, "message": text, "title": _TITLES.get(status, "Error")}}
    fault: Json = {"code": status, "message": text}
    if status == 413:  # noqa: PLR2004 - Cinder's over-quota answer
        fault["retryAfter"] = "0"
    return {_FAULT_NAMES.get(status, "computeFault"): fault}


def schema_text(error: ErrorDetails) -> str:
    """A violation of a request's schema, as the JSON schemas of Cinder and Nova word it."""
    field = error["loc"][-1] if error["loc"] else "body"
    value = error["input"]
    limits = error.get("ctx", {})
    match error["type"]:
        case "missing":
            reason = f"'{field}' is a required property"
        case "extra_forbidden":
            reason = f"Additional properties are not allowed ('{field}' was unexpected)"
        case "greater_than_equal":
            reason = f"{value} is less than the minimum of {limits['ge']}"
        case "string_type":
            reason = f"{value!r} is not of type 'string'"
        case "string_too_long":
            reason = f"{value!r} is too long"
        case "int_type" | "int_parsing":
            reason = f"{value!r} is not of type 'integer'"
        case _:
            reason = error["msg"]
    return f"Invalid input for field/attribute {field}. Value: {value}. {reason}"
