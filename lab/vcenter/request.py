"""The wire towards us: a SOAP request becomes a method, an object and typed arguments, or it is refused.

pyVmomi reads what a server says, and trusts it. What a client says is not trusted: every type, every text and every
required part is checked here, so that a method's code gets what its signature promises. A refusal has the words that
vCenter is known to use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers.expat import ExpatError, ParserCreate

from pyVmomi import SoapAdapter

from lab.vcenter.vocabulary import Data, Kind, Reference, Support, vmodl, wire_name

NAMESPACE: Final = "urn:vim25"

_WIRE: Any = SoapAdapter
_SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_ENVELOPE_DEPTH: Final = 2
"""Envelope and Body around the method's element."""

_DEEPEST: Final = 64
"""Elements within elements of an argument; no client of the API needs more than a dozen."""

_INTEGER: Final = re.compile(r"\s*[+-]?\d{1,20}\s*")
_BITS: Final[dict[Kind, int]] = {Support.byte: 8, Support.short: 16, int: 32, Support.long: 64}

_FETCH: Final = "Fetch"
"""What pyVmomi sends to read one property; the schema does not have it, vCenter does."""


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


def parse(body: bytes) -> Request:
    """Read a request.

    Raises:
        vmodl.fault.InvalidRequest: it is not XML, or not of the schema.
        vmodl.fault.InvalidType: it names a type that does not exist, or that does not fit.
        vmodl.fault.MethodNotFound: the object has no such method.
    """
    try:
        return _RequestParser().parse(body)
    except (ExpatError, KeyError, TypeError, ValueError, AttributeError) as error:
        # What pyVmomi raises on an unknown field, or a text that is no value of its type.
        raise _invalid(f"The request cannot be understood: {error}") from error


def _invalid(text: str) -> Exception:
    fault: Exception = vmodl.fault.InvalidRequest(msg=text)
    return fault


def _invalid_type(name: str) -> Exception:
    fault: Exception = vmodl.fault.InvalidType(
        argument=name, msg=f"The request refers to an unexpected or unknown type: {name}"
    )
    return fault


class _Deserializer(_WIRE.SoapDeserializer):  # type: ignore[misc]  # its base is made at run time
    """pyVmomi's deserializer of one value, as strict as a server has to be."""

    def __init__(self) -> None:
        super().__init__()
        self.data: str
        self._given: list[set[str]] = []

    def LookupWsdlType(self, *names: Any, **options: Any) -> Kind:  # noqa: ANN401, N802 - pyVmomi's interface
        try:
            return super().LookupWsdlType(*names, **options)
        except (KeyError, AttributeError):
            raise _invalid_type(str(names[1])) from None

    def StartElementHandler(self, tag: str, attributes: dict[str, str]) -> None:  # noqa: N802 - pyVmomi's interface
        if len(self._given) >= _DEEPEST:
            raise _invalid(f"More than {_DEEPEST} elements are nested")
        name = tag.rpartition(_WIRE.NS_SEP)[2]
        declared = self._declared(name)
        # A server's name for where an object lives, which pyVmomi would repeat as it came.
        attributes.pop("serverGuid", None)
        super().StartElementHandler(tag, attributes)
        begun = self.stack[-1]
        _check_type(name, declared, begun if isinstance(begun, type) else type(begun))
        self._given.append(set())

    def EndElementHandler(self, tag: str) -> None:  # noqa: N802 - pyVmomi's interface
        if self.stack:
            given = self._given.pop()
            ended = self.stack[-1]
            if isinstance(ended, Support.DataObject):
                _check_complete(ended, given)
            elif isinstance(ended, type):
                self.data = _checked_text(ended, self.data)
        super().EndElementHandler(tag)

    def _declared(self, name: str) -> Kind:
        """The schema's type of an element that begins here."""
        if not self.stack:
            return self.resultType
        parent = self.stack[-1]
        if isinstance(parent, Support.Array):
            return parent.Item
        if not isinstance(parent, Support.DataObject):
            raise _invalid(f'Unexpected element tag "{name}" seen')
        try:
            declared = parent._GetPropertyInfo(name).type  # noqa: SLF001 - pyVmomi's official name
        except AttributeError:
            raise _invalid(
                f'Unexpected element tag "{name}" seen\n\n'
                f"while parsing serialized DataObject of type {wire_name(type(parent))}"
            ) from None
        if name in self._given[-1] and not issubclass(declared, list):
            raise _invalid(f'Element tag "{name}" seen twice')
        self._given[-1].add(name)
        return declared


def _check_type(name: str, declared: Kind, found: Kind) -> None:
    """Refuse an element whose own type does not fit its place.

    Raises:
        vmodl.fault.InvalidType: naming the element.
    """
    if issubclass(declared, list) and not issubclass(found, list):
        declared = declared.Item
    if declared is object or _WIRE.isDynamicType(declared) or issubclass(declared, Exception):
        return
    if not issubclass(found, declared):
        raise _invalid_type(name)


def _check_complete(value: Data, given: set[str]) -> None:
    """Refuse a data object that lacks what the schema requires.

    Raises:
        vmodl.fault.InvalidRequest: naming the property.
    """
    for part in value._GetPropertyList():  # noqa: SLF001 - pyVmomi's official name
        if not part.flags & Support.F_OPTIONAL and part.name not in given:
            raise _invalid(
                f"Required property {part.name} is missing from data object of type {wire_name(type(value))}\n\n"
                f"while parsing serialized DataObject of type {wire_name(type(value))}"
            )


