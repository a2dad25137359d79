"""What becomes of a cutover that failed, or is taken back by order; pure, like `xms.lifecycle`."""

from __future__ import annotations

from datetime import datetime

from xms.cutover import CutoverOrder, OnFailure, RollBackOrder
from xms.errors import SourceRunning
from xms.job import JobState
from xms.models import MigrationSpec, Trouble


def keeps_as_it_failed(state: JobState, order: CutoverOrder, trouble: Trouble) -> bool:
    """Whether a cutover that failed is left as it is, for somebody to look at.

    Not before the source was stopped: there is nothing to see. And not where the source runs: the target may, too, and
    both of them must not.
    """
    return order.on_failure is OnFailure.KEEP_OFF and state.source_is_off and trouble.kind != SourceRunning.__name__


def kept_as_it_failed(state: JobState, spec: MigrationSpec, trouble: Trouble) -> Trouble:
    """Take it down, and the failure in the words of a job that is kept so."""
    if state.cutover is not None:
        state.cutover = state.cutover.model_copy(update={"kept": True})
    means = f"kept as it failed: {spec.vm} is off, and the target is as the failed step left it"
    return trouble.model_copy(
        update={
            "means": "; ".join(part for part in (trouble.means, means) if part),
            "do": f"look at the target; then start {spec.vm} again with: xms migration rollback {state.job_id}",
            "needs_person": True,
        }
    )


def begin_roll_back(state: JobState, order: RollBackOrder | None) -> None:
    """Take down who ordered a roll-back; None: nobody did, the cutover had failed."""
    if order is None:
        return
    state.rolling_back = True
    if state.cutover is not None:
        state.cutover = state.cutover.model_copy(update={"rolled_back_by": order.who or "somebody"})


def rolled_back(state: JobState, now: datetime) -> None:
    """Every step is undone: the job can go on from its baselines.

    Where the target was in use, its volumes hold what nobody else has. So nothing is copied over it before somebody
    says so.
    """
    record, in_use = state.cutover, False
    if record is not None:
        in_use = record.completed_at is not None
        state.cutover = record.model_copy(update={"rolled_back_at": now, "kept": False})
    state.cutover_asked, state.rolling_back = None, False
    how = ""
    if any(disk.baseline.change_id is None for disk in state.disks):
        how = "takes the volumes back to their snapshots" if state.volume_snapshots else "copies every disk in full"
    state.trouble = record.trouble if record else None
    if not in_use:
        state.sync_asked_by = ""
        follows = f"a sync follows, which {how}" if how else "a sync follows"
        state.note(now, "rolled back", f"the job is Ready with its baselines; {follows}")
        return
    state.paused = True
    by = record.rolled_back_by if record else ""
    text = f"the job is paused: the next sync undoes what the target wrote; it {how or 'copies what changed'}"
    state.note(now, "rolled back", text, by)
