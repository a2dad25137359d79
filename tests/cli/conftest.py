from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pexpect
import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from lab.programs import find_program
from tests.cli.place import Place
from workflows.conversion_log import ConversionLogWorkflow
from workflows.names import CONVERSION_QUEUE, DATA_QUEUE, LOOK_QUEUE, SEARCH_ATTRIBUTES, TASK_QUEUE
from workflows.operations import (
    CheckCutoverWorkflow,
    CheckEvidenceWorkflow,
    CheckMigrationWorkflow,
    CheckSourceWorkflow,
    CheckTargetWorkflow,
    ListSourcesWorkflow,
    ListTargetsWorkflow,
    ListVmsWorkflow,
    PreflightWorkflow,
)
from workflows.rehearsal import RehearsalWorkflow
from workflows.warm_migration import WarmMigrationWorkflow

XMS = [sys.executable, "-m", "cli.main"]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.out)


class Terminal:
    """The command line as an operator has it: a shell's environment, and a terminal where one is wanted."""

    def __init__(self, address: str, home: Path) -> None:
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("TEMPORAL_", "XMS_", "XDG_"))
        } | {"TEMPORAL_ADDRESS": address, "HOME": str(home), "TZ": "UTC", "TERM": "xterm-256color"}

    def xms(self, *arguments: str, **environment: str) -> Finished:
        """Run a command without a terminal, to its end."""
        done = subprocess.run(
            [*XMS, *arguments],
            env=self.environment | environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return Finished(done.returncode, done.stdout, done.stderr)

    def at_a_terminal(self, *arguments: str, columns: int = 100, lines: int = 50) -> pexpect.spawn[str]:
        """Start a command in a pseudo-terminal, where Ctrl-C works whatever these tests were started from.

        A shell without job control has what it starts in the background ignore it, and every child inherits that.
        """
        return pexpect.spawn(
            XMS[0],
            [*XMS[1:], *arguments],
            env=self.environment,
            cwd=str(ROOT),
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=30,
            preexec_fn=_hear_ctrl_c,
        )


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class House(Terminal):
    """A Temporal server with a worker in front of a place."""

    def __init__(self, address: str, home: Path, place: Place) -> None:
        super().__init__(address, home)
        self.place = place

    def submit(self, vm: str = "db-prod-01", *more: str) -> Finished:
        return self.xms("migration", "submit", *SUBMIT, "--vm", vm, *more)

    def a_ready_job(self, vm: str = "db-prod-01") -> str:
        assert self.submit(vm).code == 0
        job = f"warm-prod-vcenter-{vm}"
        assert self.xms("migration", "watch", job, "--until", "ready", "--timeout", "30s").code == 0
        return job

    def status(self, job: str) -> Any:  # noqa: ANN401 - JSON
        return self.xms("migration", "show", job, "--output", "json").json

    def eventually(self, seen: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < deadline
            time.sleep(0.1)


SUBMIT = (
    *("--source", "prod-vcenter"),
    *("--target-project", "infra"),
    *("--flavor", "m1.xlarge"),
    *("--volume-type", "ssd"),
    *("--network-map", "VM Network=internal-net"),
)


class Background:
    """A Temporal server, with a worker or without one, on a thread of its own: tests block as an operator does."""

    def __init__(self, place: Place | None, *, prepared: bool = True) -> None:
        self.place = place
        self.prepared = prepared
        self.address = ""
        self.failure: BaseException | None = None
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="temporal")

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.failure = error
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(find_program("temporal")),
            data_converter=pydantic_data_converter,
            search_attributes=list(SEARCH_ATTRIBUTES) if self.prepared else [],
            dev_server_log_level="error",
        ) as server:
            self.address = server.client.service_client.config.target_host
            if self.place is None:
                self._up.set()
                await self._stop.wait()
                return
            activities = self.place.activities()
            async with (
                Worker(
                    server.client,
                    task_queue=TASK_QUEUE,
                    workflows=[
                        WarmMigrationWorkflow,
                        RehearsalWorkflow,
                        ListSourcesWorkflow,
                        CheckSourceWorkflow,
                        CheckTargetWorkflow,
                        ListTargetsWorkflow,
                        ListVmsWorkflow,
                        CheckCutoverWorkflow,
                        CheckMigrationWorkflow,
                        CheckEvidenceWorkflow,
                        PreflightWorkflow,
                        ConversionLogWorkflow,
                    ],
                    activities=activities,
                ),
                Worker(server.client, task_queue=DATA_QUEUE, activities=activities),
                Worker(server.client, task_queue=CONVERSION_QUEUE, activities=activities),
                Worker(server.client, task_queue=LOOK_QUEUE, activities=activities),
            ):
                self._up.set()
                await self._stop.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait(30)
        if self.failure:
            raise self.failure
        return self

    def __exit__(self, *reason: object) -> None:
        if self.place is not None:
            self.place.streams_go_on.set()
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    place = Place()
    with Background(place) as running:
        yield House(running.address, tmp_path, place)


@pytest.fixture
def without_worker(tmp_path: Path) -> Iterator[Terminal]:
    with Background(None) as running:
        yield Terminal(running.address, tmp_path)


@pytest.fixture
def unprepared(tmp_path: Path) -> Iterator[Terminal]:
    with Background(None, prepared=False) as running:
        yield Terminal(running.address, tmp_path)


@pytest.fixture
def without_server(tmp_path: Path) -> Terminal:
    return Terminal("127.0.0.1:1", tmp_path)
