"""What is compared with what: the matrix of the protocol, and the ladders of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.checks import check
from bench.contestants import OURS, PEERS, Contestant, Errand, xms
from bench.cost import Cost
from bench.disks import Disk, empty_disk, full_disk, incremental_disk, unallocated_disk
from bench.planning import cost_of_planning
from bench.sizes import KIB, MIB, Sizes
from bench.targets import DIRECT_IO, fresh_target, loop_device

Run = Callable[[int], Cost]
"""(number of the round, from 0) -> what it cost; what was copied is checked after it."""


@dataclass(frozen=True)
class Pair:
    """A row of the result: the wall time of the run `ours` is divided by that of `peer` in the same round."""

    name: str
    ours: str
    peer: str


@dataclass(frozen=True)
class Case:
    """Runs that belong into one round."""

    name: str
    target: str
    """file, block, block-direct, or none"""
    prepare: Callable[[], Mapping[str, Run]]
    """makes the disks, where they are not there yet"""
    pairs: tuple[Pair, ...]


def all_cases(directory: Path, sizes: Sizes) -> list[Case]:
    """Every case, in the order in which they are measured. Nothing is made yet.

    Args:
        directory: for the disks.
        sizes: how much to measure.
    """
    full = partial(full_disk, directory, sizes.full_disk)
    incremental = partial(incremental_disk, directory, sizes.incremental_disk, sizes.incremental_blocks)
    return [
        *(
            case
            for target in ("file", *DIRECT_IO)
            for delay in (0, 2)
            for case in (
                _against_peers("full", full, directory, delay, target),
                _against_peers("incremental", incremental, directory, delay, target),
            )
        ),
        *_ladders(directory, sizes),
    ]


def peers_of(kind: str, delay: int, target: str) -> Iterator[str]:
    """Who can do the same work.

    Cp has no latency, and where the target is a device it writes the holes of a file out as zeroes. What the serial
    loop takes at 2 ms is its waiting, whatever it writes to, so it is not made to wait twice; nor is it asked again on
    a second kind of device.
    """
    yield from ("nbdcopy", "qemu-img") if kind == "full" else ("nbdcopy-extentlist",)
    if kind == "full" and target == "file" and not delay:
        yield "cp"
    if target == "file" or (target == "block" and not delay):
        yield "serial"


def _against_peers(kind: str, make: Callable[[], Disk], directory: Path, delay: int, target: str) -> Case:
    name = f"{kind}-{delay}ms" + ("" if target == "file" else f"-{target}")
    peers = tuple(peers_of(kind, delay, target))

    def prepare() -> Mapping[str, Run]:
        disk = make()
        disk.warm()
        contestants = {OURS: xms, **{peer: PEERS[peer] for peer in peers}}
        return {
            who: partial(copy_once, contestant, disk, directory, delay=delay, kind_of_target=target)
            for who, contestant in contestants.items()
        }

    return Case(name, target, prepare, tuple(Pair(name, OURS, peer) for peer in peers))


def copy_once(
    contestant: Contestant,
    disk: Disk,
    directory: Path,
    turn: int,
    *,
    delay: int = 0,
    kind_of_target: str = "file",
    repetitions: int = 1,
) -> Cost:
    """Copy to a fresh target, as a case's `target` says, and check it.

    Raises:
        WrongCopy: the target is not what it has to be.
    """
    with fresh_target(disk, directory) as file:
        with nullcontext(file) if kind_of_target == "file" else loop_device(file, kind_of_target) as target:
            cost = contestant(Errand(disk, target, delay, repetitions))
        check(disk, file, turn)
    return cost


def _ladders(directory: Path, sizes: Sizes) -> Iterator[Case]:
    planned = {str(count): partial(_plan_once, count) for count in sizes.planned_extents}
    yield _ladder("extents", "none", list(planned), lambda: planned)

    def copying(name: str, disks: Mapping[str, Callable[[], Disk]], repetitions: int = 1) -> Case:
        def prepare() -> Mapping[str, Run]:
            return {
                rung: partial(copy_once, xms, make(), directory, repetitions=repetitions)
                for rung, make in disks.items()
            }

        return _ladder(name, "file", list(disks), prepare)

    yield copying(
        "copy-extents",
        {
            str(count): partial(incremental_disk, directory, count * MIB, count, 4 * KIB)
            for count in sizes.copied_extents
        },
    )
    few = sizes.blocks_of_either
    both = sizes.disks.items()
    yield copying(
        "nothing", {name: partial(empty_disk, directory, size) for name, size in both}, repetitions=sizes.repetitions
    )
    yield copying(f"changed-{few}", {name: partial(incremental_disk, directory, size, few) for name, size in both})
    yield copying("unallocated", {name: partial(unallocated_disk, directory, size) for name, size in both})


def _plan_once(extents: int, _turn: int) -> Cost:
    return cost_of_planning(extents)


def _ladder(name: str, target: str, rungs: Sequence[str], prepare: Callable[[], Mapping[str, Run]]) -> Case:
    """The engine beside itself: each rung is compared with the next smaller one, the first with itself."""
    names = [f"{name}-{rung}" for rung in rungs]

    def ready() -> Mapping[str, Run]:
        return {f"{name}-{rung}": run for rung, run in prepare().items()}

    pairs = tuple(Pair(rung, rung, smaller) for smaller, rung in zip([names[0], *names], names, strict=False))
    return Case(name, target, ready, pairs)
