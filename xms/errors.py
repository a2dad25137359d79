"""Every kind of trouble that reaches a person, one class a kind.

An error says what happened to which VM or disk (`what`), why (`because`), what it means for the data (`means`) and
what to do next (`do`). Its class says whether trying again can help (`retryable`) and whether only a person can mend
it (`needs_person`): the first decides the activity's retries, the second whether the job is parked as Failed.
"""

from __future__ import annotations

from typing import ClassVar, Self

from xms.models import DiskProgress, Trouble


class XmsError(Exception):
    """A failure that is explained to the operator.

    Args:
        what: what could not be done, naming the VM, disk, volume or setting.
        because: the cause, as exactly as the outside system told it.
        means: the consequence for the data and the job.
        do: the next action of the operator, or why none is needed.
    """

    retryable: ClassVar[bool] = True
    needs_person: ClassVar[bool] = False

    def __init__(self, what: str, *, because: str = "", means: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.because = because
        self.means = means
        self.do = do
        self.progress: DiskProgress | None = None
        """How far a stream had come that ended with this error."""
        self.log_tail = ""
        """The end of what a program said that failed; bounded, and without a secret."""
        self.worker_queue = ""
        """Task queue of the worker that has more to tell; empty: none has."""
        self.retry_after = 0.0
        """Seconds that the outside system asked to wait before it is asked again; 0: it asked for nothing."""

    def trouble(self) -> Trouble:
        """The same as a wire model, for the job's status, its events and the CLI."""
        return Trouble(
            kind=type(self).__name__,
            what=self.what,
            because=self.because,
            means=self.means,
            do=self.do,
            needs_person=self.needs_person,
            log_tail=self.log_tail,
            worker_queue=self.worker_queue,
        )

    def again(self) -> Self:
        """The same as a new object: one that is raised in several threads would gather the tracebacks of all."""
        return type(self)(self.what, because=self.because, means=self.means, do=self.do)

    def __str__(self) -> str:
        parts = [self.what, self.because and f"because {self.because}", self.means, self.do and f"do: {self.do}"]
        return "; ".join(part for part in parts if part)


class NeedsPerson(XmsError):
    """Trying again cannot help before somebody changed something."""

    retryable: ClassVar[bool] = False
    needs_person: ClassVar[bool] = True


class Refused(XmsError):
    """A command or an input that is not allowed now; nothing was changed."""

    retryable: ClassVar[bool] = False


class BadInput(Refused):
    """A value that cannot be used; the text names the field and the allowed values."""


class DowntimeTooLong(Refused):
    """The predicted downtime of a cutover is longer than its order allows; the source was not touched."""


class WindowMissed(Refused):
    """A cutover could not begin, or not end, within its window; the source was not touched, the order is dropped."""


class PreflightBlocked(Refused):
    """A preflight found what stands against a migration; nothing was started."""


# --- configuration ----------------------------------------------------------------------------------------------------


class ConfigurationError(NeedsPerson):
    """The worker's configuration is missing, malformed or unsafe; the text names the key."""


class ProgramMissing(NeedsPerson):
    """A program that this worker needs is not installed."""


class ReportNotKept(XmsError):
    """A report could not be written to the worker's directory of reports; nothing else depends on it."""


# --- Temporal, and the jobs in it -------------------------------------------------------------------------------------


class TemporalUnreachable(XmsError):
    """The Temporal server did not answer, or does not serve the namespace."""


class TemporalRefusedLogin(NeedsPerson):
    """The Temporal server does not accept the client's key or certificate, or the key has no right to the namespace."""


class NoWorker(XmsError):
    """Temporal answers, but no worker takes the work up; the command or question stays without an answer."""


class JobNotFound(Refused):
    """There is no job of that id, or Temporal has forgotten it after its retention time."""


class JobFinished(Refused):
    """The job has ended; nothing can be ordered from it any more."""


class WaitedTooLong(XmsError):
    """What somebody waited for did not come in the time that they gave; the job itself goes on."""


class OperationFailed(XmsError):
    """A worker or the Temporal server failed in a way that has no class of its own here."""


# --- the source -------------------------------------------------------------------------------------------------------


class SourceUnreachable(XmsError):
    """vCenter or ESXi did not answer, or the connection broke."""


class SourceRefusedLogin(NeedsPerson):
    """The source's user name or password is wrong, or the account is locked."""


class SourceForbidden(NeedsPerson):
    """The source's account lacks a privilege that the job needs; the text names it."""


class SourceNotTrusted(NeedsPerson):
    """The source's certificate is not the one that the configuration trusts."""


class SourceFault(XmsError):
    """vSphere answered a call with a fault that has no class of its own here."""


class VmNotFound(NeedsPerson):
    """The VM is not (any more) in the source's inventory, or its name is not unique."""


class VmUnsupported(NeedsPerson):
    """The VM has something that a warm migration cannot carry (hardware version, disk mode, foreign snapshots)."""


class ChangeTrackingUnavailable(NeedsPerson):
    """Changed Block Tracking cannot be turned on for this VM as it is."""


class ChangeTrackingReset(XmsError):
    """A change id belongs to another epoch: that disk's every byte has to be read again. The planner reseeds."""

    retryable: ClassVar[bool] = False


class ChangeTrackingBroken(XmsError):
    """vSphere cannot tell what changed since a change id. The same consequence as a reset, another cause."""

    retryable: ClassVar[bool] = False


class SnapshotFailed(XmsError):
    """A snapshot could not be made or removed."""


class SnapshotRefused(NeedsPerson):
    """vSphere makes no snapshot of this VM as it is; somebody has to change something about it."""


class DatastoreFull(XmsError):
    """A datastore of the source has too little room for a snapshot to grow; somebody's clean-up lets the job go on."""


class SnapshotLost(XmsError):
    """The snapshot that a sync reads from is gone; the next sync takes a new one."""

    retryable: ClassVar[bool] = False


class PowerOffNotConfirmed(NeedsPerson):
    """The source was asked to stop and is still running; nothing was cut over."""


class SourceRunning(NeedsPerson):
    """The source runs where it has to be off."""


# --- the copy ---------------------------------------------------------------------------------------------------------


class TransportFailed(XmsError):
    """The disk's export (nbdkit, VDDK) could not be opened or broke."""


class VolumeBusy(XmsError):
    """Another writer holds the volume's lease and is alive."""


class LeaseLost(XmsError):
    """This writer's claim on the volume ran out or was taken over; it writes nothing more."""


class VolumeTooSmall(NeedsPerson):
    """The volume is smaller than the disk; nothing was written."""


class WriteFailed(XmsError):
    """The volume refused a write or a flush; what was not flushed does not count."""


class VerificationFailed(XmsError):
    """What was read back from the volume is not what was read from the source; the sync is not committed."""


class ReplicaDiffers(XmsError):
    """A comparison found the replica to be something else than its snapshot; what differed is copied again."""


class NoProgress(XmsError):
    """A sync ended early without having copied anything; to begin another one at once would go round for ever."""


class Interrupted(XmsError):
    """The work was told to stop (cancellation, worker shutdown); another attempt goes on from the last checkpoint."""


# --- the target -------------------------------------------------------------------------------------------------------


class TargetUnreachable(XmsError):
    """The cloud did not answer, answered 429 or 5xx, or the connection broke."""


class TargetRefusedLogin(NeedsPerson):
    """The cloud's credentials are wrong, or have no right to the target project."""


class TargetNotTrusted(NeedsPerson):
    """The cloud's certificate is not one that clouds.yaml's CA bundle vouches for."""


class TargetRejected(NeedsPerson):
    """The cloud will not accept a value (a MAC in use, a property): the same call would fail the same way again."""


class TargetFault(XmsError):
    """The cloud refused a call with a status that has no class of its own here."""


class TargetNotFound(NeedsPerson):
    """A flavor, network, volume type, zone, project, volume or port is not there; the text lists what is."""


class QuotaExceeded(NeedsPerson):
    """The target project's quota does not cover what the job needs; the text gives needed, used and allowed."""


class VolumeFailed(XmsError):
    """A volume went to an error state, or did not reach the wanted state in time."""


class BootRefused(NeedsPerson):
    """The cloud did not make the instance at all: no guest ever ran, so the volumes are as the conversion left them."""


class NeverStarted(XmsError):
    """No instance came of it for now (no host for it, a port still in use), and no guest ran on the volumes."""


class BootFailed(XmsError):
    """The target instance did not become ACTIVE, or gave no evidence of a running guest in time."""


class OutOfSight(XmsError):
    """This worker lacks what it takes to look for evidence that another one could; a retry may reach that one."""


class WorkerBusy(XmsError):
    """A worker has no memory or no slot for a conversion, and had none for as long as one waits."""


class ConversionFailed(XmsError):
    """virt-v2v could not convert the guest; the volumes are still the replica."""

    retryable: ClassVar[bool] = False


class ConversionLost(XmsError):
    """The worker that holds the conversion's overlay is gone; the guest is converted again elsewhere."""

    retryable: ClassVar[bool] = False


# --- rehearsals -------------------------------------------------------------------------------------------------------


class NotRehearsed(NeedsPerson):
    """A cutover was ordered with --require-rehearsal, and no rehearsal passed in that time; the source runs on."""


class CopyTooSlow(XmsError):
    """A back end did not copy the volumes in the time for which syncs may wait; the job goes on without a rehearsal."""

    retryable: ClassVar[bool] = False
