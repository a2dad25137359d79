"""The process that copies with the product's engine, or with the loop that it is compared with.

Temporal's worker runs for weeks, so the start of Python and its imports are not part of a copy: the process says when
it is ready, and is measured from the order to its answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import nbd
from pydantic import BaseModel

from bench.cost import Cost, cost_of_calls
from bench.errors import CannotMeasure
from xms.change_map import ByteRanges
from xms.engine.copy import copy_ranges
from xms.errors import LeaseLost
from xms.models import DiskProgress, Model

SERIAL_REQUEST: Final = 1 << 20
QUESTION: Final = 1 << 30
STATE_ZERO: Final = 2


class Order(BaseModel):
    """What to copy, and how."""

    by: Literal["engine", "serial"]
    uri: str
    path: str
    capacity: int
    plan: str
    """as `ByteRanges.encode` gives it, which is how it reaches a worker"""
    is_new: bool
    repetitions: int


def cost_of_copy(order: Order) -> Cost:
    """Copy in a process of its own; the wall time is that of one repetition, and so is the CPU.

    Raises:
        CannotMeasure: it failed; what it said is on the standard error.
    """
    command = [sys.executable, "-m", "bench.copier"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            used, wall = _conversation(process, order)
        except BaseException:
            process.kill()
            raise
    return used.model_copy(update={"wall": wall / order.repetitions})


def _conversation(process: subprocess.Popen[str], order: Order) -> tuple[Cost, float]:
    if process.stdin is None or process.stdout is None:
        raise CannotMeasure("a process without pipes")
    if process.stdout.readline() != "ready\n":
        raise CannotMeasure("the copying process did not start")
    started = time.monotonic()
    process.stdin.write(order.model_dump_json() + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    wall = time.monotonic() - started
    if not answer:
        raise CannotMeasure(f"the copy by {order.by} failed; what it said is above")
    return Cost.model_validate_json(answer), wall


# --- in the process ---------------------------------------------------------------------------------------------------


class LeaseInMind:
    """What the product's claim asks itself before each write, without the cloud that renews it."""

    seconds: Final = 60.0

    def __init__(self) -> None:
        self._renewed = time.monotonic()

    def check(self) -> None:
        """Refuse when the last renewal is too old."""
        if time.monotonic() - self._renewed > self.seconds:
            raise LeaseLost("the engine did not renew it")

    def renew(self) -> None:
        """Reckon from now."""
        self._renewed = time.monotonic()


class HeartbeatInMind:
    """What an activity's pulse does: looks whether it has to stop, and makes a payload twice a second."""

    every_seconds: Final = 0.5

    def __init__(self) -> None:
        self._next = 0.0
        self.payload = ""

    def __call__(self, detail: Model | None = None) -> None:
        """Keep the newest detail as the text that it would be sent as."""
        now = time.monotonic()
        if detail is not None and now >= self._next:
            self._next = now + self.every_seconds
            self.payload = detail.model_dump_json()


def by_engine(order: Order) -> None:
    """Copy as the activity does."""
    plan = ByteRanges.decode(order.plan)
    result = copy_ranges(
        uri=order.uri,
        path=order.path,
        capacity=order.capacity,
        ranges=plan,
        start_at=0,
        skip_zeroes=order.is_new,
        guard=LeaseInMind(),
        pulse=HeartbeatInMind(),
        report=DiskProgress(disk_key=2000, planned=plan.total, worker="bench"),
        give_up_at=None,
        verify=False,
    )
    if result.remaining:
        raise CannotMeasure(f"the engine left {result.remaining} out: {result.cut_short}")


def by_serial_loop(order: Order) -> None:
    """Copy with one request after the other, as several migration tools do with a delta; one flush at the end."""
    handle = nbd.NBD()
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(order.uri)
    fd = os.open(order.path, os.O_WRONLY | os.O_CLOEXEC)
    for offset, length in ByteRanges.decode(order.plan):
        for start, size in allocated(handle, offset, length) if order.is_new else [(offset, length)]:
            for at in range(start, start + size, SERIAL_REQUEST):
                os.pwrite(fd, handle.pread(min(SERIAL_REQUEST, start + size - at), at), at)
    os.fsync(fd)
    os.close(fd)
    handle.shutdown()


def allocated(handle: Any, offset: int, length: int) -> Iterator[tuple[int, int]]:  # noqa: ANN401 - libnbd has no types
    """The parts that do not read as zeroes."""
    end = offset + length
    while offset < end:
        told: list[int] = []
        handle.block_status(min(QUESTION, end - offset), offset, partial(_collect, told))
        for size, flags in zip(told[0::2], told[1::2], strict=True):
            size = min(size, end - offset)  # noqa: PLW2901 - an answer may reach behind the question
            if size and not flags & STATE_ZERO:
                yield offset, size
            offset += size


def _collect(told: list[int], _context: str, _offset: int, entries: list[int], _error: object) -> int:
    told.extend(entries)
    return 0


def main() -> None:
    """Say that the imports are done, take one order, answer with its cost."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    order = Order.model_validate_json(sys.stdin.readline())
    copy = by_engine if order.by == "engine" else by_serial_loop
    sys.stdout.write(cost_of_calls(lambda: copy(order), order.repetitions).model_dump_json() + "\n")


if __name__ == "__main__":
    main()
