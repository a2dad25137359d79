"""A source and a cloud that say no where a test wants them to, and streams that take their time."""

from __future__ import annotations

import asyncio
import fnmatch
import threading
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from tests.workflows.world import World
from xms.config import EvidenceConfig
from xms.cutover import ConversionProgress
from xms.errors import BadInput, ConfigurationError, SourceRefusedLogin, TargetNotFound, VmNotFound, XmsError
from xms.models import DiskProgress, MigrationSpec, Nic, Trouble
from xms.orders.conversion import ConversionLog, Convert, Converted, ReadConversionLog
from xms.orders.copy import StreamDisk, StreamResult
from xms.orders.preflight import (
    DatastoreFacts,
    HostFacts,
    LookAtTarget,
    PreflightOrder,
    PreflightReport,
    Subject,
    Subjects,
    TargetFacts,
    TargetLook,
)
from xms.orders.source import (
    HostsReached,
    ListSources,
    ListVms,
    MissingPrivilege,
    ReachHosts,
    SourceHost,
    SourceList,
    SourceQuery,
    SourceReport,
    SourceSummary,
    VmDetails,
    VmDisk,
    VmList,
    VmNic,
    VmQuery,
)
from xms.orders.target import CheckEvidence, CheckTarget, EvidenceChecked, TargetChecked
from xms.orders.target_check import (
    CloudService,
    ListTargets,
    QuotaLeft,
    TargetList,
    TargetQuestion,
    TargetReport,
    TargetSummary,
)
from xms.preflight.judge import judge
from xms.signs import refuse_impossible

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
        self.conversions_go_on = threading.Event()
        self.conversions_go_on.set()
        self.spoiled: dict[str, dict[str, Any]] = {}
        """What is wrong with a VM, by its name: fields of VmDetails."""

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
    async def list_targets(self, order: ListTargets) -> TargetList:
        del order
        here = TargetSummary(name="", cloud="production", attach="cinder")
        return TargetList(
            targets=(here, here.model_copy(update={"name": "west", "region": "west"})), worker="control-1"
        )

    @activity.defn
    async def look_at_cloud(self, order: TargetQuestion) -> TargetReport:
        if order.target not in {"", "west"}:
            raise as_failure(
                ConfigurationError(f"no target is called '{order.target}'", because="the worker's targets are: west")
            )
        good = CloudService(name="Nova", endpoint="https://c/compute", version="2.1", microversion="2.93")
        down = CloudService(name="Cinder", problem="No server is available (HTTP 503)")
        return TargetReport(
            target=order.target,
            cloud="production",
            region=order.target or "east",
            regions=("east", "west"),
            project=order.project or "infra",
            project_id="p-1",
            user="xms",
            roles=("admin", "member"),
            attach="cinder",
            services=(good, down) if order.target else (good,),
            quotas=(
                QuotaLeft(name="cores", used=60, limit=64),
                QuotaLeft(name="volumes"),
                QuotaLeft(name="ports", limit=0),
            ),
            worker="control-1",
        )

    @activity.defn
    async def reach_hosts(self, order: ReachHosts) -> HostsReached:
        refused = {"reachable": False, "because": "port 902: Connection refused"}
        first, *others = order.hosts
        hosts = (first.model_copy(update={"reachable": True}), *(host.model_copy(update=refused) for host in others))
        return HostsReached(worker="mover-1", hosts=hosts)

    @activity.defn
    async def list_vms(self, order: ListVms) -> VmList:
        self._know(order.source)
        names = fnmatch.filter(["db-prod-01", "web-03"], order.match or "*")
        return VmList(vms=tuple(self._vm(name) for name in names))

    # --- preflight: the real rules over this place --------------------------------------------------------------------

    @activity.defn
    async def gather_subjects(self, order: PreflightOrder) -> Subjects:
        self._know(order.source)
        wanted = order.vms or ("*",)
        names = [name for name in ("db-prod-01", "web-03") if any(fnmatch.fnmatch(name, one) for one in wanted)]
        if not names:
            raise as_failure(
                VmNotFound(f"prod-vcenter has no VM '{wanted[0]}'", because="its VMs are: db-prod-01, web-03")
            )
        return Subjects(source=order.source, subjects=tuple(self._subject(name) for name in names))

    def _subject(self, name: str) -> Subject:
        return Subject(
            source="prod-vcenter",
            vm=self._vm(name).model_copy(update=self.spoiled.get(name, {})),
            host=HostFacts(name="esxi-1", connection="connected"),
            datastores=(DatastoreFacts(name="ds1", capacity=100 * GIB, free=60 * GIB),),
        )

    @activity.defn
    async def look_at_target(self, order: LookAtTarget) -> Subjects:
        looked = []
        for subject in order.subjects.unpacked():
            spec = MigrationSpec(
                source="prod-vcenter",
                vm=subject.vm.name,
                target_project=order.wanted.project or "",
                instance_name="",
                flavor=order.wanted.flavor or "",
                volume_type=order.wanted.volume_type or "",
                network_map=order.wanted.network_map or (),
            )
            facts = await self._looked(CheckTarget(spec=spec, vm=subject.vm))
            looked.append(subject.model_copy(update={"target": facts}))
        return Subjects(source=order.subjects.source, subjects=tuple(looked))

    async def _looked(self, order: CheckTarget) -> TargetFacts:
        looks = {what: TargetLook(what=what) for what in ("project", "volume type", "networks", "quota")}
        looks |= {what: TargetLook(what=what) for what in ("flavor", "network map")}
        try:
            checked = await self.check_target(order)
        except ApplicationError as failure:
            trouble: Trouble = failure.details[0]
            what = "flavor" if "flavor" in trouble.what else "network map"
            looks[what] = TargetLook(what=what, trouble=trouble)
            return TargetFacts(looks=tuple(looks.values()))
        return TargetFacts(looks=tuple(looks.values()), checked=checked)

    @activity.defn
    async def judge_subjects(self, order: Subjects) -> PreflightReport:
        return PreflightReport.of(order.source, [judge(subject) for subject in order.unpacked()])

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
    async def check_evidence(self, order: CheckEvidence) -> EvidenceChecked:
        try:
            refuse_impossible(order.evidence, EvidenceConfig(commands={"db-answers": ("true",)}), order.nics, "place")
        except XmsError as error:
            raise as_failure(error) from error
        return EvidenceChecked(worker="place")

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

    @activity.defn
    async def convert(self, order: Convert) -> Converted:
        while not self.conversions_go_on.is_set():
            activity.heartbeat(
                ConversionProgress(stage="looking for operating systems", seconds=75.0, worker_queue=self.worker_queue)
            )
            await asyncio.sleep(0.1)
        return await super().convert(order)

    @activity.defn
    async def read_conversion_log(self, order: ReadConversionLog) -> ConversionLog:
        text = f"virt-v2v-in-place: the log of {order.job_id}\n"
        return ConversionLog(worker="mover-1", text=text, left_out=2048, written_at=datetime(2026, 11, 22, tzinfo=UTC))

    def _know(self, source: str) -> None:
        if source not in {"prod-vcenter", "locked-vcenter", "poor-vcenter"}:
            raise as_failure(
                ConfigurationError(f"no source is called '{source}'", because="the worker's sources are: prod-vcenter")
            )

    def _vm(self, name: str) -> VmDetails:
        nic = VmNic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", network="VM Network", kind="vmxnet3")
        disks = tuple(
            VmDisk(
                key=key,
                label=f"Hard disk {key - 1999}",
                capacity=disk.capacity,
                path=f"[ds1] {key}.vmdk",
                controller="pvscsi",
            )
            for key, disk in self.disks.items()
        )
        return VmDetails(
            moref=f"vm-{name}",
            name=name,
            path=f"/dc/vm/{name}",
            power_state="poweredOn",
            cpus=2,
            memory=4 * GIB,
            guest_id="debian12_64Guest",
            guest_name="Debian GNU/Linux 12 (64-bit)",
            tools_running=True,
            tools="running",
            hardware_version="vmx-19",
            change_tracking_supported=True,
            connection="connected",
            fault_tolerance="notConfigured",
            host="esxi-1",
            disks=disks,
            nics=(nic,),
        )
