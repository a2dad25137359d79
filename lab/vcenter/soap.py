"""The wire: a SOAP request becomes typed arguments, a result or a fault becomes a SOAP response."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

from pyVmomi import SoapAdapter

from lab.vcenter.vocabulary import Data, Kind, Reference, Support, vmodl

NAMESPACE = "urn:vim25"
VERSION = "8.0.3.0"
PRIOR_VERSIONS = ("8.0.2.0", "8.0.1.0", "8.0.0.1", "7.0.3.0", "7.0", "6.7")

_WIRE: Any = SoapAdapter
_ENVELOPE_DEPTH = 2  # Envelope and Body around the method's element


@dataclass(frozen=True)
class Request:
    """A call as the client made it.

    Attributes:
        method: its name on the wire, such as CreateSnapshot_Task; "Fetch" reads one property.
        arguments: by the schema's names; optional ones that were not sent are missing, lists are always there.
        result_kind: declared class of the answer.
    """

    method: str
    target: Reference
    arguments: dict[str, Data]
    result_kind: Kind


def _method(kind: Kind, name: str) -> Any | None:  # noqa: ANN401 - pyVmomi's description of a method
    return next((info for info in kind._GetMethodList() if info.wsdlName == name), None)  # noqa: SLF001 - pyVmomi's official name


class _RequestParser(_WIRE.ExpatDeserializerNSHandlers):  # type: ignore[misc]  # its base is made at run time
    """Reads an envelope; hands each argument's element to pyVmomi's deserializer with the argument's declared type."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.in_header = False
        self.method = ""
        self.target: Reference = None
        self.parameters: dict[str, Kind] = {}
        self.result_kind: Kind = object
        self.arguments: dict[str, Data] = {}
        self.pending: str | None = None
        self.deserializer = _WIRE.SoapDeserializer()
        self.parser = ParserCreate(namespace_separator=_WIRE.NS_SEP)
        self.parser.buffer_text = True
        self.handlers = _WIRE.GetHandlers(self)
        _WIRE.SetHandlers(self.parser, self.handlers)

    def parse(self, body: bytes) -> Request:
        self.parser.Parse(body, True)  # noqa: FBT003 - expat's own interface: this is all of it
        if self.target is None:
            raise vmodl.fault.InvalidRequest(msg="The request names no method or no object")
        return Request(self.method, self.target, self.arguments, self.result_kind)

    def StartElementHandler(self, tag: str, attributes: dict[str, str]) -> None:  # noqa: N802 - pyVmomi's interface
        self._collect()
        name = tag.rpartition(_WIRE.NS_SEP)[2]
        if self.depth == 1:
            self.in_header = name == "Header"
        if self.in_header or self.depth < _ENVELOPE_DEPTH:
            self.depth += 1
        elif self.depth == _ENVELOPE_DEPTH:
            self.method = name
            self.depth += 1
        else:
            self._deserialize(name, tag, attributes)

    def EndElementHandler(self, _tag: str) -> None:  # noqa: N802 - pyVmomi's interface
        self._collect()
        self.depth -= 1
        self.in_header = self.in_header and self.depth > 1

    def CharacterDataHandler(self, data: str) -> None:  # noqa: N802 - pyVmomi's interface
        """White space between the elements, and the text of headers, which mean nothing here."""

    def _deserialize(self, name: str, tag: str, attributes: dict[str, str]) -> None:
        if name == "_this":
            kind = Support.ManagedObject
        elif self.target is None:
            raise vmodl.fault.InvalidRequest(msg=f"{name} comes before _this")
        elif name in self.parameters:
            kind = self.parameters[name]
            kind = kind.Item if issubclass(kind, list) else kind
        else:
            raise vmodl.fault.InvalidRequest(msg=f"{self.method} has no parameter {name}")
        self.pending = name
        # From here to the end of this element the parser speaks to pyVmomi's deserializer, which gives it back.
        self.deserializer.Deserialize(self.parser, kind, False, self.nsMap)  # noqa: FBT003 - pyVmomi's interface
        self.deserializer.StartElementHandler(tag, attributes)

    def _collect(self) -> None:
        """Take over the argument whose element ended just before."""
        if self.pending is None:
            return
        name, self.pending = self.pending, None
        value = self.deserializer.GetResult()
        if name == "_this":
            self.target = value
            self._learn_signature()
        elif isinstance(self.arguments.get(name), list):
            self.arguments[name].append(value)
        else:
            self.arguments[name] = value

    def _learn_signature(self) -> None:
        if self.method == "Fetch":
            self.parameters, self.result_kind = {"prop": str}, object
            return
        info = _method(type(self.target), self.method)
        if info is None:
            raise vmodl.fault.MethodNotFound(receiver=self.target, method=self.method, msg="The method is not known")
        self.parameters = {parameter.name: parameter.type for parameter in info.params}
        self.result_kind = info.methodResult
        self.arguments = {name: kind() for name, kind in self.parameters.items() if issubclass(kind, list)}


def parse(body: bytes) -> Request:
    """Read a request.

    Raises:
        vmodl.fault.InvalidRequest: it is not XML, or not of the schema.
        vmodl.fault.MethodNotFound: the object has no such method.
    """
    try:
        return _RequestParser().parse(body)
    except (ExpatError, KeyError, TypeError, ValueError, AttributeError) as error:
        # What pyVmomi raises on an unknown type, an unknown field, or a text that is no value of its type.
        raise vmodl.fault.InvalidRequest(msg=f"The request cannot be understood: {error}") from error


def negotiated_version(soap_action: str) -> str:
    """Return pyVmomi's name of the API version that a SOAPAction header asks for; ours where that is not known."""
    asked = soap_action.strip().strip('"').removeprefix("urn:")
    known: dict[str, str] = Support.versionMap
    return known.get(asked) or known[f"vim25/{VERSION}"]


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
    problem: Any = error
    field = Support.Object(name=f"{problem._wsdlName}Fault", type=object, version=version, flags=0)  # noqa: SLF001 - pyVmomi's official name
    serializer = _Serializer(version)
    serializer.SerializeFaultDetail(problem, field)
    detail = serializer.text.getvalue()
    text = _WIRE.XmlEscape(problem.msg or "")
    return _envelope(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>"
        f"<faultstring>{text}</faultstring><detail>{detail}</detail></soapenv:Fault>"
    )


def fingerprint(value: Data) -> str:
    """A text that is equal for equal values: pyVmomi's data objects cannot be compared."""
    version = Support.versionMap[f"vim25/{VERSION}"]
    serializer = _Serializer(version)
    serializer.Serialize(value, Support.Object(name="value", type=object, version=version, flags=0))
    return serializer.text.getvalue()


def service_versions() -> bytes:
    """The document /sdk/vimServiceVersions.xml, from which clients choose the API version."""
    priors = "".join(f"<version>{version}</version>" for version in PRIOR_VERSIONS)
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><namespaces version="1.0"><namespace>'
        f"<name>{NAMESPACE}</name><version>{VERSION}</version><priorVersions>{priors}</priorVersions>"
        "</namespace></namespaces>"
    ).encode()
