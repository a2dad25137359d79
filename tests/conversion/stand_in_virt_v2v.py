#!/usr/bin/env python3
"""A stand-in for virt-v2v-in-place: writes to the disks of the description and prints what the real one prints.

What it does is told by the file `behaviour.json` beside the description.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

INSPECTION = """\
i_root = {root}
i_type = {type}
i_distro = debian
i_firmware = {firmware}
gcaps_block_bus = {bus}
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
    asked = {"arguments": sys.argv[1:], "environment": dict(os.environ)}
    (description.parent.parent / "asked.json").write_text(json.dumps(asked))
    time.sleep(told.get("sleep", 0))
    messages = [{"type": "message", "message": "Converting"}]
    if told.get("error"):
        messages.append({"type": "error", "message": told["error"]})
    machine_readable.write_text("".join(json.dumps(message) + "\n" for message in messages))
    found = {"root": "/dev/sda1", "firmware": "BIOS", "type": "linux", "bus": "virtio-blk"} | told
    sys.stdout.write(told.get("says", "") + INSPECTION.format(**found))
    return 1 if told.get("error") else 0


if __name__ == "__main__":
    sys.exit(main())
