"""The stand-in vCenter and ESXi host as a process of their own.

Usage: python -m lab.vsphere_process DIRECTORY CACHE [VM to power on ...]
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, MachineSpec, NicSpec
from lab.guest.image import GuestImage, build
from lab.layout import PASSWORD, USERNAME, Layout
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer


def machines(layout: Layout, image: GuestImage) -> list[MachineSpec]:
    """The two VMs of the lab, with disks of their own."""
    for vm, label, copy in (
        ("db-prod-01", "root", image.copy_root),
        ("db-prod-01", "data", image.copy_data),
        ("web-03", "root", image.copy_root),
    ):
        disk = layout.source_disk(vm, label)
        disk.parent.mkdir(parents=True, exist_ok=True)
        copy(disk)
    return [
        MachineSpec(
            name="db-prod-01",
            disks=(
                DiskSpec(2000, "Hard disk 1", layout.source_disk("db-prod-01", "root"), "[ds1] db-prod-01/root.vmdk"),
                DiskSpec(2001, "Hard disk 2", layout.source_disk("db-prod-01", "data"), "[ds1] db-prod-01/data.vmdk"),
            ),
            nics=(
                NicSpec(4000, "Network adapter 1", "00:50:56:9a:11:02", "VM Network"),
                NicSpec(4001, "Network adapter 2", "00:50:56:9a:11:03", "Backup"),
            ),
        ),
        MachineSpec(
            name="web-03",
            disks=(DiskSpec(2000, "Hard disk 1", layout.source_disk("web-03", "root"), "[ds1] web-03/root.vmdk"),),
            nics=(NicSpec(4000, "Network adapter 1", "00:50:56:9a:11:04", "VM Network"),),
        ),
    ]


def main() -> None:
    """Serve until SIGTERM."""
    layout, cache, running = Layout(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    host = LabHost(layout.esxi, machines(layout, build(cache)))
    thumbprint = make(layout.certificate, ["127.0.0.1", "localhost"])
    server = VcenterServer(
        host,
        address="127.0.0.1",
        port=0,
        certificate=layout.certificate,
        users={USERNAME: PASSWORD},
        host_name="localhost",  # where its disks are served, so that a check of the source finds it
    )
    server.start()
    try:
        for machine in host.machines:
            if machine.spec.name in running:
                machine.power_on()
        layout.write_note("vsphere", port=server.port, thumbprint=thumbprint)
        stop.wait()
    finally:
        server.stop()
        host.close()


if __name__ == "__main__":
    main()
