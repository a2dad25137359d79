"""The part of a cutover before the source is stopped: warm passes, and the question whether it goes on."""

from __future__ import annotations

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.calls import refusal
    from workflows.cutover_attempt import CutoverAttempt
    from workflows.sync import Sync
    from xms import differences, go_no_go
    from xms.errors import DowntimeTooLong, Refused, ReplicaDiffers, WindowMissed
    from xms.go_no_go import Finding, Verdict

WHAT_HELPS: Final = (
    "allow more (--max-downtime), give another --window, or begin all the same (--force); "
    "a rehearsal measures what is only assumed"
)
"""Against a prediction that does not fit."""


class WarmPasses(CutoverAttempt):
    """What a run of the itinerary does while the source runs."""

    async def warm_pass(self) -> None:
        """Sync while the source runs, once, and again until the predicted downtime fits or does not shrink any more."""
        found: Finding | None = None
        for passes in range(1, go_no_go.MOST_PASSES + 1):
            await self._catch_up()
            earlier = found.prediction if found else None
            found = go_no_go.after_pass(self.state, self.order, workflow.now(), earlier=earlier, passes=passes)
            if found.verdict is not Verdict.AGAIN:
                break
            self._note("warm pass", f"{found.because}; another one follows")
        if found is not None:
            self.follow(found)

    async def _catch_up(self) -> None:
        """Sync until nothing but a delta is missing: what is not copied now would be downtime."""
        while True:
            lacking = self.state.unseeded_bytes
            await Sync(self.spec, self.state, "before cutover").run()
            if self.state.seeded:
                return
            if self.state.unseeded_bytes >= lacking > 0:
                self._refuse_spoiled()
                raise refusal(
                    Refused,
                    f"the replica of {self.vm.vm} does not catch up",
                    because=f"{self.state.unseeded_bytes} bytes are still missing, no fewer than one sync before",
                    means="the source was not touched",
                    do="wait until a sync is complete, or let snapshots grow older; then order the cutover again",
                )

    def follow(self, found: Finding) -> None:
        """Keep the prediction, and go no further where it does not fit; the source was not touched yet."""
        self._record(prediction=found.prediction)
        if found.verdict is Verdict.GO:
            if found.because and (found.forced or not self._decided_so("goes on")):
                self._decide("goes on", found.because)
            return
        self._decide("does not begin", found.because)
        raise refusal(
            WindowMissed if found.late else DowntimeTooLong,
            f"the cutover of {self.vm.vm} was not begun",
            because=found.because,
            means="the source was not touched, the job is Ready, and its syncs go on",
            do=WHAT_HELPS,
        )

    def _decided_so(self, what: str) -> bool:
        decisions = self.state.cutover.decisions if self.state.cutover else ()
        return bool(decisions) and decisions[-1].what == what

    def _refuse_spoiled(self) -> None:
        """What is missing differed, was copied again, and differed again: the storage is to blame, not the time."""
        found = differences.trouble(self.state)
        if found is not None:
            raise refusal(
                ReplicaDiffers, found.what, because=found.because, means="the source was not touched", do=found.do
            )
