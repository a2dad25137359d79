"""What the workflows ask of the cloud."""

from __future__ import annotations

from temporalio import activity

from xms.config import Config
from xms.orders import (
    BootServer,
    CheckTarget,
    Done,
    ExtendVolume,
    FinalizeVolumes,
    MakePorts,
    MakeVolume,
    PortsMade,
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
    """What the workflows ask of the cloud."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn
    def check_target(self, order: CheckTarget) -> TargetChecked:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def make_volume(self, order: MakeVolume) -> VolumeMade:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def extend_volume(self, order: ExtendVolume) -> VolumeMade:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def release_volumes(self, order: VolumesOrder) -> Done:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def delete_volumes(self, order: VolumesOrder) -> Done:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def make_ports(self, order: MakePorts) -> PortsMade:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def remove_ports(self, order: TargetOrder) -> Done:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def finalize_volumes(self, order: FinalizeVolumes) -> Done:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def boot_server(self, order: BootServer) -> ServerMade:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def see_running(self, order: SeeRunning) -> SeenRunning:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def remove_server(self, order: ServerOrder) -> Done:
        """To be written."""
        raise NotImplementedError
