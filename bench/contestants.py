"""Who copies. Each is given the same disk, a fresh target in the same state, and a server that was just started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.copier import Order, cost_of_copy
from bench.cost import Cost, cost_of
from bench.disks import Disk
from bench.errors import CannotMeasure
from bench.server import source_server, target_server
from xms.change_map import ByteRanges

OURS: Final = "xms"

BLOCK_OF_CHANGES: Final = 65536


@dataclass(frozen=True)
class Errand:
    """One copy."""

    disk: Disk
    target: Path
    """a file or a block device"""
    delay_milliseconds: int
    repetitions: int = 1
    """only the engine is ever asked for more than one"""


Contestant = Callable[[Errand], Cost]


def xms(errand: Errand) -> Cost:
    """The product's engine, as a worker runs it."""
    return _in_python("engine", errand)


def serial(errand: Errand) -> Cost:
    """A loop of pread and pwrite over one connection, with requests of at most 1 MiB."""
    return _in_python("serial", errand)


def nbdcopy(errand: Errand) -> Cost:
    """Copy with nbdcopy as it is, told that the target holds zeroes, which the engine is told, too."""
    with source_server(errand.disk, errand.delay_milliseconds) as source:
        cost = cost_of(["nbdcopy", "--flush", "--destination-is-zero", source.uri, errand.target])
    return cost.model_copy(update={"server": source.cpu})


def nbdcopy_extentlist(errand: Errand) -> Cost:
    """Copy with nbdcopy from a server that pretends that nothing but the changed blocks is allocated.

    `--destination-is-zero` keeps it from zeroing everything else, and then `--sparse=0` keeps it from leaving out
    changed blocks that are zero. With requests as large as the blocks of the plan it neither reads nor writes around
    them: with the 256 KiB that it takes by itself it overwrites their neighbours, and is three to five times slower.

    It truncates a target that is a regular file, so that reaches it through a second nbdkit; a block device it writes
    itself. Through a loop device over the file it was not faster.
    """
    options = ["--flush", "--destination-is-zero", "--sparse=0", f"--request-size={BLOCK_OF_CHANGES}"]
    with source_server(errand.disk, errand.delay_milliseconds, as_plan=True) as source:
        if errand.target.is_block_device():
            cost = cost_of(["nbdcopy", *options, source.uri, errand.target])
            servers = [source]
        else:
            with target_server(errand.target) as target:
                cost = cost_of(["nbdcopy", *options, source.uri, target.uri])
            servers = [source, target]
    return cost.model_copy(update={"server": sum(server.cpu for server in servers)})


def qemu_img(errand: Errand) -> Cost:
    """Copy with qemu-img convert: direct writes, out of order, eight at once."""
    how = ["-n", "--target-is-zero", "-t", "none", "-W", "-m", "8", "-f", "raw", "-O", "raw"]
    with source_server(errand.disk, errand.delay_milliseconds) as source:
        cost = cost_of(["qemu-img", "convert", *how, source.uri, errand.target])
    return cost.model_copy(update={"server": source.cpu})


def cp(errand: Errand) -> Cost:
    """Copy with cp from the source's file, without NBD between, and flush the target."""
    return cost_of(["cp", errand.disk.path, errand.target], ["sync", errand.target])


def _in_python(by: str, errand: Errand) -> Cost:
    disk = errand.disk
    plan = disk.plan.encode()
    if ByteRanges.decode(plan) != disk.plan:
        raise CannotMeasure("the plan does not fit into a payload; a larger one would be copied, and write beside it")
    with source_server(disk, errand.delay_milliseconds) as source:
        order = Order.model_validate(
            {
                "by": by,
                "uri": source.uri,
                "path": str(errand.target),
                "capacity": disk.size,
                "plan": plan,
                "is_new": disk.is_new,
                "repetitions": errand.repetitions,
            }
        )
        cost = cost_of_copy(order)
    return cost.model_copy(update={"server": source.cpu / errand.repetitions})


PEERS: Final[dict[str, Contestant]] = {
    "nbdcopy": nbdcopy,
    "nbdcopy-extentlist": nbdcopy_extentlist,
    "qemu-img": qemu_img,
    "cp": cp,
    "serial": serial,
}
