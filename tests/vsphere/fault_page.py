"""The tables of docs/vsphere-faults.md, out of the cases that the tests run: python -m tests.vsphere.fault_page

It writes the part of the page between its two marks anew, and leaves the rest as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.vsphere.fault_cases import CASES, Case, Outcome

PAGE: Final = Path(__file__).parents[2] / "docs" / "vsphere-faults.md"
BEGIN: Final = "<!-- from here on written by: python -m tests.vsphere.fault_page -->"
END: Final = "<!-- up to here -->"

PURPOSE: Final = {
    "QueryChangedDiskAreas": "what changed on a disk since the last sync",
    "CreateSnapshot_Task": "the sync's snapshot, and the one that turns change tracking on",
    "RemoveSnapshot_Task": "the snapshot is removed after the sync, or a leftover before it",
    "ConsolidateVMDisks_Task": "the disks that vSphere says need it, after a removal and before a new snapshot",
    "ReconfigVM_Task": "change tracking is turned on",
    "ShutdownGuest": "the guest is asked to shut down at the cutover",
    "PowerOffVM_Task": "the source is stopped hard, where the guest did not stop",
    "PowerOnVM_Task": "the source runs again after a roll-back",
}

DATA: Final = {
    Outcome.RESEED: "intact as of the last sync, and complete after this one",
    Outcome.WHOLE: "complete after this sync",
    Outcome.UNQUIESCED: "consistent as after a power loss",
    Outcome.HARD: "what the guest had not written to its disks is lost to it, as at any power-off",
}
"""Where no error tells it."""

UNHARMED: Final = "nothing is lost"
NOTHING: Final = "nothing"


def section() -> str:
    """The part of the page that the cases make."""
    lines = [BEGIN, "", "| XMS | which is |", "|---|---|"]
    lines += [f"| {outcome.title} | {outcome.meaning} |" for outcome in Outcome]
    for call, cases in groupby(CASES, key=lambda case: case.call):
        lines += ["", f"## {call}", "", f"Asked for: {PURPOSE[call]}.", ""]
        lines += ["| fault | XMS | for the data | you |", "|---|---|---|---|", *_rows(cases)]
    return "\n".join([*lines, "", END])


def _rows(cases: Iterator[Case]) -> Iterator[str]:
    """Faults that are told in the same words share a line."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for case in cases:
        name = f"`{case.fault}`" + (f", {case.when}" if case.when else "")
        means = case.means or DATA.get(case.outcome, UNHARMED)
        do = (case.do or NOTHING).format(source="the source", vm="the VM")
        told.setdefault((case.outcome.title, means, do), []).append(name)
    for (outcome, means, do), names in told.items():
        yield f"| {'<br>'.join(names)} | {outcome} | {means} | {do} |"


def section_of_page() -> str:
    """The part as it stands in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def write() -> None:
    """Put today's cases into the page."""
    PAGE.write_text(PAGE.read_text().replace(section_of_page(), section()))


if __name__ == "__main__":
    write()
