"""What the schema does not allow is refused, as vCenter's SOAP layer refuses it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.lab_vcenter.envelopes import (
    COLLECTOR,
    LOGIN,
    PASSWORD,
    SERVICE,
    SOAP,
    WEB,
    Caller,
    a_center,
    envelope,
    method,
)

VIEW_MANAGER = '<_this type="ViewManager">ViewManager</_this>'
ROOT = '<container type="Folder">group-d1</container>'
NAME_OF_WEB = (
    "<propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet>"
    '<objectSet><obj type="VirtualMachine">vm-101</obj></objectSet>'
)


@pytest.fixture
def caller(caplog: pytest.LogCaptureFixture) -> Caller:
    caplog.set_level(logging.WARNING)
    return Caller(a_center())


@pytest.fixture(autouse=True)
def _nothing_breaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A call that breaks the server is answered with a fault as well; its traceback is in the log."""
    yield
    assert caplog.records == []


# --- envelopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no XML",
        b"<a/>",
        envelope(""),
        envelope(method("CurrentTime", SERVICE))[:-5],
        envelope(method("CurrentTime", SERVICE)).replace(SOAP.encode(), b"urn:soap"),
        envelope(method("CurrentTime", SERVICE)).replace(b"e:Body", b"e:Torso"),
        envelope(method("CurrentTime", SERVICE)).replace(b"e:Envelope", b"e:Letter"),
        envelope(method("CurrentTime", SERVICE) * 2),
        envelope(method("CurrentTime", SERVICE) + '<CurrentTime xmlns="urn:vim25"/>'),
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + envelope(method("CurrentTime", SERVICE)).partition(b"?>")[2],
        envelope("<CurrentTime><_this type='ServiceInstance'>ServiceInstance</_this></CurrentTime>"),
        envelope(method("CurrentTime", "")),
        envelope(method("CurrentTime", "<_this>ServiceInstance</_this>")),
    ],
)
def test_an_envelope_that_is_none_is_refused_with_invalid_request(caller: Caller, body: bytes) -> None:
    assert caller.send(body).fault == "InvalidRequest"


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("", ""),
        ('"urn:vim25/6.7"', ""),
        ("urn:vim25/6.5", ""),
        ("urn:vim25/99.0", "InvalidRequest"),
        ("urn:vim25/9.0.0.0", "InvalidRequest"),
        ("urn:sms/4.0", "InvalidRequest"),
        ("vim25/8.0.3.0", "InvalidRequest"),
        ("nonsense", "InvalidRequest"),
    ],
)
def test_a_version_that_the_server_does_not_speak_is_refused(caller: Caller, action: str, fault: str) -> None:
    assert caller.send(envelope(method("CurrentTime", SERVICE)), action=action).fault == fault


def test_elements_nested_without_end_are_refused(caller: Caller) -> None:
    start, end = '<selectSet xsi:type="TraversalSpec"><type>Folder</type><path>childEntity</path>', "</selectSet>"
    deep = f"<specSet>{NAME_OF_WEB.replace('</objectSet>', start * 5000 + end * 5000 + '</objectSet>')}</specSet>"
    assert caller.call("RetrieveProperties", COLLECTOR + deep).fault == "InvalidRequest"


# --- methods and objects ----------------------------------------------------------------------------------------------


def test_a_method_that_the_schema_does_not_have_is_named_in_the_refusal(caller: Caller) -> None:
    told = caller.call("StirVM_Task", WEB)
    assert told.fault == "InvalidRequest"
    assert told.text.startswith("Unable to resolve WSDL method name StirVM_Task for namespace name urn:vim25")


def test_a_method_of_another_type_is_not_found(caller: Caller) -> None:
    assert caller.call("PowerOnVM_Task", SERVICE).fault == "MethodNotFound"


def test_a_method_that_is_not_in_the_stand_in_is_not_found(caller: Caller) -> None:
    assert caller.call("ResetVM_Task", WEB).fault == "MethodNotFound"


@pytest.mark.parametrize("kind", ["Nonsense", "VirtualDisk", "string", "ArrayOfVirtualMachine", ""])
def test_an_object_of_a_type_that_is_none_is_refused_with_invalid_type(caller: Caller, kind: str) -> None:
    assert caller.call("CurrentTime", f'<_this type="{kind}">x</_this>').fault == "InvalidType"


