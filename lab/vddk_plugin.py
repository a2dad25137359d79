#!/usr/sbin/nbdkit python
"""nbdkit plugin that stands for the VDDK plugin: the same parameters, the same moments of failure, no VMware library.

It asks the stand-in vCenter's door for a disk of a snapshot, and serves QEMU's NBD export of it. As with VDDK the
log-in happens when a client connects: the client of a failed one learns nothing, nbdkit's log has the reason.

To be used as `nbdkit python <this file> server=... ...` with the system's Python; it needs libnbd's binding alone.
"""

import contextlib
import errno
import hashlib
import hmac
import http.client
import json
import queue
import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import nbd
import nbdkit

API_VERSION = 2

REQUIRED: Final = ("server", "user", "password", "vm")
"""What the real plugin misses in these words when it is to connect to a server."""

REQUIRED_HERE: Final = ("thumbprint", "snapshot")
"""The real one can do without: it would trust any server then, or read a disk that changes meanwhile."""

OPTIONAL: Final = ("file", "libdir", "config", "port", "nfchostport", "transports", "compression")
COMPRESSIONS: Final = ("none", "zlib", "fastlz", "skipz")
ALLOWED: Final = {
    "vm": re.compile(r"moref=\S+"),
    "snapshot": re.compile(r"\S+"),
    "thumbprint": re.compile(r"(?:[0-9A-Fa-f]{2}:){19}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}"),
    "transports": re.compile(r"(?:file|hotadd|nbd|nbdssl|san)(?::(?:file|hotadd|nbd|nbdssl|san))*"),
    "file": re.compile(r"\[[^\]]+\] .+\.vmdk"),
}
LIBRARIES: Final = tuple(f"{place}libvixDiskLib.so.{version}" for version in (8, 7, 6) for place in ("lib64/", ""))
"""Where the real plugin looks within `libdir`, in its order. Here a file of that name is enough: it is never loaded."""

SECTOR: Final = 512
SECONDS: Final = 60.0
HANDLES: Final = 4
"""Connections to QEMU for each client: a connection answers one blocking call at a time."""

_HASHES: Final = {20: hashlib.sha1, 32: hashlib.sha256}
"""By the bytes of the thumbprint. SHA-1 is what older VDDK releases take."""

_given: dict[str, str] = {}


class Disk:
    """An open disk: a few connections to its export."""

    def __init__(self, socket: str, export: str) -> None:
        self._free: queue.SimpleQueue[nbd.NBD] = queue.SimpleQueue()
        self._all = []
        for _ in range(HANDLES):
            handle = nbd.NBD()
            handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            handle.set_export_name(export)
            handle.connect_unix(socket)
            self._all.append(handle)
            self._free.put(handle)
        self.size: int = self._all[0].get_size()

    @contextlib.contextmanager
    def connection(self, call: str) -> Iterator[nbd.NBD]:
        """Lend a connection to one thread; its failure becomes the VDDK call's."""
        handle = self._free.get()
        try:
            yield handle
        except nbd.Error as error:
            nbdkit.set_error(errno.EIO)
            raise RuntimeError(f"{call}: {error.string}") from None
        finally:
            self._free.put(handle)

    def close(self) -> None:
        """Give the connections back."""
        for handle in self._all:
            # Where QEMU has ended the export there is nobody left to take leave of.
            with contextlib.suppress(nbd.Error):
                handle.shutdown()


def thread_model() -> int:
    """Let nbdkit call from several threads at once."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def config(key: str, value: str) -> None:
    """Take one parameter, with the real plugin's refusals where it has some of its own."""
    if key not in REQUIRED + REQUIRED_HERE + OPTIONAL:
        raise RuntimeError(f"unknown parameter '{key}'")
    if key == "compression" and value not in COMPRESSIONS:
        raise RuntimeError(f"unknown compression type: {value}")
    if key in ("port", "nfchostport") and not (value.isdecimal() and int(value) < 1 << 16):
        raise RuntimeError(f'{key}: could not parse number: "{value}"')
    if key in ("libdir", "config") and not Path(value).exists():
        raise RuntimeError(f"realpath: {value}: No such file or directory")
    if key in ALLOWED and not ALLOWED[key].fullmatch(value):
        raise RuntimeError(f"{key}: '{value}' is not a value that VDDK takes")
    _given[key] = value


