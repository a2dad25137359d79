"""What is asked of vSphere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Self

from pydantic import Field

from xms.models import Baseline, Model
from xms.orders.packing import packed, unpacked

MARK: Final = "migrated by XMS job"
"""What the line begins with that a completed cutover leaves on the source; the job's id follows."""


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
    timeout_seconds: float = Field(default=60.0, description="for one answer")
    nfc_port: int = Field(default=902, description="port at which its ESXi hosts serve their disks")
    host_streams: int = Field(default=3, description="streams from one ESXi host at a time; 0: any number")
    host_mib_in_flight: int = 48
    problem: str = Field(default="", description="why it cannot be used; then only its name is known")


class SourceList(Model):
    """The sources of the worker that answered."""

    sources: tuple[SourceSummary, ...] = ()
    worker: str = Field(default="", description="the worker that answered; each has a configuration of its own")


class SourceQuery(Model):
    """A registered source by its name."""

    source: str


class MissingPrivilege(Model):
    """Something that the source's account is not allowed, and that migrations need."""

    privilege: str = Field(description="as vSphere calls it: 'VirtualMachine.State.CreateSnapshot'")
    needed_for: str
    where: tuple[str, ...] = Field(default=(), description="names of the datacenters")


class SourceHost(Model):
    """An ESXi host of the source, which serves the disks of its VMs."""

    name: str
    connection: str = Field(default="", description="'connected', 'disconnected', 'notResponding', as vCenter has it")
    reachable: bool | None = Field(default=None, description="from a data worker, at the NFC port; None: not tried")
    because: str = Field(default="", description="why it is not reachable, or was not tried")


class SourceReport(Model):
    """The answer to a check: what the source is, and what is missing."""

    source: str
    product: str = Field(description="'VMware vCenter Server'")
    version: str
    build: str
    api: str = Field(default="", description="'VirtualCenter' or 'HostAgent'")
    api_version: str = ""
    milliseconds: int = Field(default=0, description="time of one answer")
    time: datetime | None = Field(default=None, description="by the source's clock")
    clock_ahead_seconds: float = Field(default=0.0, description="of the worker's clock")
    missing_privileges: tuple[MissingPrivilege, ...] = ()
    hosts: tuple[SourceHost, ...] = ()
    hosts_tried_by: str = Field(default="", description="the data worker that tried the hosts; empty: none did")
    hosts_not_tried: str = Field(default="", description="why none did")


class ReachHosts(Model):
    """Try whether the ESXi hosts of a source can be reached from where the disks are read."""

    source: str
    hosts: tuple[SourceHost, ...]


class HostsReached(Model):
    """The hosts with what came of it."""

    worker: str
    hosts: tuple[SourceHost, ...] = ()


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
    kind: str = Field(default="", description="vmxnet3, e1000, e1000e, vmxnet2, pcnet32, sriov; empty: not known")
    addresses: tuple[str, ...] = Field(
        default=(), description="IPv4 and IPv6 that the guest's tools report, without those that it made up itself"
    )


class VmDisk(Model):
    """A disk as the source has it."""

    key: int
    label: str
    capacity: int = Field(description="bytes")
    path: str = Field(description="datastore path of the backing")
    mode: str = Field(default="persistent", description="vSphere disk mode")
    change_id: str | None = None
    controller: str = Field(
        default="", description="pvscsi, lsilogic, lsisas, buslogic, nvme, sata, ide; empty: not known"
    )
    raw_device: str = Field(default="", description="of a raw device mapping: physicalMode or virtualMode")
    shared: str = Field(default="", description="how other VMs may write to it; empty: not at all")
    encrypted: bool = False

    @property
    def datastore(self) -> str:
        """Name of the datastore that its file is on: 'ds1' of '[ds1] web/web.vmdk'; empty where that is not known."""
        return self.path[1:].partition("]")[0] if self.path.startswith("[") else ""


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
    tools: str = Field(default="", description="running, not running, starting, not installed; empty: not known")
    hardware_version: str = ""
    change_tracking_supported: bool = False
    change_tracking_enabled: bool = False
    consolidation_needed: bool = False
    snapshots: tuple[str, ...] = Field(default=(), description="names of every snapshot, depth first")
    template: bool = False
    connection: str = Field(default="", description="connected, disconnected, orphaned, inaccessible or invalid")
    fault_tolerance: str = Field(default="", description="vSphere's state of it; notConfigured, or empty: not known")
    encrypted: bool = Field(default=False, description="its own files are: the configuration names a key")
    trusted_platform_module: bool = False
    passthrough: tuple[str, ...] = Field(default=(), description="labels of devices of the host that it has for itself")
    host: str = Field(default="", description="name of the ESXi host that it runs on, or is registered with")
    disks: tuple[VmDisk, ...] = ()
    nics: tuple[VmNic, ...] = ()


class ListVms(SourceQuery):
    """Which VMs a source has."""

    match: str = Field(default="", description="only names of this pattern ('web-*'); with a slash: only such paths")


class VmList(Model):
    """The inventory of a source."""

    vms: tuple[VmDetails, ...] = ()
    packed: str = Field(default="", description="the same instead, where it is long: see xms.orders.packing")

    @classmethod
    def of(cls, vms: Sequence[VmDetails]) -> Self:
        """A list that fits into one payload, however many they are.

        Raises:
            BadInput: not even packed.
        """
        text = packed(vms, do="narrow the list with --match")
        return cls(packed=text) if text else cls(vms=tuple(vms))

    def unpacked(self) -> Self:
        """The list with its VMs in `vms`."""
        return type(self)(vms=unpacked(self.packed, VmDetails)) if self.packed else self


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
    consistency: str = Field(default="", description="'quiesced', or what else the disks are, and why")
    vm_name: str = Field(default="", description="what the VM is called now; empty: an older worker did not look")
    power_state: str = Field(default="", description="as inspect_vm has it; empty: an older worker did not look")
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
    was_running: bool = Field(default=False, description="when the cutover began")


class PoweredOff(Model):
    """The source is off, as vCenter says."""

    how: str = Field(description="'guest shut down', 'powered off hard', 'was off', 'went off unseen'")
    because: str = Field(default="", description="why it did not go the gentle way; empty: it did")


class PoweredOn(Model):
    """The source runs."""

    was_on: bool


class MarkMigrated(Model):
    """Write into the VM's annotation which job moved it where."""

    vm: VmOrder
    text: str


class Done(Model):
    """An answer without content."""
