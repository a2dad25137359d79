"""What a client does in these tests, in a few words, with the real pyVmomi."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyVmomi
from pyVim import connect

Remote: TypeAlias = Any
"""An object or a value of pyVmomi, whose classes are made at run time."""

_pyvmomi: Any = pyVmomi
_connect: Any = connect
vim: Any = _pyvmomi.vim
vmodl: Any = _pyvmomi.vmodl
PC: Any = vmodl.query.PropertyCollector

USERS = {"xms@lab": "a secret"}


def trusting_only(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem = certificate.read_text()
    context.load_verify_locations(cadata=pem[pem.index("-----BEGIN CERTIFICATE") :])
    return context


def log_in(port: int, certificate: Path, user: str = "xms@lab", password: str | None = None) -> Remote:
    """As SmartConnect does it; that one leaves its connection open when the log-in is refused."""
    stub = _connect.SmartStubAdapter(host="127.0.0.1", port=port, sslContext=trusting_only(certificate))
    service = vim.ServiceInstance("ServiceInstance", stub)
    try:
        service.content.sessionManager.Login(user, USERS["xms@lab"] if password is None else password, None)
    except vmodl.MethodFault:
        stub.DropConnections()
        raise
    return service


def smart_connect(port: int, certificate: Path) -> Remote:
    return _connect.SmartConnect(
        host="127.0.0.1",
        port=port,
        user="xms@lab",
        pwd=USERS["xms@lab"],
        sslContext=trusting_only(certificate),
    )


def disconnect(service: Remote) -> None:
    _connect.Disconnect(si=service)


@contextmanager
def connected(port: int, certificate: Path) -> Iterator[Remote]:
    service = smart_connect(port, certificate)
    try:
        yield service
    finally:
        disconnect(service)


def wait_for(task: Remote, seconds: float = 10) -> Remote:
    """The task's result; raises its error."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        info = task.info
        if info.state == "success":
            return info.result
        if info.state == "error":
            raise info.error
        time.sleep(0.02)
    raise TimeoutError(task)


def vm_named(service: Remote, name: str) -> Remote:
    return service.content.searchIndex.FindByInventoryPath(f"lab-dc/vm/{name}")


def snapshot_of(vm: Remote, name: str = "xms-job") -> Remote:
    return wait_for(vm.CreateSnapshot(name=name, description="", memory=False, quiesce=False))


def disks_of(config: Remote) -> dict[int, Remote]:
    return {device.key: device for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)}


def change_id_of(snapshot: Remote, key: int = 2000) -> Remote:
    return disks_of(snapshot.config)[key].backing.changeId


def turn_tracking(vm: Remote, *, on: bool) -> None:
    wait_for(vm.Reconfigure(vim.vm.ConfigSpec(changeTrackingEnabled=on)))


def windows(vm: Remote, snapshot: Remote, since: str, capacity: int, key: int = 2000) -> Iterator[Remote]:
    offset = 0
    while offset < capacity:
        page = vm.QueryChangedDiskAreas(snapshot, key, offset, since)
        yield page
        offset = page.startOffset + page.length


def areas(vm: Remote, snapshot: Remote, since: str, capacity: int = 1 << 20, key: int = 2000) -> list[tuple[int, int]]:
    return [
        (area.start, area.length) for page in windows(vm, snapshot, since, capacity, key) for area in page.changedArea
    ]


def filter_of(objects: Sequence[Remote], kind: Remote, paths: Sequence[str]) -> Remote:
    return PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=one) for one in objects],
        propSet=[PC.PropertySpec(type=kind, pathSet=list(paths), all=False)],
    )
