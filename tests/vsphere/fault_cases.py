"""Every fault that vSphere documents for the calls that XMS makes of a VM: what comes of it, and what an operator does.

The rows drive `tests/vsphere/test_faults.py`, which has the stand-in answer with each and looks at what the real client
makes of it. They are the tables of docs/vsphere-faults.md too: see `tests/vsphere/fault_page.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from xms.errors import (
    ChangeTrackingUnavailable,
    DatastoreFull,
    PowerOffNotConfirmed,
    SnapshotFailed,
    SnapshotLost,
    SnapshotRefused,
    SourceFault,
    SourceForbidden,
    VmNotFound,
    XmsError,
)
from xms.vsphere.bindings import vim, vmodl

Make = Callable[[], Exception]


class Outcome(Enum):
    """What XMS does about a fault: its name on the page, and what that means."""

    AGAIN = (
        "tried again",
        "The call is made again, up to 10 times within about 4 minutes. Then the sync fails for now.",
    )
    CLEANED_LATER = (
        "cleaned up later",
        "Tried again for an hour, then every 15 minutes, and before the next snapshot. The job goes on meanwhile.",
    )
    LOGGED_IN = ("logs in again", "A new session is opened, and the call is made again in it.")
    RESEED = (
        "reseed",
        "The disk is copied in full by this same sync; the others are not. The reason is in the events.",
    )
    WHOLE = ("whole disk", "The first copy reads every byte of the disk, and not only what is allocated.")
    UNQUIESCED = ("not quiesced", "The snapshot is made without frozen file systems; the events say so, and why.")
    NEXT_SYNC = ("next sync", "The sync fails for now. The next one takes a new snapshot.")
    DONE = ("done", "What was wanted is the case already.")
    HARD = ("hard power-off", "The guest is not asked any more: the VM is powered off, where the order allows it.")
    UNDONE = ("rolled back", "The cutover ends and is undone; the job is Ready, with the error shown.")
    PARKED = ("parked", "The job waits as Failed, without a snapshot, until a person mended it and orders `retry`.")

    def __init__(self, title: str, meaning: str) -> None:
        self.title = title
        self.meaning = meaning


@dataclass(frozen=True)
class Case:
    """A fault of one call.

    Attributes:
        call: the method, as vSphere's reference lists it.
        make: makes the fault.
        outcome: what comes of it.
        error: what the client raises; None where it goes on.
        means: the error's words on the data; {vm} and {source} stand for names.
        do: its words on what to do, the same.
        at: "call" or "task": where vSphere tells it.
        times: how often it comes; None: always.
        when: what has to be the case beside; empty: nothing.
    """

    call: str
    make: Make
    outcome: Outcome
    error: type[XmsError] | None = None
    means: str = ""
    do: str = ""
    at: str = "task"
    times: int | None = None
    when: str = ""

    @property
    def fault(self) -> str:
        """Its name, with the argument that it names."""
        fault = self.make()
        name = type(fault).__name__.rpartition(".")[2]
        argument = getattr(fault, "invalidProperty", None)
        return f"{name} ({argument})" if argument else name

    @property
    def name(self) -> str:
        """For a test's id."""
        return "-".join(part.replace(" ", "_") for part in (self.call, self.fault, self.at, self.when) if part)


# --- the faults -------------------------------------------------------------------------------------------------------

FILE: Final = "[ds1] web/web.vmdk"


def a(kind: Any, **fields: Any) -> Make:  # noqa: ANN401 - pyVmomi's
    return lambda: kind(msg="as the test wants it", **fields)


