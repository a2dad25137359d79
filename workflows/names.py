"""The names that workflows, workers and clients have to agree on."""

from __future__ import annotations

from typing import Final

from temporalio.common import SearchAttributeKey

TASK_QUEUE: Final = "xms"
"""Workflows and control activities."""

DATA_QUEUE: Final = "xms-data"
"""Streams; any data worker can take any of them."""

CONVERSION_QUEUE: Final = "xms-data-convert"
"""Conversions; any data worker can take any of them. Their slots are their own: neither they nor streams wait for the
other."""

LOOK_QUEUE: Final = "xms-data-look"
"""What a data worker is asked to look at, beside its streams: they may have all its slots for hours."""


def host_queue(worker_name: str) -> str:
    """The queue of one data worker, for work on files that only it has."""
    return f"{DATA_QUEUE}-{worker_name}"


HOST_BUDGET: Final = "HostBudgetWorkflow"
"""The workflow that keeps the budget of one ESXi host. Activities start it, and may not import it."""

ASK: Final = "ask"
GIVE_BACK: Final = "give-back"
"""What jobs say to it."""

HOST_SLOT: Final = "host-slot"
"""What it says to jobs."""

REHEARSAL_PROGRESS: Final = "rehearsal-progress"
"""What a rehearsal says to its job."""


def budget_id(source: str, host: str) -> str:
    """The workflow id of the one budget of an ESXi host of a source."""
    return f"budget-{source}-{host}".replace("/", "-").replace(" ", "-")


SOURCE_FIRST: Final = "source-before-clean-up"
"""Marks, in the histories of jobs, the runs in which a roll-back starts the source before it cleans up."""

RELEASED_LATER: Final = "the source runs again though attachments stay"
"""The same for runs in which attachments that cannot be released park no job: they are released later."""

LOOKS_AGAIN: Final = "looks-at-the-source-after-the-boot"
"""The same for runs in which the source is looked at once more when the target was seen running."""

KEEPS_REPORTS: Final = "keeps-its-report-when-something-ended"
"""The same for runs that keep their reports as files."""


PHASE: Final = SearchAttributeKey.for_keyword("XmsPhase")
SOURCE: Final = SearchAttributeKey.for_keyword("XmsSource")
VM: Final = SearchAttributeKey.for_keyword("XmsVm")
PROJECT: Final = SearchAttributeKey.for_keyword("XmsProject")
PAUSED: Final = SearchAttributeKey.for_bool("XmsPaused")
LAST_SYNC: Final = SearchAttributeKey.for_datetime("XmsLastSync")
SEARCH_ATTRIBUTES: Final = (PHASE, SOURCE, VM, PROJECT, PAUSED, LAST_SYNC)
