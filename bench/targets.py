"""What is copied to: a fresh file, or a loop device over one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.disks import Disk
from bench.errors import CannotMeasure

DIRECT_IO: Final = {"block": "off", "block-direct": "on"}
"""Kinds of loop devices, and losetup's word for each. As losetup makes it by itself, what is written to one goes to
the page cache of its file, and a flush has all of it to write; with direct I/O it goes past that, as with storage's."""


@contextmanager
def fresh_target(disk: Disk, directory: Path) -> Iterator[Path]:
    """A file as the replica is before the copy, with nothing of it or of an earlier one on its way to the disk."""
    path = directory / f"target-{os.getpid()}.img"
    try:
        disk.make_target(path)
        os.sync()
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def loop_device(file: Path, kind: str) -> Iterator[Path]:
    """A block device over `file`, of a kind that `DIRECT_IO` names.

    Raises:
        CannotMeasure: this machine does not give one.
    """
    command = ["losetup", "--find", "--show", f"--direct-io={DIRECT_IO[kind]}", str(file)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotMeasure("losetup is not installed") from None
    if made.returncode:
        raise CannotMeasure(made.stderr.strip())
    device = Path(made.stdout.strip())
    try:
        if not os.access(device, os.R_OK | os.W_OK):
            raise CannotMeasure(f"{device} cannot be opened")
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def why_no_loop_device(directory: Path, kind: str) -> str:
    """Why this machine gives no loop devices of the kind over files of the directory; empty where it does."""
    file = directory / f"probe-{os.getpid()}.img"
    file.write_bytes(bytes(1 << 20))
    try:
        with loop_device(file, kind) as device:
            device.open("rb").close()
    except (CannotMeasure, OSError) as error:
        return str(error)
    finally:
        file.unlink()
    return ""
