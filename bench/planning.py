"""What it costs to plan with many extents: build a change map, unite it with another, encode it, decode it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.cost import Cost, cost_of_calls
from bench.errors import CannotMeasure
from bench.sizes import KIB, MIB
from xms.change_map import ByteRanges

LEAST_EXTENTS: Final = 100_000
"""Fewer are planned several times, until it is so many: a thousand alone are over in a moment."""


def cost_of_planning(extents: int) -> Cost:
    """Plan in a process of its own.

    Raises:
        CannotMeasure: it failed; what it said is on the standard error.
    """
    command = [sys.executable, "-m", "bench.planning", str(extents)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"planning with {extents} extents failed; what it said is above")
    return Cost.model_validate_json(done.stdout)


def areas(extents: int, seed: int) -> Iterator[tuple[int, int]]:
    """Changed areas as a source tells them: ascending, irregular, one at a time."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    for number in range(extents):
        yield number * MIB + chance.randrange(8) * 64 * KIB, chance.randrange(1, 9) * 64 * KIB


def plan(extents: int) -> None:
    """What is done between the source's answer and the first read."""
    changed = ByteRanges(areas(extents, seed=1))
    unseeded = ByteRanges(areas(extents, seed=2))
    decoded = ByteRanges.decode((unseeded | changed).encode())
    if changed - decoded:
        raise CannotMeasure("the decoded plan lacks changed areas")


def main(extents: int) -> None:
    """Print the cost of one planning."""
    repetitions = max(1, LEAST_EXTENTS // extents)
    sys.stdout.write(cost_of_calls(lambda: plan(extents), repetitions).model_dump_json() + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
