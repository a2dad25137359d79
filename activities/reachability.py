"""What only a data worker can see: whether it reaches the ESXi hosts."""

from __future__ import annotations

from temporalio import activity

from xms.config import Config
from xms.orders.source import HostsReached, ReachHosts
from xms.transport.reachability import reach_hosts


class ReachabilityActivities:
    """Looks at the ways that the streams will take."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn(no_thread_cancel_exception=True)
    def reach_hosts(self, order: ReachHosts) -> HostsReached:
        """Connect to the transport port of each host. That this worker knows the source is seen by the way."""
        port = self.config.source(order.source).nfc_port
        return HostsReached(worker=self.config.worker.name, hosts=reach_hosts(order.hosts, port))