FILE_FAULT = a(vim.fault.FileFault, file=FILE)
FILE_LOCKED = a(vim.fault.FileLocked, file=FILE)
FILE_AWAY = a(vim.fault.CannotAccessFile, file=FILE)
FILE_GONE = a(vim.fault.FileNotFound, file=FILE)
DISK_FULL = a(vim.fault.NoDiskSpace, file=FILE, datastore="ds1")
BUSY = a(vim.fault.TaskInProgress, task=vim.Task("task-999"))
CONCURRENT = a(vim.fault.ConcurrentAccess)
STATE = a(vim.fault.InvalidState)
POWER_STATE = a(vim.fault.InvalidPowerState, requestedState="poweredOn", existingState="suspended")
CONFIG = a(vim.fault.VmConfigFault)
RESOURCES = a(vim.fault.InsufficientResourcesFault)
NOT_CONNECTED = a(vmodl.fault.HostNotConnected)
NO_COMMUNICATION = a(vmodl.fault.HostCommunication)
CANCELED = a(vmodl.fault.RequestCanceled)
SYSTEM = a(vmodl.fault.SystemError, reason="?")
RUNTIME = a(vmodl.RuntimeFault)
UNSUPPORTED = a(vmodl.fault.NotSupported)
NOT_LOGGED_IN = a(vim.fault.NotAuthenticated, object=vim.VirtualMachine("vm-101"), privilegeId="System.View")
VM_GONE = a(vmodl.fault.ManagedObjectNotFound, obj=vim.VirtualMachine("vm-101"))
SNAPSHOT_GONE = a(vmodl.fault.ManagedObjectNotFound, obj=vim.vm.Snapshot("snapshot-101-1"))
TOO_MANY_LEVELS = a(vim.fault.TooManySnapshotLevels)
SNAPSHOT_FAULT = a(vim.fault.SnapshotFault)


def forbidden(privilege: str) -> Make:
    return a(vim.fault.NoPermission, object=vim.VirtualMachine("vm-101"), privilegeId=privilege)


def argument(name: str) -> Make:
    return a(vmodl.fault.InvalidArgument, invalidProperty=name)


# --- what is said of them ---------------------------------------------------------------------------------------------

INTACT: Final = "the replica is as the last committed sync left it"
GROWS: Final = "it grows on the datastore until it is removed; the data is intact"
ON_A_DELTA: Final = "the data is intact; the VM runs on a delta disk that grows"
KEPT: Final = "the volumes are kept, as the last committed sync left them"
LOST: Final = "the replica is as the last committed sync left it; the next sync takes a new snapshot"
UNCHANGED: Final = "nothing was changed"
NOT_CUT_OVER: Final = "nothing was cut over"

LOOK: Final = "nothing while it is tried again; vCenter's task list and the VM's events tell more"
WAIT: Final = "nothing while it is tried again: something else works on the VM"
BACKUP: Final = "nothing while it is tried again; does a backup hold the VM's files, or is its datastore away?"
SPACE: Final = "free space on the VM's datastores; it is tried again"
ROOM: Final = "make room for the VM in its cluster; it is tried again"
HOST: Final = "see that vCenter reaches the VM's ESXi host; it is tried again"
STATE_OF_VM: Final = "see in vCenter which state the VM is in; it is tried again"
BEGUN_AGAIN: Final = "nothing: somebody cancelled the task in vCenter, and it is begun again"
OTHER_VM: Final = "was it deleted, or unregistered and registered again? Then abandon this job and submit another"
ORDER_AGAIN: Final = "power it off in vSphere; then order the cutover again"
UNTRACKABLE: Final = (
    "resume or power off a suspended VM, or move the VM to a host that supports change tracking; then retry"
)

PASSING: Final[tuple[tuple[Make, str], ...]] = (
    (BUSY, WAIT),
    (CONCURRENT, WAIT),
    (STATE, STATE_OF_VM),
    (FILE_FAULT, LOOK),
    (FILE_LOCKED, BACKUP),
    (CONFIG, LOOK),
    (RESOURCES, ROOM),
    (NOT_CONNECTED, HOST),
    (NO_COMMUNICATION, HOST),
    (CANCELED, BEGUN_AGAIN),
    (SYSTEM, LOOK),
    (RUNTIME, LOOK),
)
"""What most calls may meet, and what passes."""


def grant(privilege: str) -> str:
    return f"grant {privilege} to the account of {{source}}, then retry"


