"""The wire itself: what other clients than pyVmomi send."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lab.vcenter import certificate
from tests.lab_vcenter.client import Remote, snapshot_of, trusting_only, wait_for
from tests.lab_vcenter.conftest import Lab

INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


@contextmanager
def https(lab: Lab) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", lab.server.port, context=trusting_only(lab.certificate), timeout=10
    )
    try:
        yield connection
    finally:
        connection.close()


def envelope(inside: str) -> bytes:
    """As govmomi writes it: other prefixes, and namespaces declared where they are used."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/">'
        "<Header><operationID>7</operationID></Header>"
        f"<Body>{inside}</Body></Envelope>"
    ).encode()


def post(connection: http.client.HTTPSConnection, inside: str, **headers: str) -> tuple[int, str, str]:
    connection.request("POST", "/sdk", body=iter([envelope(inside)]), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    return response.status, response.read().decode(), response.headers.get("Set-Cookie") or ""


def log_in(connection: http.client.HTTPSConnection) -> dict[str, str]:
    status, _, cookie = post(
        connection,
        '<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this>'
        "<userName>xms@lab</userName><password>a secret</password></Login>",
    )
    assert status == 200
    return {"Cookie": cookie.partition(";")[0], "SOAPAction": "urn:vim25/7.0"}


def test_chunked_requests_on_one_connection_are_served(lab: Lab) -> None:
    with https(lab) as connection:
        headers = log_in(connection)
        for _ in range(3):
            status, body, _ = post(
                connection,
                '<RetrieveProperties xmlns="urn:vim25"><_this type="PropertyCollector">propertyCollector</_this>'
                "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet>"
                '<objectSet><obj type="Folder">group-v3</obj><skip>true</skip>'
                f'<selectSet xmlns:XMLSchema-instance="{INSTANCE}" XMLSchema-instance:type="TraversalSpec">'
                "<type>Folder</type><path>childEntity</path></selectSet></objectSet></specSet></RetrieveProperties>",
                **headers,
            )
            assert status == 200
            assert body.count("<returnval>") == 2
            assert "web01" in body


def test_a_reference_in_an_answer_is_named_as_the_schema_names_it(lab: Lab) -> None:
    with https(lab) as connection:
        headers = log_in(connection)
        _, body, _ = post(
            connection,
            '<RetrieveProperties xmlns="urn:vim25"><_this type="PropertyCollector">propertyCollector</_this>'
            "<specSet><propSet><type>Datacenter</type><pathSet>vmFolder</pathSet><pathSet>network</pathSet></propSet>"
            '<objectSet><obj type="Datacenter">datacenter-2</obj></objectSet></specSet></RetrieveProperties>',
            **headers,
        )
    assert '<val xsi:type="ManagedObjectReference" type="Folder">group-v3</val>' in body
    assert '<val xsi:type="ArrayOfManagedObjectReference">' in body


def test_the_session_cookie_is_for_https_and_not_for_scripts(lab: Lab) -> None:
    with https(lab) as connection:
        _, _, cookie = post(
            connection,
            '<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this>'
            "<userName>xms@lab</userName><password>a secret</password></Login>",
        )
    assert cookie.startswith('vmware_soap_session="')
    assert "HttpOnly" in cookie
    assert "Secure" in cookie


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("<CurrentTime", "InvalidRequest"),
        ("", "InvalidRequest"),
        ('<CurrentTime xmlns="urn:vim25"/>', "InvalidRequest"),
        ('<Nonsense xmlns="urn:vim25"><_this type="Folder">group-d1</_this></Nonsense>', "InvalidRequest"),
        ('<CurrentTime xmlns="urn:vim25"><_this type="Nonsense">x</_this></CurrentTime>', "InvalidType"),
        (
            '<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">x</_this><a>1</a></CurrentTime>',
            "InvalidRequest",
        ),
        (
            '<Destroy_Task xmlns="urn:vim25"><_this type="VirtualMachine">vm-101</_this></Destroy_Task>',
            "MethodNotFound",
        ),
    ],
)
def test_a_request_that_cannot_be_understood_gets_a_fault_and_the_connection_goes_on(
    lab: Lab, inside: str, fault: str
) -> None:
    with https(lab) as connection:
        headers = log_in(connection)
        status, body, _ = post(connection, inside, **headers)
        assert status == 500
        assert f"<{fault}Fault" in body
        status, _, _ = post(
            connection,
            '<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>',
            **headers,
        )
        assert status == 200


