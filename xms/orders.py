"""What the workflows ask of the activities, and what they get back: one model in, one model out.

The same rules as in `xms.models`: new fields have defaults, unknown ones are ignored, sizes are bytes, times are UTC,
and nothing secret is a field: an order names a source or a cloud, the worker knows how to reach it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.models import Baseline, Disk, MigrationSpec, Model, Nic

# --- the source -------------------------------------------------------------------------------------------------------


class ListSources(Model):
    """Which sources the workers know."""


class SourceSummary(Model):
    """A registered source, without its secrets."""

    name: str
    host: str
    port: int = 443
    username: str
    trust: str = Field(description="'thumbprint AA:BB:..', 'CA bundle /path', or 'system CAs'")
    datacenter: str | None = None


class SourceList(Model):
    """The sources of the worker that answered."""

    sources: tuple[SourceSummary, ...] = ()


class SourceQuery(Model):
    """A registered source by its name."""

    source: str


class SourceReport(Model):
    """The connection test's answer."""

    source: str
    product: str = Field(description="'VMware vCenter Server'")
    version: str
    build: str
    api: str = Field(default="", description="'VirtualCenter' or 'HostAgent'")
    milliseconds: int = Field(default=0, description="time of log-in and first answer")


class VmQuery(Model):
    """A VM of a source, by name or inventory path."""

    source: str
    vm: str
    moref: str = Field(default="", description="where it is known, it finds the VM whatever its name is now")


class VmNic(Model):
    """A NIC as the source has it."""

    key: int
    label: str
    mac: str
    network: str


class VmDisk(Model):
    """A disk as the source has it."""

    key: int
    label: str
    capacity: int = Field(description="bytes")
    path: str = Field(description="datastore path of the backing")
    mode: str = Field(default="persistent", description="vSphere disk mode")
    change_id: str | None = None


class VmDetails(Model):
    """What discovery knows of a VM."""

    moref: str
    name: str
    path: str = Field(default="", description="inventory path")
    instance_uuid: str = ""
    power_state: str = Field(description="poweredOn, poweredOff, suspended")
    cpus: int
    memory: int = Field(description="bytes")
    firmware: str = "bios"
    secure_boot: bool = False
    guest_id: str = ""
    guest_name: str = ""
    tools_running: bool = False
    hardware_version: str = ""
    change_tracking_supported: bool = False
    change_tracking_enabled: bool = False
    consolidation_needed: bool = False
    snapshots: tuple[str, ...] = Field(default=(), description="names of every snapshot, depth first")
    disks: tuple[VmDisk, ...] = ()
    nics: tuple[VmNic, ...] = ()


class VmList(Model):
    """The inventory of a source."""

    vms: tuple[VmDetails, ...] = ()


class VmOrder(Model):
    """Something to do with the VM of a job."""

    job_id: str
    source: str
    moref: str
    vm: str = Field(description="the VM's name, for messages")


class ChangeTracking(Model):
    """Change tracking is on, and every disk has a change id."""

    turned_on_now: bool


class SnapshotDisk(Model):
    """A disk as the snapshot froze it."""

    key: int
    label: str
    capacity: int = Field(description="bytes")
    path: str = Field(description="datastore path that VDDK opens")
    change_id: str | None = None


class SnapshotTaken(Model):
    """The sync's snapshot: one for all disks."""

    moref: str
    name: str
    taken_at: datetime
    quiesced: bool = False
    leftovers_removed: int = Field(default=0, description="snapshots of this job that a crash had left")
    host: str = Field(default="", description="ESXi host that the VM runs on: its disks are read there")
    host_streams: int | None = Field(default=None, description="streams that may read there at a time; None: any")
    host_bytes_in_flight: int | None = Field(
        default=None, description="bytes that all of them may have asked for together; None: any number"
    )
    disks: tuple[SnapshotDisk, ...] = ()


class SnapshotsRemoved(Model):
    """Every snapshot of the job is gone, and its consolidation is done."""

    removed: int


class PlanDisk(Model):
    """What one disk's sync has to copy."""

    vm: VmOrder
    snapshot: str = Field(description="moref")
    disk: SnapshotDisk
    baseline: Baseline
    replica_capacity: int = Field(
        description="bytes that the disk had at its last committed sync; before the first one, when its volume was made"
    )
    volume_is_zeroed: bool = Field(description="volume is new, never written and known to read as zeroes")
    ranges_limit: int = Field(
        default=262144, description="characters that the encoded plan may have; the VM's disks share one message"
    )


class DiskPlan(Model):
    """The change map of one disk and sync."""

    disk_key: int
    ranges: str = Field(description="what to copy, as ByteRanges.encode gives it")
    bytes: int
    full: bool = Field(description="the disk's first or a repeated full copy, or the rest of one")
    skip_zeroes: bool = Field(default=False, description="zeroes need not be written: the volume holds them already")
    reseed_reason: str = Field(default="", description="why the whole disk is copied again; empty when it is not")
    areas: int = Field(default=0, description="areas that the source named")


class PowerOff(Model):
    """Stop the source and confirm that it is off."""

    vm: VmOrder
    shutdown_timeout_seconds: int = 300
    hard_power_off: bool = True


class PoweredOff(Model):
    """The source is off, as vCenter says."""

    how: str = Field(description="'guest shut down', 'powered off hard', 'was off'")


