"""The wire vocabulary: what a migration is asked for, what it is told, and what it answers.

Everything here passes through Temporal and may be read by an older or a newer worker than wrote it. So a new field
always has a default, unknown fields are ignored, and nothing secret is ever a field. Sizes are bytes, times are UTC,
durations seconds.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """A value on the wire: immutable, tolerant of fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Phase(StrEnum):
    """Where a job stands, in the words of the specification. "paused" is a mark beside it, not a phase."""

    INITIALIZING = "Initializing"
    FULL_SYNC = "Full Sync"
    READY = "Ready"
    SYNCING = "Syncing"
    CUTTING_OVER = "Cutting Over"
    COMPLETED = "Completed"
    FAILED = "Failed"
    ABANDONED = "Abandoned"


class SecureBoot(StrEnum):
    """What the instance's UEFI firmware does about signatures, in Nova's words (os_secure_boot)."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    DISABLED = "disabled"


class Trouble(Model):
    """An error as people read it: what happened, why, what it means for the data, what to do next."""

    kind: str = Field(description="class name in xms.errors")
    what: str
    because: str = ""
    means: str = ""
    do: str = ""
    needs_person: bool = False
    at: datetime | None = Field(default=None, description="UTC")
    log_tail: str = Field(default="", description="the end of the log of a program that failed, 20 lines at most")
    worker_queue: str = Field(default="", description="task queue of the worker that has more to tell; empty: none has")


# --- what is asked for ------------------------------------------------------------------------------------------------


class NetworkMapping(Model):
    """Which target network a source NIC goes to, and what its port is like there."""

    source: str = Field(description="name of the source network, or the label of one NIC ('Network adapter 2')")
    network: str = Field(description="name or id of the target network")
    subnet: str | None = Field(default=None, description="name or id of a subnet of it; None lets Neutron choose")
    mac: Literal["keep", "new"] = Field(default="keep", description="'keep' the NIC's MAC, or a 'new' one of Neutron's")
    fixed_ips: Literal["keep"] | tuple[str, ...] = Field(
        default=(),
        description="'keep' the addresses that the guest's tools report, or these (IPv4, IPv6); none: Neutron chooses",
    )
    security_groups: tuple[str, ...] | None = Field(
        default=None, description="names or ids; None: the project's default group; an empty list: no group"
    )
    port_security: bool | None = Field(
        default=None, description="filtering by MAC, IP and groups; None: as the network has it; False needs no groups"
    )


class MigrationSpec(Model):
    """One warm migration of one VM, as submitted."""

    source: str = Field(description="name of a registered source, for example prod-vcenter")
    vm: str = Field(description="the VM's name, or its inventory path where the name is not unique")
    kind: str = Field(default="warm", description="always 'warm'")
    target: str = Field(default="", description="name of a configured target; empty: the default one")
    target_project: str = Field(description="name of the project that will own the instance")
    instance_name: str = Field(description="name of the target instance")
    flavor: str = Field(description="name of the target flavor; at least the source's vCPUs and memory")
    volume_type: str = Field(description="volume type of every target volume")
    availability_zone: str | None = Field(default=None, description="zone of the instance; None lets Nova choose")
    volume_availability_zone: str | None = Field(
        default=None,
        description="zone of the volumes; None is the instance's where Cinder has it, else Cinder's choice",
    )
    key_pair: str | None = Field(
        default=None, description="name of a key pair of the workers' account, for the instance's metadata"
    )
    user_data: str | None = Field(
        default=None, description="name of a file in the workers' target.user_data_dir, given to the instance as it is"
    )
    config_drive: bool = Field(default=False, description="give the instance its metadata on a disk, too")
    guest_agent: bool = Field(default=False, description="the guest has, or gets, the QEMU guest agent")
    secure_boot: SecureBoot | None = Field(
        default=None, description="of a UEFI guest; None: optional where the source has it on, else disabled"
    )
    network_map: tuple[NetworkMapping, ...] = ()
    cadence_seconds: int | None = Field(default=None, description="seconds between syncs; None is manual")
    max_snapshot_age_seconds: int = Field(default=3600, description="a sync's snapshot is given up after this time")
    verify_syncs: bool = Field(
        default=False, description="read back what every sync wrote, and compare; the final delta always is"
    )
    scrub_percent: float = Field(
        default=0.0, description="share of each disk that every sync compares with its snapshot, going round; 0: none"
    )
    rate_limit: int | None = Field(
        default=None,
        ge=64 << 10,
        description="bytes a second for all of the job's streams together, as submitted; None: no limit",
    )
    requested_by: str = ""

    def remapped(self, changes: tuple[NetworkMapping, ...]) -> MigrationSpec:
        """The same with these mappings instead of its own of the same sources."""
        changed = {mapping.source for mapping in changes}
        kept = tuple(mapping for mapping in self.network_map if mapping.source not in changed)
        return self.model_copy(update={"network_map": (*kept, *changes)})

    @property
    def destination(self) -> str:
        """Where the VM goes, as people read it: the project, and the target unless it is the default one."""
        return f"{self.target_project} of {self.target}" if self.target else self.target_project


def job_id(source: str, vm: str) -> str:
    """The workflow id of the one job that may migrate this VM of this source."""
    return f"warm-{source}-{vm}".replace("/", "-").replace(" ", "-")


# --- what an operator says --------------------------------------------------------------------------------------------


class Command(Model):
    """The part that every verb has: who says it."""

    who: str = Field(default="", description="the operator, as the client knows it; for the record only")


class SyncNow(Command):
    """Run an incremental sync now, or another one after the one that runs."""


class Pause(Command):
    """Stop the cadence; a sync that runs is finished."""


class Resume(Command):
    """Sync at once, and go on with the cadence."""


class SetCadence(Command):
    """Another cadence, reckoned from the last sync."""

    cadence_seconds: int | None = Field(default=None, description="seconds, at least 60; None is manual")


class Verify(Command):
    """Compare every byte of the replica with a snapshot of the source, after the sync that runs."""


class SetRateLimit(Command):
    """Another limit for the job's streams, those that run included."""

    rate_limit: int | None = Field(default=None, description="bytes a second, at least 65536; None is no limit")