@pytest.mark.parametrize("reference", ["HostSystem", "Folder", "VirtualMachineSnapshot", "ContainerView", "Task"])
def test_a_reference_under_another_type_than_its_objects_finds_nothing(caller: Caller, reference: str) -> None:
    told = caller.call("Fetch", f'<_this type="{reference}">vm-101</_this><prop>name</prop>')
    assert told.fault == "ManagedObjectNotFound"


@pytest.mark.parametrize("reference", ["Folder", "ContainerView", "SearchIndex"])
def test_the_managers_are_found_under_their_own_types_alone(caller: Caller, reference: str) -> None:
    told = caller.call("Fetch", f'<_this type="{reference}">SessionManager</_this><prop>currentSession</prop>')
    assert told.fault == "ManagedObjectNotFound"


def test_a_method_on_an_object_that_is_gone_is_refused_with_its_reference(caller: Caller) -> None:
    told = caller.call("PowerOnVM_Task", '<_this type="VirtualMachine">vm-999</_this>')
    assert told.fault == "ManagedObjectNotFound"
    assert told.body.findtext("{urn:vim25}obj") == "vm-999"


def test_an_argument_that_refers_to_what_is_gone_is_refused_with_its_reference(caller: Caller) -> None:
    index = '<_this type="SearchIndex">SearchIndex</_this>'
    told = caller.call("FindChild", f'{index}<entity type="Folder">group-v99</entity><name>web</name>')
    assert told.fault == "ManagedObjectNotFound"
    assert told.body.findtext("{urn:vim25}obj") == "group-v99"


@pytest.mark.parametrize("odd", ["a&lt;b&gt;&amp;c", "&quot;", "]]&gt;", "vm-101 ", ""])
def test_an_id_that_no_object_has_is_told_back_well_formed(caller: Caller, odd: str) -> None:
    told = caller.call("PowerOnVM_Task", f'<_this type="VirtualMachine">{odd}</_this>')
    assert told.fault == "ManagedObjectNotFound"


def test_a_servers_name_in_a_reference_is_not_told_back(caller: Caller) -> None:
    told = caller.call("PowerOnVM_Task", "<_this type='VirtualMachine' serverGuid='\"&lt;'>vm-999</_this>")
    assert told.fault == "ManagedObjectNotFound"


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inside", "missing"),
    [
        ("CreateContainerView", VIEW_MANAGER + ROOT, "recursive"),
        ("CreateContainerView", f"{VIEW_MANAGER}<recursive>true</recursive>", "container"),
        ("CreateSnapshot_Task", f"{WEB}<memory>false</memory><quiesce>false</quiesce>", "name"),
        ("ReconfigVM_Task", WEB, "spec"),
        ("QueryChangedDiskAreas", f"{WEB}<deviceKey>2000</deviceKey><startOffset>0</startOffset>", "changeId"),
        ("RetrievePropertiesEx", f"{COLLECTOR}<specSet>{NAME_OF_WEB}</specSet>", "options"),
        ("RetrieveProperties", COLLECTOR, "specSet"),
        ("Fetch", WEB, "prop"),
    ],
)
def test_a_missing_argument_is_named(caller: Caller, name: str, inside: str, missing: str) -> None:
    told = caller.call(name, inside)
    assert told.fault == "InvalidRequest"
    assert told.text.startswith(f"Required parameter {missing} is missing")


