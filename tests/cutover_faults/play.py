"""Plays cases: a job each, begun where it is Ready with a cutover ordered, and looked at where it comes to rest."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from temporalio import activity
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.cutover_faults.cases import Case, Fault, Outcome, Place, Rest
from tests.cutover_faults.stagehand import PLAYS, Stagehand
from tests.workflows.conftest import Job, a_spec, a_worker
from tests.workflows.world import World, failure
from workflows.names import TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder
from xms.job import JobInput, JobState
from xms.models import Abandon, Baseline, Disk, Phase, Retry
from xms.status import JobStatus

PATIENCE: Final = 400.0
"""Seconds until a job has to be at rest, on a machine that does much else."""

ORDERED_AT_MOST: Final = 5
"""Times that an order is given whose answer did not come."""

AT_A_TIME: Final = 10
"""Jobs that are played side by side."""

CONVERTED: Final = frozenset({0, 1, 3})
"""Blocks of a volume that the conversion and the target write."""

CUT_OVER_AGAIN: Final = frozenset({Fault.REFUSED})
"""Faults after which a second cutover is played, too."""

SLOT_CALL: Final = "ask_for_slot"
BOOT_CALL: Final = "boot_server"


@dataclass
class Play:
    """One job with one fault.

    Attributes:
        status: where it was last seen at rest.
        seen: the calls of the itinerary that were made.
        wrote_beside: whether a worker had a volume when the target was booted.
    """

    case: Case | None
    world: World
    job: Job = field(init=False)
    status: JobStatus = field(init=False)
    seen: list[Place] = field(default_factory=list)
    instance: WarmMigrationWorkflow | None = None
    struck: int = 0
    lifted: bool = False
    wrote_beside: bool = False
    at_its_place: asyncio.Event = field(default_factory=asyncio.Event)

    def strikes(self, place: Place) -> Fault | None:
        """What happens to a call that is about to be made at a place."""
        if self.case is None or place != self.case.place or self.lifted:
            return None
        if self.struck and not self.case.fault.at_every_try:
            return None
        self.struck += 1
        return self.case.fault

    def begins(self, call: str) -> None:
        """See how the world is when a call's work begins."""
        if call == BOOT_CALL:
            self.wrote_beside |= bool(self.world.attached)

    async def abandon(self) -> None:
        """An operator's order; where the source is off already, it is refused."""
        order = Abandon(who="ann")
        for _ in range(ORDERED_AT_MOST):
            try:
                await self.job.handle.execute_update(WarmMigrationWorkflow.abandon, order, id="abandon")
            except WorkflowUpdateFailedError as refused:
                if "Refused" not in str(getattr(refused.cause, "type", "")):
                    raise
            except (RPCError, WorkflowUpdateRPCTimeoutOrCancelledError):
                continue  # the server is busy with others' work; under its id the order counts once
            return

    async def to_its_end(self) -> Outcome:
        """Follow the job until it rests; a Failed one is mended and retried."""
        rests = [await self._rests()]
        if rests[0].job == Phase.FAILED:
            self.lifted = True
            await self.job.handle.execute_update(WarmMigrationWorkflow.retry, Retry(who="ann"))
            rests.append(await self._rests())
        if self.case is None:
            raise AssertionError("a play of no case has no outcome")
        return Outcome(self.case, tuple(rests))

    async def again(self) -> Rest:
        """Order a second cutover of a job that was rolled back."""
        await self.job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(who="ann"))
        return await self._rests()

    async def _rests(self) -> Rest:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            if self._seems_at_rest and await self._is_at_rest():
                status = self.status
                return Rest(
                    job=status.phase,
                    source="runs" if self.world.power == "poweredOn" else "off",
                    target=self._target(),
                    replica=self._replica(status),
                )
            if asyncio.get_running_loop().time() > deadline:
                status = await self.job.status()
                events = [f"{event.kind}: {event.text}" for event in await self._events()]
                raise AssertionError("\n".join([str(self.case), f"{status.phase}, {status.doing}", *events]))
            await asyncio.sleep(0.1)

    async def _is_at_rest(self) -> bool:
        try:
            self.status = await self.job.status()
        except RPCError:
            return False  # the machine is busy with others' work: asked again
        return _at_rest(self.status)

    @property
    def _seems_at_rest(self) -> bool:
        """By a look at the job as it lives in this process: many queries would take longer than what the jobs do."""
        return self.instance is not None and _at_rest(self.instance.state.status(self.instance.spec))

    async def _events(self) -> Sequence[Any]:
        return (await self.job.handle.query(WarmMigrationWorkflow.events)).events

    def _target(self) -> str:
        if self.world.servers:
            return "runs"
        return "ports" if self.world.ports else "nothing"

    def _replica(self, status: JobStatus) -> str:
        match status.phase:
            case Phase.READY:
                return "copied in full" if self.copied_in_full else "kept, and synced by its delta"
            case Phase.COMPLETED:
                return "is the target's"
            case _:
                return "kept"

    @property
    def copied_in_full(self) -> bool:
        """Whether a stream was ordered to copy all of a disk."""
        sizes = {key: disk.capacity for key, disk in self.world.disks.items()}
        return any(stream.bytes >= sizes[stream.disk.key] for stream in self.world.streams)

    def _lacks(self, call: str) -> bool:
        """Whether something is amiss that the call does, other than for a fault of that call itself."""
        return self.case is None or self.case.place.call != call

    def what_is_broken(self, rest: Rest) -> list[str]:
        """Which of the promises of a cutover do not hold where the job has come to its last rest."""
        world, status = self.world, self.status
        broken = {
            "source and target ran at the same time": world.both_ran,
            "a worker had a volume when the target was booted": self.wrote_beside,
            "neither source nor target runs": rest.source == "off" and rest.target != "runs",
            "source and target run": rest.source == "runs" and rest.target == "runs",
            "a snapshot is left": bool(world.snapshots),
            "an attachment is left": bool(world.attached) and rest.job != Phase.ABANDONED,
            "a volume was deleted": len(world.volumes) != len(world.disks) or "delete_volumes" in world.calls,
            "a replica was copied in full though no target ran": self.copied_in_full
            and BOOT_CALL not in [place.call for place in self.seen],
            "the fault did not come": self.case is not None and not self.struck,
        }
        match status.phase:
            case Phase.READY:
                broken |= {
                    "something is left in the cloud": bool(world.servers or world.ports),
                    "the replica is not the source": not world.replica_equals_source(),
                    "a target that was seen running was taken away": _was_seen_running(status),
                    "nobody is told why": status.cutover is None or status.cutover.trouble is None,
                }
            case Phase.COMPLETED:
                broken |= {
                    "the target lacks what the source had": not _target_has_it_all(world),
                    "an overlay is left": bool(world.overlay) and self._lacks("discard_conversion"),
                    "the source is not marked": not world.annotation and self._lacks("mark_migrated"),
                    "the conversion is not on the target": world.volumes["volume-2000"].get(3) != -3,
                }
            case Phase.ABANDONED:
                broken |= {"a target that was seen running was taken away": _was_seen_running(status)}
                broken |= {"something is left in the cloud": bool(world.servers or world.ports)}
            case _:
                broken |= {"a retry does not bring it back": True}
        return [text for text, holds in broken.items() if holds]


