"""What a rehearsal asks of the cloud beside what a cutover asks."""

from __future__ import annotations

from temporalio import activity

from activities.execution import activity_pulse
from xms.config import Config
from xms.openstack import clones, isolated_network, quotas
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Holder
from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, IsolatedNetwork, MakeIsolatedNetwork, VolumesCloned
from xms.orders.source import Done
from xms.orders.target import TargetOrder


class RehearsalActivities:
    """Copies of volumes and a network of their own. Each may be asked twice, as those of the target."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._holder = Holder(config.worker.name, config.worker.lease_seconds)

    @activity.defn(no_thread_cancel_exception=True)
    def check_rehearsal(self, order: CheckRehearsal) -> Done:
        """Tell whether the quotas cover a rehearsal; nothing is made."""
        with self._project(order.target) as cloud:
            quotas.check_rehearsal(cloud, order)
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def clone_volumes(self, order: CloneVolumes) -> VolumesCloned:
        """Copy the job's volumes."""
        with self._project(order.target) as cloud:
            return clones.clone(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def make_isolated_network(self, order: MakeIsolatedNetwork) -> IsolatedNetwork:
        """Make the network that nothing else is on."""
        with self._project(order.target) as cloud:
            return isolated_network.make(cloud, order, activity_pulse())

    @activity.defn(no_thread_cancel_exception=True)
    def remove_isolated_network(self, order: TargetOrder) -> Done:
        """Remove the rehearsal's network."""
        with self._project(order) as cloud:
            isolated_network.remove(cloud, order, activity_pulse())
        return Done()

    @activity.defn(no_thread_cancel_exception=True)
    def delete_clones(self, order: TargetOrder) -> Done:
        """Delete the rehearsal's copies, and no other volume."""
        with self._project(order) as cloud:
            clones.delete(cloud, order, self._holder, activity_pulse())
        return Done()

    def _project(self, order: TargetOrder) -> Cloud:
        return connect(self.config.target_named(order.target_name), order.target_project, activity_pulse())
