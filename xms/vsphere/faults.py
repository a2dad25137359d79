"""How vSphere's faults and broken connections become errors that a person understands."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from xms.errors import (
    DatastoreFull,
    SnapshotLost,
    SourceFault,
    SourceForbidden,
    SourceNotTrusted,
    SourceRefusedLogin,
    SourceUnreachable,
    VmNotFound,
    XmsError,
)
from xms.vsphere.bindings import vim, vmodl

AS_OF_THE_LAST_SYNC: Final = "the replica is as the last committed sync left it"

_REMEDIES: Final[tuple[tuple[tuple[Any, ...], str], ...]] = (
    (
        (vim.fault.TaskInProgress, vim.fault.ConcurrentAccess),
        "nothing while it is tried again: something else works on the VM",
    ),
    (
        (vim.fault.FileLocked, vim.fault.CannotAccessFile),
        "nothing while it is tried again; does a backup hold the VM's files, or is its datastore away?",
    ),
    ((vim.fault.NoDiskSpace,), "free space on the VM's datastores; it is tried again"),
    ((vim.fault.InsufficientResourcesFault,), "make room for the VM in its cluster; it is tried again"),
    ((vmodl.fault.RequestCanceled,), "nothing: somebody cancelled the task in vCenter, and it is begun again"),
    (
        (vmodl.fault.HostNotConnected, vmodl.fault.HostNotReachable, vmodl.fault.HostCommunication),
        "see that vCenter reaches the VM's ESXi host; it is tried again",
    ),
    ((vim.fault.SnapshotLocked,), "nothing while it is tried again: another snapshot of the VM is being worked on"),
    ((vim.fault.InvalidState,), "see in vCenter which state the VM is in; it is tried again"),
    ((vim.fault.NotAuthenticated,), "nothing: the next attempt logs in anew"),
)
"""Faults -> what the operator does. The first that fits counts."""


def remedy(fault: BaseException) -> str:
    """What the operator does about a fault that another attempt may not meet any more."""
    for kinds, do in _REMEDIES:
        if isinstance(fault, kinds):
            return do
    return "nothing while it is tried again; vCenter's task list and the VM's events tell more"


def fault_text(fault: BaseException) -> str:
    """A fault in one line: its class, as vSphere's documentation lists it, what vCenter said, which privilege lacks."""
    kind = type(fault).__name__.rpartition(".")[2]
    said = getattr(fault, "msg", None)
    text = f"{kind}: {said}" if said else kind
    lacks = missing_privilege(fault)
    return f"{text}; the account lacks {lacks}" if lacks else text


def missing_privilege(fault: BaseException) -> str:
    """The privilege for want of which vCenter refused a call; empty where that was not the reason."""
    # NotAuthenticated is a NoPermission too, and is mended by another attempt with a new session.
    if not isinstance(fault, vim.fault.NoPermission) or isinstance(fault, vim.fault.NotAuthenticated):
        return ""
    return str(getattr(fault, "privilegeId", None) or "a privilege that vCenter did not name")


def explain_fault(fault: BaseException, *, source: str, what: str) -> XmsError:
    """The error for a fault that has no meaning of its own where it came up.

    Args:
        fault: a vmodl.MethodFault.
        source: the source's name.
        what: what could not be done.
    """
    because = fault_text(fault)
    if isinstance(fault, vim.fault.InvalidLogin):
        return SourceRefusedLogin(
            f"{source} refused the log-in",
            because=because,
            do="correct the user name or the password file; an account may also be locked or its password expired",
        )
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
        return _explain_missing(fault.obj, what=what, because=because)
    if privilege := missing_privilege(fault):
        return SourceForbidden(what, because=because, do=f"grant {privilege} to the account of {source}, then retry")
    if isinstance(fault, vim.fault.NoDiskSpace):
        return DatastoreFull(
            what,
            because=f"{source} answered {because}",
            means=AS_OF_THE_LAST_SYNC,
            do=remedy(fault),
        )
    return SourceFault(what, because=f"{source} answered {because}", do=remedy(fault))


def is_permission(fault: BaseException) -> bool:
    """Whether the account lacks a privilege, or its session has ended: never a matter of what was asked for."""
    return isinstance(fault, vim.fault.NoPermission)


def _explain_missing(thing: object, *, what: str, because: str) -> XmsError:
    if isinstance(thing, vim.VirtualMachine):
        return VmNotFound(
            what,
            because=f"the VM is no longer in the inventory ({because})",
            means="the volumes are kept, as the last committed sync left them",
            do="was it deleted, or unregistered and registered again? Then abandon this job and submit another",
        )
    if isinstance(thing, vim.vm.Snapshot):
        return SnapshotLost(
            what,
            because=f"the sync's snapshot is gone ({because})",
            means="the replica is as the last committed sync left it; the next sync takes a new snapshot",
        )
    return SourceFault(what, because=because)


@contextmanager
def explained(source: str, what: str) -> Iterator[None]:
    """Let no fault of vSphere out: each becomes an XmsError that says `what` could not be done."""
    try:
        yield
    except vmodl.MethodFault as fault:
        raise explain_fault(fault, source=source, what=what) from fault


def explain_connection(error: Exception, *, source: str, host: str, port: int) -> XmsError:
    """The error for a connection that could not be made, was not trusted, or broke."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceNotTrusted(
            f"{source} ({host}:{port}) is not trusted",
            because=error.verify_message or str(error),
            means="nothing was sent to it",
            do="configure its CA bundle (ca_file) or its certificate's SHA-256 thumbprint, after checking it",
        )
    because = str(error) or type(error).__name__
    return SourceUnreachable(f"{source} ({host}:{port}) cannot be reached", because=because)