class Retry(Command):
    """Go on where a Failed job stood."""


class Abandon(Command):
    """End the job. Snapshots are removed; the volumes stay unless `delete_volumes`."""

    delete_volumes: bool = False


class Receipt(Model):
    """The answer to an accepted command."""

    text: str = Field(description="what will happen, in one sentence")


# --- the job record ---------------------------------------------------------------------------------------------------


class Baseline(Model):
    """What a disk's replica is known to equal, and what is still missing."""

    change_id: str | None = Field(default=None, description="CBT's name of the point in time; None: nothing is known")
    unseeded: str = Field(
        default="", description="ranges not copied yet, as xms.change_map.ByteRanges.encode gives them"
    )
    unseeded_bytes: int = 0


class Disk(Model):
    """One virtual disk of the VM, and its replica."""

    key: int = Field(description="vSphere device key; the disk's identity")
    label: str = Field(description="'Hard disk 1'")
    capacity: int = Field(description="bytes")
    volume_id: str | None = None
    volume_size: int = Field(default=0, description="bytes")
    baseline: Baseline = Baseline()
    pristine: bool = Field(
        default=True, description="no stream was ever started on the volume: it holds what it was made with"
    )
    bytes_full: int = Field(default=0, description="bytes read by the full sync")
    bytes_incremental: int = Field(default=0, description="bytes read by all incremental syncs")
    last_delta: int = Field(default=0, description="bytes that the last committed sync had to copy")
    allocated: int = Field(default=0, description="bytes that the first plan found allocated")
    scrub_from: int = Field(default=0, description="byte offset at which the next sync's scrub goes on")
    differed: str = Field(
        default="",
        description="what a comparison found to differ and none has found mended since, as ByteRanges.encode gives it",
    )
    differed_bytes: int = 0
    differed_syncs: int = Field(default=0, description="syncs in a row, the last one included, that found something")


