"""The HTTPS server in front of the stand-in vCenter."""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from lab.esxi.interface import Host
from lab.vcenter import nfc, soap
from lab.vcenter.center import Center
from lab.vcenter.dispatcher import answer
from lab.vcenter.sessions import IDLE_LIMIT
from lab.vcenter.shape import HOST_NAME, Shape
from lab.vcenter.switches import FaultSwitches

logger = logging.getLogger(__name__)

_COOKIE: Final = re.compile(r'vmware_soap_session="?([^";]+)')
_LONGEST_REQUEST: Final = 16 << 20
_IDLE_CONNECTION: Final = 1200
"""Seconds: longer than pyVmomi keeps a connection in its pool (900)."""


class _RequestError(Exception):
    """The request's framing is wrong; the connection cannot go on."""


class _Handler(BaseHTTPRequestHandler):
    """One connection. A response is one write, with TCP_NODELAY: else each call costs a delayed acknowledgement."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "VMware-stand-in"
    sys_version = ""
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = _IDLE_CONNECTION

    def do_GET(self) -> None:
        """The list of API versions."""
        if self.path == "/sdk/vimServiceVersions.xml":
            self._send(HTTPStatus.OK, soap.service_versions())
        else:
            self._send(HTTPStatus.NOT_FOUND, b"")

    def do_POST(self) -> None:
        """A SOAP call, or the NFC door."""
        try:
            body = self._body()
        except _RequestError as error:
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, str(error).encode(), kind="text/plain")
            return
        if self.path == "/nfc/lease":
            lease = nfc.lease(self.server.center, body)
            self._send(lease.status, lease.encoded(), kind="application/json")
        elif self.path.rstrip("/") == "/sdk":
            self._call(body)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"")

    def _call(self, body: bytes) -> None:
        found = _COOKIE.search(self.headers.get("Cookie") or "")
        reply = answer(
            self.server.center,
            body,
            action=self.headers.get("SOAPAction") or "",
            cookie=found.group(1) if found else "",
            address=str(self.client_address[0]),
            agent=self.headers.get("User-Agent") or "",
        )
        self._send(reply.status, reply.body, cookie=reply.cookie)

    def _send(
        self, status: int, body: bytes, *, kind: str = "text/xml; charset=utf-8", cookie: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if cookie:
            self.send_header("Set-Cookie", f'vmware_soap_session="{cookie}"; Path=/; HttpOnly; Secure')
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length") or ""
        if not length.isdecimal() or int(length) > _LONGEST_REQUEST:
            raise _RequestError("Content-Length is missing, no number or too large")
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        """A body in chunks (RFC 9112, 7.1), as govmomi sends it."""
        body = b""
        while True:
            size = self.rfile.readline(80).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
                raise _RequestError("a chunk has no size")
            if int(size, 16) == 0:
                break
            body += self._exactly(int(size, 16))
            if len(body) > _LONGEST_REQUEST or self.rfile.readline(3) != b"\r\n":
                raise _RequestError("a chunk does not end where it says, or the request is too large")
        while self.rfile.readline(8192).strip():
            """Trailers mean nothing here."""
        return body

    def _exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) != length:
            raise _RequestError("the request ends too early")
        return data

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's interface
        """One line a request, for those who debug; it holds neither bodies nor headers."""
        logger.debug("%s: %s", self.client_address[0], format % args)


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    """A thread a connection; it knows its connections, so that it can end them."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, center: Center) -> None:
        self.center = center
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)
        # The handshake is made by the connection's own thread at its first read: a silent client stops nobody.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's interface
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's interface
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Wake every thread that waits for its client's next request."""
        with self._lock:
            for connection in self._connections:
                try:
                    # Below TLS: SSLSocket.shutdown takes the TLS object away from the thread that reads with it.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError as error:
                    logger.debug("a connection was gone already: %s", error)

    def handle_error(self, _request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's interface
        error = sys.exception()
        if isinstance(error, OSError):  # also ssl.SSLError: a client that went away, or does not trust us
            logger.debug("connection of %s ended: %s", client_address, error)
        else:
            logger.error("connection of %s broke the server", client_address, exc_info=error)


class VcenterServer:
    """A stand-in vCenter over an ESXi host.

    Args:
        address: where to listen.
        port: 0 takes a free one; `port` tells which.
        certificate: PEM file with key and certificate, as `lab.vcenter.certificate.make` writes it.
        users: passwords by user name.
        idle_limit: seconds after which a session without calls ends.
        standalone: be an ESXi host without a vCenter.
        host_name: the ESXi host's, as the inventory shows it.
        shape: the inventory's tree around the host's machines, where it is not one datacenter with that host.
    """

    def __init__(  # noqa: PLR0913 - a server's options
        self,
        host: Host,
        *,
        address: str,
        port: int,
        certificate: Path,
        users: Mapping[str, str],
        idle_limit: float = IDLE_LIMIT,
        standalone: bool = False,
        host_name: str = HOST_NAME,
        shape: Shape | None = None,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._center = Center(
            host, users, idle_limit=idle_limit, standalone=standalone, host_name=host_name, shape=shape
        )
        self._server = _Server((address, port), context, self._center)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="vcenter")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def faults(self) -> FaultSwitches:
        """What it does wrong on request."""
        return self._center.switches

    def delete_vm(self, name: str) -> None:
        """Take a VM out of the inventory, with its snapshots."""
        self._center.inventory.delete(name)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection and wait for the tasks that run; the host stays as it is."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._center.close()
        self._server.end_connections()
        self._server.server_close()

    def drop_sessions(self) -> None:
        """End every session now: the next call of each client is answered with NotAuthenticated."""
        self._center.sessions.drop_all()
        with self._center.changed:
            self._center.changed.notify_all()

    def end_session_at_call(self, number: int) -> None:
        """Have that call from now on find its session ended; 1 is the next."""
        self._center.sessions.end_at_call(number)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._center.sessions.described())