def everywhere(call: str, privilege: str) -> tuple[Case, ...]:
    """What every call may meet, and always means the same."""
    return (
        Case(call, forbidden(privilege), Outcome.PARKED, SourceForbidden, do=grant(privilege), at="call"),
        Case(call, NOT_LOGGED_IN, Outcome.LOGGED_IN, at="call", times=1),
    )


def passing(call: str, *, outcome: Outcome, error: type[XmsError], means: str = "") -> tuple[Case, ...]:
    return tuple(Case(call, make, outcome, error, means, do) for make, do in PASSING)


# --- the calls --------------------------------------------------------------------------------------------------------

QUERY: Final = "QueryChangedDiskAreas"


def _query(make: Make, outcome: Outcome, error: type[XmsError] | None = None, do: str = "", **more: Any) -> Case:  # noqa: ANN401
    return Case(QUERY, make, outcome, error, do=do, at="call", **more)


QUERIES: Final = (
    _query(FILE_FAULT, Outcome.RESEED),
    _query(FILE_GONE, Outcome.RESEED),
    _query(a(vim.fault.NotFound), Outcome.RESEED, when="the snapshot is there"),
    *(_query(argument(name), Outcome.RESEED) for name in ("changeId", "deviceKey", "startOffset")),
    _query(UNSUPPORTED, Outcome.RESEED),
    _query(SYSTEM, Outcome.RESEED, when="three times"),
    _query(FILE_FAULT, Outcome.WHOLE, when="change id *"),
    _query(FILE_LOCKED, Outcome.AGAIN, SourceFault, BACKUP),
    _query(FILE_AWAY, Outcome.AGAIN, SourceFault, BACKUP),
    _query(SYSTEM, Outcome.AGAIN, times=1, when="once"),
    _query(STATE, Outcome.AGAIN, SourceFault, STATE_OF_VM),
    _query(POWER_STATE, Outcome.AGAIN, SourceFault, STATE_OF_VM),
    _query(BUSY, Outcome.AGAIN, SourceFault, WAIT),
    _query(NOT_CONNECTED, Outcome.AGAIN, SourceFault, HOST),
    _query(NO_COMMUNICATION, Outcome.AGAIN, SourceFault, HOST),
    _query(CANCELED, Outcome.AGAIN, SourceFault, BEGUN_AGAIN),
    _query(RUNTIME, Outcome.AGAIN, SourceFault, LOOK),
    _query(SNAPSHOT_GONE, Outcome.NEXT_SYNC, SnapshotLost, means=LOST, when="the snapshot"),
    _query(VM_GONE, Outcome.PARKED, VmNotFound, OTHER_VM, means=KEPT, when="the VM"),
    *everywhere(QUERY, "VirtualMachine.Provisioning.DiskRandomRead"),
)

CREATE: Final = "CreateSnapshot_Task"
ONCE: Final = "only when quiesced"


def _refused(make: Make, do: str) -> Case:
    return Case(CREATE, make, Outcome.PARKED, SnapshotRefused, INTACT, f"{do}")


