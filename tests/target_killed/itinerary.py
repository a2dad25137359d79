"""What a job has the cloud do from its submission to the end, undo and clean-up included, in the workflow's order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tests.openstack.conftest import GIB, PROJECT
from tests.target_killed.worker import WRITE, WriteVolumes
from xms.models import Disk, MigrationSpec, Model, NetworkMapping, Nic, job_id
from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, MakeIsolatedNetwork
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.orders.target import (
    BootServer,
    CheckTarget,
    ExtendVolume,
    FinalizeVolumes,
    MakePorts,
    MakeVolume,
    PortsMade,
    RevertVolumes,
    SeeRunning,
    ServerMade,
    ServerOrder,
    SnapshotVolumes,
    TargetChecked,
    TargetOrder,
    VolumeMade,
    VolumeSnapshot,
    VolumesOrder,
    VolumesSnapshotted,
)
from xms.rehearsal import rehearsal_id

MIB: Final = 1 << 20
DISKS: Final = (2000, 2001)
NICS: Final = (4000, 4001)
NETWORKS: Final = ("internal-net", "backup-net")
GREETING: Final = b"the guest of the test runs\r\n"
REPLICATED: Final = tuple(f"replica of {key} ".encode() * 512 for key in DISKS)
CONVERTED: Final = tuple(f"conversion of {key} ".encode() * 512 for key in DISKS)


def boot_sector() -> bytes:
    """16-bit code that writes the greeting to the first serial port, byte by byte, and halts."""
    code = bytes.fromhex("31c0 8ed8 be157c ac 84c0 7406 baf803 ee ebf5 f4 ebfd") + GREETING + b"\0"
    return code.ljust(510, b"\0") + b"\x55\xaa"


@dataclass
class Job:
    """One VM's migration, as far as the cloud is concerned: what the workflow would remember of it."""

    vm: str
    volumes: dict[int, str] = field(default_factory=dict)
    nics: tuple[Nic, ...] = ()
    server_id: str = ""
    snapshots: tuple[VolumeSnapshot, ...] = ()

    @property
    def target(self) -> TargetOrder:
        return TargetOrder(job_id=job_id("prod", self.vm), target_project=PROJECT)

    @property
    def volume_ids(self) -> tuple[str, ...]:
        return tuple(self.volumes[key] for key in DISKS)

    @property
    def disks(self) -> tuple[Disk, ...]:
        return tuple(
            Disk(key=key, label=f"Hard disk {place + 1}", capacity=GIB, volume_id=self.volumes[key])
            for place, key in enumerate(DISKS)
        )

    @property
    def macs(self) -> tuple[str, ...]:
        digest = hashlib.sha256(self.vm.encode()).hexdigest()
        return tuple(f"00:50:56:{digest[:2]}:{digest[2:4]}:{place:02x}" for place in range(len(NICS)))

    @property
    def spec(self) -> MigrationSpec:
        return MigrationSpec(
            source="prod",
            vm=self.vm,
            target_project=PROJECT,
            instance_name=self.vm,
            flavor="m1.nano",
            volume_type="ssd",
            network_map=tuple(NetworkMapping(source=f"net {name}", network=name) for name in NETWORKS),
        )

    @property
    def details(self) -> VmDetails:
        return VmDetails(
            moref="vm-1",
            name=self.vm,
            power_state="poweredOn",
            cpus=1,
            memory=128 * MIB,
            disks=tuple(VmDisk(key=key, label=f"Hard disk {key}", capacity=GIB, path="[ds] a.vmdk") for key in DISKS),
            nics=tuple(
                VmNic(key=key, label=f"Network adapter {place + 1}", mac=mac, network=f"net {network}")
                for place, (key, mac, network) in enumerate(zip(NICS, self.macs, NETWORKS, strict=True))
            ),
        )

    def take_in(self, order: Model, answer: Model | None) -> None:
        """Remember what a step answered, as the workflow does."""
        if isinstance(order, MakeVolume) and isinstance(answer, VolumeMade):
            self.volumes[order.disk_key] = answer.volume_id
        elif isinstance(answer, TargetChecked | PortsMade):
            self.nics = answer.nics
        elif isinstance(answer, ServerMade):
            self.server_id = answer.server_id
        elif isinstance(answer, VolumesSnapshotted):
            self.snapshots = answer.snapshots


@dataclass(frozen=True)
class Stop:
    """One step of the itinerary: the activity, and the order that a job gives it."""

    title: str
    activity: str
    order: Callable[[Job], Model]


def make_volume(key: int) -> Stop:
    return Stop(
        f"make the volume of {key}",
        "make_volume",
        lambda job: MakeVolume(
            target=job.target, disk_key=key, capacity=GIB, name=f"{job.vm} {key}", volume_type="ssd"
        ),
    )


def volumes_order(job: Job) -> VolumesOrder:
    return VolumesOrder(target=job.target, volume_ids=job.volume_ids)


