"""Requests as text, as another client than pyVmomi may write them, and what the dispatcher answers to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from lab.esxi.memory import MemoryHost, a_machine
from lab.vcenter.center import Center
from lab.vcenter.dispatcher import Answer, answer
from lab.vcenter.shape import Shape

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
USER, PASSWORD = "xms@lab", "a-secret-that-nothing-may-tell"

COLLECTOR = '<_this type="PropertyCollector">propertyCollector</_this>'
SERVICE = '<_this type="ServiceInstance">ServiceInstance</_this>'
WEB = '<_this type="VirtualMachine">vm-101</_this>'
LOGIN = (
    '<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this>'
    f"<userName>{USER}</userName><password>{PASSWORD}</password></Login>"
)


def envelope(inside: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<e:Envelope xmlns:e="{SOAP}" xmlns:xsi="{XSI}"><e:Body>{inside}</e:Body></e:Envelope>'
    ).encode()


def method(name: str, inside: str) -> str:
    return f'<{name} xmlns="urn:vim25">{inside}</{name}>'


def a_center(machines: int = 2) -> Center:
    made = [a_machine(f"vm{number}", networks=["VM Network"]) for number in range(machines)]
    return Center(MemoryHost(made), {USER: PASSWORD}, idle_limit=1800, shape=Shape())


@dataclass(frozen=True)
class Told:
    """An answer, read as XML: `fault` is the name of its type, "" where the call went well."""

    answer: Answer
    fault: str
    text: str
    body: ET.Element


def read(given: Answer) -> Told:
    """Read an answer.

    Raises:
        AssertionError: it is not SOAP, or its status does not fit it.
    """
    root = ET.fromstring(given.body)  # noqa: S314 - our own server wrote it
    assert root.tag == f"{{{SOAP}}}Envelope"
    (body,) = root
    (content,) = body
    fault = content if content.tag == f"{{{SOAP}}}Fault" else None
    assert given.status == (200 if fault is None else 500)
    if fault is None:
        assert re.fullmatch(r"\{urn:vim25\}\w+Response", content.tag)
        return Told(given, "", "", content)
    assert fault.findtext("faultcode") == "ServerFaultCode"
    (detail,) = fault.findall("detail/*")
    assert detail.tag == f"{{urn:vim25}}{detail.get(f'{{{XSI}}}type')}Fault"
    return Told(given, detail.get(f"{{{XSI}}}type") or "", fault.findtext("faultstring") or "", detail)


class Caller:
    """A client of a center without a wire in between, logged in unless told otherwise."""

    def __init__(self, center: Center, *, logged_in: bool = True) -> None:
        self.center = center
        self.cookie = ""
        if logged_in:
            self.log_in()

    def log_in(self) -> None:
        self.cookie = self.send(envelope(LOGIN)).answer.cookie or ""

    def send(self, body: bytes, *, action: str = "urn:vim25/8.0.3.0", agent: str = "a test") -> Told:
        return read(answer(self.center, body, action=action, cookie=self.cookie, address="127.0.0.1", agent=agent))

    def call(self, name: str, inside: str) -> Told:
        return self.send(envelope(method(name, inside)))
