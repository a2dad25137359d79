"""The client names workflows and messages instead of importing them: here the names are compared."""

from __future__ import annotations

import asyncio
import inspect
from typing import get_args

import pytest
from temporalio import activity, workflow
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.conversion import ConversionActivities
from activities.streaming import StreamingActivities
from cli.exit_codes import ExitCode, exit_code_of
from tests.cli.conftest import House, Terminal
from workflows import operations
from workflows.conversion_log import ConversionLogWorkflow
from workflows.names import SEARCH_ATTRIBUTES
from workflows.warm_migration import WarmMigrationWorkflow
from xms import errors
from xms.client import Migrations, connect, register_search_attributes
from xms.client.failures import error_of, unwrap
from xms.client.listing import WORKFLOW, quoted
from xms.client.live import CONVERSIONS, STREAM
from xms.client.migrations import Verb
from xms.client.questions import Questions
from xms.errors import NoWorker, OperationFailed, QuotaExceeded, TargetNotFound, XmsError
from xms.models import MigrationSpec, Pause, Phase, Trouble

SPEC = MigrationSpec(
    source="prod-vcenter",
    vm="db-prod-01",
    target_project="infra",
    instance_name="db",
    flavor="m1.xlarge",
    volume_type="ssd",
)


def test_the_names_of_the_workflow_and_its_messages_are_the_workflows_own() -> None:
    definition = workflow._Definition.must_from_class(WarmMigrationWorkflow)
    assert definition.name == WORKFLOW
    assert set(definition.updates) == set(get_args(Verb))
    assert {"status", "events"} <= set(definition.queries)


def test_the_names_of_the_operations_are_the_workflows_own() -> None:
    source = inspect.getsource(Questions) + inspect.getsource(Migrations)
    for name, cls in inspect.getmembers(operations, inspect.isclass):
        if name.endswith("Workflow"):
            assert f'"{workflow._Definition.must_from_class(cls).name}"' in source


def test_the_name_of_the_stream_is_the_activitys_own() -> None:
    definition = activity._Definition.must_from_callable(StreamingActivities.stream_disk)
    assert definition.name == STREAM


def test_the_names_of_the_conversions_parts_are_the_activities_own() -> None:
    methods = (ConversionActivities.convert, ConversionActivities.commit_conversion)
    assert tuple(activity._Definition.must_from_callable(method).name for method in methods) == CONVERSIONS


def test_the_name_of_the_workflow_that_fetches_a_log_is_its_own() -> None:
    assert f'"{workflow._Definition.must_from_class(ConversionLogWorkflow).name}"' in inspect.getsource(Migrations)


def test_an_error_of_a_worker_keeps_its_class_and_words() -> None:
    trouble = QuotaExceeded("what", because="because", means="means", do="do").trouble()
    again = error_of(trouble)
    assert type(again) is QuotaExceeded
    assert again.trouble() == trouble


def test_an_error_of_a_newer_worker_keeps_its_words() -> None:
    newer = Trouble(kind="ErrorOfTomorrow", what="what", because="because", needs_person=True)
    assert isinstance(error_of(newer), errors.NeedsPerson)
    assert error_of(newer).because == "because"
    assert isinstance(error_of(newer.model_copy(update={"needs_person": False})), OperationFailed)
    assert isinstance(error_of(newer.model_copy(update={"kind": "annotations"})), errors.NeedsPerson)


def test_a_failure_is_unwrapped_to_what_the_worker_said() -> None:
    outer = RuntimeError("Workflow execution failed")
    outer.__cause__ = ApplicationError("no", TargetNotFound("no flavor", because="b").trouble(), type="TargetNotFound")
    assert isinstance(unwrap(outer, "x"), TargetNotFound)
    stranger = ApplicationError("division by zero", {"not": "a trouble"}, type="ZeroDivisionError")
    assert unwrap(stranger, "it could not be checked").because == "ZeroDivisionError: division by zero"


