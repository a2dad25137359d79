"""Waiting for what vSphere does in the background."""

from __future__ import annotations

import time
from typing import Any

from xms.pulse import Pulse
from xms.vsphere.bindings import vmodl
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession

FIRST_POLL_SECONDS = 0.05
SLOWEST_POLL_SECONDS = 1.0

SNAPSHOT_WORK = ("snapshot", "consolidate")
"""What the description ids of all tasks have in common that make, remove or consolidate snapshots."""


def wait_for_task(session: VsphereSession, task: Any, *, pulse: Pulse) -> Any:  # noqa: ANN401 - pyVmomi's
    """Wait until a task has ended, however long it takes (a consolidation may take hours), and return its result.

    Raises:
        vmodl.MethodFault: the task failed; it is the task's own fault.
        Interrupted: from `pulse`. The task goes on; `wait_for_snapshot_work` finds it again.
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


def wait_for_snapshot_work(session: VsphereSession, vm: Any, *, pulse: Pulse) -> int:  # noqa: ANN401 - pyVmomi's
    """Wait until no snapshot of the VM is being made, removed or consolidated, and return how many tasks that were.

    An earlier attempt may have died while its task ran, and vSphere refuses or queues a second one beside it. Whether
    those tasks succeeded is not asked: what they left is looked at afterwards.

    Raises:
        Interrupted: from `pulse`.
    """
    waited = 0
    for task in read(session, vm, ["recentTask"]).get("recentTask", []):
        try:
            info = read(session, task, ["info"])["info"]
            is_snapshot_work = any(word in (info.descriptionId or "").lower() for word in SNAPSHOT_WORK)
            if is_snapshot_work and info.state in ("running", "queued"):
                waited += 1
                wait_for_task(session, task, pulse=pulse)
        except vmodl.MethodFault:
            # Either the task ended long enough ago to be forgotten, or it failed: in both cases it runs no more.
            continue
    return waited
