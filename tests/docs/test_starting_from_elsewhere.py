from __future__ import annotations

import ast
import json
import re
from datetime import UTC, datetime
from typing import Final

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import Worker

from docs.examples import wave
from docs.examples.wave import WaveWorkflow
from tests.docs.pages import ROOT, blocks, rows
from tests.workflows.conftest import Job, a_spec, a_worker
from tests.workflows.world import World
from workflows.names import HOST_SLOT, REHEARSAL_PROGRESS, SEARCH_ATTRIBUTES, TASK_QUEUE
from workflows.warm_migration import WarmMigrationWorkflow
from xms.commands import refuse_unless_allowed
from xms.cutover import CutoverOrder, FinalizeOrder, Rehearse, RollBackOrder, WithdrawCutover
from xms.errors import Refused
from xms.job import JobState
from xms.models import (
    Abandon,
    Command,
    MigrationSpec,
    Pause,
    Phase,
    Resume,
    Retry,
    SetCadence,
    SetRateLimit,
    SyncNow,
    Verify,
    job_id,
)

PAGE: Final = ROOT / "docs" / "starting-from-other-workflows.md"
SCHEMA: Final = ROOT / "docs" / "warm-migration-input.schema.json"
MESSAGES: Final = "### Messages"
VERBS: Final[dict[str, type[Command]]] = {
    "sync-now": SyncNow,
    "pause": Pause,
    "resume": Resume,
    "set-cadence": SetCadence,
    "verify": Verify,
    "set-rate-limit": SetRateLimit,
    "cutover": CutoverOrder,
    "withdraw-cutover": WithdrawCutover,
    "rehearse": Rehearse,
    "rollback": RollBackOrder,
    "finalize": FinalizeOrder,
    "retry": Retry,
    "abandon": Abandon,
}
WHAT_STANDS: Final[dict[str, dict[str, object]]] = {
    "withdraw-cutover": {"cutover_asked": CutoverOrder()},
    "rollback": {"failed_in": Phase.CUTTING_OVER, "roll_back_until": datetime.now(UTC)},
    "finalize": {"roll_back_until": datetime.now(UTC)},
}
"""What has to be so beside the phase, as the page says."""

DEFINITION: Final = workflow._Definition.must_from_class(WarmMigrationWorkflow)


def test_the_published_schema_is_that_of_the_input() -> None:
    published = json.loads(SCHEMA.read_text())
    expected = MigrationSpec.model_json_schema()
    text = json.dumps(expected, indent=2) + "\n"
    assert published == expected, f"write this into {SCHEMA.name}:\n{text}"


def test_the_documented_messages_and_queries_are_the_workflows_own() -> None:
    assert set(DEFINITION.updates) == set(DEFINITION.signals) - {HOST_SLOT, REHEARSAL_PROGRESS}
    assert f"`{HOST_SLOT}`" in PAGE.read_text()
    assert f"`{REHEARSAL_PROGRESS}`" in PAGE.read_text()
    assert set(rows(PAGE, MESSAGES)) == set(DEFINITION.updates)
    queries = {name for name in DEFINITION.queries if name}
    assert queries <= set(rows(PAGE, "### Queries and search attributes"))


def test_the_documented_names_are_the_workflows_own() -> None:
    contract = rows(PAGE, "## From another code base: the contract")
    assert contract["workflow type"] == [f"`{DEFINITION.name}`"]
    assert contract["task queue"] == [f"`{TASK_QUEUE}`"]
    assert DEFINITION.name == wave.MIGRATION
    assert wave.QUEUE == TASK_QUEUE
    assert wave.job_id("prod-vcenter", "old/erp 1") == job_id("prod-vcenter", "old/erp 1")
    assert {key.name for key in SEARCH_ATTRIBUTES} == set(re.findall(r"`(Xms\w+)`", PAGE.read_text()))


@pytest.mark.parametrize("phase", Phase)
def test_each_message_is_allowed_when_the_page_says_so(phase: Phase) -> None:
    started = JobState.fresh(a_spec(), datetime.now(UTC))
    started.enter(phase, datetime.now(UTC))
    started.source_is_off = phase is Phase.CUTTING_OVER
    over = {Phase.COMPLETED, Phase.ABANDONED}
    for verb, (example, allowed) in rows(PAGE, MESSAGES).items():
        order = VERBS[verb].model_validate_json(re.findall(r"`({.*?})`", example)[0])
        named = {known for known in Phase if known in allowed} or set(Phase) - over
        state = started.model_copy(update=WHAT_STANDS.get(verb, {}))
        if "source is off" in allowed:
            named -= {Phase.CUTTING_OVER}
        try:
            refuse_unless_allowed(state, order)
        except Refused:
            assert phase not in named, verb
        else:
            assert phase in named, verb


def test_the_python_of_the_page_is_python() -> None:
    for block in blocks(PAGE, "python"):
        compile(block, PAGE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        before_the_connection = block.split("migrations = ")[0]
        found: dict[str, object] = {}
        exec(before_the_connection, found)  # noqa: S102 - our own page
        assert isinstance(found["spec"], MigrationSpec)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_workflow_of_another_code_base_migrates_a_wave(client: Client) -> None:
    world = World()
    world.write(2000, 1)
    migration = a_spec().model_dump(mode="json")
    job = job_id(migration["source"], migration["vm"])
    async with (
        a_worker(client, world),
        Worker(client, task_queue="of-another-code-base", workflows=[WaveWorkflow]),
    ):
        parent = await client.start_workflow(
            WaveWorkflow.run, [migration], id=f"wave-{job}", task_queue="of-another-code-base"
        )
        async for event in parent.fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                break
        child = client.get_workflow_handle_for(WarmMigrationWorkflow.run, job)
        ready = await Job(child, world).reaches(Phase.READY)
        assert ready.spec == MigrationSpec.model_validate(migration)
        assert world.replica_equals_source()
        await parent.signal(WaveWorkflow.release)
        assert await parent.result() == {job: "completed"}
        assert world.servers == {"server-1"}