def test_every_error_has_an_exit_code_of_its_kind() -> None:
    kinds = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, XmsError)]
    codes = {cls.__name__: exit_code_of(cls("x")) for cls in kinds}
    assert ExitCode.UNEXPECTED not in codes.values()
    assert codes["BadInput"] is codes["VmNotFound"] is codes["ConfigurationError"] is ExitCode.BAD_INPUT
    assert codes["Refused"] is codes["JobNotFound"] is codes["JobFinished"] is ExitCode.REFUSED
    assert codes["NoWorker"] is codes["TemporalUnreachable"] is ExitCode.UNREACHABLE
    assert codes["SourceRefusedLogin"] is codes["QuotaExceeded"] is ExitCode.FAILED


def test_a_quote_in_a_name_cannot_leave_the_search() -> None:
    assert quoted("it's") == "'it\\'s'"
    assert quoted("\\' OR ''='") == "'\\\\\\' OR \\'\\'=\\''"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("TEMPORAL_PROFILE", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def test_the_search_attributes_are_registered_where_they_are_missing(
    unprepared: Terminal, here: pytest.MonkeyPatch
) -> None:
    here.setenv("TEMPORAL_ADDRESS", unprepared.environment["TEMPORAL_ADDRESS"])
    client = await connect()
    await register_search_attributes(client)
    await register_search_attributes(client)
    known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
    assert {key.name for key in SEARCH_ATTRIBUTES} <= set(known.custom_attributes)


async def test_a_job_that_no_worker_has_taken_up_is_listed_with_what_temporal_knows(
    without_worker: Terminal, here: pytest.MonkeyPatch
) -> None:
    here.setenv("TEMPORAL_ADDRESS", without_worker.environment["TEMPORAL_ADDRESS"])
    migrations = await Migrations.connect()
    job = await migrations.submit(SPEC)
    found = await migrations.list()
    for _ in range(200):
        if found.jobs:
            break
        await asyncio.sleep(0.1)
        found = await migrations.list()
    assert found.silent is not None
    assert found.silent.kind == "NoWorker"
    (listed,) = found.jobs
    assert (listed.job_id, listed.phase, listed.vm, listed.status) == (job, "Initializing", "db-prod-01", None)
    with pytest.raises(NoWorker):
        await migrations.status(job)


async def test_a_server_that_saw_no_worker_lately_means_that_none_runs_and_not_that_the_workflow_is_broken(
    without_worker: Terminal, here: pytest.MonkeyPatch
) -> None:
    async def asked(*_words: object, **_options: object) -> None:
        text = "no poller seen for task queue recently, worker may be down"
        raise RPCError(text, RPCStatusCode.FAILED_PRECONDITION, b"")

    here.setenv("TEMPORAL_ADDRESS", without_worker.environment["TEMPORAL_ADDRESS"])
    migrations = await Migrations.connect()
    job = await migrations.submit(SPEC.model_copy(update={"vm": "web-99"}))
    here.setattr(WorkflowHandle, "query", asked)
    with pytest.raises(NoWorker):
        await migrations.status(job)


async def test_a_job_that_was_terminated_in_temporal_is_shown_as_failed_and_can_be_submitted_again(
    house: House, here: pytest.MonkeyPatch
) -> None:
    here.setenv("TEMPORAL_ADDRESS", house.environment["TEMPORAL_ADDRESS"])
    migrations = await Migrations.connect()
    job = await asyncio.to_thread(house.a_ready_job)
    await migrations.client.get_workflow_handle(job).terminate()
    status = await migrations.status(job)
    assert status.phase is Phase.FAILED
    assert status.trouble is not None
    assert "terminated" in status.trouble.because
    with pytest.raises(errors.JobFinished, match="Terminated"):
        await migrations.command(job, "pause", Pause(who="tester"))
    assert (await asyncio.to_thread(house.submit)).code == 0
