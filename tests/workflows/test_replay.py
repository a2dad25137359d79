"""Jobs that run for weeks outlive a release: today's code has to replay what yesterday's wrote."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.workflows.record import HISTORIES, SHAPES
from workflows.host_budget import HostBudgetWorkflow
from workflows.rehearsal import RehearsalWorkflow
from workflows.warm_migration import WarmMigrationWorkflow

RECORDED = sorted(HISTORIES.glob("*.json"))


def replayer() -> Replayer:
    return Replayer(
        workflows=[WarmMigrationWorkflow, RehearsalWorkflow, HostBudgetWorkflow], data_converter=pydantic_data_converter
    )


def test_every_shape_of_a_job_has_a_recorded_history() -> None:
    assert {path.stem for path in RECORDED} == set(SHAPES)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_todays_workflow_replays_a_recorded_history(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    asyncio.run(replayer().replay_workflow(history))


def test_a_history_that_went_another_way_is_noticed() -> None:
    history = json.loads((HISTORIES / "straight.json").read_text())
    for event in history["events"]:
        scheduled = event.get("activityTaskScheduledEventAttributes")
        if scheduled and scheduled["activityType"]["name"] == "take_snapshot":
            scheduled["activityType"]["name"] = "remove_snapshots"
    with pytest.raises(Exception, match=r"[Nn]ondeterminism|TMPRL1100"):
        asyncio.run(replayer().replay_workflow(WorkflowHistory.from_json("straight", json.dumps(history))))
