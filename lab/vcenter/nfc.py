"""The door that stands for ESXi's NFC: gives the disk library's stand-in a socket for a disk of a snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lab.vcenter.authorization import TO_READ_DISKS
from lab.vcenter.center import Center
from lab.vcenter.vocabulary import vim, vmodl


class _Wanted(BaseModel):
    """What the plugin was given as its parameters."""

    model_config = ConfigDict(extra="forbid")

    user: str
    password: str
    vm: str
    snapshot: str
    file: str


@dataclass(frozen=True)
class Lease:
    """A response."""

    status: HTTPStatus
    content: dict[str, Any]

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        return json.dumps(self.content).encode()


def lease(center: Center, body: bytes) -> Lease:
    """Answer a request for one disk's export; as with VDDK the file has to be the one that the snapshot froze."""
    try:
        wanted = _Wanted.model_validate_json(body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) or "body" for item in error.errors())
        return _refused(HTTPStatus.BAD_REQUEST, f"the request cannot be understood: {fields}")
    if not center.sessions.accepts(wanted.user, wanted.password):
        return _refused(HTTPStatus.UNAUTHORIZED, "the user name or the password is wrong")
    withheld = [privilege for privilege in TO_READ_DISKS if privilege in center.switches.withheld_privileges]
    if withheld:
        return _refused(HTTPStatus.FORBIDDEN, f"the account lacks {withheld[0]}")
    try:
        return _find(center, wanted)
    except vmodl.fault.ManagedObjectNotFound as fault:
        return _refused(HTTPStatus.NOT_FOUND, fault.msg)


def _find(center: Center, wanted: _Wanted) -> Lease:
    machine = center.inventory.machine(vim.VirtualMachine(wanted.vm, None))
    owner, record = center.inventory.snapshot(vim.vm.Snapshot(wanted.snapshot, None))
    if owner is not machine:
        return _refused(HTTPStatus.NOT_FOUND, f"{wanted.snapshot} is not a snapshot of {wanted.vm}")
    with machine.holding(record):
        for disk in record.disks:
            if machine.disk_file(disk, record.sequence) == wanted.file:
                export = machine.machine.export(disk.key, record.sequence)
                return Lease(HTTPStatus.OK, {"socket": str(export.socket), "export": export.name})
    return _refused(HTTPStatus.NOT_FOUND, f"{wanted.file} is no disk of {wanted.snapshot}")


def _refused(status: HTTPStatus, text: str) -> Lease:
    return Lease(status, {"error": text})
