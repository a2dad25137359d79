"""nbdkit servers, a new one for every run."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cost import cpu_at_the_end_of
from bench.disks import Disk
from bench.errors import CannotMeasure

START_SECONDS: Final = 20.0


@dataclass
class Server:
    """A running nbdkit."""

    uri: str
    cpu: float = 0.0
    """seconds of its whole life, user and system; known when it has ended"""


@contextmanager
def source_server(disk: Disk, delay_milliseconds: int, *, as_plan: bool = False) -> Iterator[Server]:
    """Serve a source disk.

    Reads alone are delayed, not the answers about extents: the programs differ most in how often they ask for those,
    and to delay them would be to the disadvantage of the others.

    Args:
        disk: the disk.
        delay_milliseconds: latency of each read; reads do not wait for each other.
        as_plan: pretend that nothing but the plan is allocated, for a program that cannot be given a plan.
    """
    filters, parameters = [], []
    if delay_milliseconds:
        # The outermost, as a network is.
        filters.append("--filter=delay")
        parameters.append(f"delay-read={delay_milliseconds}ms")
    if as_plan:
        filters.append("--filter=extentlist")
        parameters.append(f"extentlist={disk.extent_list}")
    with _serving("--readonly", *filters, "file", str(disk.path), *parameters) as server:
        yield server


@contextmanager
def target_server(path: Path) -> Iterator[Server]:
    """Serve a target for writing."""
    with _serving("file", str(path)) as server:
        yield server


@contextmanager
def _serving(*words: str) -> Iterator[Server]:
    # A socket's path is at most 107 characters long, whatever the place of the disks.
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as directory:
        socket = Path(directory) / "socket"
        command = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", str(socket), *words]
        try:
            process = subprocess.Popen(command)
        except FileNotFoundError:
            raise CannotMeasure("nbdkit is not installed") from None
        server = Server(f"nbd+unix:///?socket={socket}")
        try:
            _wait_for(socket, process)
            yield server
        finally:
            process.terminate()
            # One that ended by itself is in no account any more; its client failed then, or it never had one.
            if process.returncode is None:
                server.cpu = cpu_at_the_end_of(process)


def _wait_for(socket: Path, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise CannotMeasure("nbdkit did not start; what it said is above")
        time.sleep(0.005)
