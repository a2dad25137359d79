"""How much memory this worker may still take: the machine's, and what its control groups leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

GROUPS: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")

APPLIANCE: Final = "qemu-system"


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int
    """What could be taken now without anybody swapping or being killed."""

    appliances: int
    """What the conversions of this worker have taken already."""


def memory() -> Memory:
    """As it is now."""
    machine = psutil.virtual_memory()
    limits = list(group_limits())
    return Memory(
        total=min([machine.total, *(limit for limit, _ in limits)]),
        available=max(0, min([machine.available, *(limit - used for limit, used in limits)])),
        appliances=sum(_resident(child) for child in psutil.Process().children(recursive=True)),
    )


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss) if process.name().startswith(APPLIANCE) else 0
    except psutil.Error:
        return 0  # it has ended meanwhile


def group_limits(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that this process is in, and of those around it, where there is a limit.

    What can be given back at once, the cache of files that nobody used lately, counts as not used.
    """
    if not own.exists():
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the host's, which is not seen from inside: the top is its own group then.
        group = top / path.lstrip("/")
        for place in (group, *group.parents):
            if (place / names[0]).exists():
                yield from _limit(place, *names)
            if place == top:
                break


def _limit(place: Path, limit_name: str, used_name: str, cache_name: str) -> Iterator[tuple[int, int]]:
    limit = (place / limit_name).read_text().strip()
    if limit == "max" or not (place / used_name).exists():
        return
    cache = 0
    if (place / "memory.stat").exists():
        figures = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        cache = int(figures.get(cache_name, 0))
    yield int(limit), max(0, int((place / used_name).read_text()) - cache)
