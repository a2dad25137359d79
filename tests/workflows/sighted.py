"""A world that remembers what it was asked to see of the target, and by which addresses."""

from __future__ import annotations

from temporalio import activity

from tests.workflows.world import World
from xms.orders.target import CheckTarget, MakePorts, PortsMade, SeenRunning, SeeRunning, TargetChecked


class Sighted(World):
    """Its ports get `addresses`, one each; without any, none."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(disks=1)
        self.addresses = addresses
        self.checks: list[CheckTarget] = []
        self.sights: list[SeeRunning] = []

    @activity.defn
    async def check_target(self, order: CheckTarget) -> TargetChecked:
        self.checks.append(order)
        return await super().check_target(order)

    @activity.defn
    async def make_ports(self, order: MakePorts) -> PortsMade:
        made = await super().make_ports(order)
        given = zip(made.nics, self.addresses, strict=False)
        return PortsMade(nics=tuple(nic.model_copy(update={"port_ips": (address,)}) for nic, address in given))

    @activity.defn
    async def see_running(self, order: SeeRunning) -> SeenRunning:
        self.sights.append(order)
        return await super().see_running(order)
