"""A worker's commit in a process of its own, which can be told to be killed just before one of its steps."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conversion.workshop import Volume, Workshop
from xms.conversion import overlay
from xms.conversion.overlay import Overlay
from xms.conversion.transaction import Conversion

# Everything that the commit does to something that outlives the process.
STEPS: tuple[tuple[Any, str], ...] = (
    (Volume, "write"),
    (os, "fsync"),
    (Path, "rename"),
    (Overlay, "_run"),
    (overlay, "_flush"),
    (shutil, "rmtree"),
    (Conversion, "_remove_overlays"),
)


def killed_before(number: int) -> Callable[[Any, str], None]:
    taken = 0

    def watch(owner: Any, name: str) -> None:  # noqa: ANN401 - a class or a module
        step = getattr(owner, name)

        @functools.wraps(step)
        def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the step takes and gives
            nonlocal taken
            taken += 1
            if taken == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **named)

        setattr(owner, name, counted)

    return watch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--before-step", type=int, default=0)
    told = parser.parse_args()
    watch = killed_before(told.before_step)
    for owner, name in STEPS:
        watch(owner, name)
    Workshop(told.directory).commit()


if __name__ == "__main__":
    main()
