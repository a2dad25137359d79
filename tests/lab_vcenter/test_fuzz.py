"""Whatever comes in, the dispatcher answers SOAP, at once, and tells and logs no secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.vcenter.center import Center
from lab.vcenter.dispatcher import _METHODS
from lab.vcenter.request import _method
from lab.vcenter.vocabulary import Kind, Support
from tests.lab_vcenter.envelopes import PASSWORD, Caller, a_center, envelope, method

LONGEST_SECONDS = 5.0
"""For one answer, on a machine that has other things to do; a call that waits would take ten minutes."""

BREAKS = logging.getLogger("lab.vcenter.dispatcher")

OBJECTS = [
    ("VirtualMachine", "vm-101"),
    ("VirtualMachine", "vm-999"),
    ("Folder", "group-d1"),
    ("HostSystem", "host-8"),
    ("PropertyCollector", "propertyCollector"),
    ("ServiceInstance", "ServiceInstance"),
    ("SessionManager", "SessionManager"),
    ("ViewManager", "ViewManager"),
    ("SearchIndex", "SearchIndex"),
    ("VirtualMachineSnapshot", "snapshot-101-1"),
    ("VirtualMachineSnapshot", "snapshot--"),
    ("ContainerView", "session[x]y"),
    ("Task", "task-1"),
    ("VirtualMachine", "&lt;&amp;"),
]
morefs = st.sampled_from([*OBJECTS, ("Nonsense", "x"), ("VirtualDisk", "x")])
names = st.sampled_from(
    [
        "_this", "specSet", "propSet", "objectSet", "selectSet", "obj", "type", "pathSet", "path", "all", "skip",
        "options", "maxObjects", "maxWaitSeconds", "spec", "annotation", "changeTrackingEnabled", "deviceChange",
        "device", "key", "name", "memory", "quiesce", "deviceKey", "startOffset", "changeId", "snapshot", "container",
        "recursive", "userName", "password", "token", "version", "prop", "fault", "localizedMessage", "entity",
    ]
)  # fmt: skip
types = st.sampled_from(
    ["TraversalSpec", "SelectionSpec", "VirtualMachineConfigSpec", "VirtualDisk", "xsd:string", "xsd:int", "Nonsense",
     "ArrayOfString", "InvalidProperty", "LocalizedMethodFault", "PropertyFilterSpec", "a:b", ""]
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(
        ["", "true", "0", "-1", "99999999999999999999", "*", "name", "config.hardware.device", "VirtualMachine",
         "poweredOn", "52 00/1", f"x/{'9' * 5000}", "&lt;", PASSWORD]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="<&\r", exclude_categories=["Cc", "Cs"]), max_size=12),
)  # fmt: skip


@st.composite
def references(draw: st.DrawFn, name: str) -> str:
    kind, value = draw(morefs)
    return f'<{name} type="{kind}">{value}</{name}>'


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(names)
    if draw(st.booleans()):
        return draw(references(name))
    kind = draw(st.one_of(st.none(), types))
    inside = "".join(draw(st.lists(elements(depth + 1), max_size=3))) if depth < 4 and draw(st.booleans()) else ""
    attribute = "" if kind is None else f' xsi:type="{kind}"'
    return f"<{name}{attribute}>{inside or draw(texts)}</{name}>"


WAITS = ("WaitForUpdates", "WaitForUpdatesEx")
methods = st.sampled_from(sorted({*_METHODS, "Fetch", "Destroy_Task", "Nonsense"} - {"Logout", "Login"}))


@pytest.fixture(scope="module")
def center() -> Iterator[Center]:
    made = a_center()
    yield made
    made.close()


@pytest.fixture(scope="module")
def caller(center: Center) -> Caller:
    return Caller(center)


class _Records(logging.Handler):
    """What was logged, since pytest's own record of it belongs to a test and not to an example."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(logging.Formatter().format(record))


def try_it(caller: Caller, body: bytes) -> None:
    records = _Records()
    BREAKS.addHandler(records)
    began = time.monotonic()
    try:
        told = caller.send(body)
    finally:
        BREAKS.removeHandler(records)
    assert time.monotonic() - began < LONGEST_SECONDS
    assert records.told == []
    assert PASSWORD not in told.text or PASSWORD.encode() in body


