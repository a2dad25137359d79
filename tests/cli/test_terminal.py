"""What an operator sees at a terminal: a real pseudo-terminal, read by a terminal emulator."""

from __future__ import annotations

import time
from collections.abc import Callable

import pexpect
import pyte
import pytest

from tests.cli.conftest import House

JOB = "warm-prod-vcenter-db-prod-01"


class Picture:
    """The screen of a terminal in which a command runs."""

    def __init__(self, child: pexpect.spawn[str], columns: int, lines: int) -> None:
        self.child = child
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)
        self.raw = ""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def shows(self, *words: str, seconds: float = 20.0) -> bool:
        return self._until(lambda: all(word in self.text for word in words), seconds)

    def ends(self, seconds: float = 20.0) -> int | None:
        self._until(lambda: False, seconds)
        self.child.close()
        return self.child.exitstatus

    def _until(self, seen: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not seen():
            if time.monotonic() > deadline:
                return False
            try:
                part = self.child.read_nonblocking(65536, timeout=0.2)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return seen()
            self.raw += part
            self.stream.feed(part)
        return True


def picture(house: House, *arguments: str, columns: int = 80, lines: int = 24) -> Picture:
    return Picture(house.at_a_terminal(*arguments, columns=columns, lines=lines), columns, lines)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 100])
def test_watch_draws_a_running_sync_until_it_is_ready(house: House, columns: int) -> None:
    house.place.streams_go_on.clear()
    house.submit()
    watched = picture(house, "migration", "watch", JOB, "--until", "ready", columns=columns)
    assert watched.shows(
        "db-prod-01: prod-vcenter -> infra",
        "Full Sync 50 %",
        "Lag",
        "Hard disk 1  [####################....................]  50 %",
        "read 2 MiB of 4 MiB, written 1 MiB, 64 KiB/s, ETA 32s",
        "all disks",
    ), watched.text
    house.place.streams_go_on.set()
    assert watched.shows("Ready, since", "Bytes (Full)", "8 MiB"), watched.text
    assert watched.ends() == 0
    assert watched.text.count("Last Sync") == 1


@pytest.mark.slow
def test_ctrl_c_ends_a_watch_quietly_and_gives_the_cursor_back(house: House) -> None:
    job = house.a_ready_job()
    watched = picture(house, "migration", "watch", job)
    assert watched.shows("Ready, since")
    watched.child.sendintr()
    assert watched.ends() == 130
    assert "error" not in watched.text
    assert watched.raw.rindex("\x1b[?25h") > watched.raw.rindex("\x1b[?25l")


@pytest.mark.slow
def test_cutover_and_abandon_ask_first_and_no_is_no(house: House) -> None:
    job = house.a_ready_job()
    cutover = picture(house, "migration", "cutover", job)
    assert cutover.shows("Shut db-prod-01 down and run it as db-prod-01 on the target? [y/N]:"), cutover.text
    cutover.child.sendline("n")
    assert cutover.ends() == 3
    assert "nothing was changed" in cutover.text
    abandon = picture(house, "migration", "abandon", job, "--delete-volumes")
    assert abandon.shows("volume-2000  Hard disk 1, 4 MiB", "volume-2001", "DELETE these 2 volumes? [y/N]:"), (
        abandon.text
    )
    abandon.child.sendline("y")
    assert abandon.ends() == 0
    house.eventually(lambda: not house.place.volumes)


@pytest.mark.slow
def test_colours_mean_the_phase_and_vanish_where_they_are_not_wanted(house: House) -> None:
    house.a_ready_job()
    coloured = picture(house, "migration", "list")
    assert coloured.shows("Ready")
    assert coloured.ends() == 0
    assert "\x1b[32mReady" in coloured.raw
    house.environment["NO_COLOR"] = "1"
    plain = picture(house, "migration", "list")
    assert plain.shows("Ready")
    assert plain.ends() == 0
    assert "\x1b[32m" not in plain.raw