def snapshot(title: str, minute: int) -> Stop:
    return Stop(
        title,
        "snapshot_volumes",
        lambda job: SnapshotVolumes(
            target=job.target, disks=job.disks, replica_of=datetime(2026, 11, 29, 1, minute, tzinfo=UTC)
        ),
    )


def stream(place: int, content: bytes, offset: int) -> Stop:
    return Stop(
        f"stream {DISKS[place]} to {offset}",
        WRITE,
        lambda job: WriteVolumes(
            target=job.target, volume_ids=(job.volume_ids[place],), content=(content,), offset=offset
        ),
    )


def rehearsal_of(job: Job) -> TargetOrder:
    return job.target.model_copy(update={"job_id": rehearsal_id(job.target.job_id)})


EXTENDED: Final = 2 * GIB
REHEARSAL: Final = (
    Stop(
        "check the rehearsal",
        "check_rehearsal",
        lambda job: CheckRehearsal(target=rehearsal_of(job), spec=job.spec, disks=job.disks, nics=job.nics),
    ),
    Stop(
        "copy the volumes",
        "clone_volumes",
        lambda job: CloneVolumes(
            target=rehearsal_of(job),
            of_job=job.target.job_id,
            disks=job.disks,
            token="rehearsal 1",
            instance_name=f"{job.vm} rehearsal",
            timeout_seconds=60,
        ),
    ),
    Stop(
        "make the isolated network",
        "make_isolated_network",
        lambda job: MakeIsolatedNetwork(target=rehearsal_of(job), name=f"{job.vm} rehearsal"),
    ),
    Stop("remove the isolated network", "remove_isolated_network", rehearsal_of),
    Stop("delete the copies", "delete_clones", rehearsal_of),
)
"""What a rehearsal asks for that nothing else does. Its boot and its ports are asked for as a cutover's are."""

WAY_THERE: Final = (
    Stop("check the target", "check_target", lambda job: CheckTarget(spec=job.spec, vm=job.details)),
    make_volume(DISKS[0]),
    make_volume(DISKS[1]),
    Stop(
        "extend the first volume",
        "extend_volume",
        lambda job: ExtendVolume(target=job.target, volume_id=job.volumes[DISKS[0]], capacity=EXTENDED),
    ),
    stream(0, boot_sector(), 0),
    stream(1, REPLICATED[1], 0),
    Stop("release after the sync", "release_volumes", volumes_order),
    *REHEARSAL,
    Stop(
        "check before the cutover",
        "check_target",
        lambda job: CheckTarget(spec=job.spec, vm=job.details, for_cutover=True),
    ),
    Stop(
        "make the ports",
        "make_ports",
        lambda job: MakePorts(target=job.target, instance_name=job.vm, nics=job.nics),
    ),
    stream(0, REPLICATED[0], MIB),
    Stop("release after the final delta", "release_volumes", volumes_order),
    snapshot("make snapshots of the volumes", 1),
    Stop(
        "convert",
        WRITE,
        lambda job: WriteVolumes(target=job.target, volume_ids=job.volume_ids, content=CONVERTED, offset=2 * MIB),
    ),
    Stop("release after the conversion", "release_volumes", volumes_order),
    Stop(
        "finalize",
        "finalize_volumes",
        lambda job: FinalizeVolumes(target=job.target, disks=job.disks, root_disk_key=DISKS[0], os_type="linux"),
    ),
    Stop(
        "boot",
        "boot_server",
        lambda job: BootServer(
            target=job.target, spec=job.spec, disks=job.disks, root_disk_key=DISKS[0], nics=job.nics
        ),
    ),
    Stop(
        "see it running",
        "see_running",
        lambda job: SeeRunning(
            server=ServerOrder(target=job.target, server_id=job.server_id),
            console_evidence="guest of the test runs",
            timeout_seconds=120,
        ),
    ),
)
WAY_BACK: Final = (
    Stop(
        "remove the server",
        "remove_server",
        lambda job: ServerOrder(target=job.target, server_id=job.server_id),
    ),
    Stop("remove the ports", "remove_ports", lambda job: job.target),
    Stop(
        "take the volumes back",
        "revert_volumes",
        lambda job: RevertVolumes(target=job.target, snapshots=job.snapshots),
    ),
    snapshot("make other snapshots", 2),
    Stop("remove the snapshots", "remove_volume_snapshots", volumes_order),
)
CLEAN_UP: Final = (Stop("delete the volumes", "delete_volumes", volumes_order),)
ITINERARY: Final = (*WAY_THERE, *WAY_BACK, *CLEAN_UP)
ATTACHING: Final = tuple(
    stop
    for stop in ITINERARY
    if stop.activity in {"make_volume", "delete_volumes"} or stop.title in {"convert", "release after the conversion"}
)
"""The part that is another one where workers attach by Nova."""