@pytest.mark.parametrize(
    ("specification", "missing"),
    [
        (NAME_OF_WEB.replace("<type>VirtualMachine</type>", ""), "type"),
        (NAME_OF_WEB.replace('<obj type="VirtualMachine">vm-101</obj>', "<skip>true</skip>"), "obj"),
        ('<objectSet><obj type="VirtualMachine">vm-101</obj></objectSet>', "propSet"),
        (NAME_OF_WEB.replace("</objectSet>", '<selectSet xsi:type="TraversalSpec"/></objectSet>'), "type"),
    ],
)
def test_a_missing_part_of_a_data_object_is_named(caller: Caller, specification: str, missing: str) -> None:
    told = caller.call("RetrieveProperties", f"{COLLECTOR}<specSet>{specification}</specSet>")
    assert told.fault == "InvalidRequest"
    assert told.text.startswith(f"Required property {missing} is missing from data object of type ")


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("CurrentTime", f"{SERVICE}<zone>UTC</zone>"),
        ("CurrentTime", f"<zone>UTC</zone>{SERVICE}"),
        ("CurrentTime", SERVICE + SERVICE),
        ("PowerOnVM_Task", WEB + 2 * '<host type="HostSystem">host-8</host>'),
        ("ReconfigVM_Task", f"{WEB}<spec><nonsense>1</nonsense></spec>"),
        ("ReconfigVM_Task", f"{WEB}<spec><annotation>a</annotation><annotation>b</annotation></spec>"),
        ("ReconfigVM_Task", f"{WEB}<spec><annotation><b/></annotation></spec>"),
    ],
)
def test_a_part_that_the_schema_does_not_have_is_refused(caller: Caller, name: str, inside: str) -> None:
    assert caller.call(name, inside).fault == "InvalidRequest"


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("CreateContainerView", f"{VIEW_MANAGER}{ROOT}<recursive>perhaps</recursive>"),
        ("CreateContainerView", f"{VIEW_MANAGER}{ROOT}<recursive></recursive>"),
        *(
            (
                "QueryChangedDiskAreas",
                f"{WEB}<deviceKey>{key}</deviceKey><startOffset>{offset}</startOffset><changeId>*</changeId>",
            )
            for key, offset in [
                ("two", 0),
                ("", 0),
                ("0x7d0", 0),
                ("2_000", 0),
                ("2000.0", 0),
                (1 << 31, 0),
                (2000, 1 << 63),
                (2000, "9" * 5000),
            ]
        ),
    ],
)
def test_a_text_that_is_no_value_of_its_type_is_refused(caller: Caller, name: str, inside: str) -> None:
    assert caller.call(name, inside).fault == "InvalidRequest"


@pytest.mark.parametrize(
    ("value", "fault"),
    [("add", "NotSupported"), *((wrong, "InvalidRequest") for wrong in ("stir", "values", "__class__", "Array", ""))],
)
def test_a_value_that_an_enumeration_does_not_have_is_refused(caller: Caller, value: str, fault: str) -> None:
    disk = '<device xsi:type="VirtualDisk"><key>-1</key><capacityInKB>0</capacityInKB></device>'
    change = f"<deviceChange><operation>{value}</operation>{disk}</deviceChange>"
    assert caller.call("ReconfigVM_Task", f"{WEB}<spec>{change}</spec>").fault == fault


@pytest.mark.parametrize(
    "inside",
    [
        '<deviceChange><operation>edit</operation><device xsi:type="VirtualMachineConfigSpec"/></deviceChange>',
        '<deviceChange xsi:type="OptionValue"><key>a</key></deviceChange>',
        '<deviceChange xsi:type="Nonsense"/>',
        '<annotation xsi:type="ArrayOfString"/>',
    ],
)
def test_a_data_object_of_a_type_that_does_not_fit_is_refused_with_invalid_type(caller: Caller, inside: str) -> None:
    assert caller.call("ReconfigVM_Task", f"{WEB}<spec>{inside}</spec>").fault == "InvalidType"


def test_a_reference_to_an_object_of_a_type_that_does_not_fit_is_refused_with_invalid_type(caller: Caller) -> None:
    told = caller.call(
        "QueryChangedDiskAreas",
        f'{WEB}<snapshot type="VirtualMachine">vm-101</snapshot>'
        "<deviceKey>2000</deviceKey><startOffset>0</startOffset><changeId>*</changeId>",
    )
    assert told.fault == "InvalidType"
    assert told.body.findtext("{urn:vim25}argument") == "snapshot"


# --- views and property collectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "argument"),
    [
        ('<container type="VirtualMachine">vm-101</container>', "container"),
        ('<container type="Datastore">datastore-20</container>', "container"),
        (f"{ROOT}<type>SessionManager</type>", "type"),
        (f"{ROOT}<type>VirtualDisk</type>", "type"),
    ],
)
def test_a_view_of_what_has_no_members_is_refused(caller: Caller, inside: str, argument: str) -> None:
    told = caller.call("CreateContainerView", f"{VIEW_MANAGER}{inside}<recursive>true</recursive>")
    assert told.fault == "InvalidArgument"
    assert told.body.findtext("{urn:vim25}invalidProperty") == argument


