"""Tasks: work that runs on a thread while its progress can be watched."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from lab.vcenter.switches import FaultSwitches
from lab.vcenter.vocabulary import Data, Reference, identity, now, vim, vmodl

logger = logging.getLogger(__name__)

KEPT = timedelta(minutes=10)
"""How long a finished task can still be asked for (vCenter's recentTask: about ten minutes)."""

_STEP = 0.1


@dataclass
class Task:
    """One task's record; guarded by the lock of `Tasks`."""

    reference: Reference
    method: Any
    description: str
    entity: Reference
    entity_name: str
    user: str
    chain: int
    queued_at: datetime = field(default_factory=now)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    state: str = "queued"
    progress: int | None = None
    result: Data = None
    error: Exception | None = None

    def info(self) -> Data:
        """As the API shows it."""
        return vim.TaskInfo(
            key=identity(self.reference),
            task=self.reference,
            name=self.method,
            descriptionId=self.description,
            entity=self.entity,
            entityName=self.entity_name,
            state=self.state,
            cancelled=False,
            cancelable=False,
            progress=self.progress,
            result=self.result,
            error=self.error,
            reason=vim.TaskReasonUser(userName=self.user),
            queueTime=self.queued_at,
            startTime=self.started_at,
            completeTime=self.completed_at,
            eventChainId=self.chain,
        )


class Tasks:
    """Every task that runs, and those that ended within the last ten minutes.

    An entity has one task at a time: vCenter answers TaskInProgress to the second.
    """

    def __init__(self, switches: FaultSwitches, changed: threading.Condition) -> None:
        self._switches = switches
        self._changed = changed
        self._tasks: dict[str, Task] = {}
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()
        self._sequence = 0

    def start(
        self,
        work: Callable[[], Data],
        *,
        method: Any,  # noqa: ANN401 - a pyVmomi method object
        description: str,
        entity: Reference,
        entity_name: str,
        user: str,
    ) -> Reference:
        """Begin a task; `work` gives its result or raises a fault of the API, which becomes its error.

        Raises:
            vim.fault.TaskInProgress: the entity is busy.
        """
        with self._changed:
            self._forget_old()
            for other in self._tasks.values():
                if identity(other.entity) == identity(entity) and other.completed_at is None:
                    raise vim.fault.TaskInProgress(task=other.reference, msg="Another task is already in progress.")
            self._sequence += 1
            reference = vim.Task(f"task-{self._sequence}", None)
            task = Task(reference, method, description, entity, entity_name, user, self._sequence)
            self._tasks[identity(reference)] = task
            thread = threading.Thread(target=self._run, args=(task, work), name=identity(reference))
            self._threads.add(thread)
        thread.start()
        return reference

    def info(self, reference: Reference) -> Data | None:
        """A task's state; None when it never was, or ended long ago."""
        with self._changed:
            self._forget_old()
            task = self._tasks.get(identity(reference))
            return task.info() if task else None

    def recent(self, entity: Reference | None = None) -> list[Reference]:
        """The tasks that run or ended lately, of one entity or of all, oldest first."""
        with self._changed:
            self._forget_old()
            return [
                task.reference
                for task in self._tasks.values()
                if entity is None or identity(task.entity) == identity(entity)
            ]

    def stop(self) -> None:
        """Wait for what runs; a switched-on delay is cut short."""
        self._stopping.set()
        for thread in list(self._threads):
            thread.join()

    def _run(self, task: Task, work: Callable[[], Data]) -> None:
        with self._changed:
            task.state, task.started_at, task.progress = "running", now(), 0
            self._changed.notify_all()
        try:
            self._delay(task)
            self._finish(task, result=work())
        except vmodl.MethodFault as fault:
            self._finish(task, error=fault)
        except Exception as error:
            logger.exception("task %s (%s) broke", identity(task.reference), task.description)
            self._finish(task, error=vmodl.fault.SystemError(reason=str(error), msg=f"A general system error: {error}"))
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _delay(self, task: Task) -> None:
        waited = 0.0
        while waited < self._switches.task_delay and not self._stopping.wait(_STEP):
            waited += _STEP
            with self._changed:
                task.progress = min(99, int(100 * waited / max(self._switches.task_delay, waited)))
                self._changed.notify_all()

    def _finish(self, task: Task, *, result: Data = None, error: Exception | None = None) -> None:
        with self._changed:
            task.result, task.error, task.completed_at = result, error, now()
            task.progress = task.progress if error else 100
            task.state = "error" if error else "success"
            self._changed.notify_all()

    def _forget_old(self) -> None:
        old = [key for key, task in self._tasks.items() if task.completed_at and now() - task.completed_at > KEPT]
        for key in old:
            del self._tasks[key]
