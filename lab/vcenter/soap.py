"""The wire towards the client: a result or a fault becomes a SOAP response."""

from __future__ import annotations

import copy
import re
from functools import lru_cache
from io import StringIO
from typing import Any, Final

from pyVmomi import SoapAdapter

from lab.vcenter.request import NAMESPACE
from lab.vcenter.vocabulary import Data, Kind, Support, vmodl

VERSION = "8.0.3.0"
PRIOR_VERSIONS = ("8.0.2.0", "8.0.1.0", "8.0.0.1", "7.0.3.0", "7.0.0.0", "6.7")

_WIRE: Any = SoapAdapter


OURS: str = Support.versionMap[f"vim25/{VERSION}"]
"""pyVmomi's name of the API version that is spoken with a client that asks for none."""


def negotiated_version(soap_action: str) -> str:
    """Return pyVmomi's name of the API version that a SOAPAction header asks for.

    A version between two that we know is the older one of them: govmomi asks for "7.0", which no server lists.

    Raises:
        vmodl.fault.InvalidRequest: it is no version, or one that is newer than ours.
    """
    asked = soap_action.strip().strip('"')
    if not asked:
        return OURS
    known = [version for version in _VERSIONS if _numbers(asked) and _numbers(version) <= _numbers(asked)]
    if not known or _numbers(asked) > _numbers(f"{NAMESPACE}/{VERSION}"):
        raise vmodl.fault.InvalidRequest(msg=f"Unsupported version URI '{asked}'\n\nwhile parsing SOAP body")
    found: str = Support.versionMap[max(known, key=_numbers).removeprefix("urn:")]
    return found


_VERSIONS: Final = tuple(f"urn:{one}" for one in Support.versionMap if re.fullmatch(r"vim25/\d+(\.\d+){1,3}", one))


@lru_cache(128)
def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version "urn:vim25/8.0.3.0", always four; none where it is not written so."""
    found = re.fullmatch(rf"{NAMESPACE}/(\d{{1,4}}(?:\.\d{{1,4}}){{1,3}})", version)
    numbers = [int(number) for number in found[1].split(".")] if found else []
    return tuple(numbers + [0] * (4 - len(numbers))) if numbers else ()


class _Serializer(_WIRE.SoapSerializer):  # type: ignore[misc]  # its base is made at run time
    """Serializes as vCenter does: pyVmomi is a client and never had to name a reference's type in an answer."""

    def __init__(self, version: str) -> None:
        self.text = StringIO()
        super().__init__(self.text, version, {**_WIRE.SOAP_NSMAP, NAMESPACE: ""})

    def _QName(self, kind: Kind, namespace: str) -> tuple[str, str]:  # noqa: N802 - pyVmomi's interface
        declaration, name = super()._QName(kind, namespace)
        # pyVmomi reads "ManagedObject" as well; every other client knows only the name that the schema has.
        return declaration, f"{name}Reference" if kind is Support.ManagedObject else name


def _envelope(inside: str) -> bytes:
    start = f"{_WIRE.XML_HEADER}\n{_WIRE.SOAP_ENVELOPE_START}{_WIRE.SOAP_BODY_START}"
    return f"{start}{inside}{_WIRE.SOAP_BODY_END}{_WIRE.SOAP_ENVELOPE_END}".encode()


def result(method: str, value: Data, kind: Kind, version: str) -> bytes:
    """The response of a call that went well; no value is an empty response."""
    inside = ""
    if value is not None and not (isinstance(value, list) and not value):
        field = Support.Object(name="returnval", type=kind, version=version, flags=0)
        serializer = _Serializer(version)
        serializer.Serialize(value, field)
        inside = serializer.text.getvalue()
    return _envelope(f'<{method}Response xmlns="{NAMESPACE}">{inside}</{method}Response>')


def fault(error: Exception, version: str) -> bytes:
    """The response of a call that ended with a fault of the API."""
    problem: Any = copy.copy(error)
    text = _WIRE.XmlEscape(problem.msg or "")
    problem.msg = None  # pyVmomi's own field; the schema has the text in faultstring alone
    field = Support.Object(name=f"{problem._wsdlName}Fault", type=object, version=version, flags=0)  # noqa: SLF001 - pyVmomi's official name
    serializer = _Serializer(version)
    serializer._SerializeDataObject(problem, field, f' xmlns="{NAMESPACE}"', NAMESPACE)  # noqa: SLF001 - pyVmomi's, with the namespace
    detail = serializer.text.getvalue()
    return _envelope(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
        f"<faultstring>{text}</faultstring><detail>{detail}</detail></soapenv:Fault>"
    )


def fingerprint(value: Data) -> str:
    """A text that is equal for equal values: pyVmomi's data objects cannot be compared."""
    serializer = _Serializer(OURS)
    serializer.Serialize(value, Support.Object(name="value", type=object, version=OURS, flags=0))
    return serializer.text.getvalue()


def service_versions() -> bytes:
    """The document /sdk/vimServiceVersions.xml, from which clients choose the API version."""
    priors = "".join(f"<version>{version}</version>" for version in PRIOR_VERSIONS)
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><namespaces version="1.0"><namespace>'
        f"<name>{NAMESPACE}</name><version>{VERSION}</version><priorVersions>{priors}</priorVersions>"
        "</namespace></namespaces>"
    ).encode()
