"""What is asked of the cloud for a rehearsal.

The job of each `target` is the rehearsal (`xms.rehearsal.rehearsal_id`), never the job that is rehearsed.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from xms.cutover import Rehearsal, Rehearse
from xms.models import Disk, MigrationSpec, Model, Nic
from xms.orders.target import TargetOrder


class CheckRehearsal(Model):
    """Does the project's quota cover a copy of the VM beside what is there?"""

    target: TargetOrder
    spec: MigrationSpec
    disks: tuple[Disk, ...] = Field(description="of the job, with its volumes")
    nics: tuple[Nic, ...]


class CloneVolumes(Model):
    """A copy of each volume of a job, which nobody writes to meanwhile."""

    target: TargetOrder
    of_job: str = Field(description="whose volumes these have to be")
    disks: tuple[Disk, ...] = Field(description="of the job, with its volumes")
    token: str = Field(description="of this rehearsal alone: only copies that carry it are found again")
    instance_name: str
    source: str = ""
    vm: str = ""
    timeout_seconds: int = Field(description="for all copies together: the job's syncs wait for them")


class VolumesCloned(Model):
    """The copies are available, and need the volumes that they were made of no more."""

    disks: tuple[Disk, ...] = Field(description="those of the order, with the copies as their volumes")
    seconds: float


class MakeIsolatedNetwork(Model):
    """A network that nothing else is on: no router, no port of anybody else. Found again where a crash left it."""

    target: TargetOrder
    name: str


class IsolatedNetwork(Model):
    """It is there, with one subnet that gives addresses by DHCP, and no gateway."""

    network_id: str
    subnet_id: str


class RehearsalInput(Model):
    """A rehearsal's workflow's only argument."""

    spec: MigrationSpec
    job_id: str = Field(description="of the job that is rehearsed")
    order: Rehearse
    record: Rehearsal = Field(description="as the job began it: its number, who asked, the step of the copies")
    disks: tuple[Disk, ...] = Field(description="with the copies as their volumes")
    nics: tuple[Nic, ...] = ()
    moref: str = ""
    vm_name: str = ""
    firmware: str = "bios"
    secure_boot: bool = False
    cpus: int = 1
    memory: int = 1 << 30
    started_at: datetime