CREATIONS: Final = (
    Case(CREATE, a(vim.fault.ApplicationQuiesceFault), Outcome.UNQUIESCED, times=1, when=ONCE),
    Case(CREATE, a(vim.fault.FilesystemQuiesceFault), Outcome.UNQUIESCED, times=1, when=ONCE),
    Case(CREATE, SNAPSHOT_FAULT, Outcome.UNQUIESCED, times=1, when=ONCE),
    Case(CREATE, CONFIG, Outcome.UNQUIESCED, times=1, when=ONCE),
    Case(CREATE, SYSTEM, Outcome.UNQUIESCED, times=1, when=ONCE),
    *passing(CREATE, outcome=Outcome.AGAIN, error=SnapshotFailed, means=INTACT),
    Case(CREATE, SNAPSHOT_FAULT, Outcome.AGAIN, SnapshotFailed, INTACT, LOOK),
    Case(CREATE, POWER_STATE, Outcome.AGAIN, SnapshotFailed, INTACT, STATE_OF_VM),
    Case(CREATE, a(vim.fault.InvalidName, name="xms-job"), Outcome.AGAIN, SnapshotFailed, INTACT, LOOK),
    Case(CREATE, a(vim.fault.SnapshotNoChange), Outcome.AGAIN, SnapshotFailed, INTACT, LOOK),
    Case(
        CREATE,
        a(vim.fault.SnapshotLocked),
        Outcome.AGAIN,
        SnapshotFailed,
        INTACT,
        "nothing while it is tried again: another snapshot of the VM is being worked on",
    ),
    Case(CREATE, DISK_FULL, Outcome.AGAIN, DatastoreFull, INTACT, SPACE),
    _refused(
        TOO_MANY_LEVELS,
        "the chain of its snapshots is at vSphere's limit: remove snapshots that nobody needs, then retry",
    ),
    _refused(
        a(vim.fault.SnapshotDisabled), "allow snapshots of this VM (snapshot.maxSnapshots in its settings), then retry"
    ),
    _refused(
        a(vim.fault.SnapshotIncompatibleDeviceInVm, fault=vmodl.MethodFault()),
        "take out the device that the fault names (a shared bus, a device of the host), then retry",
    ),
    _refused(a(vim.fault.MemorySnapshotOnIndependentDisk), "change the mode of its independent disks, then retry"),
    _refused(
        a(vim.fault.MultipleSnapshotsNotSupported),
        "remove the snapshot that the VM has: its host keeps only one; then retry",
    ),
    _refused(
        a(vim.fault.SnapshotMoveFromNonHomeNotSupported),
        "move the VM's snapshots and disks into its home directory (consolidate, or migrate its storage), then retry",
    ),
    _refused(UNSUPPORTED, "its host makes no snapshots of this VM: move it to one that does, then retry"),
    Case(CREATE, VM_GONE, Outcome.PARKED, VmNotFound, KEPT, OTHER_VM),
    *everywhere(CREATE, "VirtualMachine.State.CreateSnapshot"),
)

REMOVE: Final = "RemoveSnapshot_Task"
REMOVALS: Final = (
    *passing(REMOVE, outcome=Outcome.CLEANED_LATER, error=SnapshotFailed, means=GROWS),
    Case(REMOVE, SNAPSHOT_FAULT, Outcome.CLEANED_LATER, SnapshotFailed, GROWS, LOOK),
    Case(REMOVE, DISK_FULL, Outcome.CLEANED_LATER, SnapshotFailed, GROWS, SPACE),
    Case(REMOVE, SNAPSHOT_GONE, Outcome.DONE, when="the snapshot"),
    *everywhere(REMOVE, "VirtualMachine.State.RemoveSnapshot"),
)

CONSOLIDATE: Final = "ConsolidateVMDisks_Task"
CONSOLIDATIONS: Final = (
    *passing(CONSOLIDATE, outcome=Outcome.CLEANED_LATER, error=SnapshotFailed, means=ON_A_DELTA),
    Case(CONSOLIDATE, DISK_FULL, Outcome.CLEANED_LATER, SnapshotFailed, ON_A_DELTA, SPACE),
    Case(CONSOLIDATE, VM_GONE, Outcome.DONE, when="the VM"),
    *everywhere(CONSOLIDATE, "VirtualMachine.State.RemoveSnapshot"),
)

RECONFIGURE: Final = "ReconfigVM_Task"
RECONFIGURATIONS: Final = (
    *passing(RECONFIGURE, outcome=Outcome.AGAIN, error=SourceFault),
    Case(RECONFIGURE, DISK_FULL, Outcome.AGAIN, DatastoreFull, INTACT, SPACE),
    Case(RECONFIGURE, POWER_STATE, Outcome.PARKED, ChangeTrackingUnavailable, UNCHANGED, UNTRACKABLE),
    Case(RECONFIGURE, UNSUPPORTED, Outcome.PARKED, ChangeTrackingUnavailable, UNCHANGED, UNTRACKABLE),
    Case(RECONFIGURE, VM_GONE, Outcome.PARKED, VmNotFound, KEPT, OTHER_VM),
    *everywhere(RECONFIGURE, "VirtualMachine.Config.ChangeTracking"),
)

