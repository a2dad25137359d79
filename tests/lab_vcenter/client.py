"""What a client does in these tests, in a few words, with the real pyVmomi."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyVmomi
from pyVim.connect import Disconnect, SmartConnect

_pyvmomi: Any = pyVmomi
vim: Any = _pyvmomi.vim
vmodl: Any = _pyvmomi.vmodl
PC: Any = vmodl.query.PropertyCollector

USERS = {"xms@lab": "a secret"}


def trusting_only(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem = certificate.read_text()
    context.load_verify_locations(cadata=pem[pem.index("-----BEGIN CERTIFICATE") :])
    return context


def log_in(port: int, certificate: Path, *, user: str = "xms@lab", password: str = "a secret") -> Any:
    return SmartConnect(host="127.0.0.1", port=port, user=user, pwd=password, sslContext=trusting_only(certificate))


@contextmanager
def connected(port: int, certificate: Path) -> Iterator[Any]:
    service = log_in(port, certificate)
    try:
        yield service
    finally:
        Disconnect(si=service)


def wait_for(task: Any, seconds: float = 10) -> Any:
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


def vm_named(service: Any, name: str) -> Any:
    return service.content.searchIndex.FindByInventoryPath(f"lab-dc/vm/{name}")


def snapshot_of(vm: Any, name: str = "xms-job") -> Any:
    return wait_for(vm.CreateSnapshot(name=name, description="", memory=False, quiesce=False))


def disks_of(config: Any) -> dict[int, Any]:
    return {device.key: device for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)}


def change_id_of(snapshot: Any, key: int = 2000) -> Any:
    return disks_of(snapshot.config)[key].backing.changeId


def turn_tracking(vm: Any, *, on: bool) -> None:
    wait_for(vm.Reconfigure(vim.vm.ConfigSpec(changeTrackingEnabled=on)))


def windows(vm: Any, snapshot: Any, since: str, capacity: int, key: int = 2000) -> Iterator[Any]:
    offset = 0
    while offset < capacity:
        page = vm.QueryChangedDiskAreas(snapshot, key, offset, since)
        yield page
        offset = page.startOffset + page.length


def areas(vm: Any, snapshot: Any, since: str, capacity: int = 1 << 20, key: int = 2000) -> list[tuple[int, int]]:
    return [
        (area.start, area.length) for page in windows(vm, snapshot, since, capacity, key) for area in page.changedArea
    ]


def filter_of(objects: Sequence[Any], kind: Any, paths: Sequence[str]) -> Any:
    return PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=one) for one in objects],
        propSet=[PC.PropertySpec(type=kind, pathSet=list(paths), all=False)],
    )
