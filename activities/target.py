"""What the workflows ask of the cloud."""

from __future__ import annotations

from temporalio import activity

from activities.execution import activity_pulse
from xms.config import Config
from xms.errors import BootRefused, NeedsPerson
from xms.openstack import check, ports, servers, volumes
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Holder
from xms.orders.source import Done
from xms.orders.target import (
    BootServer,
    CheckTarget,
    ExtendVolume,
    FinalizeVolumes,
    MakePorts,
    MakeVolume,
    PortsMade,
    PortsRemoved,
    SeenRunning,
    SeeRunning,
    ServerMade,
    ServerOrder,
    TargetChecked,
    TargetOrder,
    VolumeMade,
    VolumesOrder,
)


class TargetActivities:
    """What the workflows ask of the cloud. Each may be asked twice: what is there already is found, not made again."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._holder = Holder(config.worker.name, config.worker.lease_seconds)

    @activity.defn(no_thread_cancel_exception=True)
    def check_target(self, order: CheckTarget) -> TargetChecked:
        """Tell whether the target can take the VM as submitted, and resolve the submitted names."""
        target = self.config.target_named(order.spec.target)
        with connect(target, order.spec.target_project) as cloud:
            return check.check_target(cloud, target, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def make_volume(self, order: MakeVolume) -> VolumeMade:
        """Make one disk's volume."""
        with self._project(order.target) as cloud:
            return volumes.make(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def extend_volume(self, order: ExtendVolume) -> VolumeMade:
        """Let a volume grow with its disk."""
        with self._project(order.target) as cloud:
            return volumes.extend(cloud, order, self._holder, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def release_volumes(self, order: VolumesOrder) -> Done:
        """Free the volumes of what dead workers left on them."""
        with self._project(order.target) as cloud:
            volumes.release(
                cloud, order.volume_ids, job_id=order.target.job_id, holder=self._holder, pulse=activity_pulse()
            )
        return Done()

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
            volumes.finalize(cloud, order)
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def boot_server(self, order: BootServer) -> ServerMade:
        """Boot the instance, and wait until it is ACTIVE.

        A refusal is told apart where it is certain that no instance was ever made: only then are the volumes still
        what the conversion left. An attempt before this one may have made one that ran, and is gone.
        """
        with self._project(order.target) as cloud:
            pristine = activity.info().attempt == 1 and not servers.of_job(cloud, order.target.job_id)
            try:
                return ServerMade(server_id=servers.boot(cloud, order, activity_pulse()))
            except NeedsPerson as error:
                if not pristine or servers.of_job(cloud, order.target.job_id):
                    raise
                raise BootRefused(
                    error.what, because=error.because, means="no instance was made", do=error.do
                ) from error

    @activity.defn(no_thread_cancel_exception=True)
    def see_running(self, order: SeeRunning) -> SeenRunning:
        """Wait for evidence that the guest runs."""
        with self._project(order.server.target) as cloud:
            return servers.see_running(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def remove_server(self, order: ServerOrder) -> Done:
        """Remove the job's instance, and wait until it is gone."""
        with self._project(order.target) as cloud:
            servers.remove(cloud, order, activity_pulse())
        return Done()

    def _project(self, order: TargetOrder) -> Cloud:
        return connect(self.config.target_named(order.target_name), order.target_project)
