"""The tables of docs/cutover-faults.md, out of what the runs observed: python -m tests.cutover_faults.page [FAULT ...]

It plays every case, writes down what came of each (observed.json), and writes the part of the page between its two
marks anew. With names it plays those faults alone, and believes what was written down of the others.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.cutover_faults.cases import Case, Fault, Outcome, Rest, by_heading, load, save
from tests.cutover_faults.play import all_places, play_all
from tests.workflows.conftest import program
from workflows.names import SEARCH_ATTRIBUTES

PAGE: Final = Path(__file__).parents[2] / "docs" / "cutover-faults.md"
BEGIN: Final = "<!-- from here on written by: python -m tests.cutover_faults.page -->"
END: Final = "<!-- up to here -->"

HEAD: Final = "| what happens | job | source | target | replica |"
RULE: Final = "|---|---|---|---|---|"


def section(outcomes: Sequence[Outcome]) -> str:
    """The part of the page that the runs make."""
    lines = [BEGIN, "", "| what happens | which is |", "|---|---|"]
    lines += [f"| {fault.title} | {fault.meaning} |" for fault in Fault]
    for heading, seen in by_heading(outcomes):
        lines += ["", f"## {heading}", "", HEAD, RULE, *_rows(seen)]
    return "\n".join([*lines, "", END])


def _rows(seen: Sequence[Outcome]) -> Iterator[str]:
    """A line an outcome; calls to which the same may happen share their words."""
    rests = dict.fromkeys(outcome.rests for outcome in seen)
    for each in rests:
        alike = [outcome.case for outcome in seen if outcome.rests == each]
        yield f"| {'<br>'.join(_told(alike))} | {' | '.join(_columns(each))} |"


def _told(cases: Sequence[Case]) -> Iterator[str]:
    faults: dict[str, list[str]] = {}
    for case in cases:
        faults.setdefault(case.place.call, []).append(case.fault.title)
    calls: dict[str, list[str]] = {}
    for call, titles in faults.items():
        calls.setdefault(", ".join(titles), []).append(f"`{call}`")
    for told, names in calls.items():
        yield f"{', '.join(names)}: {told}"


def _columns(rests: Sequence[Rest]) -> Iterator[str]:
    for column in ("job", "source", "target", "replica"):
        words = [str(getattr(rest, column)) for rest in rests]
        if column == "job" and len(rests) > 1:
            yield f"{words[0]}; after `retry` {words[1]}"
        elif len(set(words)) > 1:
            yield f"{words[0]}; then {words[1]}"
        else:
            yield words[0]


def section_of_page() -> str:
    """The part as it stands in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


async def observe(faults: Sequence[Fault]) -> None:
    """Play cases of these faults at every call, and write down what came of them.

    Raises:
        AssertionError: a promise of the cutover was broken; of that fault nothing is written down.
    """
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=program("temporal"),
        data_converter=pydantic_data_converter,
        search_attributes=list(SEARCH_ATTRIBUTES),
        dev_server_log_level="never",
    ) as environment:
        places = await all_places(environment.client)
        for fault in faults:
            print(fault.title, flush=True)  # noqa: T201 - it takes minutes
            outcomes, broken = await play_all(environment.client, [Case(place, fault) for place in places])
            if broken:
                raise AssertionError("\n".join(broken))
            known = [outcome for outcome in load() if outcome.case.fault is not fault and outcome.case.place in places]
            order = [Case(place, each) for place in places for each in Fault]
            save(sorted([*known, *outcomes], key=lambda outcome: order.index(outcome.case)))


def write(faults: Sequence[Fault]) -> None:
    """Put what is seen today into the page."""
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)  # hundreds of calls fail here
    asyncio.run(observe(faults))
    PAGE.write_text(PAGE.read_text().replace(section_of_page(), section(load())))


if __name__ == "__main__":
    write([Fault[name] for name in sys.argv[1:]] or list(Fault))
