"""What the workflows ask of vSphere."""

from __future__ import annotations

from contextlib import AbstractContextManager

from temporalio import activity

from activities.execution import activity_pulse
from xms.config import Config, Registered, SourceConfig
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
from xms.vsphere import inventory, power, snapshots, source_check
from xms.vsphere.change_tracking import ALLOCATED, ChangeQuery, enable_change_tracking, query_changes
from xms.vsphere.session import VsphereSession
from xms.vsphere.sessions import Sessions


class SourceActivities:
    """What the workflows ask of vSphere: each call does one thing, and may be made again.

    Args:
        config: the worker's.
        sessions: those of the process, which has to close them; None: they are this object's, to be closed by `close`.
    """

    def __init__(self, config: Config, sessions: Sessions | None = None) -> None:
        self.config = config
        self.sessions = sessions or Sessions()

    def close(self) -> None:
        """Log out of every source."""
        self.sessions.close()

    def session(self, source: str) -> AbstractContextManager[VsphereSession]:
        """Use the process's session of a source, as it is registered now."""
        return self.sessions.session(source, self.config.source(source))

    @activity.defn(no_thread_cancel_exception=True)
    def list_sources(self, order: ListSources) -> SourceList:
        """The registered sources, without their secrets; none of them is asked anything."""
        del order
        registered = sorted(self.config.registered().items())
        return SourceList(
            sources=tuple(_summary(name, source) for name, source in registered), worker=self.config.worker.name
        )

    @activity.defn(no_thread_cancel_exception=True)
    def check_source(self, order: SourceQuery) -> SourceReport:
        """Look at the product, the clock, the account's privileges and the hosts."""
        with self.session(order.source) as session:
            return source_check.look_at(session)

    @activity.defn(no_thread_cancel_exception=True)
    def list_vms(self, order: ListVms) -> VmList:
        """The VMs of the source that are meant."""
        with self.session(order.source) as session:
            return VmList.of(inventory.list_vms(session, order.match))

    @activity.defn(no_thread_cancel_exception=True)
    def inspect_vm(self, order: VmQuery) -> VmDetails:
        """One VM, by its reference, its name or its inventory path."""
        with self.session(order.source) as session:
            return inventory.find_vm(session, order.vm, order.moref)

    @activity.defn(no_thread_cancel_exception=True)
    def enable_change_tracking(self, order: VmOrder) -> ChangeTracking:
        """Turn change tracking on where it is off, and see that every disk has a change id."""
        with self.session(order.source) as session:
            return enable_change_tracking(session, order, pulse=activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def take_snapshot(self, order: VmOrder) -> SnapshotTaken:
        """Remove what a crash left, and make the job's snapshot; and tell what the source allows on its host."""
        source = self.config.source(order.source)
        with self.session(order.source) as session:
            taken = snapshots.take_snapshot(
                session, order, pulse=activity_pulse(), reserve=source.snapshot_reserve_gib << 30
            )
        if not source.host_streams:
            return taken
        limits = {"host_streams": source.host_streams, "host_bytes_in_flight": source.host_mib_in_flight << 20}
        return taken.model_copy(update=limits)

    @activity.defn(no_thread_cancel_exception=True)
    def remove_snapshots(self, order: VmOrder) -> SnapshotsRemoved:
        """Remove the job's snapshots and wait for their consolidation. None being there is a success."""
        with self.session(order.source) as session:
            return SnapshotsRemoved(removed=snapshots.remove_snapshots(session, order, pulse=activity_pulse()))

    @activity.defn(no_thread_cancel_exception=True)
    def plan_disk(self, order: PlanDisk) -> DiskPlan:
        """Ask change tracking what one disk's sync has to copy."""
        pulse = activity_pulse()
        query = ChangeQuery(vm=order.vm, snapshot=order.snapshot, disk=order.disk)
        with self.session(order.vm.source) as session:
            return plan_disk(
                order,
                allocated=lambda: query_changes(session, query, since=ALLOCATED, pulse=pulse),
                changed=lambda since: query_changes(session, query, since=since, pulse=pulse),
            )

    @activity.defn(no_thread_cancel_exception=True)
    def power_off(self, order: PowerOff) -> PoweredOff:
        """Stop the source and confirm that it is off."""
        with self.session(order.vm.source) as session:
            info = activity.info()
            # By Temporal's clock both of them: this machine's may be another.
            waited = (info.current_attempt_scheduled_time - info.scheduled_time).total_seconds()
            return power.power_off(session, order, pulse=activity_pulse(), waited=waited)

    @activity.defn(no_thread_cancel_exception=True)
    def power_on(self, order: VmOrder) -> PoweredOn:
        """Start the source where it does not run."""
        with self.session(order.source) as session:
            return power.power_on(session, order, pulse=activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def mark_migrated(self, order: MarkMigrated) -> Done:
        """Write into the VM's annotation what became of it."""
        with self.session(order.vm.source) as session:
            power.mark_migrated(session, order, pulse=activity_pulse())
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def unmark_migrated(self, order: VmOrder) -> Done:
        """Take out of the VM's annotation what a cutover wrote that was rolled back."""
        with self.session(order.source) as session:
            power.unmark_migrated(session, order, pulse=activity_pulse())
        return Done()


def _summary(name: str, source: Registered) -> SourceSummary:
    if not isinstance(source, SourceConfig):
        return SourceSummary(name=name, host="", username="", trust="", problem=f"{source.what}: {source.because}")
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
        timeout_seconds=source.timeout_seconds,
        nfc_port=source.nfc_port,
        host_streams=source.host_streams,
        host_mib_in_flight=source.host_mib_in_flight,
    )