@pytest.mark.parametrize(
    ("specification", "fault"),
    [
        (NAME_OF_WEB.replace("<type>VirtualMachine</type>", "<type>Nonsense</type>"), "InvalidType"),
        (NAME_OF_WEB.replace("<type>VirtualMachine</type>", "<type>VirtualDisk</type>"), "InvalidType"),
        (NAME_OF_WEB.replace("<type>VirtualMachine</type>", "<type></type>"), "InvalidRequest"),
        (
            NAME_OF_WEB.replace(
                "<type>V", '<type xmlns:xsd="http://www.w3.org/2001/XMLSchema">xsd:int</type><skipped>V', 1
            ).replace("<skipped>VirtualMachine</type>", ""),
            "InvalidType",
        ),
        (NAME_OF_WEB.replace("name<", "nonsense<"), "InvalidProperty"),
        (
            NAME_OF_WEB.replace("<type>VirtualMachine</type>", "<type>ManagedEntity</type>").replace(
                "name<", "config<"
            ),
            "InvalidProperty",
        ),
        (NAME_OF_WEB.replace("<type>VirtualMachine</type>", "<type>HostSystem</type>"), ""),
        (NAME_OF_WEB.replace("vm-101", "vm-999"), "ManagedObjectNotFound"),
    ],
)
def test_a_filter_that_does_not_fit_the_schema_is_refused(caller: Caller, specification: str, fault: str) -> None:
    assert caller.call("RetrieveProperties", f"{COLLECTOR}<specSet>{specification}</specSet>").fault == fault


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_page_of_no_objects_is_refused(caller: Caller, limit: str) -> None:
    told = caller.call(
        "RetrievePropertiesEx",
        f"{COLLECTOR}<specSet>{NAME_OF_WEB}</specSet><options><maxObjects>{limit}</maxObjects></options>",
    )
    assert told.fault == "InvalidArgument"


def test_a_wait_of_less_than_nothing_is_refused(caller: Caller) -> None:
    told = caller.call("WaitForUpdatesEx", f"{COLLECTOR}<options><maxWaitSeconds>-1</maxWaitSeconds></options>")
    assert told.fault == "InvalidArgument"


@pytest.mark.parametrize("version", ["1", "-1", "²", "9" * 5000, "nonsense"])
def test_a_version_that_no_wait_told_is_refused(caller: Caller, version: str) -> None:
    told = caller.call("WaitForUpdatesEx", f"{COLLECTOR}<version>{version}</version>")
    assert told.fault == "InvalidCollectorVersion"


# --- sessions ---------------------------------------------------------------------------------------------------------

VIEW = method("CreateContainerView", f"{VIEW_MANAGER}{ROOT}<recursive>true</recursive>")
OWN_COLLECTOR = method("CreatePropertyCollector", COLLECTOR)
FILTER = method("CreateFilter", f"{COLLECTOR}<spec>{NAME_OF_WEB}</spec><partialUpdates>false</partialUpdates>")


@pytest.mark.parametrize(
    ("kind", "make", "use"),
    [
        ("ContainerView", VIEW, "DestroyView"),
        ("PropertyCollector", OWN_COLLECTOR, "DestroyPropertyCollector"),
        ("PropertyFilter", FILTER, "DestroyPropertyFilter"),
    ],
)
def test_an_object_of_a_session_dies_with_it(caller: Caller, kind: str, make: str, use: str) -> None:
    made = caller.send(envelope(make)).body.findtext("{urn:vim25}returnval")
    this = f'<_this type="{kind}">{made}</_this>'
    other = Caller(caller.center)
    assert other.call(use, this).fault == "ManagedObjectNotFound"
    caller.center.sessions.drop_all()
    assert caller.call(use, this).fault == "NotAuthenticated"
    caller.log_in()
    assert caller.call(use, this).fault == "ManagedObjectNotFound"


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("CurrentTime", SERVICE),
        ("PowerOnVM_Task", WEB),
        ("PowerOnVM_Task", '<_this type="VirtualMachine">vm-999</_this>'),
        ("ResetVM_Task", WEB),
        ("Fetch", f"{WEB}<prop>name</prop>"),
        ("Fetch", f"{SERVICE}<prop>serverClock</prop>"),
        ("Logout", '<_this type="SessionManager">SessionManager</_this>'),
        ("CreateContainerView", f"{VIEW_MANAGER}{ROOT}<recursive>true</recursive>"),
        ("DestroyView", '<_this type="ContainerView">session[1]2</_this>'),
        ("CreateFilter", f"{COLLECTOR}<spec>{NAME_OF_WEB}</spec><partialUpdates>false</partialUpdates>"),
        ("WaitForUpdatesEx", COLLECTOR),
        ("ContinueRetrievePropertiesEx", f"{COLLECTOR}<token>1-2</token>"),
        ("CancelWaitForUpdates", '<_this type="PropertyCollector">session[1]2</_this>'),
    ],
)
def test_without_a_session_every_object_refuses(caller: Caller, name: str, inside: str) -> None:
    caller.center.sessions.drop_all()
    assert caller.call(name, inside).fault == "NotAuthenticated"


