"""What is mounted on this machine, by the kernel's table: a dead mount is not touched, since it may answer no call."""

from __future__ import annotations

import re
from pathlib import Path


def mounted_below(directory: Path) -> list[Path]:
    """The mount points below a directory, the latest first."""
    own = f"{directory.resolve()}/"
    return [Path(point) for point in reversed(_points()) if point.startswith(own)]


def is_mounted(path: Path) -> bool:
    """Whether something is mounted exactly there."""
    return str(path.parent.resolve() / path.name) in _points()


def _points() -> list[str]:
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as mounts:
        # Spaces and the like are written as octal numbers (proc(5)).
        return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[4]) for line in mounts]
