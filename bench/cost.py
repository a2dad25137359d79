"""What a piece of work cost."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bench.errors import CannotMeasure


class Cost(BaseModel):
    """Seconds of time and of CPU. The kernel's own threads, which write pages back, are in nobody's account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall: float = Field(description="from the order to the flushed end")
    user: float = Field(description="CPU of the copying process")
    system: float = Field(description="the same, within the kernel")
    server: float = Field(default=0.0, description="CPU of all nbdkit servers, user and system")
    memory: int = Field(default=0, description="most bytes resident in the copying process; 0: not measured")

    @property
    def cpu(self) -> float:
        """Seconds of CPU of all processes."""
        return self.user + self.system + self.server


def cost_of(*commands: Sequence[str | Path]) -> Cost:
    """Run programs one after another, and measure them from the first one's start to the last one's end.

    Raises:
        CannotMeasure: one is missing, or failed.
    """
    user = system = 0.0
    started = time.monotonic()
    for command in commands:
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            raise CannotMeasure(f"{command[0]} is not installed") from None
        used = _ended(process)
        if process.returncode:
            raise CannotMeasure(f"{' '.join(map(str, command))} ended with {process.returncode}")
        user += used[0]
        system += used[1]
    return Cost(wall=time.monotonic() - started, user=user, system=system)


def cost_of_calls(call: Callable[[], object], repetitions: int) -> Cost:
    """Call something in this process, and measure what one call takes."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    for _ in range(repetitions):
        call()
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(
        wall=wall / repetitions,
        user=(after.ru_utime - before.ru_utime) / repetitions,
        system=(after.ru_stime - before.ru_stime) / repetitions,
        memory=most_resident_bytes(),
    )


def most_resident_bytes() -> int:
    """The most memory that this program had resident.

    Not `ru_maxrss`: that is passed on through fork and exec, so it would be the larger one of this and the parent's.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise CannotMeasure("/proc/self/status has no VmHWM")


def cpu_at_the_end_of(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a process; its seconds of CPU, user and system."""
    return sum(_ended(process))


def _ended(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime, used.ru_stime
