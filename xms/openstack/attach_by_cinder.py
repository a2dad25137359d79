"""To a volume by Cinder's attachments: the worker has the storage network, and connects as a hypervisor would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xms.errors import ConfigurationError, TargetFault, VolumeBusy, VolumeFailed
from xms.openstack import attachments, host_connection, rbd_export
from xms.openstack.cloud import Cloud
from xms.openstack.device import Device
from xms.openstack.faults import translated
from xms.openstack.file_share import FileShares
from xms.openstack.steps import given_back, showing_life
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

LEAVE_SECONDS: Final = 60.0
"""How long Cinder may take to show a volume as available after its attachment was deleted."""
RAW: Final = "raw"
GIB: Final = 1 << 30


@dataclass(frozen=True)
class AttachByCinder:
    """Attachments API and os-brick; Ceph RBD through a userspace export.

    Attributes:
        data_dir: the worker's; shares are mounted and images exported below it.
        ceph_conf: configuration of the cluster that RBD volumes are in.
    """

    data_dir: Path = Path("/var/lib/xms")
    ceph_conf: Path = Path("/etc/ceph/ceph.conf")

    def prepare(self) -> None:
        """Import os-brick: not first on the helper thread of `showing_life`, which could never be joined then."""
        host_connection.load_os_brick()

    def refuse(self, cloud: Cloud, volume: Volume) -> None:
        """Refuse an encrypted volume: plain bytes on its raw device would destroy it for Nova."""
        del cloud
        if volume.is_encrypted:
            raise _encrypted(str(volume.id))

    @contextmanager
    def attached(self, cloud: Cloud, volume: Volume, *, worker: str, pulse: Pulse) -> Iterator[Device]:
        """Have the volume as a path; see `xms.openstack.attach_way`."""
        volume_id = str(volume.id)
        with ExitStack() as stack:
            attachment_id, connection_info = showing_life(lambda: _attach(cloud, volume_id, worker), pulse)
            stack.enter_context(
                given_back(f"the attachment of volume {volume_id}", lambda: _detach(cloud, volume_id, attachment_id))
            )
            refuse_unwritable(volume_id, connection_info)
            device = stack.enter_context(self._connected(volume_id, connection_info, pulse))
            if device.size < int(volume.size) * GIB:
                # What is left of an earlier volume can bear the name that this one's device should have.
                raise VolumeFailed(
                    f"{device.path} is not volume {volume_id}",
                    because=f"it has {device.size} bytes, the volume {volume.size} GiB",
                    means="nothing was written to it",
                    do="remove the stale devices of this worker (or restart its machine), then retry",
                )
            with translated(f"the attachment of volume {volume_id} was not completed"):
                cloud.volumes.complete_attachment(attachment_id)
            yield device

    @contextmanager
    def _connected(self, volume_id: str, connection_info: Mapping[str, Any], pulse: Pulse) -> Iterator[Device]:
        protocol = connection_info.get("driver_volume_type", "")
        if protocol == "rbd":
            with rbd_export.exported(
                rbd_export.RbdImage.of(connection_info),
                volume_id=volume_id,
                ceph_conf=self.ceph_conf,
                exports=self.data_dir / rbd_export.DIRECTORY,
                pulse=pulse,
            ) as device:
                yield device
            return
        mounts = self.data_dir / "shares"
        turn: AbstractContextManager[None]
        with ExitStack() as stack:
            if protocol in host_connection.SHARES:
                shares = FileShares(mounts)
                stack.enter_context(shares.in_use())
                turn = shares.mounting()
            else:
                turn = nullcontext()
            with turn:
                connection = showing_life(lambda: host_connection.connect(connection_info, mounts=mounts), pulse)
            stack.enter_context(
                given_back(f"the device of volume {volume_id}", lambda: showing_life(connection.disconnect, pulse))
            )
            yield connection.device


def refuse_unwritable(volume_id: str, connection_info: Mapping[str, Any]) -> None:
    """See that the bytes of the path are to be the bytes of the disk, before anything is written.

    Raises:
        ConfigurationError: they are encrypted, in an image format, or may only be read.
    """
    if connection_info.get("encrypted"):
        raise _encrypted(volume_id)
    form = connection_info.get("format") or RAW
    if form != RAW:
        raise ConfigurationError(
            f"volume {volume_id} cannot be written by this worker",
            because=f"its file is {form}: a snapshot of it, or the back end's setting, made it so",
            means="nothing was written to it",
            do="use attach = nova; or remove the volume's snapshots, or use a volume type whose files are raw",
        )
    if connection_info.get("access_mode", "rw") != "rw":
        raise ConfigurationError(
            f"volume {volume_id} cannot be written by this worker",
            because=f"Cinder gives it with access mode '{connection_info['access_mode']}'",
            means="nothing was written to it",
            do=f"openstack volume set --read-write {volume_id}",
        )


def _encrypted(volume_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"volume {volume_id} cannot be written by this worker",
        because="its volume type is encrypted, and with attach = cinder the plain bytes would reach the storage",
        means="nothing was written to it",
        do="use attach = nova, where the hypervisor encrypts, or a volume type without encryption",
    )


def _attach(cloud: Cloud, volume_id: str, worker: str) -> tuple[str, Mapping[str, Any]]:
    properties = host_connection.connector_properties(worker, cloud.volume_host())
    try:
        with translated(f"volume {volume_id} was not attached to worker {worker}"):
            made = cloud.volumes.create_attachment(volume_id, connector=dict(properties), mode="rw")
    except TargetFault as error:
        # Cinder's answer when another attachment was quicker: the status is no longer 'available'.
        raise VolumeBusy(error.what, because=error.because, do="nothing: it is tried again") from error
    return str(made.id), dict(made.connection_info or {})


def _detach(cloud: Cloud, volume_id: str, attachment_id: str) -> None:
    # The pulse may be what ended the work; the giving back is bounded by time instead.
    attachments.remove(cloud, [attachment_id])
    attachments.wait_available(cloud, volume_id, pulse=no_pulse, timeout=LEAVE_SECONDS)