class PoweredOn(Model):
    """The source runs."""

    was_on: bool


class MarkMigrated(Model):
    """Write into the VM's annotation which job moved it where."""

    vm: VmOrder
    text: str


class Done(Model):
    """An answer without content."""


# --- the budget of an ESXi host ---------------------------------------------------------------------------------------


class JobRuns(Model):
    """Runs of workflows."""

    runs: tuple[tuple[str, str], ...] = Field(description="workflow id and run id")


# --- the copy ---------------------------------------------------------------------------------------------------------


class StreamDisk(Model):
    """Bring a volume up to a snapshot: read the ranges, write them at the same offsets, flush, tell what is flushed."""

    vm: VmOrder
    snapshot: str = Field(description="moref")
    disk: SnapshotDisk
    volume_id: str
    target_project: str
    ranges: str
    bytes: int
    skip_zeroes: bool = False
    verify: bool = Field(default=False, description="read back what was written and compare its digest")
    give_up_at: datetime | None = Field(
        default=None, description="end cleanly with a rest when the snapshot is this old"
    )
    compare: str = Field(default="", description="ranges of the volume to compare with the snapshot when all is copied")
    bytes_in_flight: int = Field(default=16 << 20, description="bytes that may be asked for and not answered yet")
    rate_limit: int | None = Field(
        default=None, description="bytes a second until the job is asked for a newer limit; None: no limit"
    )


class StreamRate(Model):
    """What one stream of a job may read, as the job says while it runs."""

    bytes_a_second: int | None = Field(default=None, description="None: no limit")


class StreamResult(Model):
    """All that counts is flushed."""

    disk_key: int
    bytes_read: int
    bytes_written: int
    remaining: str = Field(default="", description="ranges not copied because the snapshot grew too old or was lost")
    remaining_bytes: int = 0
    seconds: float = 0.0
    verified: bool = False
    cut_short: str = Field(default="", description="why something remains")
    flushed_bytes: int | None = Field(
        default=None, description="what the volume's own account says was flushed; None: an older worker kept none"
    )
    compared: str = Field(default="", description="ranges that were compared; less than asked for where time ran out")
    differing: str = Field(default="", description="ranges in which the volume was not what the snapshot is")
    differing_bytes: int = 0


# --- the target -------------------------------------------------------------------------------------------------------


class CheckTarget(Model):
    """Can the target take this VM?"""

    spec: MigrationSpec
    vm: VmDetails
    for_cutover: bool = Field(default=False, description="the volumes exist already and need no quota any more")


class TargetChecked(Model):
    """The target can take it; the submitted names are resolved."""

    project_id: str
    flavor_id: str
    cloud: str
    nics: tuple[Nic, ...] = ()
    zeroed_volumes: bool = Field(default=False, description="new volumes of this type read as zeroes")


class MigrationChecked(Model):
    """What a submit would be based on."""

    vm: VmDetails
    target: TargetChecked


class TargetOrder(Model):
    """Something to do in the target project for a job."""

    job_id: str
    target_project: str


class MakeVolume(Model):
    """One disk's volume; found again by its metadata where a crash left it."""

    target: TargetOrder
    disk_key: int
    capacity: int = Field(description="bytes; rounded up to GiB by the call")
    name: str
    volume_type: str
    availability_zone: str | None = None


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


class MakePorts(Model):
    """One port a NIC, found again by its tag where a crash left it."""

    target: TargetOrder
    instance_name: str
    nics: tuple[Nic, ...]


class PortsMade(Model):
    """The NICs with their ports."""

    nics: tuple[Nic, ...]


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


class SeeRunning(Model):
    """Wait for evidence that the guest runs."""

    server: ServerOrder
    console_evidence: str | None = None
    timeout_seconds: int = 600


class SeenRunning(Model):
    """The guest was seen running."""

    evidence: str = Field(description="what was seen, in one line")


# --- the conversion ---------------------------------------------------------------------------------------------------


class Convert(Model):
    """Convert the guest on overlays over all its volumes; the volumes are only read."""

    vm: VmOrder
    target_project: str
    disks: tuple[Disk, ...] = Field(description="in the order of the guest's disks")
    nics: tuple[Nic, ...]
    firmware: str = "bios"
    memory: int = Field(default=1 << 30, description="the guest's memory, bytes")
    cpus: int = 1


class DiskWritten(Model):
    """What a conversion wrote over one disk."""

    disk_key: int
    ranges: str = Field(description="as ByteRanges.encode gives it; a superset is allowed")
    bytes: int


class Converted(Model):
    """The guest is converted on the overlays; nothing is committed yet."""

    written: tuple[DiskWritten, ...]
    worker_queue: str = Field(description="task queue of the worker that holds the overlays")
    root_disk_key: int
    firmware: str = "bios"
    machine: str = "q35"
    block_bus: str = "virtio"
    net_bus: str = "virtio"
    os_type: str = Field(default="", description="'linux' or 'windows'; empty where virt-v2v did not tell")
    seconds: float = 0.0


class ConversionOrder(Model):
    """The overlays of a job on the worker that holds them: to be committed, or forgotten."""

    vm: VmOrder
    target_project: str
    disks: tuple[Disk, ...]


class Committed(Model):
    """The overlays are merged into the volumes and flushed."""

    bytes: int
