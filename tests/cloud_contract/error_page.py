"""The tables of docs/openstack-errors.md, out of the cases that are played: python -m tests.cloud_contract.error_page

It writes the part of the page between its two marks anew, and leaves the rest as it is.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.cloud_contract.error_cases import ACCEPTED, CASES, Case
from xms.errors import XmsError

PAGE: Final = Path(__file__).parents[2] / "docs" / "openstack-errors.md"
BEGIN: Final = "<!-- from here on written by: python -m tests.cloud_contract.error_page -->"
END: Final = "<!-- up to here -->"

SERVICES: Final = {
    "Cinder, the volumes": {
        "create_volume",
        "set_volume_image_metadata",
        "create_attachment",
        "delete_volume",
        "delete_attachment",
        "wait_for_status",
    },
    "Neutron, the ports": {"create_port"},
    "Nova, the servers": {"create_server", "create_volume_attachment", "create_flavor"},
    "Keystone, the log-in": {"authorize", "volumes"},
}


def section() -> str:
    """The part of the page that the cases make."""
    lines = [BEGIN]
    for service, cases in groupby(CASES, key=service_of):
        lines += ["", f"## {service}", "", "| when | OpenStack says | XMS | you |", "|---|---|---|---|"]
        lines += [_row(case) for case in cases]
    lines += ["", "## What is not refused", "", "| when | call | XMS |", "|---|---|---|"]
    lines += [f"| {case.name} | `{case.call}` | {case.instead} |" for case in ACCEPTED]
    return "\n".join([*lines, "", END])


def service_of(case: Case) -> str:
    """The heading that a case stands under."""
    return next(service for service, calls in SERVICES.items() if case.call.partition(",")[0] in calls)


def _row(case: Case) -> str:
    status = "" if case.status is None else f"{case.status}: "
    told = f"`{case.becomes.__name__}`, {kind(case.becomes)}"
    return f"| {case.name} | {status}{spoken(case.words)} | {told} | {case.do or otherwise(case.becomes)} |"


def spoken(words: str) -> str:
    """A regular expression as a person reads it: what varies is an ellipsis."""
    plain = re.sub(r"\\S\+|\\d\+|x\{300\}", "…", words)
    return re.sub(r"\\(.)", r"\1", plain).replace("|", "\\|")


def kind(error: type[XmsError]) -> str:
    """Whether trying again helps."""
    return "tried again" if error.retryable else "parked"


def otherwise(error: type[XmsError]) -> str:
    """What one does where the error has no words for it."""
    if not error.retryable:
        raise LookupError(f"{error.__name__} needs a person: the case has to say what to do")
    return "nothing while it is tried again"


def section_of_page() -> str:
    """The part as it stands in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def write() -> None:
    """Put today's cases into the page."""
    PAGE.write_text(PAGE.read_text().replace(section_of_page(), section()))


if __name__ == "__main__":
    write()
