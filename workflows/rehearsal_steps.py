"""The itinerary of a rehearsal: what is done with the copies, and what is removed afterwards, whatever came of it.

What the steps do is what a cutover does (`workflows.cutover`), on the copies and in the rehearsal's name. vSphere is
not asked anything: a rehearsal never touches the source.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.conversion import ConversionActivities
    from activities.rehearsal import RehearsalActivities
    from activities.target import TargetActivities
    from workflows.calls import CONTROL, Policy, call, explain, on_host
    from workflows.cutover import CutoverRun
    from xms.cutover import Cutover, CutoverOrder, Rehearse
    from xms.job import JobState
    from xms.models import Nic
    from xms.orders.rehearsal import MakeIsolatedNetwork, RehearsalInput
    from xms.orders.target import ServerOrder, TargetOrder
    from xms.rehearsal import instance_name, rehearsal_id

REMOVAL: Final[Policy] = {
    **CONTROL,
    "schedule_to_close_timeout": timedelta(minutes=20),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1), maximum_attempts=30
    ),
}
"""A cutover may wait for it. What is left after it is told, and removed by the next rehearsal or at the job's end."""


class RehearsalRun(CutoverRun):
    """One rehearsal: what its steps do. Its state is a record of its own, made of the job's; nobody else sees it."""

    def __init__(self, order: RehearsalInput) -> None:
        name = instance_name(order.spec.instance_name)
        state = JobState(
            job_id=rehearsal_id(order.job_id),
            since=order.started_at,
            moref=order.moref,
            vm_name=order.vm_name,
            firmware=order.firmware,
            secure_boot=order.secure_boot,
            cpus=order.cpus,
            memory=order.memory,
            disks=order.disks,
            nics=order.nics,
            cutover=Cutover(ordered_at=order.started_at),
        )
        super().__init__(order.spec.model_copy(update={"instance_name": name}), state, cutover_order_of(order.order))

    async def isolate(self) -> None:
        """The network that nothing else is on, and a port there for each NIC, with another MAC than the source's."""
        order = MakeIsolatedNetwork(target=self.target, name=self.spec.instance_name)
        made = await call(RehearsalActivities.make_isolated_network, order, **CONTROL)
        self.state.nics = tuple(isolated(nic, made.network_id) for nic in self.state.nics)
        await self.make_ports()

    async def convert(self) -> None:
        """Convert on overlays over the copies and commit. What is lost with its worker is not mended: it is a copy."""
        converted = await self._convert_on_overlays()
        self.converted = converted
        if not converted.skipped:
            await self._commit(converted)

    async def discard_overlays(self) -> None:
        """Leave nothing on the worker that converted."""
        if self.converted is not None:
            order = self._conversion_order()
            await call(ConversionActivities.discard_conversion, order, **on_host(self.converted.worker_queue))

    async def _refuse_running(self) -> None:
        """The source runs on, and the copy may run beside it: it has other MACs, and no network in common with it."""

    async def _look_at_source_again(self) -> None:
        """The same after the boot: the source is not asked anything."""


@dataclass(frozen=True)
class Step:
    """One step of the itinerary."""

    name: str
    run: Callable[[RehearsalRun], Coroutine[Any, Any, None]]


REHEARSAL: Final = (
    Step("Network", RehearsalRun.isolate),
    Step("Guest Fixes", RehearsalRun.convert),
    Step("Finalize", RehearsalRun.finalize),
    Step("Boot Copy", RehearsalRun.boot),
    Step("Evidence", RehearsalRun.see_running),
)
COPIES: Final = "Copies"
"""The step before them: the job's own, between two of its syncs."""

REMOVAL_STEP: Final = "Removal"
"""The step after them."""


def cutover_order_of(order: Rehearse) -> CutoverOrder:
    """What a cutover would be told to convert the guest so, and to wait for the same evidence."""
    return CutoverOrder(
        who=order.who,
        evidence=order.evidence,
        evidence_timeout_seconds=order.evidence_timeout_seconds,
        conversion=order.conversion,
    )


def isolated(nic: Nic, network_id: str) -> Nic:
    """The NIC as the copy has it: on that network, with nothing that the source or the target has."""
    return nic.model_copy(
        update={
            "network": network_id,
            "subnet": None,
            "mac_kept": False,
            "fixed_ips": (),
            "security_groups": None,
            "port_security": None,
            "port_id": None,
            "port_mac": "",
            "port_ips": (),
        }
    )


async def remove_all(target: TargetOrder, policy: Policy) -> tuple[str, ...]:
    """Remove all that bears the rehearsal's id, each thing whatever became of the one before it.

    Returns:
        One sentence for each thing that is left.
    """
    left: list[str] = []
    removals: tuple[tuple[str, Callable[[], Coroutine[Any, Any, Any]]], ...] = (
        ("instance", lambda: call(TargetActivities.remove_server, ServerOrder(target=target), **policy)),
        ("ports", lambda: call(TargetActivities.remove_ports, target, **policy)),
        ("network", lambda: call(RehearsalActivities.remove_isolated_network, target, **policy)),
        ("copies", lambda: call(RehearsalActivities.delete_clones, target, **policy)),
    )
    for what, removal in removals:
        try:
            answer = await removal()
        except ActivityError as error:
            trouble = explain(error, f"the rehearsal's {what} could not be removed")
            left.append(": ".join(part for part in (trouble.what, trouble.because) if part))
        else:
            left += getattr(answer, "left", ())
    return tuple(left)
