"""What a cutover is asked to see of its target: refused early, passed on whole, looked for elsewhere where need be."""

from __future__ import annotations

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from tests.workflows.conftest import a_job, a_spec
from tests.workflows.sighted import Sighted
from tests.workflows.world import failure
from workflows.warm_migration import WarmMigrationWorkflow
from xms.cutover import CutoverOrder, Evidence, Rehearse
from xms.models import MigrationSpec, NetworkMapping, Phase

pytestmark = pytest.mark.asyncio(loop_scope="session")

SSH = Evidence(kind="tcp", port=22)
PING = Evidence(kind="ping")
MINE = Evidence(kind="command", command="db-answers")


def two_nics() -> MigrationSpec:
    mappings = tuple(NetworkMapping(source=name, network="net") for name in ("LAN", "DMZ"))
    return a_spec().model_copy(update={"network_map": mappings})


async def test_each_sign_is_passed_to_the_gates_and_to_the_look_with_the_ports_addresses(client: Client) -> None:
    world = Sighted("10.20.0.15", "2001:db8::15")
    async with a_job(client, world, two_nics()) as job:
        await job.reaches(Phase.READY)
        order = CutoverOrder(evidence=(SSH, MINE), console_evidence="login:", evidence_timeout_seconds=77)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        report = await job.handle.result()
    assert report.status.phase is Phase.COMPLETED
    (seen,) = world.sights
    assert (seen.evidence, seen.console_evidence, seen.timeout_seconds) == ((SSH, MINE), "login:", 77)
    assert (seen.addresses, seen.vm) == (("10.20.0.15", "2001:db8::15"), report.status.spec.vm)
    submitted, ordered = world.checks
    assert submitted.evidence == ()
    assert ordered.evidence == (Evidence(kind="console", pattern="login:"), SSH, MINE)


async def test_where_the_ports_get_no_address_a_look_at_one_fails_before_the_source_is_stopped(client: Client) -> None:
    world = Sighted()
    async with a_job(client, world, two_nics()) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(evidence=(SSH, PING, MINE)))
        await job.tells("rolled back")
        status = await job.reaches(Phase.READY)
        assert status.cutover is not None
        trouble = status.cutover.trouble
        assert trouble is not None
        assert "could not be seen by port 22, ping" in trouble.what
        assert (trouble.kind, trouble.means) == ("BadInput", "the source was not touched")
        assert {"power_off", "convert", "boot_server"} & set(world.calls) == set()
        assert world.ports == set()
        await job.handle.terminate()


async def test_an_address_that_the_order_names_needs_none_of_the_ports(client: Client) -> None:
    world = Sighted()
    named = Evidence(kind="tcp", port=22, address="10.20.0.15")
    async with a_job(client, world, two_nics()) as job:
        await job.reaches(Phase.READY)
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(evidence=(named, MINE)))
        assert (await job.handle.result()).status.phase is Phase.COMPLETED


async def test_a_worker_that_cannot_look_leaves_it_to_another_one(client: Client) -> None:
    world = Sighted("10.20.0.15")
    async with a_job(client, world, two_nics()) as job:
        await job.reaches(Phase.READY)
        world.fail["see_running"] = [failure("OutOfSight", retryable=True)]
        await job.handle.execute_update(WarmMigrationWorkflow.cutover, CutoverOrder(evidence=(MINE,)))
        assert (await job.handle.result()).status.phase is Phase.COMPLETED
        assert world.calls.count("see_running") == 2


@pytest.mark.parametrize(
    "order",
    [CutoverOrder(evidence=(Evidence(kind="agent"),)), CutoverOrder(evidence=(SSH, Evidence(kind="tcp")))],
    ids=["agent", "tcp without a port"],
)
async def test_what_cannot_be_seen_is_refused_at_the_door(client: Client, order: CutoverOrder) -> None:
    world = Sighted()
    async with a_job(client, world) as job:
        await job.reaches(Phase.READY)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await job.handle.execute_update(WarmMigrationWorkflow.cutover, order)
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == "BadInput"
        rehearsal = Rehearse(evidence=order.evidence)
        with pytest.raises(WorkflowUpdateFailedError):
            await job.handle.execute_update(WarmMigrationWorkflow.rehearse, rehearsal)
        await job.handle.signal("cutover", order)
        await job.tells("refused")
        assert (await job.status()).phase is Phase.READY
        assert len(world.checks) == 1
        await job.handle.terminate()
