"""What a sync's snapshot shows of its VM that was otherwise at the snapshot before: told in the job's events."""

from __future__ import annotations

from datetime import datetime

from xms.job import JobState, shortened
from xms.orders.source import SnapshotTaken


def take_in(state: JobState, snapshot: SnapshotTaken, now: datetime) -> None:
    """Remember the VM's name, host and power state, and how the disks were frozen; note what has changed."""
    _take_in_name(state, snapshot.vm_name, now)
    _take_in_host(state, snapshot.host, now)
    _take_in_power(state, snapshot.power_state, now)
    consistency = shortened(snapshot.consistency)
    if consistency and consistency != state.consistency:
        state.note(now, "snapshot", consistency)
        state.consistency = consistency


def _take_in_name(state: JobState, name: str, now: datetime) -> None:
    if not name or name == state.vm_name:
        return
    if state.vm_name:
        state.note(now, "renamed", f"{state.vm_name} is called {name} now; the job goes on with it, under its own id")
    state.vm_name = name


def _take_in_host(state: JobState, host: str, now: datetime) -> None:
    if not host or host == state.source_host:
        return
    if state.source_host:
        state.note(
            now, "moved", f"from host {state.source_host} to {host}: it is read there, within that host's budget"
        )
    state.source_host = host


def _take_in_power(state: JobState, power_state: str, now: datetime) -> None:
    # What the job's own cutover did is told by the cutover.
    if not power_state or power_state == state.source_power or state.source_is_off:
        return
    if state.source_power:
        text = f"the VM is {power_state} and was {state.source_power}; nobody did that for this job"
        if power_state == "suspended":
            text += "; syncs go on, a cutover needs it resumed or powered off"
        state.note(now, "source power", text)
    state.source_power = power_state