class Nic(Model):
    """One network adapter of the VM, and the port that takes its place."""

    key: int = Field(description="vSphere device key")
    label: str = Field(description="'Network adapter 1'")
    mac: str = Field(description="lower case, colons")
    source_network: str
    network: str = Field(default="", description="target network as submitted")
    subnet: str | None = None
    port_id: str | None = None
    mapped_by: str = Field(default="", description="source of the mapping; empty: its network")
    mac_kept: bool = Field(default=True, description="the port has the NIC's MAC; else Neutron chooses one")
    fixed_ips: tuple[str, ...] = Field(default=(), description="addresses asked of Neutron; none: Neutron chooses")
    addresses: tuple[str, ...] = Field(default=(), description="those that the guest was last seen to have")
    security_groups: tuple[str, ...] | None = Field(default=None, description="names or ids; None: the default group")
    port_security: bool | None = Field(default=None, description="None: as the network has it")
    port_mac: str = Field(default="", description="the port's; empty until it is made")
    port_ips: tuple[str, ...] = Field(default=(), description="the port's; none until it is made")


class Event(Model):
    """One line of the job's story."""

    at: datetime = Field(description="UTC")
    kind: str = Field(description="short and stable: 'sync committed', 'refused', 'reseed', ...")
    text: str
    who: str = ""


class DiskProgress(Model):
    """How far one stream is; the payload of its heartbeat."""

    disk_key: int
    planned: int = Field(description="bytes that this sync has to copy")
    bytes_read: int = Field(default=0, description="bytes of the plan that are read")
    bytes_written: int = Field(default=0, description="bytes of the plan that are on the volume's queue")
    flushed_to: int = Field(default=0, description="byte offset: all of the plan below it is flushed")
    rate: float = Field(default=0.0, description="bytes a second, over the last seconds")
    worker: str = ""
    verified: bool = Field(default=False, description="all that is flushed was also read back and compared")
    to_compare: int = Field(default=0, description="bytes of the replica that are compared with the snapshot")
    compared: int = Field(default=0, description="bytes of them that are done")
    compared_to: int = Field(default=0, description="byte offset: all that is to be compared below it is")
    differing: str = Field(
        default="", description="what differed so far, as xms.change_map.ByteRanges.encode gives it, or more than that"
    )


class Attempt(Model):
    """A call to the source or the target that failed and is tried again."""

    call: str = Field(description="name of the activity, for example take_snapshot")
    number: int = Field(description="of the try that runs or comes next; the first is 1")
    because: str = Field(default="", description="what the last try failed with")


class SyncRecord(Model):
    """A sync that runs."""

    reason: str = Field(description="'full', 'cadence', 'asked for', 'final delta', ...")
    started_at: datetime
    snapshot_at: datetime | None = None
    planned: int = Field(default=0, description="bytes to copy, all disks")
    done: int = Field(default=0, description="bytes copied by disks that are finished")


class DiskVerification(Model):
    """How far a verification is with one disk. It goes from the disk's first byte to its last."""

    disk_key: int
    label: str
    capacity: int = Field(description="bytes")
    compared: int = Field(default=0, description="byte offset: all below it is compared")
    differing: str = Field(default="", description="what differed, as xms.change_map.ByteRanges.encode gives it")
    differing_bytes: int = 0


class Verification(Model):
    """A comparison of the whole replica with the source; it may take several snapshots."""

    asked_by: str = ""
    asked_at: datetime
    ended_at: datetime | None = None
    ended_because: str = Field(default="", description="why it ended before all was compared; empty where all was")
    snapshots: int = Field(default=0, description="syncs that took part in it")
    disks: tuple[DiskVerification, ...] = ()
