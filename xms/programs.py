"""Programs that run for long: started so that they never outlive the work that needs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from xms.errors import ProgramMissing
from xms.pulse import Pulse

LOOK_EVERY_SECONDS: Final = 0.5
MERCY_SECONDS: Final = 10.0
"""Time for a program to end on SIGTERM: libguestfs takes its appliance and its files with it."""

# What a program needs of the worker's environment. The rest may hold credentials, which a verbose log would keep.
PASSED_ON: Final = ("PATH", "HOME", "LD_LIBRARY_PATH")


class TookTooLong(Exception):
    """The program was ended because its time was over."""


def run(
    argv: Sequence[str], *, output: Path, pulse: Pulse, timeout: float, environment: Mapping[str, str] | None = None
) -> int:
    """Run a program to its end, both of its outputs into the file `output`, and give its exit status.

    Its whole process group is ended with it, when the pulse raises or `timeout` seconds are over, and by the kernel
    when this worker is killed: a conversion that nobody waits for must not go on taking memory.

    Returns:
        The exit status; negative is the signal that ended it.

    Raises:
        ProgramMissing: there is no such program.
        TookTooLong: after `timeout` seconds.
    """
    for name in (argv[0], "setpriv"):
        if shutil.which(name) is None:
            raise ProgramMissing(f"the program {name} is missing", do="install it on this worker (see README)")
    end = time.monotonic() + timeout
    with output.open("wb") as file:
        process = subprocess.Popen(
            tied_to(os.getpid(), argv),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ}
            | {"LANG": "C.UTF-8"}
            | dict(environment or {}),
        )
        try:
            while not _ends_within(process, LOOK_EVERY_SECONDS):
                pulse()
                if time.monotonic() > end:
                    raise TookTooLong
        finally:
            status = _end(process)
    return status


def tied_to(worker: int, argv: Sequence[str]) -> list[str]:
    """The command line under which a program ends with the process `worker` that starts it.

    setpriv asks the kernel for the signal (prctl(2), PR_SET_PDEATHSIG); it comes at the end of the starting thread,
    which waits for the program. A worker that was killed before that call would leave an orphan that nobody ends: so
    the shell then looks whether its parent is still the worker, and only then becomes the program.
    """
    still_there = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", still_there, str(worker), *argv]


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the program's end, and leave it unreaped: so its number, which is its group's, is nobody else's."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, process.pid, look) is None:
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the group of a program, with mercy for one that still runs, then without for whatever it left.

    One that was killed leaves its helpers: virt-v2v its qemu-nbd and its appliance.
    """
    if not _ends_within(process, 0):
        os.killpg(process.pid, signal.SIGTERM)
        _ends_within(process, MERCY_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
