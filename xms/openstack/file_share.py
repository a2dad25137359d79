"""Shares of files, NFS above all: os-brick mounts them and leaves them mounted; the last user takes them away.

A share is mounted once a worker's data directory. Who uses it holds a shared lock on a file beside it, which the kernel
gives back for a process that dies; who leaves and gets the lock for itself alone was the last.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xms.openstack.mounts import mounted_below

log = logging.getLogger(__name__)

UNMOUNT_SECONDS: Final = 60.0


class FileShares:
    """The shares that are mounted below a directory. Processes with the same directory agree about them."""

    def __init__(self, mounts: Path) -> None:
        self._mounts = mounts

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Use a share that gets mounted within; what is mounted here is unmounted when nobody uses any of them."""
        self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._mounts / "users").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield
            finally:
                self._leave(users.fileno())

    @contextlib.contextmanager
    def mounting(self) -> Iterator[None]:
        """One process at a time looks what is mounted and mounts: os-brick would mount a share twice else."""
        with (self._mounts / "mounting").open("a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def _leave(self, users: int) -> None:
        # Given back first: two that leave together, and try to turn their shared locks into exclusive ones, would both
        # be refused, and nobody would unmount.
        fcntl.flock(users, fcntl.LOCK_UN)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for point in mounted_below(self._mounts):
            try:
                subprocess.run(
                    ["umount", str(point)],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=UNMOUNT_SECONDS,
                )
                point.rmdir()
            except subprocess.CalledProcessError as error:
                log.warning("the share at %s stays mounted: %s", point, error.stderr.strip())
            except (subprocess.TimeoutExpired, OSError) as error:
                log.warning("the share at %s stays mounted: %s", point, error)
