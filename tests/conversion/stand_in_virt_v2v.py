#!/usr/bin/env python3
"""A stand-in for virt-v2v-in-place: writes to the disks of the description and prints what the real one prints.

What it does is told by the file `behaviour.json` beside the description.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

INSPECTION = """\
i_root = {root}
i_type = linux
i_distro = debian
i_firmware = {firmware}
gcaps_block_bus = virtio-blk
gcaps_net_bus = virtio-net
gcaps_machine = q35
"""


def main() -> int:
    description = Path(sys.argv[-1])
    machine_readable = Path(next(a for a in sys.argv if a.startswith("--machine-readable=file:")).partition(":")[2])
    told = json.loads((description.parent.parent / "behaviour.json").read_text())
    disks = [source.attrib["file"] for source in ET.parse(description).iterfind("devices/disk/source")]  # noqa: S314
    for place, command in told.get("writes", []):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, disks[place]], check=True, stdout=subprocess.DEVNULL)
    (description.parent.parent / "started").touch()
    time.sleep(told.get("sleep", 0))
    messages = [{"type": "message", "message": "Converting"}]
    if told.get("error"):
        messages.append({"type": "error", "message": told["error"]})
    machine_readable.write_text("".join(json.dumps(message) + "\n" for message in messages))
    sys.stdout.write(INSPECTION.format(root=told.get("root", "/dev/sda1"), firmware=told.get("firmware", "BIOS")))
    return 1 if told.get("error") else 0


if __name__ == "__main__":
    sys.exit(main())
