"""A source and a cloud that say no where a test wants them to, and streams that take their time."""

from __future__ import annotations

import asyncio
import threading

from temporalio import activity
from temporalio.exceptions import ApplicationError

from tests.workflows.world import World
from xms.errors import BadInput, ConfigurationError, SourceRefusedLogin, TargetNotFound, VmNotFound, XmsError
from xms.models import DiskProgress, Nic
from xms.orders.copy import StreamDisk, StreamResult
from xms.orders.source import (
    HostsReached,
    ListSources,
    MissingPrivilege,
    ReachHosts,
    SourceHost,
    SourceList,
    SourceQuery,
    SourceReport,
    SourceSummary,
    VmDetails,
    VmList,
    VmNic,
    VmQuery,
)
from xms.orders.target import CheckTarget, TargetChecked

GIB = 1 << 30

POOR = {
    "hosts": tuple(SourceHost(name=f"esx-0{number}", connection="connected") for number in (1, 2)),
    "missing_privileges": (
        MissingPrivilege(
            privilege="VirtualMachine.State.CreateSnapshot", needed_for="every sync", where=("Frankfurt",)
        ),
    ),
}
"""What a source is like whose account and network do not suffice."""


def as_failure(error: XmsError) -> ApplicationError:
    return ApplicationError(str(error), error.trouble(), type=type(error).__name__, non_retryable=True)


class Place(World):
    """The world of the workflow tests with names in it: one source, two VMs, one flavor, one network."""

    def __init__(self) -> None:
        super().__init__()
        self.streams_go_on = threading.Event()
        self.streams_go_on.set()

    @activity.defn
    async def list_sources(self, order: ListSources) -> SourceList:
        del order
        here = SourceSummary(name="prod-vcenter", host="vc.example", username="xms@vsphere.local", trust="system CAs")
        return SourceList(sources=(here,))

    @activity.defn
    async def check_source(self, order: SourceQuery) -> SourceReport:
        self._know(order.source)
        if order.source == "locked-vcenter":
            raise as_failure(
                SourceRefusedLogin(
                    "locked-vcenter does not let xms@vsphere.local in",
                    because="InvalidLogin: Cannot complete login due to an incorrect user name or password.",
                    means="nothing of it can be migrated",
                    do="put the right password into its password file",
                )
            )
        report = SourceReport(source=order.source, product="VMware vCenter Server", version="8.0.3", build="24022515")
        return report if order.source == "prod-vcenter" else report.model_copy(update=POOR)

    @activity.defn
    async def reach_hosts(self, order: ReachHosts) -> HostsReached:
        refused = {"reachable": False, "because": "port 902: Connection refused"}
        first, *others = order.hosts
        hosts = (first.model_copy(update={"reachable": True}), *(host.model_copy(update=refused) for host in others))
        return HostsReached(worker="mover-1", hosts=hosts)

    @activity.defn
    async def list_vms(self, order: SourceQuery) -> VmList:
        self._know(order.source)
        return VmList(vms=tuple(self._vm(name) for name in ("db-prod-01", "web-03")))

    @activity.defn
    async def inspect_vm(self, order: VmQuery) -> VmDetails:
        self._know(order.source)
        found = await super().inspect_vm(order)
        if order.vm == "nowhere":
            raise as_failure(VmNotFound("prod-vcenter has no VM 'nowhere'", because="its VMs are: db-prod-01, web-03"))
        return found.model_copy(update={"nics": self._vm(order.vm).nics})

    @activity.defn
    async def check_target(self, order: CheckTarget) -> TargetChecked:
        spec = order.spec
        if spec.flavor != "m1.xlarge":
            raise as_failure(TargetNotFound(f"no flavor is called '{spec.flavor}'", because="the flavors: m1.xlarge"))
        mapped = {mapping.source: mapping for mapping in spec.network_map}
        for nic in order.vm.nics:
            if nic.network not in mapped:
                raise as_failure(
                    BadInput(f"{nic.label} of {spec.vm} is not mapped", because=f"its network is '{nic.network}'")
                )
        checked = await super().check_target(order)
        nics = tuple(
            Nic(
                key=nic.key,
                label=nic.label,
                mac=nic.mac,
                source_network=nic.network,
                network=mapped[nic.network].network,
                subnet=mapped[nic.network].subnet,
            )
            for nic in order.vm.nics
        )
        return checked.model_copy(update={"nics": nics})

    @activity.defn
    async def stream_disk(self, order: StreamDisk) -> StreamResult:
        while not self.streams_go_on.is_set():
            half = order.bytes // 2
            activity.heartbeat(
                DiskProgress(
                    disk_key=order.disk.key, planned=order.bytes, bytes_read=half, bytes_written=half // 2, rate=65536.0
                )
            )
            await asyncio.sleep(0.1)
        return await super().stream_disk(order)

    def _know(self, source: str) -> None:
        if source not in {"prod-vcenter", "locked-vcenter", "poor-vcenter"}:
            raise as_failure(
                ConfigurationError(f"no source is called '{source}'", because="the worker's sources are: prod-vcenter")
            )

    def _vm(self, name: str) -> VmDetails:
        nic = VmNic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", network="VM Network")
        return VmDetails(
            moref="vm-101", name=name, power_state="poweredOn", cpus=2, memory=4 * GIB, nics=(nic,),
            change_tracking_supported=True,
        )  # fmt: skip
