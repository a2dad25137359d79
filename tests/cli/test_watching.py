"""Following a job: what ends the wait, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from cli import watching
from tests.cli.test_screens import FAILED, READY, SYNCING
from xms.cutover import Cutover, CutoverOrder
from xms.errors import NoWorker, TemporalUnreachable, WaitedTooLong
from xms.models import Phase, Verification
from xms.status import JobStatus

if TYPE_CHECKING:
    from xms.client import Migrations

COMPLETED = READY.model_copy(update={"phase": Phase.COMPLETED})
CUTTING_OVER = READY.model_copy(update={"phase": Phase.CUTTING_OVER})


class Script:
    """A job whose states, and silences, are written down; the last one stays."""

    def __init__(self, *states: JobStatus | Exception) -> None:
        self.states = list(states)

    async def status(self, job_id: str) -> JobStatus:
        del job_id
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)


async def follow(until: watching.Until, *states: JobStatus | Exception, timeout_seconds: int = 5) -> JobStatus:
    script = cast("Migrations", Script(*states))
    return await watching.follow(script, "job", until, output="table", timeout_seconds=timeout_seconds)


async def test_a_worker_or_server_that_falls_silent_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    silence = [
        NoWorker("no", because="no worker serves task queue 'xms'"),
        TemporalUnreachable("no", because="refused"),
    ]
    end = await follow(watching.READY, SYNCING, *silence, READY)
    assert end is READY
    shown = capsys.readouterr().out
    assert "no news: no worker serves task queue 'xms'" in shown
    assert "no news: refused" in shown


async def test_nobody_answering_at_the_beginning_is_an_error() -> None:
    with pytest.raises(NoWorker):
        await follow(watching.READY, NoWorker("no"))


async def test_a_silence_is_not_taken_for_the_last_known_phase() -> None:
    with pytest.raises(WaitedTooLong):
        await follow(watching.READY, SYNCING, NoWorker("no"), timeout_seconds=1)


@pytest.mark.parametrize("over", [FAILED, COMPLETED, READY.model_copy(update={"phase": Phase.ABANDONED})])
async def test_a_job_that_goes_no_further_by_itself_ends_every_wait(over: JobStatus) -> None:
    for until in (watching.END, watching.READY, watching.COMPLETED, watching.cutover_ends(None)):
        assert await follow(until, SYNCING, over) is over


async def test_ready_does_not_end_a_wait_for_completed() -> None:
    assert await follow(watching.COMPLETED, READY, CUTTING_OVER, COMPLETED) is COMPLETED


async def test_a_cutover_ends_at_ready_only_when_it_is_the_one_that_was_ordered() -> None:
    earlier = datetime(2026, 11, 1, tzinfo=UTC)
    ordered = CutoverOrder()
    before = READY.model_copy(update={"cutover": Cutover(ordered_at=earlier), "cutover_ordered": ordered})
    rolled_back = READY.model_copy(update={"cutover": Cutover(ordered_at=earlier + timedelta(days=1))})
    assert await follow(watching.cutover_ends(earlier), before, CUTTING_OVER, rolled_back) is rolled_back
    with pytest.raises(WaitedTooLong):
        await follow(watching.cutover_ends(earlier), before, timeout_seconds=1)


async def test_a_verification_is_waited_for_to_its_end_and_not_an_earlier_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    earlier = Verification(asked_at=now, ended_at=now)
    running = Verification(asked_at=now + timedelta(hours=1))
    states = [READY.model_copy(update={"verification": found}) for found in (earlier, running)]
    ended = READY.model_copy(update={"verification": running.model_copy(update={"ended_at": now})})
    assert await follow(watching.verification_ends(now), *states, ended) is ended
    assert await follow(watching.verification_ends(None), ended) is ended
    with pytest.raises(WaitedTooLong, match="the verification's end"):
        await follow(watching.verification_ends(now), states[0], timeout_seconds=1)
    capsys.readouterr()


async def test_lines_are_written_for_changes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    await follow(watching.READY, SYNCING, SYNCING, SYNCING, READY)
    assert len(capsys.readouterr().out.splitlines()) == 2


class CancelledCall(Script):
    """A job whose second answer is lost, because Ctrl-C hits the call."""

    async def status(self, job_id: str) -> JobStatus:
        if len(self.states) == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return await super().status(job_id)


async def test_ctrl_c_in_the_middle_of_a_call_is_not_taken_for_a_silent_server() -> None:
    job = CancelledCall(SYNCING, TemporalUnreachable("no", because="the call was cancelled"))
    with pytest.raises(asyncio.CancelledError):
        await watching.follow(cast("Migrations", job), "job", watching.END, output="table", timeout_seconds=5)
