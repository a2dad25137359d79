"""What the root volume says of its guest: Nova's image properties, checked here, since Cinder takes anything.

Nova refuses a wrong value only when the instance is made, at the end of the downtime. The allowed values are those of
nova.objects.fields, as far as QEMU knows the device.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from xms.errors import TargetNotFound, TargetRejected
from xms.models import SecureBoot
from xms.openstack import attachments
from xms.openstack.boot_record import BootRecord
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.target import FinalizeVolumes

if TYPE_CHECKING:
    from openstack.block_storage.v3.volume import Volume

BLOCK_BUSES: Final = frozenset({"virtio", "scsi", "ide", "sata", "usb"})
NET_MODELS: Final = frozenset({"virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3"})
FIRMWARES: Final = frozenset({"bios", "uefi"})
OS_TYPES: Final = frozenset({"", "linux", "windows"})
MACHINE: Final = re.compile(r"(pc|q35|virt)|pc-(i440fx|q35)-[\w.-]+")
FREE_TEXT: Final = re.compile(r"[\w.+-]{1,64}", re.ASCII)
"""What a distribution and a version are called."""

DESCRIBED: Final = frozenset(
    {
        "hw_disk_bus",
        "hw_scsi_model",
        "hw_vif_model",
        "hw_machine_type",
        "hw_firmware_type",
        "hw_qemu_guest_agent",
        "os_type",
        "os_distro",
        "os_version",
        "os_secure_boot",
    }
)
"""The properties that are this module's: one that is there and does not apply (any more) is removed, others stay."""


def finalize(cloud: Cloud, order: FinalizeVolumes) -> None:
    """Make the root volume bootable and describe the converted guest on it. Only the root volume's description counts.

    What an earlier cutover's description had and this one does not is removed.

    Raises:
        TargetRejected: Nova would refuse a value at boot.
        Refused: a volume is not the job's.
    """
    description = image_properties(order)
    root = next((disk for disk in order.disks if disk.key == order.root_disk_key), None)
    if root is None or root.volume_id is None:
        raise TargetRejected("there is no volume to boot from", because=f"disk {order.root_disk_key} has none")
    BootRecord.of(cloud, root.volume_id, order.target.job_id).clear()
    for disk in order.disks:
        if disk.volume_id is not None:
            volume = attachments.volume_of_job(cloud, disk.volume_id, order.target.job_id)
            if disk.key == order.root_disk_key:
                _describe(cloud, volume, description)
            elif volume.is_bootable:
                with translated(f"volume {disk.volume_id} was not made one that is not bootable"):
                    cloud.volumes.set_volume_bootable_status(disk.volume_id, bootable=False)


def _describe(cloud: Cloud, volume: Volume, description: dict[str, str]) -> None:
    stale = sorted((DESCRIBED & set(volume.volume_image_metadata or {})) - set(description))
    for key in stale:
        try:
            with translated(f"image property {key} of volume {volume.id} was not removed"):
                cloud.volumes.delete_volume_image_metadata(volume.id, keys=[key])
        except TargetNotFound:
            # An attempt before this one has removed it meanwhile.
            continue
    with translated(f"volume {volume.id} was not made bootable"):
        cloud.volumes.set_volume_image_metadata(volume.id, **description)
        cloud.volumes.set_volume_bootable_status(volume.id, bootable=True)


def image_properties(order: FinalizeVolumes) -> dict[str, str]:
    """Nova's image properties of the guest as the conversion left it.

    Raises:
        TargetRejected: a value is none that Nova knows, or does not go with another.
    """
    for value, allowed, what in (
        (order.block_bus, BLOCK_BUSES, "disk bus"),
        (order.net_bus, NET_MODELS, "network model"),
        (order.firmware, FIRMWARES, "firmware"),
        (order.os_type, OS_TYPES, "operating system"),
    ):
        if value not in allowed:
            raise TargetRejected(
                f"the {what} '{value}' cannot be booted", because=f"allowed are {', '.join(sorted(allowed))}"
            )
    if not MACHINE.fullmatch(order.machine):
        raise TargetRejected(f"the machine type '{order.machine}' cannot be booted", because="allowed are pc and q35")
    found = {
        "hw_disk_bus": order.block_bus,
        "hw_vif_model": order.net_bus,
        "hw_machine_type": order.machine,
        "hw_firmware_type": order.firmware,
    }
    if order.firmware == "uefi":
        found["os_secure_boot"] = _secure_boot(order)
    elif order.secure_boot is SecureBoot.REQUIRED:
        raise TargetRejected("a guest that boots by BIOS cannot be booted with Secure Boot", because="it needs UEFI")
    if order.block_bus == "scsi":
        found["hw_scsi_model"] = "virtio-scsi"
    if order.guest_agent:
        found["hw_qemu_guest_agent"] = "yes"
    if order.os_type:
        found["os_type"] = order.os_type
    # These two only help: what virt-v2v says and nobody can read is left out.
    texts = {"os_distro": order.os_distro, "os_version": order.os_version}
    return found | {key: value for key, value in texts.items() if FREE_TEXT.fullmatch(value)}


def _secure_boot(order: FinalizeVolumes) -> str:
    """Nova gives Secure Boot to the machine type q35 alone: with another, `required` fails on every host."""
    if "q35" in order.machine:
        return str(order.secure_boot)
    if order.secure_boot is SecureBoot.REQUIRED:
        raise TargetRejected(
            f"the machine type '{order.machine}' cannot be booted with Secure Boot", because="it needs q35"
        )
    return str(SecureBoot.DISABLED)
