"""What the workflows ask of the cloud."""

from __future__ import annotations

from temporalio import activity

from activities.execution import activity_pulse
from xms import signs
from xms.config import Config, TargetConfig
from xms.openstack import check, evidence, image_properties, ports, servers, target_check, volume_snapshots, volumes
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Holder
from xms.orders.source import Done
from xms.orders.target import (
    BootServer,
    CheckEvidence,
    CheckTarget,
    EvidenceChecked,
    ExtendVolume,
    FinalizeVolumes,
    MakePorts,
    MakeVolume,
    PortsMade,
    PortsRemoved,
    RevertVolumes,
    SeenRunning,
    SeeRunning,
    ServerMade,
    ServerOrder,
    SnapshotsLeft,
    SnapshotVolumes,
    TargetChecked,
    TargetOrder,
    VolumeMade,
    VolumesOrder,
    VolumesReverted,
    VolumesSnapshotted,
)
from xms.orders.target_check import ListTargets, TargetList, TargetQuestion, TargetReport


class TargetActivities:
    """What the workflows ask of the cloud. Each may be asked twice: what is there already is found, not made again."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._holder = Holder(config.worker.name, config.worker.lease_seconds)

    @activity.defn(no_thread_cancel_exception=True)
    def list_targets(self, order: ListTargets) -> TargetList:
        """The configured targets; none of them is asked anything."""
        del order
        return target_check.targets(self.config)

    @activity.defn(no_thread_cancel_exception=True)
    def look_at_cloud(self, order: TargetQuestion) -> TargetReport:
        """Log in, and look at account, services and quotas."""
        target, pulse = self.config.target_named(order.target), activity_pulse()
        with connect(target, order.project, pulse) as cloud:
            report = target_check.look_at(cloud, order.target, target, pulse)
        return report.model_copy(update={"worker": self.config.worker.name})

    @activity.defn(no_thread_cancel_exception=True)
    def check_target(self, order: CheckTarget) -> TargetChecked:
        """Tell whether the target can take the VM as submitted and be seen running, and resolve the submitted names."""
        target = self.config.target_named(order.spec.target)
        pulse = activity_pulse()
        with connect(target, order.spec.target_project, pulse) as cloud:
            checked = check.check_target(cloud, target, order, pulse)
        signs.refuse_impossible(order.evidence, self.config.evidence, checked.nics, self.config.worker.name)
        return checked

    @activity.defn(no_thread_cancel_exception=True)
    def check_evidence(self, order: CheckEvidence) -> EvidenceChecked:
        """Tell whether this worker could look for the evidence; nothing is asked of the cloud."""
        signs.refuse_impossible(order.evidence, self.config.evidence, order.nics, self.config.worker.name)
        return EvidenceChecked(worker=self.config.worker.name)

    @activity.defn(no_thread_cancel_exception=True)
    def make_volume(self, order: MakeVolume) -> VolumeMade:
        """Make one disk's volume."""
        attach = self._config(order.target).attach
        with self._project(order.target) as cloud:
            return volumes.make(cloud, order, activity_pulse(), encrypted=attach != "cinder")

    @activity.defn(no_thread_cancel_exception=True)
    def extend_volume(self, order: ExtendVolume) -> VolumeMade:
        """Let a volume grow with its disk."""
        with self._project(order.target) as cloud:
            return volumes.extend(cloud, order, self._holder, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def release_volumes(self, order: VolumesOrder) -> Done:
        """Free the volumes of what dead workers left on them."""
        with self._project(order.target) as cloud:
            if order.after_server:
                servers.see_volumes_free(cloud, order.target.job_id, activity_pulse())
            volumes.release(
                cloud, order.volume_ids, job_id=order.target.job_id, holder=self._holder, pulse=activity_pulse()
            )
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def snapshot_volumes(self, order: SnapshotVolumes) -> VolumesSnapshotted:
        """Make a snapshot of each volume, while nobody writes to them."""
        with self._project(order.target) as cloud:
            return volume_snapshots.make(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def revert_volumes(self, order: RevertVolumes) -> VolumesReverted:
        """Take volumes back to their snapshots, and remove these."""
        with self._project(order.target) as cloud:
            return volume_snapshots.revert(cloud, order, self._holder, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def remove_volume_snapshots(self, order: VolumesOrder) -> SnapshotsLeft:
        """Remove the job's snapshots of these volumes; none is a success."""
        with self._project(order.target) as cloud:
            return volume_snapshots.remove(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def delete_volumes(self, order: VolumesOrder) -> Done:
        """Delete the job's volumes, on the operator's explicit order."""
        with self._project(order.target) as cloud:
            volumes.delete(
                cloud, order.volume_ids, job_id=order.target.job_id, holder=self._holder, pulse=activity_pulse()
            )
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def make_ports(self, order: MakePorts) -> PortsMade:
        """Make one port a NIC."""
        with self._project(order.target) as cloud:
            return PortsMade(nics=ports.make(cloud, order, activity_pulse()))

    @activity.defn(no_thread_cancel_exception=True)
    def remove_ports(self, order: TargetOrder) -> PortsRemoved:
        """Remove the ports that the job made."""
        with self._project(order) as cloud:
            return ports.remove(cloud, order.job_id, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def finalize_volumes(self, order: FinalizeVolumes) -> Done:
        """Make the root volume bootable, and describe the converted guest on it."""
        with self._project(order.target) as cloud:
            image_properties.finalize(cloud, order)
            kept = {disk.volume_id for disk in order.disks if disk.volume_id}
            volumes.remove_twins(cloud, order.target.job_id, kept, activity_pulse())
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def boot_server(self, order: BootServer) -> ServerMade:
        """Boot the instance, and wait until it is ACTIVE."""
        directory = self._config(order.target).user_data_dir
        with self._project(order.target) as cloud:
            return ServerMade(server_id=servers.boot(cloud, order, activity_pulse(), user_data_dir=directory))

    @activity.defn(no_thread_cancel_exception=True)
    def see_running(self, order: SeeRunning) -> SeenRunning:
        """Wait for evidence that the guest runs. Programs that look for it run on this worker."""
        config = self.config
        with self._project(order.server.target) as cloud:
            return evidence.see_running(cloud, order, activity_pulse(), config.evidence, config.worker.name)

    @activity.defn(no_thread_cancel_exception=True)
    def remove_server(self, order: ServerOrder) -> Done:
        """Remove the job's instance, and wait until it is gone."""
        with self._project(order.target) as cloud:
            servers.remove(cloud, order, activity_pulse())
        return Done()

    def _config(self, order: TargetOrder) -> TargetConfig:
        return self.config.target_named(order.target_name)

    def _project(self, order: TargetOrder) -> Cloud:
        return connect(self._config(order), order.target_project, activity_pulse())
