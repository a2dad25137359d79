"""Waiting for what vSphere does in the background."""

from __future__ import annotations

import time
from typing import Any

from xms.pulse import Pulse
from xms.vsphere.bindings import vmodl
from xms.vsphere.properties import read, read_all
from xms.vsphere.session import VsphereSession

FIRST_POLL_SECONDS = 0.05
SLOWEST_POLL_SECONDS = 1.0


def wait_for_task(session: VsphereSession, task: Any, *, pulse: Pulse) -> Any:  # noqa: ANN401 - pyVmomi's
    """Wait until a task has ended, however long it takes (a consolidation may take hours), and return its result.

    Raises:
        vmodl.MethodFault: the task failed; it is the task's own fault.
        Interrupted: from `pulse`. The task goes on; `wait_for_other_tasks` finds it again.
    """
    pause = FIRST_POLL_SECONDS
    while True:
        info = read(session, task, ["info"])["info"]
        if info.state == "success":
            return info.result
        if info.state == "error":
            raise info.error
        pulse()
        time.sleep(pause)
        pause = min(pause * 1.5, SLOWEST_POLL_SECONDS)


def wait_for_other_tasks(session: VsphereSession, vm: Any, *, pulse: Pulse) -> None:  # noqa: ANN401 - pyVmomi's
    """Wait until no task runs on the VM.

    An earlier attempt may have died while its task ran, and vSphere refuses a second one beside it (TaskInProgress).
    Whether those tasks succeeded is not asked: what they left is looked at afterwards.

    Raises:
        Interrupted: from `pulse`.
    """
    for task in _recent(session, vm):
        try:
            wait_for_task(session, task, pulse=pulse)
        except vmodl.MethodFault:
            # Either the task ended long enough ago to be forgotten, or it failed: in both cases it runs no more.
            continue


def _recent(session: VsphereSession, vm: Any) -> list[Any]:  # noqa: ANN401 - pyVmomi's
    """The VM's tasks that had not ended when they were looked at; all of its recent ones where that cannot be told."""
    tasks = read(session, vm, ["recentTask"]).get("recentTask", [])
    try:
        found = list(read_all(session, tasks, ["info.state"]))
    except vmodl.fault.ManagedObjectNotFound:
        return list(tasks)
    return [task for task, properties in found if properties.get("info.state") in ("running", "queued")]
