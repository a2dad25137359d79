"""What every step of a cutover has at hand: the job, the order, the source as it is now, and the record."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.source import SourceActivities
    from workflows.calls import (
        CONTROL,
        Policy,
        call,
        refusal,
    )
    from workflows.sync import Sync
    from xms.cutover import CutoverOrder, Decision
    from xms.errors import SourceRunning
    from xms.job import JobState
    from xms.models import MigrationSpec
    from xms.orders.conversion import Converted
    from xms.orders.source import VmDetails, VmQuery


class CutoverAttempt:
    """One attempt at a cutover."""

    def __init__(self, spec: MigrationSpec, state: JobState, order: CutoverOrder) -> None:
        self.spec = spec
        self.state = state
        self.order = order
        self.vm = state.vm_order(spec)
        self.target = state.target_order(spec)
        self.converted: Converted | None = None
        self.cheap_snapshots = False
        self.server_removed = False

    async def final_delta(self) -> None:
        """The last bytes, read from a source that is off, and read back from the volumes."""
        await Sync(self.spec, self.state, "final delta").run(final=True)
        if not self.state.seeded:
            raise ApplicationError(
                "the final delta left something uncopied", type="FinalDeltaIncomplete", non_retryable=True
            )
        await self._refuse_running()

    async def _inspect(self, policy: Policy = CONTROL) -> VmDetails:
        query = VmQuery(source=self.spec.source, vm=self.vm.vm, moref=self.vm.moref)
        return await call(SourceActivities.inspect_vm, query, **policy)

    async def _refuse_running(self) -> None:
        """The source is still off: somebody, or vSphere's high availability, may have started it meanwhile."""
        self._refuse_unless_off(await self._inspect())

    def _refuse_unless_off(self, vm: VmDetails) -> None:
        if vm.power_state != "poweredOff":
            raise refusal(
                SourceRunning,
                f"{self.vm.vm} was started during its cutover",
                because=f"vSphere says that it is {vm.power_state}",
                means="what it writes now is not in the replica, so the target is not left running beside it",
                do="keep it off during a cutover (high availability and operators may start it), then order it again",
            )

    def _decide(self, what: str, because: str = "") -> None:
        """Write down what was decided on the way, for the report."""
        if self.state.cutover is not None:
            decision = Decision(at=workflow.now(), what=what, because=because)
            self._record(decisions=(*self.state.cutover.decisions, decision))
        self._note("decided", f"{what}: {because}" if because else what)

    def _note_step(self, **changes: object) -> None:
        """Write down what the step that runs came to, for the report: fields of StepRecord."""
        if self.state.cutover is not None:
            self.state.cutover = self.state.cutover.with_running(**changes)

    def _record(self, **changes: object) -> None:
        if self.state.cutover is not None:
            self.state.cutover = self.state.cutover.model_copy(update=changes)

    def _note(self, kind: str, text: str) -> None:
        self.state.note(workflow.now(), kind, text)
