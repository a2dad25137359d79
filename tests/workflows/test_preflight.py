"""The workflows of discovery and preflight over real activities and a stand-in vCenter of a thousand VMs."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.execution import ExplainedErrors
from activities.preflight import PreflightActivities
from activities.source import SourceActivities
from tests.vsphere.places import THOUSAND, a_thousand, a_vcenter
from worker import activities_of
from workflows.names import TASK_QUEUE
from workflows.operations import ListVmsWorkflow, PreflightWorkflow
from xms.client import Migrations
from xms.client.pollers import last_seen
from xms.config import Config, TargetConfig
from xms.errors import VmNotFound
from xms.orders.preflight import Severity, Verdict
from xms.vsphere.sessions import Sessions

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


async def test_a_thousand_vms_of_four_disks_pass_through_temporal(client: Client, tmp_path: Path) -> None:
    with a_vcenter(tmp_path, *a_thousand()) as many, ThreadPoolExecutor(4) as threads, closing(Sessions()) as sessions:
        config = Config(sources={"lab": many.config}, target=TargetConfig(cloud="lab"))
        # The server remembers the workers of the tests before for minutes.
        began = datetime.now(UTC)
        async with Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[ListVmsWorkflow, PreflightWorkflow],
            activities=[
                activity
                for provider in (SourceActivities(config, sessions), PreflightActivities(config, sessions))
                for activity in activities_of(provider)
            ],
            activity_executor=threads,
            interceptors=[ExplainedErrors()],
            identity=str(uuid.uuid4()),
        ):
            while (seen := await last_seen(client, TASK_QUEUE)) is None or seen < began:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            migrations = Migrations(client)
            listed = await migrations.vms("lab")
            few = await migrations.vms("lab", "vm-000?")
            report = await migrations.preflight("lab", every_vm=True)
            one = await migrations.preflight("lab", ["vm-0007"])
            with pytest.raises(VmNotFound, match="called 'nowhere'"):
                await migrations.preflight("lab", ["nowhere"])
    assert (len(listed.vms), len(few.vms), len(report.vms), len(one.vms)) == (THOUSAND, 10, THOUSAND, 1)
    assert all(len(vm.disks) == 4 for vm in listed.vms)
    # In memory all of them have the same MACs.
    assert report.verdict is Verdict.WARN
    assert {finding.rule for finding in report.vms[0].of_severity(Severity.WARN)} == {"network.duplicate-mac"}
    assert one.verdict is Verdict.PASS
