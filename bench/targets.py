"""What is copied to: a fresh file, or a loop device over one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.disks import Disk
from bench.errors import CannotMeasure


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
def loop_device(file: Path, *, direct: bool = False) -> Iterator[Path]:
    """A block device over `file`.

    Args:
        file: what it is made of.
        direct: writes go past the page cache of the file, as they do to a volume that storage gives. As `losetup` makes
            it, they go to memory, and a flush has all of them to write.

    Raises:
        CannotMeasure: this machine does not give one.
    """
    command = ["losetup", "--find", "--show", f"--direct-io={'on' if direct else 'off'}", str(file)]
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


def why_no_loop_device(directory: Path, *, direct: bool = False) -> str:
    """Why this machine gives no loop devices over files of the directory; empty where it does."""
    file = directory / f"probe-{os.getpid()}.img"
    file.write_bytes(bytes(1 << 20))
    try:
        with loop_device(file, direct=direct) as device:
            device.open("rb").close()
    except (CannotMeasure, OSError) as error:
        return str(error)
    finally:
        file.unlink()
    return ""
