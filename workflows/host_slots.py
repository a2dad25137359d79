"""A job's side of an ESXi host's budget: a slot before each stream, given back in every way out.

Where the source's configuration sets no limit, no message is sent at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.host_budget import HostBudgetActivities
    from workflows.calls import Policy, call, heed_cancellation, to_the_end
    from workflows.details import describe
    from workflows.names import GIVE_BACK, HOST_SLOT, budget_id
    from xms.host_budget import HostLimits, SlotAnswer, SlotBack, SlotRequest
    from xms.job import JobState
    from xms.models import MigrationSpec

PATIENCE: Final = timedelta(minutes=2)
"""How long a sync keeps its snapshot while none of its streams has a slot. The snapshot grows with every write of the
guest, and a queue may be hours long; so after this time the sync waits without one."""

ASK_AGAIN: Final = timedelta(minutes=1)
"""After which a request is made again, in case that the budget was terminated, and with it the queue."""

ASK_AGAIN_AT_MOST: Final = timedelta(minutes=15)
"""What that time doubles to: whoever waits for days must not fill the history with questions."""

CALL: Final = Policy(
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=10
    ),
)
"""One call to Temporal, which is there: else this workflow would not run."""

Answer = TypeVar("Answer")


class HostIsBusy(Exception):
    """No stream of a sync got a slot in time; its snapshot is of no use any more. The sync itself deals with it."""


class HostSlots:
    """The slots of one sync, or the one that a cutover takes before it stops the source.

    Args:
        spec: the job's.
        state: the job's; requests and slots are kept in it.
        limits: of the ESXi host; None: there are none, and every stream starts at once.
        urgent: before everybody who is not.
    """

    def __init__(
        self, spec: MigrationSpec, state: JobState, limits: HostLimits | None, *, urgent: bool = False
    ) -> None:
        self.spec = spec
        self.state = state
        self.limits = limits
        self.urgent = urgent
        self.asked_at = workflow.now()
        self.had_one = False
        self.gave_up = False

    async def during(
        self, stream: Callable[[SlotAnswer | None], Coroutine[Any, Any, Answer]], *, until: datetime | None
    ) -> Answer | None:
        """Run a stream with a slot, which is given back whatever becomes of the stream.

        Args:
            stream: is told its slot; None where no limit is configured.
            until: when to wait no longer.

        Returns:
            None where no slot was free until then.

        Raises:
            HostIsBusy: no stream of this sync has had a slot yet, and the snapshot is not to wait longer.
            ActivityError: the budget could not be asked.
        """
        if self.limits is None:
            return await stream(None)
        slot = await self._take(self.limits, until=until, patience=None if self.urgent else PATIENCE)
        if slot is None:
            return None
        try:
            answer = await stream(slot)
        except (Exception, asyncio.CancelledError):
            # Not `finally`: a coroutine that Python throws away, because its worker ends, may not await anything.
            await to_the_end(give_back(self.state, slot))
            raise
        await to_the_end(give_back(self.state, slot))
        return answer

    async def reserve(self) -> None:
        """Wait for a slot as long as it takes, with no snapshot, and keep it for the job's next sync.

        Raises:
            ActivityError: the budget could not be asked.
        """
        if self.limits is not None and self.state.reserved_slot is None:
            self.state.reserved_slot = await self._take(self.limits, until=None, patience=None)

    async def _take(
        self, limits: HostLimits, *, until: datetime | None, patience: timedelta | None
    ) -> SlotAnswer | None:
        reserved, self.state.reserved_slot = self.state.reserved_slot, None
        if reserved is not None and reserved.host == limits.host:
            self.had_one = True
            return reserved
        if reserved is not None:
            # The VM has moved to another host since.
            await to_the_end(give_back(self.state, reserved))
        info = workflow.info()
        request = SlotRequest(
            id=str(workflow.uuid4()),
            job_id=info.workflow_id,
            run_id=info.run_id,
            limits=limits,
            asked_at=self.asked_at,
            urgent=self.urgent,
        )
        asked = SlotAnswer(id=request.id, source=limits.source, host=limits.host)
        self.state.slots[request.id] = asked
        try:
            if await self._is_granted(request, until=until, patience=patience):
                return self.state.slots[request.id]
        except (Exception, asyncio.CancelledError):
            await to_the_end(give_back(self.state, asked))
            raise
        await to_the_end(give_back(self.state, asked))
        return None

    async def _is_granted(self, request: SlotRequest, *, until: datetime | None, patience: timedelta | None) -> bool:
        """Ask until there is an answer that is a slot; every wait for it ends by itself."""
        patience_ends = None if patience is None else workflow.now() + patience
        pause = ASK_AGAIN
        while True:
            await call(
                HostBudgetActivities.ask_for_slot, request, summary=f"a stream from {request.limits.host}", **CALL
            )
            ask_again_at = workflow.now() + pause
            pause = min(2 * pause, ASK_AGAIN_AT_MOST)
            while (now := workflow.now()) < ask_again_at:
                if until is not None and now >= until:
                    return False
                if patience_ends is not None and now >= patience_ends and not self.had_one:
                    self.gave_up = True
                ends = [ask_again_at, until, None if self.had_one else patience_ends]
                await self._answered(request, min(end for end in ends if end is not None) - now)
                if self.gave_up:
                    # Also where another disk's patience ended: a stream that began now would lose its snapshot.
                    raise HostIsBusy
                if self.state.slots[request.id].granted:
                    self.had_one = True
                    return True

    async def _answered(self, request: SlotRequest, seconds: timedelta) -> None:
        """Wait for the slot, or so long.

        A timer beside the condition, and not the condition's own timeout: that is asyncio.wait_for, which before
        Python 3.12 swallows a cancellation that comes together with the slot. The stream would begin all the same.
        """
        heed_cancellation()
        timer = asyncio.create_task(
            workflow.sleep(max(timedelta(0), seconds), summary=f"waits for a stream from {request.limits.host}")
        )
        try:
            await workflow.wait_condition(lambda: self.state.slots[request.id].granted or self.gave_up or timer.done())
        finally:
            timer.cancel()


async def give_back(state: JobState, slot: SlotAnswer) -> None:
    """Give a slot back, or withdraw a request that has none yet. With the budget gone there is nothing to do."""
    state.slots.pop(slot.id, None)
    if state.slots:
        state.doing = doing(state)
    budget = workflow.get_external_workflow_handle(budget_id(slot.source, slot.host))
    try:
        await budget.signal(GIVE_BACK, SlotBack(id=slot.id))
    except ApplicationError:
        workflow.logger.info("the budget of %s is gone, and the slot with it", slot.host)


async def give_reserved_back(state: JobState) -> None:
    """Give back what was reserved and has not been used."""
    reserved, state.reserved_slot = state.reserved_slot, None
    if reserved is not None:
        await give_back(state, reserved)


class TakesSlots:
    """What a budget says to a job."""

    spec: MigrationSpec
    state: JobState

    @workflow.signal(name=HOST_SLOT, description="From the budget of an ESXi host, not for people: a stream may start")
    async def host_slot(self, answer: SlotAnswer) -> None:
        """Let the stream start that waits for it; a slot that nobody waits for any more goes straight back."""
        if answer.id in self.state.slots:
            self.state.slots[answer.id] = answer
            self.state.doing = doing(self.state)
            workflow.set_current_details(describe(self.spec, self.state))
        elif answer.granted:
            await give_back(self.state, answer)


def doing(state: JobState) -> str:
    """What a job does that has asked for slots, in words."""
    waiting = [answer for answer in state.slots.values() if not answer.granted]
    copying = ["copying"] if state.streaming or len(waiting) < len(state.slots) else []
    if not waiting:
        return "copying"
    newest = waiting[-1]
    used = f" ({newest.in_use} of {newest.streams} in use)" if newest.streams else ""
    return "; ".join([*copying, f"waiting for a free stream on host {newest.host}{used}"])
