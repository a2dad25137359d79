"""What the workflows ask of vSphere."""

from __future__ import annotations

import time

from temporalio import activity

from activities.execution import activity_pulse
from xms.config import Config, SourceConfig
from xms.orders.source import (
    ChangeTracking,
    DiskPlan,
    Done,
    ListSources,
    ListVms,
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
    SourceSummary,
    VmDetails,
    VmList,
    VmOrder,
    VmQuery,
)
from xms.planning import plan_disk
from xms.vsphere import inventory, power, snapshots
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.session import connect


class SourceActivities:
    """What the workflows ask of vSphere: each call opens a session, does one thing, and may be made again."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn(no_thread_cancel_exception=True)
    def list_sources(self, order: ListSources) -> SourceList:
        """The registered sources, without their secrets; none of them is asked anything."""
        del order
        return SourceList(sources=tuple(_summary(name, source) for name, source in sorted(self.config.sources.items())))

    @activity.defn(no_thread_cancel_exception=True)
    def check_source(self, order: SourceQuery) -> SourceReport:
        """Log in and ask for the product: the connection test."""
        begin = time.monotonic()
        with connect(order.source, self.config.source(order.source)) as session:
            about = session.content.about
            return SourceReport(
                source=order.source,
                product=about.name,
                version=about.version,
                build=about.build,
                api=about.apiType,
                milliseconds=round((time.monotonic() - begin) * 1000),
            )

    @activity.defn(no_thread_cancel_exception=True)
    def list_vms(self, order: ListVms) -> VmList:
        """The VMs of the source that are meant."""
        with connect(order.source, self.config.source(order.source)) as session:
            return VmList.of(inventory.list_vms(session, order.match))

    @activity.defn(no_thread_cancel_exception=True)
    def inspect_vm(self, order: VmQuery) -> VmDetails:
        """One VM, by its reference, its name or its inventory path."""
        with connect(order.source, self.config.source(order.source)) as session:
            return inventory.find_vm(session, order.vm, order.moref)

    @activity.defn(no_thread_cancel_exception=True)
    def enable_change_tracking(self, order: VmOrder) -> ChangeTracking:
        """Turn change tracking on where it is off, and see that every disk has a change id."""
        with connect(order.source, self.config.source(order.source)) as session:
            return enable_change_tracking(session, order, pulse=activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def take_snapshot(self, order: VmOrder) -> SnapshotTaken:
        """Remove what a crash left, and make the job's snapshot; and tell what the source allows on its host."""
        source = self.config.source(order.source)
        with connect(order.source, source) as session:
            taken = snapshots.take_snapshot(session, order, pulse=activity_pulse())
        if not source.host_streams:
            return taken
        limits = {"host_streams": source.host_streams, "host_bytes_in_flight": source.host_mib_in_flight << 20}
        return taken.model_copy(update=limits)

    @activity.defn(no_thread_cancel_exception=True)
    def remove_snapshots(self, order: VmOrder) -> SnapshotsRemoved:
        """Remove the job's snapshots and wait for their consolidation. None being there is a success."""
        with connect(order.source, self.config.source(order.source)) as session:
            return SnapshotsRemoved(removed=snapshots.remove_snapshots(session, order, pulse=activity_pulse()))

    @activity.defn(no_thread_cancel_exception=True)
    def plan_disk(self, order: PlanDisk) -> DiskPlan:
        """Ask change tracking what one disk's sync has to copy."""
        pulse = activity_pulse()
        query = ChangeQuery(vm=order.vm, snapshot=order.snapshot, disk=order.disk)
        with connect(order.vm.source, self.config.source(order.vm.source)) as session:
            return plan_disk(
                order,
                allocated=lambda: query_changes(session, query, since=ALLOCATED, pulse=pulse),
                changed=lambda since: query_changes(session, query, since=since, pulse=pulse),
            )

    @activity.defn(no_thread_cancel_exception=True)
    def power_off(self, order: PowerOff) -> PoweredOff:
        """Stop the source and confirm that it is off."""
        with connect(order.vm.source, self.config.source(order.vm.source)) as session:
            return power.power_off(session, order, pulse=activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def power_on(self, order: VmOrder) -> PoweredOn:
        """Start the source where it does not run."""
        with connect(order.source, self.config.source(order.source)) as session:
            return power.power_on(session, order, pulse=activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def mark_migrated(self, order: MarkMigrated) -> Done:
        """Write into the VM's annotation what became of it."""
        with connect(order.vm.source, self.config.source(order.vm.source)) as session:
            power.mark_migrated(session, order, pulse=activity_pulse())
        return Done()


def _summary(name: str, source: SourceConfig) -> SourceSummary:
    if source.thumbprint:
        trust = f"thumbprint {source.thumbprint}"
    else:
        trust = "system CAs" if source.ca_file is None else f"CA bundle {source.ca_file}"
    return SourceSummary(
        name=name,
        host=source.host,
        port=source.port,
        username=source.username,
        trust=trust,
        datacenter=source.datacenter,
    )
