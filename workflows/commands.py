"""The verbs of a job: each as an update, which answers or refuses, and as a signal, for the Web UI and other workflows.

One handler serves both. A refused update costs no history; a refused signal becomes an event that an operator can read.
"""

from __future__ import annotations

from typing import Final

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from xms.commands import accept, refuse_unless_allowed
    from xms.cutover import CutoverOrder, FinalizeOrder, Rehearse, RollBackOrder, WithdrawCutover
    from xms.errors import Refused
    from xms.job import JobState
    from xms.models import (
        Abandon,
        Command,
        MigrationSpec,
        Pause,
        Receipt,
        Resume,
        Retry,
        SetCadence,
        SetRateLimit,
        SyncNow,
        Verify,
    )
    from xms.orders.copy import StreamRate
    from xms.status import Events, JobStatus


RESUME_CATCHES_UP: Final = "resume-catches-up"
"""Marks, in the histories of jobs, the runs in which a resume is followed by a sync at once."""


class Commands:
    """The messages of a warm migration; what they change is the state, what acts on it is the workflow's loop."""

    spec: MigrationSpec
    state: JobState

    def check(self, command: Command) -> None:
        """Refuse an update before it enters the history."""
        try:
            refuse_unless_allowed(self.state, command, workflow.now())
        except Refused as refused:
            raise _failure(refused) from None

    def accept(self, command: Command) -> Receipt:
        """Record a command and answer."""
        try:
            receipt = self._record(command)
        except Refused as refused:
            raise _failure(refused) from None
        self.show()
        return receipt

    def accept_or_note(self, command: Command) -> None:
        """Record a command that came as a signal, or why it was refused: its sender hears nothing."""
        try:
            self._record(command)
        except Refused as refused:
            self.state.note(workflow.now(), "refused", str(refused), command.who)
        self.show()

    def _record(self, command: Command) -> Receipt:
        catches_up = isinstance(command, Resume) and workflow.patched(RESUME_CATCHES_UP)
        return accept(self.state, command, workflow.now(), catches_up=catches_up)

    def show(self) -> None:
        """Bring the search attributes and the current details up to the state."""
        raise NotImplementedError

    @workflow.query(description="All that a person may ask of the job")
    def status(self) -> JobStatus:
        """Phase, metrics, disks, trouble."""
        return self.state.status(self.spec)

    @workflow.query(description="The job's story: time, kind, text, who")
    def events(self) -> Events:
        """The bounded log, oldest first."""
        return self.state.story()

    @workflow.query(description="What one of the running streams may read; asked by the streams themselves")
    def rate(self) -> StreamRate:
        """The limit, divided among them."""
        return StreamRate(bytes_a_second=self.state.rate_of_a_stream())

    @workflow.update(name="sync-now", description="Run an incremental sync now")
    def sync_now(self, command: SyncNow) -> Receipt:
        """Ask for a sync; one that runs is followed by another."""
        return self.accept(command)

    @sync_now.validator
    def check_sync_now(self, command: SyncNow) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="sync-now", description="Run an incremental sync now; no answer")
    def sync_now_signal(self, command: SyncNow) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="pause", description="Stop the cadence; a sync that runs is finished")
    def pause(self, command: Pause) -> Receipt:
        """Let no sync start by itself."""
        return self.accept(command)

    @pause.validator
    def check_pause(self, command: Pause) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="pause", description="Stop the cadence; no answer")
    def pause_signal(self, command: Pause) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="resume", description="Sync at once, and follow the cadence again")
    def resume(self, command: Resume) -> Receipt:
        """Undo a pause."""
        return self.accept(command)

    @resume.validator
    def check_resume(self, command: Resume) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="resume", description="Sync at once, and follow the cadence again; no answer")
    def resume_signal(self, command: Resume) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="set-cadence", description="Seconds between syncs, at least 60; null is manual")
    def set_cadence(self, command: SetCadence) -> Receipt:
        """Another cadence, reckoned from the last sync."""
        return self.accept(command)

    @set_cadence.validator
    def check_set_cadence(self, command: SetCadence) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="set-cadence", description="Seconds between syncs, at least 60; null is manual; no answer")
    def set_cadence_signal(self, command: SetCadence) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="verify", description="Compare every byte of the replica with the source")
    def verify(self, command: Verify) -> Receipt:
        """Compare everything, after the sync that runs."""
        return self.accept(command)

    @verify.validator
    def check_verify(self, command: Verify) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="verify", description="Compare every byte of the replica with the source; no answer")
    def verify_signal(self, command: Verify) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="set-rate-limit", description="Bytes a second of all streams, at least 65536; null is none")
    def set_rate_limit(self, command: SetRateLimit) -> Receipt:
        """Another limit, for the streams that run too."""
        return self.accept(command)

    @set_rate_limit.validator
    def check_set_rate_limit(self, command: SetRateLimit) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(
        name="set-rate-limit", description="Bytes a second of all streams, at least 65536; null is none; no answer"
    )
    def set_rate_limit_signal(self, command: SetRateLimit) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="cutover", description="Move the workload now: last delta, power-off, conversion, boot")
    def cutover(self, command: CutoverOrder) -> Receipt:
        """Start the cutover, after the sync that runs."""
        return self.accept(command)

    @cutover.validator
    def check_cutover(self, command: CutoverOrder) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="cutover", description="Move the workload now; no answer")
    def cutover_signal(self, command: CutoverOrder) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="withdraw-cutover", description="Take back a cutover that has not begun")
    def withdraw_cutover(self, command: WithdrawCutover) -> Receipt:
        """Forget the order."""
        return self.accept(command)

    @withdraw_cutover.validator
    def check_withdraw_cutover(self, command: WithdrawCutover) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="withdraw-cutover", description="Take back a cutover that has not begun; no answer")
    def withdraw_cutover_signal(self, command: WithdrawCutover) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="rehearse", description="Convert and boot a copy in an isolated network")
    def rehearse(self, command: Rehearse) -> Receipt:
        """Rehearse, beside the syncs."""
        return self.accept(command)

    @rehearse.validator
    def check_rehearse(self, command: Rehearse) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="rehearse", description="Convert and boot a copy in an isolated network; no answer")
    def rehearse_signal(self, command: Rehearse) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="rollback", description="Take a completed cutover back, or one kept as it failed")
    def rollback(self, command: RollBackOrder) -> Receipt:
        """Remove the target, let the source run."""
        return self.accept(command)

    @rollback.validator
    def check_rollback(self, command: RollBackOrder) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(
        name="rollback",
        description="Take a completed cutover back, or one kept as it failed; no answer",
    )
    def rollback_signal(self, command: RollBackOrder) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="finalize", description="The completed cutover stands: the job ends")
    def finalize(self, command: FinalizeOrder) -> Receipt:
        """End the time in which it can be rolled back."""
        return self.accept(command)

    @finalize.validator
    def check_finalize(self, command: FinalizeOrder) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="finalize", description="The completed cutover stands: the job ends; no answer")
    def finalize_signal(self, command: FinalizeOrder) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="retry", description="Go on where a Failed job stood")
    def retry(self, command: Retry) -> Receipt:
        """Leave Failed."""
        return self.accept(command)

    @retry.validator
    def check_retry(self, command: Retry) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="retry", description="Go on where a Failed job stood; no answer")
    def retry_signal(self, command: Retry) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)

    @workflow.update(name="abandon", description="End the job; volumes are kept unless delete_volumes")
    def abandon(self, command: Abandon) -> Receipt:
        """End the job without a cutover."""
        return self.accept(command)

    @abandon.validator
    def check_abandon(self, command: Abandon) -> None:
        """Refuse it before it enters the history."""
        self.check(command)

    @workflow.signal(name="abandon", description="End the job; volumes are kept unless delete_volumes; no answer")
    def abandon_signal(self, command: Abandon) -> None:
        """The same, without an answer."""
        self.accept_or_note(command)


def _failure(refused: Refused) -> ApplicationError:
    return ApplicationError(str(refused), refused.trouble(), type=type(refused).__name__, non_retryable=True)
