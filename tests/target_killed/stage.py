"""A job whose worker is struck at calls of its steps, and another worker that goes on after each."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Final, Literal

from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT
from tests.target_killed.calls import Blow, Point
from tests.target_killed.holdings import Holdings, holdings
from tests.target_killed.itinerary import ATTACHING, ITINERARY, Job, Stop
from tests.target_killed.worker import Outcome, Step, work
from xms.config import Config, TargetConfig, WorkerConfig

LEASE: Final = 5.0
LONG_LEASE: Final = 15.0
"""So long that a victim has no renewal to make, whose time is chance. Its successor waits for its own lease only."""
UNTOLD: Final = 255
"""What multiprocessing says where its fork server did not come to tell how a child ended."""
ANSWER_SECONDS: Final = 240.0
"""More than a claim waits for a volume on which a late attachment came up just then; the next attempt removes it."""
TRIES: Final = 10


def processes() -> ForkServerContext:
    """Where workers come from: forked, in a few milliseconds, from a process without threads that has all imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.target_killed.worker"])
    return context


_ONE_AT_A_TIME: Final = threading.Lock()
"""`start` looks at all of multiprocessing's processes, and breaks on one that another thread closes meanwhile."""


class WorkerProcess:
    """One worker: a process."""

    def __init__(self, config: Config) -> None:
        context = processes()
        self._ours, its = context.Pipe()
        self._process: ForkServerProcess = context.Process(target=work, args=(config, its), daemon=True)
        with _ONE_AT_A_TIME:
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
            struck = step.blow is not None and step.blow.kills
            if not struck or self._process.exitcode not in {-signal.SIGKILL, UNTOLD}:
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
        with _ONE_AT_A_TIME:
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


@dataclass(frozen=True)
class Machine:
    """Where a worker runs: an instance of the cloud, or any machine with the storage network.

    Attributes:
        worker: the worker's name.
        data_dir: the worker's.
        instance: its id, where it is one.
        devices: where its disks appear, where it is one.
    """

    worker: str
    data_dir: Path
    instance: str | None = None
    devices: Path = Path("/dev/disk/by-id")


@dataclass(frozen=True)
class Stage:
    """Where jobs are played, one for each call that a step makes.

    Attributes:
        victims: where the workers run that something happens to.
        successors: where those run that go on after a kill.
        itinerary: what the jobs do.
    """

    server: CloudServer
    target: TargetConfig
    victims: Machine
    successors: Machine
    itinerary: tuple[Stop, ...]

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
        step begins as on a fresh job, and one job can be struck in all of its steps. Steps that nothing is `expected`
        of are not looked at.
        """
        run = Run(Job(vm))
        plan = plan or {}
        worker = self._worker(self.victims, LONG_LEASE if blow is None or blow.kills else LEASE)
        try:
            for stop in self.itinerary:
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

    def _worker(self, machine: Machine, lease_seconds: float) -> WorkerProcess:
        worker = WorkerConfig(
            name=machine.worker,
            data_dir=machine.data_dir,
            instance=machine.instance,
            devices=machine.devices,
            lease_seconds=lease_seconds,
        )
        return WorkerProcess(Config(worker=worker, target=self.target))

    def _pass(self, run: Run, stop: Stop, worker: WorkerProcess, blow: Blow | None, at: Point | None) -> WorkerProcess:
        """Do a step, again after each failure that Temporal would try again after; returns the worker that lives."""
        order = stop.order(run.job)
        step = Step(stop.activity, order, blow=blow, at=at)
        died = struck = False
        for attempt in range(1, TRIES + 1):
            outcome = worker.do(step)
            if outcome is None:
                died = struck = True
                worker.end()
                worker = self._worker(self.successors, LEASE)
            else:
                run.points[stop.title] = outcome.points
                struck = struck or outcome.struck
                if not outcome.error:
                    run.job.take_in(order, outcome.answer)
                    break
                if not outcome.retryable:
                    raise StepFailed(f"{stop.title}, {blow} at {at}, attempt {attempt}: {outcome.error}")
                run.errors.append(f"{run.job.vm}: {stop.title}, {blow} at {at}: {outcome.error}")
            # An attempt that failed before it came to that call, on a machine that is busy, was not struck.
            step = Step(stop.activity, order, attempt + 1, *((None, None) if struck else (blow, at)))
        else:
            worker.end()
            raise StepFailed(f"{stop.title}, {blow} at {at}: {TRIES} attempts failed: {run.errors[-1]}")
        if struck:
            run.struck.add((stop.title, at))
        if died:
            # The successor's short lease would have its own renewals struck, whose time is chance.
            worker.end()
            worker = self._worker(self.victims, LONG_LEASE)
        return worker


def differing(now: Holdings, expected: Holdings, where: str) -> str:
    """What is otherwise than it should be, one line each."""
    lines = [where]
    for kind in ("volumes", "ports", "servers", "networks", "snapshots"):
        left, right = getattr(now, kind), getattr(expected, kind)
        lines += [f"  there is     {one}" for one in left if one not in right or len(left) != len(right)]
        lines += [f"  there should {one}" for one in right if one not in left]
    return "\n".join(lines)


def make_stage(server: CloudServer, directory: Path, attach: Literal["cinder", "nova"]) -> Stage:
    """A stage over a cloud that does everything quickly."""
    server.set_quota(PROJECT, instances=-1, cores=-1, ram=-1, snapshots=-1)
    faults = server.faults
    # A volume is long enough in the making to be seen so: else it were chance what calls there are.
    faults.volume_seconds = 0.15
    faults.server_seconds = faults.attach_seconds = 0.02
    clouds = directory / "clouds.yaml"
    server.write_clouds_yaml(clouds)
    victims, successors = (_machine(server, directory / name, attach) for name in ("victim", "successor"))
    target = TargetConfig(
        cloud="lab",
        clouds_file=clouds,
        attach=attach,
        poll_seconds=0.03,
        # What is asked again within a call never reaches the activity, whose repetition is what is looked at here.
        retry_seconds=0,
    )
    return Stage(server, target, victims, successors, itinerary=ITINERARY if attach == "cinder" else ATTACHING)


def _machine(server: CloudServer, directory: Path, attach: Literal["cinder", "nova"]) -> Machine:
    if attach == "cinder":
        return Machine(directory.name, directory)
    devices = directory / "by-id"
    devices.mkdir(parents=True)
    return Machine(directory.name, directory, server.add_worker_instance(PROJECT, devices), devices)