@pytest.mark.parametrize("name", ["RetrieveProperties", "RetrievePropertiesEx"])
def test_without_a_session_properties_are_told_as_missing_and_the_call_succeeds(caller: Caller, name: str) -> None:
    caller.center.sessions.drop_all()
    options = "<options/>" if name == "RetrievePropertiesEx" else ""
    told = caller.call(name, f"{COLLECTOR}<specSet>{NAME_OF_WEB}</specSet>{options}")
    assert told.fault == ""
    (missing,) = told.body.iter("{urn:vim25}missingSet")
    assert missing.findtext("{urn:vim25}path") == "name"
    assert "NotAuthenticated" in str(missing.find("{urn:vim25}fault/{urn:vim25}fault").attrib)  # type: ignore[union-attr]
    assert list(told.body.iter("{urn:vim25}propSet")) == []


def test_without_a_session_the_service_content_is_told(caller: Caller) -> None:
    caller.center.sessions.drop_all()
    wanted = (
        "<propSet><type>ServiceInstance</type><pathSet>content</pathSet><pathSet>serverClock</pathSet></propSet>"
        '<objectSet><obj type="ServiceInstance">ServiceInstance</obj></objectSet>'
    )
    told = caller.call("RetrieveProperties", f"{COLLECTOR}<specSet>{wanted}</specSet>")
    assert [one.findtext("{urn:vim25}name") for one in told.body.iter("{urn:vim25}propSet")] == ["content"]
    assert [one.findtext("{urn:vim25}path") for one in told.body.iter("{urn:vim25}missingSet")] == ["serverClock"]


def test_without_a_session_nothing_is_reached_through_a_traversal(caller: Caller) -> None:
    caller.center.sessions.drop_all()
    wanted = (
        "<propSet><type>ManagedEntity</type><pathSet>name</pathSet></propSet>"
        '<objectSet><obj type="Folder">group-v3</obj><skip>true</skip><selectSet xsi:type="TraversalSpec">'
        "<type>Folder</type><path>childEntity</path></selectSet></objectSet>"
    )
    told = caller.call("RetrieveProperties", f"{COLLECTOR}<specSet>{wanted}</specSet>")
    assert (told.fault, list(told.body)) == ("", [])


def test_who_is_logged_in_cannot_log_in_again(caller: Caller) -> None:
    assert caller.send(envelope(LOGIN)).fault == "InvalidLogin"


def test_a_clients_name_with_signs_that_xml_does_not_have_is_told_without_them(caller: Caller) -> None:
    caller.cookie = ""
    told = caller.send(envelope(LOGIN), agent="a\x01b\x7f<c>")
    assert told.body.findtext(".//{urn:vim25}userAgent") == "ab<c>"


def test_a_password_is_told_nowhere(caller: Caller) -> None:
    caller.cookie = ""
    wrong = caller.send(envelope(LOGIN.replace("</password>", "!</password>")))
    unexpected = caller.send(envelope(LOGIN.replace("password>", "passphrase>")))
    assert (wrong.fault, unexpected.fault) == ("InvalidLogin", "InvalidRequest")
    assert PASSWORD.encode() not in wrong.answer.body + unexpected.answer.body
