"""What the workers are asked about sources, VMs and targets: short workflows, each with one answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Self, TypeVar

from temporalio.client import Client, WorkflowFailureError
from temporalio.runtime import Runtime

from workflows.names import TASK_QUEUE
from xms.client.connection import connect, explained
from xms.client.failures import unwrap
from xms.client.pollers import see_a_worker
from xms.cutover import Evidence
from xms.errors import NoWorker
from xms.models import Model, Nic
from xms.orders.preflight import PreflightOrder, PreflightReport, TargetWanted
from xms.orders.source import ListSources, ListVms, SourceList, SourceQuery, SourceReport, VmList
from xms.orders.target import CheckEvidence, EvidenceChecked
from xms.orders.target_check import ListTargets, TargetList, TargetQuestion, TargetReport

OPERATION: Final = timedelta(seconds=210)
"""For a question that a worker passes on to the source and the target: two calls of 90 s and a verdict, see
workflows.operations."""

Answer = TypeVar("Answer", bound=Model)


class Questions:
    """What can be asked in one Temporal namespace. Nothing of either side is changed.

    Every method raises NoWorker where no worker runs, or none finished in time, and else what the worker found wrong,
    in its class and its words.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.address = client.service_client.config.target_host

    @classmethod
    async def connect(cls, *, runtime: Runtime | None = None) -> Self:
        """Connect as the environment says; see `xms.client.connection.connect`."""
        return cls(await connect(runtime=runtime))

    async def sources(self) -> SourceList:
        """The sources that the workers know."""
        return await self._operation("ListSourcesWorkflow", ListSources(), SourceList, "sources could not be listed")

    async def check_source(self, name: str) -> SourceReport:
        """The connection test of a source."""
        what = f"source {name} could not be tested"
        return await self._operation("CheckSourceWorkflow", SourceQuery(source=name), SourceReport, what)

    async def targets(self) -> TargetList:
        """The targets that the workers know."""
        return await self._operation("ListTargetsWorkflow", ListTargets(), TargetList, "targets could not be listed")

    async def check_target(self, name: str = "", project: str | None = None) -> TargetReport:
        """The connection test of a target: the default one without a name, the entry's own project without another."""
        what = f"target {name} could not be tested" if name else "the default target could not be tested"
        return await self._operation(
            "CheckTargetWorkflow", TargetQuestion(target=name, project=project), TargetReport, what
        )

    async def check_evidence(self, evidence: Sequence[Evidence], nics: Sequence[Nic]) -> EvidenceChecked:
        """Whether a worker could see a target with these NICs by these signs.

        Raises:
            BadInput: it never could: an unknown command, no address to look at, no route.
            ProgramMissing: it lacks a program to look with.
        """
        question = CheckEvidence(evidence=tuple(evidence), nics=tuple(nics))
        what = "evidence could not be checked"
        return await self._operation("CheckEvidenceWorkflow", question, EvidenceChecked, what)

    async def vms(self, source: str, match: str = "") -> VmList:
        """The VMs of a source, all or those whose name matches a pattern ('web-*')."""
        what = f"the VMs of {source} could not be listed"
        order = ListVms(source=source, match=match)
        return (await self._operation("ListVmsWorkflow", order, VmList, what)).unpacked()

    async def preflight(
        self, source: str, vms: Sequence[str] = (), *, every_vm: bool = False, target: TargetWanted | None = None
    ) -> PreflightReport:
        """Whether VMs could be migrated, and what stands in the way. Both sides are looked at, nothing is changed.

        Args:
            source: a registered source.
            vms: names, inventory paths, or patterns of them ('web-*').
            every_vm: all of the source, instead.
            target: where they would go; what of it is None is not looked at.

        Raises:
            VmNotFound: nothing has one of the names or matches one of the patterns.
            BadInput: they are too many for one answer; the text says how many.
        """
        order = PreflightOrder(source=source, vms=tuple(vms), every_vm=every_vm, target=target or TargetWanted())
        return await self._preflight(order, f"the preflight of VMs of {source} could not be made")

    async def _preflight(self, order: PreflightOrder, what: str) -> PreflightReport:
        return (await self._operation("PreflightWorkflow", order, PreflightReport, what)).unpacked()

    async def _operation(self, workflow: str, question: Model, answer: type[Answer], what: str) -> Answer:
        await self._see_a_worker(what, means="nothing was asked of the source or the target")
        async with explained(self.address):
            try:
                async with asyncio.timeout(OPERATION.total_seconds()):
                    result: Answer = await self.client.execute_workflow(
                        workflow,
                        question,
                        id=f"{workflow}-{uuid.uuid4()}",
                        task_queue=TASK_QUEUE,
                        result_type=answer,
                        execution_timeout=OPERATION,
                        static_summary=what.replace("could not be", "are" if " VMs " in what else "is"),
                    )
            except WorkflowFailureError as failure:
                raise unwrap(failure, what) from failure
            except TimeoutError:
                raise NoWorker(
                    what,
                    because=f"no worker finished it within {OPERATION.total_seconds():.0f} s",
                    do="see the log of the workers",
                ) from None
        return result

    async def _see_a_worker(self, what: str, means: str = "") -> None:
        async with explained(self.address):
            await see_a_worker(self.client, TASK_QUEUE, what=what, means=means)
