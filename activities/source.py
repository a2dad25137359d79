"""What the workflows ask of vSphere."""

from __future__ import annotations

from temporalio import activity

from xms.config import Config
from xms.orders import (
    ChangeTracking,
    DiskPlan,
    Done,
    ListSources,
    MarkMigrated,
    PlanDisk,
    PoweredOff,
    PoweredOn,
    PowerOff,
    SnapshotsRemoved,
    SnapshotTaken,
    SourceList,
    SourceQuery,
    SourceReport,
    VmDetails,
    VmList,
    VmOrder,
    VmQuery,
)


class SourceActivities:
    """What the workflows ask of vSphere."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn
    def list_sources(self, order: ListSources) -> SourceList:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def check_source(self, order: SourceQuery) -> SourceReport:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def list_vms(self, order: SourceQuery) -> VmList:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def inspect_vm(self, order: VmQuery) -> VmDetails:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def enable_change_tracking(self, order: VmOrder) -> ChangeTracking:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def take_snapshot(self, order: VmOrder) -> SnapshotTaken:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def remove_snapshots(self, order: VmOrder) -> SnapshotsRemoved:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def plan_disk(self, order: PlanDisk) -> DiskPlan:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def power_off(self, order: PowerOff) -> PoweredOff:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def power_on(self, order: VmOrder) -> PoweredOn:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def mark_migrated(self, order: MarkMigrated) -> Done:
        """To be written."""
        raise NotImplementedError
