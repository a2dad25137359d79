"""The two ways to a volume behind one interface, and which of them a configuration names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from xms.config import TargetConfig, WorkerConfig
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.attach_by_nova import AttachByNova
from xms.openstack.cloud import Cloud
from xms.openstack.device import Device
from xms.pulse import Pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume


class AttachWay(Protocol):
    """How a volume that is free, and whose lease this worker holds, becomes a path on this machine.

    What a dead worker left on a volume is found and removed before, whichever way that one used: see
    `xms.openstack.attachments`.
    """

    def prepare(self) -> None:
        """Whatever has to happen on the thread of the claim, before anything is taken."""

    def refuse(self, cloud: Cloud, volume: Volume) -> None:
        """See that this way can be gone with the volume, before anything is done to it.

        Raises:
            ConfigurationError: this worker cannot write to such a volume, or is none that this way works on.
        """

    def attached(self, cloud: Cloud, volume: Volume, *, worker: str, pulse: Pulse) -> AbstractContextManager[Device]:
        """Have the volume as a path until the context ends; then it is available again.

        Raises:
            VolumeBusy: somebody else was quicker.
            VolumeFailed: the volume or its device did not come up, or did not go away.
            ConfigurationError, ProgramMissing: this worker lacks something.
        """


def attach_way(target: TargetConfig, worker: WorkerConfig) -> AttachWay:
    """The way that the configuration names."""
    if target.attach == "nova":
        return AttachByNova(instance=worker.instance, devices=worker.devices)
    return AttachByCinder(data_dir=worker.data_dir, ceph_conf=target.ceph_conf)