def test_an_old_clients_answers_hold_nothing_that_is_newer(lab: Lab) -> None:
    fetch = (
        '<RetrieveServiceContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this>'
        "</RetrieveServiceContent>"
    )
    with https(lab) as connection:
        old = post(connection, fetch, SOAPAction='"urn:vim25/6.7"')[1]
        between = post(connection, fetch, SOAPAction='"urn:vim25/7.0"')[1]
        none = post(connection, fetch)[1]
    assert 'versionId="6.7"' in old
    assert 'versionId="7.0.0.0"' in between
    assert 'versionId="8.0.3.0"' in none


@pytest.mark.parametrize("path", ["/", "/sdk/vimService.wsdl", "/ui"])
def test_other_pages_are_not_found(lab: Lab, path: str) -> None:
    with https(lab) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b"")


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\n",
        b"\r\n",
    ],
)
def test_wrong_framing_ends_the_connection(lab: Lab, framing: bytes) -> None:
    context = trusting_only(lab.certificate)
    with (
        socket.create_connection(("127.0.0.1", lab.server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"POST /sdk HTTP/1.1\r\nHost: lab\r\n" + framing)
        answer = b""
        while more := connection.recv(4096):
            answer += more
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_the_thumbprint_is_the_certificates_and_the_key_is_private(tmp_path: Path) -> None:
    pem = tmp_path / "vcenter.pem"
    pem.write_text("an old one that all may read")
    pem.chmod(0o644)
    thumbprint = certificate.make(pem, ["vcenter.lab", "127.0.0.1"])
    text = pem.read_text()
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    assert thumbprint.replace(":", "").lower() == sha256(der).hexdigest()
    assert thumbprint.count(":") == 31
    assert pem.stat().st_mode & 0o777 == 0o600


# --- the door for disks -----------------------------------------------------------------------------------------------


def lease(lab: Lab, **changed: str) -> tuple[int, Any]:
    wanted = {
        "user": "xms@lab",
        "password": "a secret",
        "vm": "vm-102",
        "snapshot": "snapshot-102-1",
        "file": "[ds1] db01/db01_1.vmdk",
    }
    with https(lab) as connection:
        connection.request("POST", "/nfc/lease", body=json.dumps(wanted | changed))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_lease_names_the_socket_and_the_export_of_the_disk(lab: Lab, database: Remote) -> None:
    snapshot_of(database)
    assert lease(lab) == (200, {"socket": "/run/db01.sock", "export": "disk-2001-1"})


def test_a_lease_needs_the_file_that_this_snapshot_froze(lab: Lab, database: Remote) -> None:
    older = snapshot_of(database, "older")
    snapshot_of(database)
    assert lease(lab, snapshot="snapshot-102-2")[0] == 404
    assert lease(lab, snapshot="snapshot-102-2", file="[ds1] db01/db01_1-000001.vmdk")[0] == 200
    wait_for(older.Remove(removeChildren=False))
    assert lease(lab, snapshot="snapshot-102-2")[0] == 200


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"password": "wrong"}, 401),
        ({"user": "nobody"}, 401),
        ({"vm": "vm-999"}, 404),
        ({"vm": "vm-101"}, 404),
        ({"vm": "vm-101", "file": "[ds1] web01/web01.vmdk"}, 404),
        ({"snapshot": "snapshot-102-9"}, 404),
        ({"file": "[ds1] db01/other.vmdk"}, 404),
        ({"extra": "x"}, 400),
    ],
)
def test_a_lease_is_refused_with_the_reason(lab: Lab, database: Remote, changed: dict[str, str], status: int) -> None:
    snapshot_of(database)
    answered, content = lease(lab, **changed)
    assert answered == status
    assert content["error"]
    assert "a secret" not in content["error"]