def config_complete() -> None:
    """Refuse to start without what VDDK needs."""
    if "file" not in _given:
        raise RuntimeError("you must supply the file=<FILENAME> parameter after the plugin name on the command line")
    for key in REQUIRED + REQUIRED_HERE:
        if key not in _given:
            raise RuntimeError(f"remote connection requested, missing parameter: {key}")
    if not _given["password"].startswith("+"):
        raise RuntimeError("password: only password=+FILE keeps it off the command line")
    _given["password"] = Path(_given["password"][1:]).read_text().split("\n", 1)[0]


def get_ready() -> None:
    """Look for the library, at the moment at which the real plugin loads it."""
    directory = Path(_given.get("libdir", "/usr/lib/vmware-vix-disklib"))
    if not any((directory / name).exists() for name in LIBRARIES):
        missing = directory / LIBRARIES[0]
        raise RuntimeError(f"{missing}: cannot open shared object file: No such file or directory")


def open(readonly: bool) -> Disk:  # noqa: A001, FBT001 - nbdkit's name and signature
    """Log in, and open the disk of the snapshot."""
    if not readonly:
        raise RuntimeError("VixDiskLib_Open: a snapshot's disk is opened read-only")
    lease = _lease()
    try:
        return Disk(lease["socket"], lease["export"])
    except nbd.Error as error:
        raise RuntimeError(f"VixDiskLib_Open: {error.string}") from None


def close(h: Disk) -> None:
    """Close the disk."""
    h.close()


def get_size(h: Disk) -> int:
    """Bytes."""
    return h.size


def block_size(_h: Disk) -> tuple[int, int, int]:
    """Whole sectors only, as VDDK reads."""
    return SECTOR, 4096, 0xFFFFFFFF


def can_extents(_h: Disk) -> bool:
    """QEMU knows what is allocated."""
    return True


def pread(h: Disk, buf: bytearray, offset: int, flags: int) -> None:  # noqa: ARG001 - nbdkit's signature
    """Read."""
    if offset % SECTOR or len(buf) % SECTOR:
        nbdkit.set_error(errno.EINVAL)
        raise RuntimeError("read is not aligned to sectors")
    with h.connection("VixDiskLib_Read") as handle:
        buf[:] = handle.pread(len(buf), offset)


def extents(h: Disk, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:  # noqa: ARG001 - nbdkit's signature
    """List (offset, length, type) of what is allocated and what is not; a type is nbdkit's, which is NBD's."""
    found: list[tuple[int, int, int]] = []

    def take(_context: str, start: int, entries: list[int], _error: object) -> int:
        for length, kind in zip(entries[::2], entries[1::2], strict=True):
            found.append((start, length, kind))
            start += length
        return 0

    with h.connection("VixDiskLib_QueryAllocatedBlocks") as handle:
        handle.block_status(count, offset, take)
    return found


def _lease() -> dict[str, str]:
    connection = http.client.HTTPSConnection(
        _given["server"], int(_given.get("port", "443")), timeout=SECONDS, context=_unverified()
    )
    wanted = {key: _given[key] for key in ("user", "password", "snapshot", "file")}
    wanted["vm"] = _given["vm"].removeprefix("moref=")
    try:
        connection.connect()
        _verify(connection)
        connection.request("POST", "/nfc/lease", json.dumps(wanted), {"Content-Type": "application/json"})
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(f"VixDiskLib_ConnectEx: Cannot connect to host: {error}") from None
    finally:
        connection.close()
    if status == HTTPStatus.UNAUTHORIZED:
        login = "Cannot complete login due to an incorrect user name or password"
        raise RuntimeError(f"VixDiskLib_ConnectEx: Cannot connect to host: {login}")
    if status == HTTPStatus.FORBIDDEN:
        raise RuntimeError("VixDiskLib_Open: You do not have access rights to this file")
    if status == HTTPStatus.NOT_FOUND:
        raise RuntimeError(f"VixDiskLib_Open: {json.loads(body)['error']}")
    if status != HTTPStatus.OK:
        raise RuntimeError(f"VixDiskLib_ConnectEx: Cannot connect to host: HTTP {status}")
    return dict(json.loads(body))


def _unverified() -> ssl.SSLContext:
    """The thumbprint alone decides (`_verify`), as with VDDK."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verify(connection: http.client.HTTPSConnection) -> None:
    """Compare the server's certificate with the thumbprint, before the password is sent."""
    certificate: bytes = connection.sock.getpeercert(binary_form=True) or b""
    expected = _given["thumbprint"].upper()
    seen = _HASHES[len(expected.split(":"))](certificate).digest().hex(":").upper()
    if not hmac.compare_digest(seen, expected):
        raise RuntimeError("VixDiskLib_ConnectEx: Cannot connect to host: the thumbprint of its certificate differs")
