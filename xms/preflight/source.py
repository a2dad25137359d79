"""Around it on the source: its host, and what the account may do."""

from __future__ import annotations

from typing import Final

from xms.orders.preflight import Subject
from xms.preflight.rule import BLOCK, NOTE, WARN, Found, Rule, rule, unknown


@rule(
    "source.host",
    BLOCK,
    WARN,
    finds="vCenter does not reach the VM's host; as a warning: the host is in maintenance mode, or cannot be looked at",
    do="reconnect the host in vSphere; let a maintenance end first, since it moves VMs away",
)
def host(subject: Subject) -> Found | None:
    """The disks are read from the host."""
    found = subject.host
    if found is None or not found.connection:
        return unknown(f"the host {found.name if found else subject.vm.host}".rstrip())
    if found.connection != "connected":
        return Found(f"its host {found.name} is {found.connection}")
    return Found(f"its host {found.name} is in maintenance mode", WARN) if found.in_maintenance else None


@rule(
    "source.privileges",
    BLOCK,
    NOTE,
    finds="the source's account lacks privileges that a migration needs; as a note: not known",
    do="grant them to the account, on the VM or above it",
)
def privileges(subject: Subject) -> Found | None:
    """Better missed now than at the first snapshot."""
    missing = subject.missing_privileges
    if missing is None:
        return Found(
            "not checked: what the account may do with this VM was not asked",
            NOTE,
            do=f"ask for it: xms source check {subject.source}",
        )
    return Found(f"the account lacks {', '.join(missing)}") if missing else None


RULES: Final[tuple[Rule, ...]] = (host, privileges)
