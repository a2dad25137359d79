"""The rules of rehearsals: what their things are called, which evidence a copy can give, and when one counts.

For the target's functions a rehearsal is a job of its own. Its id cannot be a job's, since those begin with "warm-", so
that nothing that is done for a rehearsal ever finds a volume, a port or an instance of the job.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

from xms import quantities
from xms.cutover import CutoverOrder, Measured, Rehearsal, Rehearse
from xms.errors import BadInput, NotRehearsed
from xms.job import JobState

PREFIX: Final = "rehearsal-"

EVIDENCE_OF_A_COPY: Final = ("console",)
"""What can be seen of an instance that nothing outside reaches."""


def rehearsal_id(job_id: str) -> str:
    """What the metadata of all that a rehearsal makes says as the job, and the id of its workflow."""
    return f"{PREFIX}{job_id}"


def is_rehearsal(identifier: str) -> bool:
    """Whether it is the id of rehearsals and not of a job."""
    return identifier.startswith(PREFIX)


def instance_name(name: str) -> str:
    """What the copy's instance and network are called."""
    return f"{name} rehearsal"


def refuse_impossible_evidence(order: Rehearse) -> None:
    """Refuse what nobody could see of a copy in an isolated network.

    Raises:
        BadInput: the text names the kinds that are possible.
    """
    for evidence in order.evidence:
        if evidence.kind not in EVIDENCE_OF_A_COPY:
            raise BadInput(
                f"evidence '{evidence.kind}' cannot be seen of a rehearsal",
                because="its copy is in a network that nothing else is on, so that no connection reaches it; allowed: "
                + ", ".join(EVIDENCE_OF_A_COPY),
                do="give a pattern of the console",
            )


class Rehearsable(Protocol):
    """What the gate needs to know of a job; its record and its status both have it."""

    @property
    def job_id(self) -> str: ...  # noqa: D102 - as of JobStatus, like those below
    @property
    def rehearsal(self) -> Rehearsal | None: ...  # noqa: D102
    @property
    def rehearsed(self) -> Rehearsal | None: ...  # noqa: D102


def refuse_unless_rehearsed(job: Rehearsable, vm: str, order: CutoverOrder, now: datetime) -> None:
    """The gate of `--require-rehearsal`.

    Raises:
        NotRehearsed: no rehearsal passed in the time that the order asks for; nothing was changed.
    """
    if order.require_rehearsal_seconds is None:
        return
    since = now - timedelta(seconds=order.require_rehearsal_seconds)
    asked = quantities.duration(order.require_rehearsal_seconds)
    passed = job.rehearsed
    if passed is not None and passed.ended_at is not None and passed.ended_at >= since:
        return
    if passed is None or passed.ended_at is None:
        because = "no rehearsal of it has passed"
    else:
        because = f"the last one that passed ended at {passed.ended_at:%Y-%m-%d %H:%M} UTC"
    last = job.rehearsal
    if last is not None and last.outcome in {"failed", "broken off"}:
        became = "was broken off" if last.outcome == "broken off" else "failed"
        because += f", and number {last.number} {became}"
    raise NotRehearsed(
        f"{vm} was not rehearsed in the last {asked}",
        because=because,
        means="the source was not touched",
        do=f"xms migration rehearse {job.job_id} --wait, then order the cutover again",
    )


def take_in(state: JobState, done: Rehearsal, now: datetime) -> None:
    """Remember how a rehearsal ended, and what it measured where it passed."""
    state.rehearsal = done
    if done.outcome != "passed":
        return
    state.rehearsed = done
    measured = {"conversion": done.conversion_seconds, "boot": done.boot_seconds}
    known = {name: seconds for name, seconds in measured.items() if seconds is not None}
    state.measured = Measured(**{**state.measured.model_dump(), **known, "at": now, "by": "rehearsal"})
