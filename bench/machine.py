"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import nbd
from pydantic import BaseModel, ConfigDict

from bench.errors import CannotMeasure


class Machine(BaseModel):
    """This computer, and the programs that were compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    file_system: str
    """of the disks: its type and mount options"""
    python: str
    libnbd: str
    nbdkit: str
    nbdcopy: str
    qemu_img: str
    cp: str
    xms: str


def describe(directory: Path) -> Machine:
    """Describe this machine, and the file system of `directory`.

    Raises:
        CannotMeasure: a program is missing.
    """
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        file_system=_said("findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--target", str(directory)),
        python=platform.python_version(),
        libnbd=nbd.NBD().get_version(),
        nbdkit=_said("nbdkit", "--version"),
        nbdcopy=_said("nbdcopy", "--version"),
        qemu_img=_said("qemu-img", "--version"),
        cp=_said("cp", "--version"),
        xms=version("xms"),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _said(*command: str) -> str:
    """The first line that a program prints, without superfluous spaces."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise CannotMeasure(f"{command[0]} does not work here: {error}") from None
    return " ".join(said.splitlines()[0].split())
