"""What is asked of the cloud."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.cutover import Evidence
from xms.models import Baseline, Disk, MigrationSpec, Model, Nic, SecureBoot
from xms.orders.source import VmDetails


class CheckTarget(Model):
    """Can the target take this VM?"""

    spec: MigrationSpec
    vm: VmDetails
    for_cutover: bool = Field(default=False, description="the volumes exist already and need no quota any more")
    known: tuple[Nic, ...] = Field(
        default=(), description="the NICs as an earlier check had them: a guest that is off reports no addresses"
    )
    evidence: tuple[Evidence, ...] = Field(default=(), description="what a cutover's target has to be seen by")


class TargetChecked(Model):
    """The target can take it; the submitted names are resolved."""

    project_id: str
    flavor_id: str
    cloud: str
    nics: tuple[Nic, ...] = ()
    zeroed_volumes: bool = Field(default=False, description="new volumes of this type read as zeroes")
    cheap_snapshots: bool = Field(default=False, description="a volume of this type can go back to a snapshot")


class CheckCutover(Model):
    """Would a cutover of this job pass its gates?"""

    spec: MigrationSpec = Field(description="with the mappings of that cutover")
    moref: str = Field(description="the VM's id in the source")
    known: tuple[Nic, ...] = Field(default=(), description="the job's NICs, as of CheckTarget")


class MigrationChecked(Model):
    """What a submit would be based on."""

    vm: VmDetails
    target: TargetChecked


class TargetOrder(Model):
    """Something to do in the target project for a job."""

    job_id: str
    target_project: str
    target_name: str = Field(default="", description="which of the configured targets; empty: the default one")


class MakeVolume(Model):
    """One disk's volume; found again by its metadata where a crash left it."""

    target: TargetOrder
    disk_key: int
    capacity: int = Field(description="bytes; rounded up to GiB by the call")
    name: str
    volume_type: str
    availability_zone: str | None = Field(default=None, description="of the instance: taken where Cinder has it, too")
    volume_availability_zone: str | None = Field(default=None, description="of the volume, as the operator said")
    label: str = Field(default="", description="'Hard disk 1'")
    source: str = ""
    vm: str = ""


class VolumeMade(Model):
    """The volume is available and empty, or the one that this job made before."""

    volume_id: str
    size: int = Field(description="bytes")
    found: bool = Field(default=False, description="made by an earlier attempt")


class ExtendVolume(Model):
    """The source disk grew."""

    target: TargetOrder
    volume_id: str
    capacity: int = Field(description="bytes")


class VolumesOrder(Model):
    """Volumes of a job: to be released, or deleted on the operator's explicit word."""

    target: TargetOrder
    volume_ids: tuple[str, ...]
    after_server: bool = Field(default=False, description="an instance that was just removed may still hold them")


class SnapshotVolumes(Model):
    """One snapshot a volume, while the volumes are the replica; found again by its metadata where a crash left it."""

    target: TargetOrder
    disks: tuple[Disk, ...]
    replica_of: datetime = Field(description="time of the snapshot of the source that the volumes equal, UTC")


class VolumeSnapshot(Model):
    """A snapshot of a volume in the cloud, made by this job for a roll-back."""

    disk_key: int
    volume_id: str
    snapshot_id: str
    baseline: Baseline = Field(default=Baseline(), description="what the volume equals once it is back at it")


class VolumesSnapshotted(Model):
    """The snapshots that are complete. One that is not is no reason to fail: a roll-back copies that disk in full."""

    snapshots: tuple[VolumeSnapshot, ...]
    missing: tuple[str, ...] = Field(default=(), description="one sentence for each disk without one, and why")


class RevertVolumes(Model):
    """Take volumes back to their snapshots, and remove these."""

    target: TargetOrder
    snapshots: tuple[VolumeSnapshot, ...]


class VolumesReverted(Model):
    """Which disks' volumes hold again what their snapshot held; nothing is known of the others."""

    disk_keys: tuple[int, ...]
    refused: tuple[str, ...] = Field(default=(), description="one sentence for each of the others")


class SnapshotsLeft(Model):
    """The job's snapshots of volumes are gone, but for these."""

    left: tuple[str, ...] = Field(default=(), description="one sentence for each one that is not, and why")


class MakePorts(Model):
    """One port a NIC, found again by its description where a crash left it."""

    target: TargetOrder
    instance_name: str
    nics: tuple[Nic, ...]


class PortsMade(Model):
    """The NICs with their ports."""

    nics: tuple[Nic, ...]


class PortsRemoved(Model):
    """The job's ports are gone, but for those that somebody else uses."""

    left: tuple[str, ...] = Field(default=(), description="one sentence for each port that was left, and why")


class FinalizeVolumes(Model):
    """Mark the root volume bootable and give it the image metadata of the converted guest."""

    target: TargetOrder
    disks: tuple[Disk, ...]
    root_disk_key: int
    firmware: str = "bios"
    machine: str = "q35"
    block_bus: str = "virtio"
    net_bus: str = "virtio"
    os_type: str = Field(default="", description="'linux' or 'windows'; empty where the conversion did not tell")
    os_distro: str = Field(default="", description="as libosinfo calls it: 'debian'; empty where nobody told")
    os_version: str = Field(default="", description="'12' or '9.4'; empty where nobody told")
    secure_boot: SecureBoot = Field(default=SecureBoot.DISABLED, description="of a UEFI guest; BIOS knows none")
    guest_agent: bool = False


class BootServer(Model):
    """Boot the instance from the volumes on the ports; found again by its metadata where a crash left it."""

    target: TargetOrder
    spec: MigrationSpec
    disks: tuple[Disk, ...]
    root_disk_key: int
    nics: tuple[Nic, ...]
    block_bus: str = "virtio"


class ServerMade(Model):
    """The server is ACTIVE."""

    server_id: str


class ServerOrder(Model):
    """A job's server; an empty id means: find it by its metadata."""

    target: TargetOrder
    server_id: str = ""
    see_volumes_free: bool = Field(default=True, description="wait until it has let go of its volumes, too")


class CheckEvidence(Model):
    """Could this worker see a target by these signs? Asked when a cutover is ordered, which may begin much later."""

    evidence: tuple[Evidence, ...]
    nics: tuple[Nic, ...] = ()


class EvidenceChecked(Model):
    """It could, as far as that can be told before the target is there."""

    worker: str = Field(default="", description="the one that would look")


class SeeRunning(Model):
    """Wait for evidence that the guest runs."""

    server: ServerOrder
    console_evidence: str | None = Field(default=None, description="one sign more, as orders named it formerly")
    evidence: tuple[Evidence, ...] = Field(default=(), description="each has to be seen; none: any sign of life")
    addresses: tuple[str, ...] = Field(default=(), description="of the target's ports")
    vm: str = Field(default="", description="the source VM's name, for commands")
    timeout_seconds: int = 600


class SeenRunning(Model):
    """The guest was seen running."""

    evidence: str = Field(description="what was seen, in one line")