SHUT_DOWN: Final = "ShutdownGuest"
SHUTDOWNS: Final = (
    *(
        Case(SHUT_DOWN, make, Outcome.HARD, at="call")
        for make in (a(vim.fault.ToolsUnavailable), STATE, POWER_STATE, BUSY, UNSUPPORTED, SYSTEM)
    ),
    Case(SHUT_DOWN, NOT_CONNECTED, Outcome.AGAIN, SourceFault, do=HOST, at="call"),
    Case(SHUT_DOWN, NO_COMMUNICATION, Outcome.AGAIN, SourceFault, do=HOST, at="call"),
    Case(SHUT_DOWN, VM_GONE, Outcome.UNDONE, VmNotFound, KEPT, OTHER_VM, at="call"),
    Case(
        SHUT_DOWN,
        forbidden("VirtualMachine.Interact.PowerOff"),
        Outcome.UNDONE,
        SourceForbidden,
        do=grant("VirtualMachine.Interact.PowerOff"),
        at="call",
    ),
    Case(SHUT_DOWN, NOT_LOGGED_IN, Outcome.LOGGED_IN, at="call", times=1),
)

POWER_OFF: Final = "PowerOffVM_Task"
POWER_OFFS: Final = (
    *(
        Case(POWER_OFF, make, Outcome.UNDONE, PowerOffNotConfirmed, NOT_CUT_OVER, ORDER_AGAIN)
        for make in (STATE, BUSY, UNSUPPORTED, FILE_FAULT, SYSTEM)
    ),
    Case(POWER_OFF, POWER_STATE, Outcome.UNDONE, PowerOffNotConfirmed, NOT_CUT_OVER, ORDER_AGAIN, when="it runs"),
    Case(POWER_OFF, NOT_CONNECTED, Outcome.AGAIN, SourceFault, do=HOST),
    Case(POWER_OFF, NO_COMMUNICATION, Outcome.AGAIN, SourceFault, do=HOST),
    Case(POWER_OFF, CANCELED, Outcome.AGAIN, SourceFault, do=BEGUN_AGAIN),
    Case(POWER_OFF, VM_GONE, Outcome.UNDONE, VmNotFound, KEPT, OTHER_VM),
    Case(
        POWER_OFF,
        forbidden("VirtualMachine.Interact.PowerOff"),
        Outcome.UNDONE,
        SourceForbidden,
        do=grant("VirtualMachine.Interact.PowerOff"),
        at="call",
    ),
    Case(POWER_OFF, NOT_LOGGED_IN, Outcome.LOGGED_IN, at="call", times=1),
)

POWER_ON: Final = "PowerOnVM_Task"
POWER_ONS: Final = (
    *passing(POWER_ON, outcome=Outcome.AGAIN, error=SourceFault),
    Case(POWER_ON, POWER_STATE, Outcome.AGAIN, SourceFault, do=STATE_OF_VM),
    Case(POWER_ON, UNSUPPORTED, Outcome.AGAIN, SourceFault, do=LOOK),
    Case(POWER_ON, DISK_FULL, Outcome.AGAIN, DatastoreFull, INTACT, SPACE),
    Case(POWER_ON, VM_GONE, Outcome.PARKED, VmNotFound, KEPT, OTHER_VM),
    *everywhere(POWER_ON, "VirtualMachine.Interact.PowerOn"),
)

CASES: Final[tuple[Case, ...]] = (
    *QUERIES,
    *CREATIONS,
    *REMOVALS,
    *CONSOLIDATIONS,
    *RECONFIGURATIONS,
    *SHUTDOWNS,
    *POWER_OFFS,
    *POWER_ONS,
)
