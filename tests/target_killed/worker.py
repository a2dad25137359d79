"""A worker's process that does one step of a job after the other, as its parent orders them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from temporalio.testing import ActivityEnvironment

from activities.rehearsal import RehearsalActivities
from activities.target import TargetActivities
from tests.target_killed.calls import Blow, Calls, Point, watch
from xms.config import Config
from xms.errors import XmsError
from xms.models import Model
from xms.openstack import attachments, host_connection
from xms.openstack.attach_way import attach_way
from xms.openstack.claim import Claim, claim_volumes
from xms.openstack.cloud import connect
from xms.openstack.lease import Holder
from xms.orders.source import Done
from xms.orders.target import VolumesOrder
from xms.pulse import no_pulse

# In the process that all workers are forked from, on its only thread, as a worker does it.
host_connection.load_os_brick()

attachments.wait_available.__kwdefaults__ = {"timeout": 5.0}
"""The stand-in frees a volume at once, where a cloud may take minutes: what is not free by then holds a late call."""


class WriteVolumes(VolumesOrder):
    """Hold the volumes together and write to each, as streams and conversions do.

    Attributes:
        content: of each volume.
    """

    content: tuple[bytes, ...]
    offset: int


@dataclass(frozen=True)
class Step:
    """One activity of a job, and what is to happen during it."""

    name: str
    order: Model
    attempt: int = 1
    blow: Blow | None = None
    at: Point | None = None


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes:
        answer: the activity's, where it has one.
        error: the failure's text, where it failed.
        retryable: whether Temporal would run it again.
    """

    answer: Model | None
    points: tuple[Point, ...]
    struck: bool
    error: str = ""
    retryable: bool = False


WRITE: Final = "write"


def work(config: Config, parent: Connection) -> None:
    """Do what the parent sends, until it hangs up or this process is killed."""
    calls = Calls()
    watch(calls)
    while True:
        try:
            step: Step = parent.recv()
        except EOFError:
            return
        calls.begin(step.blow, step.at)
        answer, error, retryable = None, "", False
        try:
            answer = _do(config, step)
        except XmsError as failure:
            error, retryable = f"{type(failure).__name__}: {failure}", failure.retryable
        if not calls.struck:
            calls.wait_for_late()
        parent.send(Outcome(answer, tuple(calls.points), calls.struck, error, retryable))


def _do(config: Config, step: Step) -> Model:
    if isinstance(step.order, WriteVolumes):
        return write(config, step.order)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=step.attempt)
    provider = next(kind for kind in (TargetActivities, RehearsalActivities) if hasattr(kind, step.name))
    activity: Callable[[Any], Model] = getattr(provider(config), step.name)
    return environment.run(activity, step.order)


def write(config: Config, order: WriteVolumes) -> Done:
    """Write to volumes and flush them."""
    target = config.target_named(order.target.target_name)
    holder = Holder(config.worker.name, config.worker.lease_seconds)
    way = attach_way(target, config.worker)
    with (
        connect(target, order.target.target_project) as cloud,
        claim_volumes(
            cloud, order.volume_ids, job_id=order.target.job_id, holder=holder, pulse=no_pulse, way=way
        ) as claims,
    ):
        for claim, content in zip(claims, order.content, strict=True):
            _write(claim, order.offset, content)
    return Done()


def _write(claim: Claim, offset: int, content: bytes) -> None:
    claim.check()
    with Path(claim.path).open("r+b", buffering=0) as device:
        device.seek(offset)
        device.write(content)
        os.fsync(device.fileno())