fuzz = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_answered_with_a_fault(caller: Caller, body: bytes) -> None:
    try_it(caller, body)


@fuzz
@given(name=methods, this=st.one_of(st.just(""), references("_this")), inside=st.lists(elements(), max_size=4))
def test_a_call_made_of_parts_that_do_not_fit_is_answered(
    caller: Caller, name: str, this: str, inside: list[str]
) -> None:
    if name in WAITS:
        # Without a limit it waits, rightly, for what nobody changes.
        inside = ["<options><maxWaitSeconds>0</maxWaitSeconds></options>"] if name.endswith("Ex") else ["<wrong/>"]
    try_it(caller, envelope(method(name, this + "".join(inside))))


@st.composite
def fitting(draw: st.DrawFn, name: str, kind: Kind, depth: int = 0) -> str:
    """An element of the schema's type with a value that may be wrong, and parts that may be missing."""
    if issubclass(kind, list):
        return "".join(draw(st.lists(fitting(name, kind.Item, depth), max_size=2)))
    if issubclass(kind, Support.ManagedObject):
        return draw(references(name))
    if not issubclass(kind, Support.DataObject):
        return f"<{name}>{draw(texts)}</{name}>"
    parts = list(kind._GetPropertyList()) if depth < 4 else []
    chosen = draw(st.lists(st.sampled_from(parts), max_size=4, unique=True)) if parts else []
    required = [part for part in parts if not part.flags & Support.F_OPTIONAL]
    inside = "".join(draw(fitting(part.name, part.type, depth + 1)) for part in {*chosen, *required})
    return f"<{name}>{inside}</{name}>"


@st.composite
def calls_of_the_schema(draw: st.DrawFn) -> str:
    name = draw(methods)
    if name in WAITS or name not in _METHODS or name == "Fetch":
        name = "RetrievePropertiesEx"
    owner = Support.GetWsdlMethod("urn:vim25", name).info
    this = draw(st.sampled_from([known for known in OBJECTS if _method(kind_of(known[0]), name)] or OBJECTS))
    arguments = [
        draw(fitting(parameter.name, parameter.type))
        for parameter in owner.params
        if not parameter.flags & Support.F_OPTIONAL or draw(st.booleans())
    ]
    return method(name, f'<_this type="{this[0]}">{this[1]}</_this>' + "".join(arguments))


def kind_of(name: str) -> Kind:
    return Support.GetWsdlType("urn:vim25", name)


@fuzz
@given(inside=calls_of_the_schema())
def test_a_call_that_fits_the_schema_with_values_that_may_not_is_answered(caller: Caller, inside: str) -> None:
    try_it(caller, envelope(inside))


GOOD = (
    method(
        "RetrievePropertiesEx",
        '<_this type="PropertyCollector">propertyCollector</_this><specSet><propSet><type>VirtualMachine</type>'
        "<pathSet>config.hardware.device</pathSet></propSet><objectSet><obj type='Folder'>group-v3</obj>"
        "<skip>true</skip><selectSet xsi:type='TraversalSpec'><name>a</name><type>Folder</type><path>childEntity</path>"
        "</selectSet></objectSet></specSet><options><maxObjects>1</maxObjects></options>",
    ),
    method(
        "ReconfigVM_Task",
        '<_this type="VirtualMachine">vm-101</_this><spec><annotation>a</annotation>'
        "<changeTrackingEnabled>true</changeTrackingEnabled></spec>",
    ),
    method(
        "QueryChangedDiskAreas",
        '<_this type="VirtualMachine">vm-101</_this><deviceKey>2000</deviceKey><startOffset>0</startOffset>'
        "<changeId>*</changeId>",
    ),
    method(
        "CreateContainerView",
        '<_this type="ViewManager">ViewManager</_this><container type="Folder">group-d1</container>'
        "<type>VirtualMachine</type><recursive>true</recursive>",
    ),
)


@fuzz
@given(good=st.sampled_from(GOOD), cut=st.tuples(st.integers(0, 700), st.integers(0, 60)), put=texts | elements())
def test_a_good_call_with_a_piece_replaced_is_answered(
    caller: Caller, good: str, cut: tuple[int, int], put: str
) -> None:
    start, length = cut
    body = envelope(good[:start] + put + good[start + length :])
    try_it(caller, body)