def _checked_text(kind: Kind, text: str) -> str:
    """The text of a scalar.

    Raises:
        vmodl.fault.InvalidRequest: it is no value of its type.
    """
    if issubclass(kind, Support.ManagedObject):
        # pyVmomi writes ids into its answers as they are; escaped, an id that no object has stays well-formed there.
        escaped: str = _WIRE.XmlEscape(text)
        return escaped
    if issubclass(kind, Support.Enum) and text not in kind.values:
        raise _invalid(f"Invalid value '{text}' for enum type {wire_name(kind)}")
    if kind in _BITS:
        most = 1 << (_BITS[kind] - 1)
        if not _INTEGER.fullmatch(text) or not -most <= int(text) < most:
            raise _invalid(f"Invalid value '{text[:40]}' for an integer of {_BITS[kind]} bits")
    return text


class _RequestParser(_WIRE.ExpatDeserializerNSHandlers):  # type: ignore[misc]  # its base is made at run time
    """Reads an envelope; hands each argument's element to the deserializer with the argument's declared type."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.in_header = False
        self.method = ""
        self.target: Reference = None
        self.parameters: dict[str, Any] = {}
        self.result_kind: Kind = object
        self.arguments: dict[str, Data] = {}
        self.pending: str | None = None
        self.deserializer = _Deserializer()
        self.parser = ParserCreate(namespace_separator=_WIRE.NS_SEP)
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = _refuse_doctype
        self.handlers = _WIRE.GetHandlers(self)
        _WIRE.SetHandlers(self.parser, self.handlers)

    def parse(self, body: bytes) -> Request:
        self.parser.Parse(body, True)  # noqa: FBT003 - expat's own interface: this is all of it
        if not self.method or self.target is None:
            raise _invalid("The request names no method or no object")
        for name, parameter in self.parameters.items():
            if not parameter.flags & Support.F_OPTIONAL and name not in self.given:
                raise _invalid(
                    f"Required parameter {name} is missing\n\nwhile parsing call information for method {self.method}"
                )
        return Request(self.method, self.target, self.arguments, self.result_kind)

    def StartElementHandler(self, tag: str, attributes: dict[str, str]) -> None:  # noqa: N802 - pyVmomi's interface
        self._collect()
        namespace, _, name = tag.rpartition(_WIRE.NS_SEP)
        if self.in_header:
            self.depth += 1
        elif self.depth < _ENVELOPE_DEPTH:
            self._enter_envelope(namespace, name)
        elif self.depth == _ENVELOPE_DEPTH:
            self._begin_method(namespace, name)
        else:
            self._deserialize(name, tag, attributes)

    def EndElementHandler(self, _tag: str) -> None:  # noqa: N802 - pyVmomi's interface
        self._collect()
        self.depth -= 1
        self.in_header = self.in_header and self.depth > 1

    def CharacterDataHandler(self, data: str) -> None:  # noqa: N802 - pyVmomi's interface
        """White space between the elements, and the text of headers, which mean nothing here."""

    @property
    def given(self) -> set[str]:
        """The arguments that were sent; an empty list is there before anything was."""
        return {name for name, value in self.arguments.items() if not isinstance(value, list) or value}

    def _enter_envelope(self, namespace: str, name: str) -> None:
        expected = ("Envelope",) if self.depth == 0 else ("Header", "Body")
        if namespace != _SOAP or name not in expected:
            raise _invalid(f'Unexpected element tag "{name}" seen\n\nwhile parsing SOAP envelope')
        self.in_header = name == "Header"
        self.depth += 1

    def _begin_method(self, namespace: str, name: str) -> None:
        if self.method:
            raise _invalid(f'Unexpected element tag "{name}" seen\n\nwhile parsing SOAP body')
        if namespace != NAMESPACE or not _is_in_the_schema(name):
            raise _invalid(
                f"Unable to resolve WSDL method name {name} for namespace name {namespace}\n\nwhile parsing SOAP body"
            )
        self.method = name
        self.depth += 1

    def _deserialize(self, name: str, tag: str, attributes: dict[str, str]) -> None:
        if name == "_this" and self.target is None:
            kind = Support.ManagedObject
        elif self.target is None:
            raise _invalid(
                f"Got <{name}> tag when expecting <_this> tag\n\n"
                f"while parsing call information for method {self.method}"
            )
        elif name in self.parameters:
            kind = self.parameters[name].type
            if not issubclass(kind, list) and name in self.arguments:
                raise _invalid(f"Got <{name}> tag twice\n\nwhile parsing call information for method {self.method}")
            kind = kind.Item if issubclass(kind, list) else kind
        else:
            raise _invalid(
                f'Unexpected element tag "{name}" seen\n\nwhile parsing call information for method {self.method}'
            )
        self.pending = name
        # From here to the end of this element the parser speaks to the deserializer, which gives it back.
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
        if self.method == _FETCH:
            self.parameters = {"prop": Support.Object(name="prop", type=str, flags=0)}
            return
        info = _method(type(self.target), self.method)
        if info is None:
            raise vmodl.fault.MethodNotFound(receiver=self.target, method=self.method, msg="The method is not known")
        self.parameters = {parameter.name: parameter for parameter in info.params}
        self.result_kind = info.methodResult
        self.arguments = {name: one.type() for name, one in self.parameters.items() if issubclass(one.type, list)}


def _refuse_doctype(*_declaration: Any) -> None:  # noqa: ANN401 - expat's interface
    raise _invalid("A document type declaration is not allowed (SOAP 1.1, 3)")


def _is_in_the_schema(method: str) -> bool:
    if method == _FETCH:
        return True
    try:
        Support.GetWsdlMethod(NAMESPACE, method)
    except KeyError:
        return False
    return True


def _method(kind: Kind, name: str) -> Any | None:  # noqa: ANN401 - pyVmomi's description of a method
    return next((info for info in kind._GetMethodList() if info.wsdlName == name), None)  # noqa: SLF001 - pyVmomi's official name
