"""A job whose worker is struck at calls of its steps, and another worker that goes on after each."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Final

from lab.cloud.server import CloudServer
from tests.target_killed.calls import Blow, Point
from tests.target_killed.holdings import Holdings, holdings
from tests.target_killed.itinerary import ITINERARY, Job, Stop
from tests.target_killed.worker import Outcome, Step, work
from xms.config import Config, TargetConfig, WorkerConfig

LEASE: Final = 2.0
LONG_LEASE: Final = 8.0
"""So long that a victim has no renewal to make, whose time is chance. Its successor waits for its own lease only."""
ANSWER_SECONDS: Final = 240.0
"""More than a claim waits for a volume on which a late attachment came up just then; the next attempt removes it."""
TRIES: Final = 6


def processes() -> ForkServerContext:
    """Where workers come from: forked, in a few milliseconds, from a process without threads that has all imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.target_killed.worker"])
    return context


class WorkerProcess:
    """One worker: a process."""

    def __init__(self, config: Config) -> None:
        context = processes()
        self._ours, its = context.Pipe()
        self._process: ForkServerProcess = context.Process(target=work, args=(config, its), daemon=True)
        self._process.start()
        its.close()

    def do(self, step: Step) -> Outcome | None:
        """What came of a step; None where the process was killed during it."""
        try:
            self._ours.send(step)
            if not self._ours.poll(ANSWER_SECONDS):
                raise TimeoutError(f"no end of {step.name}")
            outcome: Outcome = self._ours.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._process.join(ANSWER_SECONDS)
            # A fork server tells its children's signals as the exit code's negative, like a parent's.
            if self._process.exitcode != -signal.SIGKILL:
                raise AssertionError(f"the worker ended by itself in {step.name}: {self._process.exitcode}") from None
            return None
        return outcome

    def end(self) -> None:
        """Let it go. Ending it twice does nothing more."""
        if self._ours.closed:
            return
        self._ours.close()
        self._process.join(2.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@dataclass
class Run:
    """What was seen of one job.

    Attributes:
        points: the calls of each step, as its last attempt made them.
        after: what the cloud held after each step.
        struck: the calls that something was done to.
        errors: what attempts failed with that were made again.
        trouble: what ended otherwise than it should, or "".
    """

    job: Job
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    after: dict[str, Holdings] = field(default_factory=dict)
    struck: set[tuple[str, Point | None]] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    trouble: str = ""


class StepFailed(Exception):
    """A step did not come to its end, however often it was tried."""


class Stage:
    """Where jobs are played, one for each call that a step makes."""

    def __init__(self, server: CloudServer, target: TargetConfig) -> None:
        self.server = server
        self.target = target

    def play(
        self,
        vm: str,
        blow: Blow | None = None,
        plan: Mapping[str, Point] | None = None,
        *,
        expected: Mapping[str, Holdings] | None = None,
    ) -> Run:
        """Take a job through the itinerary. In each step of the plan its worker is struck at that call.

        After each step, whoever came to its end, the cloud has to hold what it holds where nothing was struck. So each
        step begins as on a fresh job, and one job can be struck in all of its steps. What is not `expected` of a step is
        not looked at.
        """
        run = Run(Job(vm))
        plan = plan or {}
        worker = self._worker("victim" if blow else "worker", LONG_LEASE if blow is None or blow.kills else LEASE)
        try:
            for stop in ITINERARY:
                worker = self._pass(run, stop, worker, blow, plan.get(stop.title))
                now = run.after[stop.title] = holdings(self.server, run.job)
                if expected is not None and stop.title in expected and now != expected[stop.title]:
                    run.trouble = differing(now, expected[stop.title], f"{stop.title}, {blow}, {plan.get(stop.title)}")
                    break
        except StepFailed as failure:
            run.trouble = str(failure)
        finally:
            worker.end()
        return run

    def _worker(self, name: str, lease_seconds: float) -> WorkerProcess:
        return WorkerProcess(Config(worker=WorkerConfig(name=name, lease_seconds=lease_seconds), target=self.target))

    def _pass(self, run: Run, stop: Stop, worker: WorkerProcess, blow: Blow | None, at: Point | None) -> WorkerProcess:
        """Do a step, again after each failure that Temporal would try again after; returns the worker that lives."""
        order = stop.order(run.job)
        step = Step(stop.activity, order, blow=blow, at=at)
        died = False
        for attempt in range(1, TRIES + 1):
            outcome = worker.do(step)
            if outcome is None:
                run.struck.add((stop.title, at))
                died = True
                worker.end()
                worker = self._worker("successor", LEASE)
            else:
                run.points[stop.title] = outcome.points
                if outcome.struck:
                    run.struck.add((stop.title, at))
                if not outcome.error:
                    run.job.take_in(order, outcome.answer)
                    break
                if not outcome.retryable:
                    raise StepFailed(f"{stop.title}, {blow} at {at}, attempt {attempt}: {outcome.error}")
                run.errors.append(f"{run.job.vm}: {stop.title}, {blow} at {at}: {outcome.error}")
            step = Step(stop.activity, order, attempt=attempt + 1)
        else:
            worker.end()
            raise StepFailed(f"{stop.title}, {blow} at {at}: {TRIES} attempts failed: {run.errors[-1]}")
        if died:
            # The successor's short lease would have its own renewals struck, whose time is chance.
            worker.end()
            worker = self._worker("victim", LONG_LEASE)
        return worker


def differing(now: Holdings, expected: Holdings, where: str) -> str:
    """What is otherwise than it should be, one line each."""
    lines = [where]
    for kind in ("volumes", "ports", "servers"):
        left, right = getattr(now, kind), getattr(expected, kind)
        lines += [f"  there is     {one}" for one in left if one not in right or len(left) != len(right)]
        lines += [f"  there should {one}" for one in right if one not in left]
    return "\n".join(lines)
