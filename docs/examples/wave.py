"""An example: a parent workflow of another code base that migrates several VMs, one child workflow a VM.

It imports nothing of XMS. The contract is the child's workflow type, its task queue, and the JSON of its input, whose
schema is docs/warm-migration-input.schema.json.
"""

from __future__ import annotations

from typing import Any, Final

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

MIGRATION: Final = "WarmMigrationWorkflow"
QUEUE: Final = "xms"


def job_id(source: str, vm: str) -> str:
    """The workflow id that XMS gives to the one migration of this VM."""
    return f"warm-{source}-{vm}".replace("/", "-").replace(" ", "-")


@workflow.defn(name="WaveWorkflow")
class WaveWorkflow:
    """Replicates the VMs of a wave. When somebody says so, once all are Ready, cuts them over one after the other."""

    def __init__(self) -> None:
        """Begin without leave to cut over."""
        self.released = False

    @workflow.signal(name="release", description="Cut the wave over, one VM after the other")
    def release(self) -> None:
        """Give leave to cut over."""
        self.released = True

    @workflow.run
    async def run(self, migrations: list[dict[str, Any]]) -> dict[str, str]:
        """Start every migration, wait for the release, cut over; the outcome of each job by its id."""
        jobs = [await self.start(migration) for migration in migrations]
        await workflow.wait_condition(lambda: self.released)
        outcomes = {}
        for job in jobs:
            outcomes[job.id] = await self.cut_over(job)
        return outcomes

    async def start(self, migration: dict[str, Any]) -> ChildWorkflowHandle[Any, dict[str, Any]]:
        """One child. It goes on when this workflow ends: a replica is never thrown away with its wave."""
        return await workflow.start_child_workflow(
            MIGRATION,
            migration,
            id=job_id(migration["source"], migration["vm"]),
            task_queue=QUEUE,
            parent_close_policy=ParentClosePolicy.ABANDON,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=f"{migration['vm']}: {migration['source']} -> {migration['target_project']}",
        )

    async def cut_over(self, job: ChildWorkflowHandle[Any, dict[str, Any]]) -> str:
        """Order the cutover once, and wait until the job is over; one that was rolled back waits for a person."""
        await job.signal("cutover", {"who": f"wave {workflow.info().workflow_id}"})
        report = await job
        return str(report["outcome"])
