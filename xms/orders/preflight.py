"""What is asked before a migration: could this VM be moved, and what stands in the way?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Self

from pydantic import Field

from xms.models import MigrationSpec, Model, NetworkMapping, Nic, Trouble
from xms.orders.packing import packed, unpacked
from xms.orders.source import VmDetails
from xms.orders.target import TargetChecked

FEWER_VMS = "ask about fewer VMs at a time"


class Severity(StrEnum):
    """What a finding means for a migration."""

    BLOCK = "Block"
    WARN = "Warn"
    NOTE = "Note"


class Verdict(StrEnum):
    """The worst of a VM's findings; notes do not count."""

    PASS = "Pass"  # noqa: S105 - a verdict
    WARN = "Warn"
    BLOCK = "Block"


class TargetWanted(Model):
    """Where a VM would go; what is None is not looked at."""

    target: str = Field(default="", description="name of a configured target; empty: the default one")
    project: str | None = Field(default=None, description="None: the cloud's own, and no quota is reckoned")
    flavor: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    network_map: tuple[NetworkMapping, ...] | None = None

    @classmethod
    def of(cls, spec: MigrationSpec) -> Self:
        """Of a migration as it is submitted."""
        return cls(
            target=spec.target,
            project=spec.target_project,
            flavor=spec.flavor,
            volume_type=spec.volume_type,
            availability_zone=spec.availability_zone,
            network_map=spec.network_map,
        )

    @property
    def anything(self) -> bool:
        """Whether there is anything to look at."""
        return self != TargetWanted()


class PreflightOrder(Model):
    """Which VMs of a source to look at, and for which target."""

    source: str
    vms: tuple[str, ...] = Field(default=(), description="names, inventory paths, or patterns of them ('web-*')")
    patterns: bool = Field(default=True, description="whether they may be patterns")
    every_vm: bool = Field(default=False, description="all that are no templates, instead of `vms`")
    target: TargetWanted = TargetWanted()
    job_id: str = Field(default="", description="of the one VM's job, where it is about to be submitted")


# --- what the rules look at -------------------------------------------------------------------------------------------


class HostFacts(Model):
    """The ESXi host that a VM runs on."""

    name: str
    connection: str = Field(default="", description="connected, disconnected or notResponding; empty: not known")
    in_maintenance: bool = False


class DatastoreFacts(Model):
    """A datastore that a VM has disks on."""

    name: str
    capacity: int | None = Field(default=None, description="bytes; None: not known")
    free: int | None = Field(default=None, description="bytes; None: not known")
    accessible: bool = True
    in_maintenance: bool = False


class TargetLook(Model):
    """One look at the target: fine where it has neither a trouble nor a reason for not having been made."""

    what: str = Field(
        description="project, flavor, volume type, availability zone, network map, networks, ports or quota"
    )
    trouble: Trouble | None = None
    skipped: str = Field(default="", description="why it was not made, although it was wanted")


class PortFacts(Model):
    """Where a NIC's port would be, and how."""

    nic: Nic
    network: str = Field(description="name of the target network")
    of_other_project: bool = False
    up: bool = True
    mtu: int | None = Field(default=None, description="bytes; None: not known")
    dhcp: bool = Field(default=True, description="whether somebody tells the guest its address")


class TargetFacts(Model):
    """What the looks at the target came to."""

    looks: tuple[TargetLook, ...] = ()
    ports: tuple[PortFacts, ...] = Field(default=(), description="of the NICs whose networks are there")
    checked: TargetChecked | None = Field(default=None, description="where all was looked at and is fine")


class Subject(Model):
    """Everything that the rules look at: one VM with what is around it."""

    source: str
    vm: VmDetails
    host: HostFacts | None = Field(default=None, description="None: not known")
    datastores: tuple[DatastoreFacts, ...] = Field(default=(), description="of those, what is known")
    same_mac: tuple[str, ...] = Field(default=(), description="'MAC: other VMs', among the VMs of this preflight")
    missing_privileges: tuple[str, ...] | None = Field(default=None, description="of the account; None: not known")
    target: TargetFacts | None = Field(default=None, description="None: not looked at")


class Subjects(Model):
    """The subjects of one preflight."""

    source: str
    subjects: tuple[Subject, ...] = ()
    packed: str = Field(default="", description="the same instead, where they are many: see xms.orders.packing")

    @classmethod
    def of(cls, source: str, subjects: Sequence[Subject]) -> Self:
        """Subjects that fit into one payload.

        Raises:
            BadInput: not even packed.
        """
        text = packed(subjects, do=FEWER_VMS)
        return cls(source=source, packed=text) if text else cls(source=source, subjects=tuple(subjects))

    def unpacked(self) -> tuple[Subject, ...]:
        """All of them."""
        return unpacked(self.packed, Subject) if self.packed else self.subjects


class LookAtTarget(Model):
    """Look whether the target can take these."""

    wanted: TargetWanted
    subjects: Subjects
    job_id: str = Field(default="", description="as in the preflight's order")


# --- what they say ----------------------------------------------------------------------------------------------------


class Finding(Model):
    """What one rule found on one VM."""

    rule: str = Field(description="the rule's id: compute.hardware-version")
    severity: Severity
    found: str = Field(description="what is so")
    because: str = Field(default="", description="the outside system's own words, where there are some")
    do: str = Field(default="", description="what to do about it")
    kind: str = Field(default="", description="class in xms.errors that a migration would end with, where there is one")
    not_given: str = Field(default="", description="options that would have it looked at, where they were not given")

    @property
    def category(self) -> str:
        """compute, storage, network, guest, source or target."""
        return self.rule.partition(".")[0]


class VmPreflight(Model):
    """One VM's preflight."""

    vm: VmDetails
    verdict: Verdict
    findings: tuple[Finding, ...] = Field(default=(), description="those that block first")
    target: TargetChecked | None = Field(default=None, description="where all of the target was looked at and is fine")

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Its findings of one kind."""
        return tuple(finding for finding in self.findings if finding.severity is severity)


class PreflightReport(Model):
    """The preflight of one VM or of many."""

    source: str
    vms: tuple[VmPreflight, ...] = ()
    packed: str = Field(default="", description="the same instead, where they are many: see xms.orders.packing")

    @classmethod
    def of(cls, source: str, vms: Sequence[VmPreflight]) -> Self:
        """A report that fits into one payload.

        Raises:
            BadInput: not even packed.
        """
        text = packed(vms, do=FEWER_VMS)
        return cls(source=source, packed=text) if text else cls(source=source, vms=tuple(vms))

    def unpacked(self) -> Self:
        """The report with its VMs in `vms`."""
        return type(self)(source=self.source, vms=unpacked(self.packed, VmPreflight)) if self.packed else self

    @property
    def verdict(self) -> Verdict:
        """The worst of all; Pass where there is none."""
        verdicts = {preflight.verdict for preflight in self.vms}
        return next((verdict for verdict in (Verdict.BLOCK, Verdict.WARN) if verdict in verdicts), Verdict.PASS)
