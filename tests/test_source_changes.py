"""What a snapshot shows of its VM is told once, when it has changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from xms.job import JobState
from xms.orders.source import SnapshotTaken
from xms.source_changes import take_in

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def a_state(**known: Any) -> JobState:  # noqa: ANN401 - any of its fields
    return JobState(job_id="warm-lab-db", since=NOW, **known)


def seen(state: JobState, **shown: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any of its fields
    before = len(state.events)
    take_in(state, SnapshotTaken(moref="snapshot-1", name="n", taken_at=NOW, **shown), NOW)
    return [(event.kind, event.text) for event in state.events[before:]]


def test_the_first_look_tells_how_the_disks_were_frozen_and_nothing_else() -> None:
    state = a_state(vm_name="db")
    assert seen(state, vm_name="db", host="esxi-1", power_state="poweredOn", consistency="quiesced") == [
        ("snapshot", "quiesced")
    ]
    assert (state.source_host, state.source_power, state.consistency) == ("esxi-1", "poweredOn", "quiesced")


def test_what_is_as_before_is_not_told_again() -> None:
    state = a_state(vm_name="db", source_host="esxi-1", source_power="poweredOn", consistency="quiesced")
    assert seen(state, vm_name="db", host="esxi-1", power_state="poweredOn", consistency="quiesced") == []


def test_what_an_older_worker_did_not_look_at_changes_nothing() -> None:
    state = a_state(vm_name="db", source_host="esxi-1", source_power="poweredOn", consistency="quiesced")
    assert seen(state) == []
    assert (state.vm_name, state.source_host, state.source_power) == ("db", "esxi-1", "poweredOn")


def test_a_source_that_the_jobs_own_cutover_stopped_is_no_news() -> None:
    state = a_state(source_power="poweredOn", source_is_off=True)
    assert seen(state, power_state="poweredOff") == []
    state.source_is_off = False
    assert seen(state, power_state="poweredOn") == []