def _at_rest(status: JobStatus) -> bool:
    match status.phase:
        case Phase.FAILED | Phase.COMPLETED | Phase.ABANDONED:
            return True
        case Phase.READY:
            if status.cutover is None or status.sync is not None or status.last_sync_at is None:
                return False
            ended = [step.ended_at or status.last_sync_at for step in status.cutover.steps]
            return status.cutover_ordered is None and bool(ended) and status.last_sync_at > max(ended)
        case _:
            return False


def _was_seen_running(status: JobStatus) -> bool:
    return status.cutover is not None and status.cutover.downtime_ended_at is not None


def _target_has_it_all(world: World) -> bool:
    """But for what the conversion and the target wrote, the volumes hold what the source's disks did."""
    return all(
        {block: value for block, value in world.volumes[f"volume-{key}"].items() if block not in CONVERTED}
        == {block: value for block, value in disk.blocks.items() if block not in CONVERTED}
        for key, disk in world.disks.items()
    )


# --- the worlds -------------------------------------------------------------------------------------------------------


class Worlds(World):
    """The world of each job, behind one set of activities."""

    def activities(self) -> list[Callable[..., Any]]:
        return [self._of_the_job(method) for method in super().activities()]

    def _of_the_job(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def of_the_job(order: Any) -> Any:  # noqa: ANN401 - any order, any answer
            world = PLAYS[activity.info().workflow_id or ""].world
            return await getattr(world, method.__name__)(order)

        return of_the_job


def a_replicated_world(*, host: str = "") -> World:
    """A source with a replica, a delta that waits for a sync, and a guest that writes until it is stopped."""
    world = World()
    for key in world.disks:
        for block in (1, 5, 7):
            world.write(key, block)
        world.volumes[f"volume-{key}"] = dict(world.disks[key].blocks)
    world.sequence = 1
    for key in world.disks:
        world.write(key, 9)
    world.before["power_off"] = lambda: world.write(2000, 11)
    if host:
        world.host, world.host_streams = host, 4
    return world


def a_ready_job(name: str, world: World) -> JobInput:
    """As after its first sync, with a cutover ordered."""
    spec = a_spec(name)
    now = datetime.now(UTC)
    state = JobState.fresh(spec, now)
    state.phase = Phase.READY
    state.moref, state.vm_name = "vm-101", name
    state.last_sync_at = state.replica_of = now
    state.disks = tuple(
        Disk(
            key=key,
            label=f"Hard disk {key - 1999}",
            capacity=disk.capacity,
            volume_id=f"volume-{key}",
            volume_size=disk.capacity,
            baseline=Baseline(change_id="uuid/1"),
        )
        for key, disk in world.disks.items()
    )
    state.cutover_asked = CutoverOrder(who="ann")
    return JobInput(**spec.model_dump(), carried=state)


# --- playing ----------------------------------------------------------------------------------------------------------


class Stage:
    """One Temporal, one set of workers, many plays side by side."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @asynccontextmanager
    async def workers(self) -> AsyncIterator[None]:
        """Workers that strike where the plays say so."""
        settings = self._client.config()
        settings["interceptors"] = [Stagehand()]
        # Outside of the sandbox, in which every one of the many workflows would import all modules anew.
        async with a_worker(Client(**settings), Worlds(), len(PLAYS) + 500, UnsandboxedWorkflowRunner()):
            yield

    async def begin(self, case: Case | None, *, limited: bool = False) -> Play:
        """Start a job."""
        name = f"fault-{uuid.uuid4().hex[:8]}"
        limited = limited or (case is not None and case.place.call == SLOT_CALL)
        play = Play(case, a_replicated_world(host=f"esx-{name}" if limited else ""))
        if case is not None and case.place.undoing:
            # Every step has been done by then, and every undo has to come.
            play.world.fail["see_running"] = [failure("BootFailed")]
        given = a_ready_job(name, play.world)
        workflow_id = f"warm-{given.source}-{name}"
        PLAYS[workflow_id] = play
        play.job = Job(self._client.get_workflow_handle_for(WarmMigrationWorkflow.run, workflow_id), play.world)
        await self._client.start_workflow(WarmMigrationWorkflow.run, given, id=workflow_id, task_queue=TASK_QUEUE)
        return play


async def play_all(client: Client, cases: Iterable[Case]) -> tuple[list[Outcome], list[str]]:
    """Play cases side by side.

    Returns:
        What they came to, and which promises were broken: none.
    """
    stage = Stage(client)
    wanted = list(cases)
    played: list[tuple[Outcome, list[str]]] = []
    for first in range(0, len(wanted), AT_A_TIME):
        some = wanted[first : first + AT_A_TIME]
        plays: list[Play] = []
        if any(case.fault is Fault.RESTARTED for case in some):
            plays = await _restarted_in_the_middle(stage, some)
        async with stage.workers():
            plays = plays or [await stage.begin(case) for case in some]
            played += await asyncio.gather(*(_played(play) for play in plays))
    return [outcome for outcome, _ in played], [text for _, broken in played for text in broken]


async def _restarted_in_the_middle(stage: Stage, cases: Sequence[Case]) -> list[Play]:
    """Every job is at its place, and then there are no workers any more."""
    async with stage.workers():
        plays = [await stage.begin(case) for case in cases]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(play.at_its_place.wait() for play in plays))
    return plays


async def _played(play: Play) -> tuple[Outcome, list[str]]:
    outcome = await play.to_its_end()
    rest = outcome.rests[-1]
    broken = play.what_is_broken(rest)
    if rest.job == Phase.READY and outcome.case.fault in CUT_OVER_AGAIN:
        rest = await play.again()
        broken += [f"a second cutover: {text}" for text in play.what_is_broken(rest)]
        if rest.job != Phase.COMPLETED:
            broken.append(f"a second cutover ends {rest.job}")
    if rest.job not in {Phase.COMPLETED, Phase.ABANDONED}:
        await play.job.handle.terminate()
    return outcome, [f"{play.case}: {text}" for text in broken]


async def all_places(client: Client) -> list[Place]:
    """The calls of the itinerary and of its undos, in the order in which they come."""
    stage = Stage(client)
    async with stage.workers():
        forth = await stage.begin(None, limited=True)
        back = await stage.begin(None, limited=True)
        back.world.fail["see_running"] = [failure("BootFailed")]
        await asyncio.gather(forth._rests(), back._rests())
        await back.job.handle.terminate()
    return list(dict.fromkeys([*forth.seen, *(place for place in back.seen if place.undoing)]))
