"""To a volume by Nova: the worker is an instance of the target project, and needs no right to the storage."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xms.errors import TargetFault, TargetNotFound, TargetRejected, VolumeBusy, VolumeFailed
from xms.openstack import attachments
from xms.openstack.cloud import Cloud
from xms.openstack.device import Device, size_of
from xms.openstack.faults import translated
from xms.openstack.steps import given_back
from xms.openstack.worker_instance import own_instance
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

BY_ID: Final = Path("/dev/disk/by-id")
GIB: Final = 1 << 30
SERIAL_LENGTH: Final = 20
"""Characters of a volume's id that a virtio disk has room for in its serial."""
APPEAR_SECONDS: Final = 180.0
"""How long Nova, Cinder and the device may take to agree."""
LEAVE_SECONDS: Final = 180.0
"""How long they may take to let go: Nova asks the guest eight times."""


@dataclass(frozen=True)
class AttachByNova:
    """Nova attaches the volume to the instance that this worker is.

    Attributes:
        instance: its id; None finds it, see `xms.openstack.worker_instance`.
        devices: directory of links to the machine's disks, named by what they are.
    """

    instance: str | None = None
    devices: Path = BY_ID

    def prepare(self) -> None:
        """Nothing has to be loaded."""

    def refuse(self, cloud: Cloud, volume: Volume) -> None:
        """See that this worker is an instance of the target project; any kind of volume is fine."""
        del volume
        own_instance(cloud, self.instance)

    @contextmanager
    def attached(self, cloud: Cloud, volume: Volume, *, worker: str, pulse: Pulse) -> Iterator[Device]:
        """Have the volume as a path; see `xms.openstack.attach_way`."""
        volume_id, instance = str(volume.id), str(own_instance(cloud, self.instance).id)
        with ExitStack() as stack:
            # Before the attachment: who finds that has to know whose it is.
            self._mark(cloud, volume_id, instance, worker)
            stack.enter_context(
                given_back(f"the attachment of volume {volume_id}", lambda: self._give_back(cloud, volume_id, instance))
            )
            _attach(cloud, volume_id, instance)
            yield self._wait_for_device(cloud, volume_id, instance, size=int(volume.size) * GIB, pulse=pulse)
        # Not after a failure: a call without an answer may still become an attachment, which somebody has to recognize.
        # Gone already: a deletion whose answer was lost is asked again, and one that comes late may be quicker.
        with (
            suppress(TargetNotFound),
            translated(f"the mark of a worker was not taken from volume {volume_id}"),
        ):
            cloud.volumes.delete_volume_metadata(volume_id, [attachments.worker_key(instance)])

    def _mark(self, cloud: Cloud, volume_id: str, instance: str, worker: str) -> None:
        with translated(f"volume {volume_id} was not marked as attached to a worker"):
            cloud.volumes.set_volume_metadata(volume_id, **{attachments.worker_key(instance): worker})

    def _wait_for_device(self, cloud: Cloud, volume_id: str, instance: str, *, size: int, pulse: Pulse) -> Device:
        seen = ""

        def look() -> Device | None:
            nonlocal seen
            with translated(f"volume {volume_id} was not read"):
                volume = cloud.volumes.get_volume(volume_id)
            status = str(volume.status)
            holders = [str(each.get("server_id")) for each in volume.attachments or ()]
            if status == "available" or status.startswith("error"):
                raise VolumeFailed(
                    f"volume {volume_id} was not attached to instance {instance}",
                    because=f"Nova gave it back, it is '{status}': {attachments.reason_of(cloud, volume_id)}".strip(
                        ": "
                    ),
                    means="nothing was written to it",
                    do=f"nothing, unless it goes on: then openstack server event list {instance}",
                )
            if status == "in-use" and holders != [instance]:
                raise VolumeBusy(f"volume {volume_id} is attached to instance {', '.join(holders)}")
            seen = f"Cinder has it as '{status}'"
            if status != "in-use":
                return None
            with translated(f"the volumes of instance {instance} were not listed"):
                known = [str(each.volume_id) for each in cloud.compute.volume_attachments(instance)]
            if volume_id not in known:
                seen = "Nova does not list it"
                return None
            device, seen = self._look(volume_id, size)
            return device

        found = cloud.wait_for(look, timeout=APPEAR_SECONDS, pulse=pulse)
        if found is None:
            raise VolumeFailed(
                f"volume {volume_id} did not appear on this worker",
                because=f"{seen} after {APPEAR_SECONDS:.0f} s",
                means="nothing was written to it",
                do=f"see that instance {instance} is this machine and that udev runs on it",
            )
        return found

    def _look(self, volume_id: str, size: int) -> tuple[Device | None, str]:
        """The device, or why there is none yet. Nova's own idea of the device's name is a guess."""
        paths = self._paths(volume_id)
        if len(paths) != 1:
            return None, f"{self.devices} has {len(paths)} devices of it"
        (path,) = paths
        try:
            found = size_of(path)
        except OSError as error:
            return None, f"{path} cannot be opened: {error.strerror}"
        if found != size:
            return None, f"{path} has {found} bytes, the volume {size}"
        return Device(path, found), ""

    def _paths(self, volume_id: str) -> set[str]:
        """Disks whose serial is the volume's id, or as much of it as their bus has room for."""
        short, rest = volume_id[:SERIAL_LENGTH], volume_id[SERIAL_LENGTH:]
        name = re.compile(rf"[a-z0-9].*[-_]{re.escape(short)}({re.escape(rest)})?")
        try:
            links = list(self.devices.iterdir())
        except OSError:
            return set()
        return {os.path.realpath(link) for link in links if name.fullmatch(link.name)}

    def _give_back(self, cloud: Cloud, volume_id: str, instance: str) -> None:
        """Detach what was attached, if anything was; the pulse may be what ended the work, so time bounds it."""
        mine = [str(each.id) for each in attachments.listed(cloud, volume_id) if each.instance == instance]
        attachments.remove(cloud, mine)
        attachments.wait_available(cloud, volume_id, pulse=no_pulse, timeout=LEAVE_SECONDS)
        if cloud.wait_for(lambda: not self._paths(volume_id) or None, timeout=LEAVE_SECONDS, pulse=no_pulse) is None:
            raise VolumeFailed(
                f"volume {volume_id} is detached, but its device is still here",
                because=f"{', '.join(sorted(self._paths(volume_id)))} did not go away",
                do="restart this worker's instance before anything is attached to it again",
            )


def _attach(cloud: Cloud, volume_id: str, instance: str) -> None:
    what = f"volume {volume_id} was not attached to instance {instance}"
    try:
        with translated(what):
            cloud.compute.create_volume_attachment(instance, volume_id=volume_id)
    except (TargetFault, TargetRejected) as error:
        # Somebody else was quicker, or the instance is in the middle of something else.
        raise VolumeBusy(what, because=error.because, do="nothing: it is tried again") from error
