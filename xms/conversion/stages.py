"""How far a conversion is, in words: from what virt-v2v writes for programs, line by line while it runs.

virt-v2v-in-place 2.2 tells its stages as JSON lines and no share of them, since it copies nothing. Lines of a share
('45/100', as newer versions and nbdcopy write them) are taken where they come.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xms.cutover import ConversionProgress
from xms.models import Model
from xms.pulse import Pulse

WORDS: Final = (
    ("Setting up the source", "opening the disks"),
    ("Opening the source", "starting the conversion's appliance"),
    ("Inspecting the source", "looking for operating systems"),
    ("Checking for sufficient free disk space", "checking the guest's free space"),
    ("Converting ", "installing drivers in the guest"),
    ("Mapping filesystem data", "trimming the guest's file systems"),
    ("Checking if the guest needs", "looking for its firmware"),
    ("Assigning disks to buses", "assigning disks to buses"),
    ("Closing the overlay", "closing the disks"),
)
"""What virt-v2v announces before it does it, and how it is shown."""

SHARE: Final = re.compile(r"(\d{1,3})(?:\.\d+)?/100")


class Stages:
    """A conversion's pulse, which tells with every beat how far it is.

    Args:
        pulse: the activity's.
        worker_queue: the task queue of this worker, where the log of the conversion can be asked for.
    """

    def __init__(self, pulse: Pulse, worker_queue: str = "") -> None:
        self._pulse = pulse
        self._worker_queue = worker_queue
        self._began = time.monotonic()
        self._stage = ""
        self._percent: float | None = None

    def enter(self, stage: str, percent: float | None = None) -> None:
        """Go on to a stage; it is shown with the next beat."""
        self._stage, self._percent = stage, percent

    def show(self, detail: Model | None = None) -> None:
        """Beat. This is the pulse of whatever runs in the stage.

        Raises:
            Interrupted: as the pulse says.
        """
        del detail
        self._pulse(
            ConversionProgress(
                stage=self._stage,
                percent=self._percent,
                seconds=round(time.monotonic() - self._began, 1),
                worker_queue=self._worker_queue,
            )
        )

    @contextmanager
    def beating_with(self, wrap: Callable[[Pulse], Pulse]) -> Iterator[None]:
        """Do something more with each beat meanwhile."""
        before = self._pulse
        self._pulse = wrap(before)
        try:
            yield
        finally:
            self._pulse = before

    def of_virt_v2v(self, machine_readable: Path) -> Pulse:
        """A pulse that goes on to each stage that virt-v2v announces in the file."""
        position = 0

        def pulse(detail: Model | None = None) -> None:
            nonlocal position
            if machine_readable.exists():
                with machine_readable.open("rb") as file:
                    file.seek(position)
                    news = file.read()
                # A line that is not whole yet is read again the next time.
                whole = news[: news.rfind(b"\n") + 1]
                position += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    self._heed(line)
            self.show(detail)

        return pulse

    def _heed(self, line: str) -> None:
        if share := SHARE.fullmatch(line.strip()):
            self._percent = min(100.0, float(share[1]))
            return
        try:
            said = json.loads(line)
        except ValueError:
            return
        if isinstance(said, dict) and said.get("type") == "message":
            told = str(said.get("message", ""))
            self.enter(next((words for begins, words in WORDS if told.startswith(begins)), told))
