"""What holds for every activity that a worker offers."""

from __future__ import annotations

import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.client import Client

import workflows
from activities.beating import Beating
from activities.conversion import ConversionActivities, ConversionLooks
from activities.host_budget import HostBudgetActivities
from activities.preflight import PreflightActivities
from activities.rehearsal import RehearsalActivities
from activities.reports import ReportActivities
from activities.source import SourceActivities
from activities.streaming import StreamingActivities
from activities.target import TargetActivities
from worker import WORKFLOWS, activities_of, workers
from workflows.names import TASK_QUEUE
from xms.config import Config, TargetConfig
from xms.vsphere.sessions import Sessions

ROOM = Path(workflows.__file__).parent
CONFIG = Config(target=TargetConfig(cloud="lab"))
ALL = [
    method
    for provider in (
        SourceActivities(CONFIG),
        TargetActivities(CONFIG),
        RehearsalActivities(CONFIG),
        ReportActivities(CONFIG),
        StreamingActivities(CONFIG, Sessions()),
        PreflightActivities(CONFIG, Sessions()),
        ConversionActivities(CONFIG),
        ConversionLooks(CONFIG),
        HostBudgetActivities(cast("Client", None)),
    )
    for method in activities_of(provider)
]


def test_every_workflow_that_there_is_runs_on_a_worker() -> None:
    defined = {
        name
        for module in sorted(ROOM.glob("*.py"))
        for name, kind in inspect.getmembers(importlib.import_module(f"workflows.{module.stem}"), inspect.isclass)
        if hasattr(kind, "__temporal_workflow_definition")
    }
    assert len(defined) >= 10
    assert {kind.__name__ for kind in WORKFLOWS} == defined


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.__name__)
def test_no_activity_is_struck_by_a_cancellation_in_the_middle_of_giving_something_back(method: Any) -> None:  # noqa: ANN401
    assert getattr(method, "__temporal_activity_definition").no_thread_cancel_exception


async def test_the_control_worker_beats_for_its_activities_and_a_stream_beats_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beating: dict[str, bool] = {}

    def made(_client: Client, *, task_queue: str, interceptors: list[object], **_others: object) -> None:
        beating[task_queue] = any(isinstance(interceptor, Beating) for interceptor in interceptors)

    monkeypatch.setattr("worker.Worker", made)
    with ThreadPoolExecutor(1) as threads:
        workers(cast("Client", None), CONFIG, "all", threads, Sessions())
    assert beating.pop(TASK_QUEUE)
    assert not any(beating.values())
    assert len(beating) == 4
