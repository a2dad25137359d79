"""What may happen to a call of the itinerary, where it happens, and what a job was seen to come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, Final

OBSERVED: Final = Path(__file__).with_name("observed.json")
"""What `python -m tests.cutover_faults.page` saw; the tests see whether it is still so."""


class Fault(Enum):
    """Something that happens to a call: its name on the page, and what is done."""

    REFUSED = ("is refused", "The call fails, and trying again is of no use.")
    PASSING = ("fails once", "The call fails, and works when it is tried again.")
    PERSISTING = ("fails on and on", "Every try of the call fails, until its policy gives up.")
    HANGS_ONCE = (
        "hangs once",
        "The worker lives, and the answer never comes. The call's time runs out; the next try works.",
    )
    HANGS = ("hangs", "The same at every try, until the policy gives up.")
    KILLED_BEFORE = ("killed before", "The worker dies (kill -9) before it did anything; another one takes over.")
    KILLED_AFTER = (
        "killed after",
        "The worker dies after all is done, so that nobody hears of it; another one takes over.",
    )
    RESTARTED = (
        "workers restarted",
        "All workers end in the middle of the call. New ones know the job by its history alone.",
    )
    ABANDONED = ("abandon", "An operator orders `abandon` while the call runs, which is answered all the same.")
    CANCELLED = (
        "cancel",
        "Somebody cancels the workflow itself, in Temporal, while the call runs, which is answered all the same.",
    )

    def __init__(self, title: str, meaning: str) -> None:
        self.title = title
        self.meaning = meaning

    @property
    def at_every_try(self) -> bool:
        """Whether it happens again when the call is tried again."""
        return self in {Fault.PERSISTING, Fault.HANGS}


@dataclass(frozen=True)
class Place:
    """A call of the itinerary.

    Attributes:
        step: by its name in the itinerary.
        undoing: whether the step is being undone.
        call: the activity's name.
    """

    step: str
    undoing: bool
    call: str

    @property
    def heading(self) -> str:
        """The step, or its undo, for people."""
        return f"Undo of {self.step}" if self.undoing else self.step


@dataclass(frozen=True)
class Case:
    """One fault at one place."""

    place: Place
    fault: Fault

    def __str__(self) -> str:
        """For a message."""
        return f"{self.place.heading}, {self.place.call} {self.fault.title}"


@dataclass(frozen=True)
class Rest:
    """Where a job stands when nothing goes on by itself any more.

    Attributes:
        job: its phase.
        source: "runs" or "off".
        target: "runs", "ports" or "nothing".
        replica: what became of the volumes.
    """

    job: str
    source: str
    target: str
    replica: str


@dataclass(frozen=True)
class Outcome:
    """What a case came to.

    Attributes:
        rests: where the job came to rest; a second one is that after a `retry`, where the first was Failed.
    """

    case: Case
    rests: tuple[Rest, ...]


def load() -> tuple[Outcome, ...]:
    """What was seen."""
    return tuple(_outcome(line) for line in json.loads(OBSERVED.read_text())) if OBSERVED.exists() else ()


def save(outcomes: Iterable[Outcome]) -> None:
    """Keep what was seen, a line a case."""
    lines = [json.dumps(_line(outcome)) for outcome in outcomes]
    OBSERVED.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def places(outcomes: Iterable[Outcome]) -> list[Place]:
    """Of what was seen, each once."""
    return list(dict.fromkeys(outcome.case.place for outcome in outcomes))


def by_heading(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    """What was seen at each step, and at each undo."""
    for heading, group in groupby(outcomes, key=lambda outcome: outcome.case.place.heading):
        yield heading, list(group)


def _line(outcome: Outcome) -> dict[str, Any]:
    rests = [asdict(rest) for rest in outcome.rests]
    return {**asdict(outcome.case.place), "fault": outcome.case.fault.name, "rests": rests}


def _outcome(line: dict[str, Any]) -> Outcome:
    place = Place(step=line["step"], undoing=line["undoing"], call=line["call"])
    return Outcome(Case(place, Fault[line["fault"]]), tuple(Rest(**rest) for rest in line["rests"]))
