"""Processes in the background: each in a session of its own, with a pid file and a log.

A pid alone may be another process's after a restart of the machine; so the file also has the time at which the process
began, and only who has both is ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lab.openstack.layout import Layout, OpenStackError, environment

LOOK_SECONDS: Final = 0.25
STOP_SECONDS: Final = 12.0
STARTED_AT: Final = 19
"""Place of a process's start time behind its name in /proc/PID/stat (proc(5): field 22)."""


def is_running(layout: Layout, name: str) -> bool:
    """Whether the process that was started under this name lives."""
    return _pid(layout, name) is not None


def start(layout: Layout, name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    """Start a process, unless it runs.

    Raises:
        OpenStackError: there is no such program.
    """
    if is_running(layout, name):
        return
    variables = environment(**(more or {}))
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        raise OpenStackError(f"{name} is not installed: there is no program {command[0]}")
    with layout.log(name).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        outputs = [(os.POSIX_SPAWN_DUP2, log.fileno(), number) for number in (1, 2)]
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0), *outputs]
        # Not by `subprocess`, which wants to be told of the end of a process that outlives this one.
        pid = os.posix_spawn(program, list(command), variables, file_actions=actions, setsid=True)
    _pid_file(layout, name).write_text(f"{pid} {_began(pid)}")


def stop(layout: Layout, name: str) -> None:
    """End a process and all of its session; one that does not run is a success."""
    pid = _pid(layout, name)
    if pid is not None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while _group_lives(pid) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
    _pid_file(layout, name).unlink(missing_ok=True)


def run(layout: Layout, name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and give its output.

    Raises:
        OpenStackError: it failed; what it said is in the log of that name.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment(**(more or {})))
    with layout.log(name).open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise OpenStackError(f"{Path(command[0]).name} failed: {' '.join(last)} (see {layout.log(name)})")
    return done.stdout


def wait_for(layout: Layout, name: str, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until something is ready.

    Raises:
        OpenStackError: it was not in time, or the process of that name ended.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise OpenStackError(f"{name} was not ready after {seconds:.0f} s: see {layout.log(name)}")
        if _pid_file(layout, name).exists() and not is_running(layout, name):
            raise OpenStackError(f"{name} ended: see {layout.log(name)}")
        time.sleep(LOOK_SECONDS)


def listens(port: int) -> bool:
    """Whether somebody takes connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listener(port: int) -> str:
    """Who listens on the port: program and pid, as far as it can be seen."""
    command = ["ss", "-Hltnp", f"sport = {port}"]
    said = subprocess.run(command, check=False, capture_output=True, text=True, env=environment()).stdout
    found = re.search(r'\(\("([^"]+)",pid=(\d+)', said)
    return f"{found[1]} (pid {found[2]})" if found else "another program"


def answers(port: int, path: str = "/") -> bool:
    """Whether an HTTP server answers there, whatever it says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _pid_file(layout: Layout, name: str) -> Path:
    return layout.run / f"{name}.pid"


def _pid(layout: Layout, name: str) -> int | None:
    try:
        pid, began = _pid_file(layout, name).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if began == _began(int(pid)) else None


def _began(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that is gone or a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[STARTED_AT]


def _group_lives(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(group, os.WNOHANG)
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
