"""Snapshots of a machine's disks: one point in time, kept in fleece images and served over NBD."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.esxi.areas import ALLOCATION, dirty_bitmap, read_areas
from lab.esxi.change_tracking import GRAIN, Action, ChangeId
from lab.esxi.interface import Export
from lab.esxi.qmp import QmpClient

FLEECE_PATTERN: Final = "fleece-*.qcow2"
_names: Final = itertools.count(1)


@dataclass(frozen=True)
class FrozenDisk:
    """One disk of a snapshot.

    Attributes:
        change_id: the point that the snapshot made; None when tracking was not in effect.
        fleece: the image that keeps what the live disk has overwritten since.
        node: block node of the frozen data: the fleece over the live disk.
    """

    change_id: ChangeId | None
    fleece: Path
    node: str


class SnapshotStore:
    """Makes and removes snapshots in one QEMU. Not thread-safe: the machine's lock guards it.

    Args:
        qmp: QEMU's control connection.
        directory: where the fleece images go. What an earlier host left there is removed: it means nothing any more.
        socket: for QEMU's NBD server.
        live: block node of the live data by disk key.
    """

    def __init__(self, qmp: QmpClient, directory: Path, socket: Path, live: Mapping[int, str]) -> None:
        self._qmp = qmp
        self._directory = directory
        self._socket = socket
        self._live = live
        self._exported: set[str] = set()
        self.remove_files()
        self._qmp.command("nbd-server-start", {"addr": {"type": "unix", "data": {"path": str(socket)}}})

    def create(
        self, sequence: int, capacities: Mapping[int, int], points: Mapping[int, Sequence[Action]]
    ) -> dict[int, tuple[Path, str]]:
        """Freeze all disks at one moment; returns fleece and node by disk key. What a failure left is removed.

        Args:
            sequence: of the snapshot.
            capacities: bytes by disk key.
            points: change tracking's actions by disk key, carried out at the same moment.
        """
        made: dict[int, tuple[Path, str]] = {}
        try:
            for key, capacity in capacities.items():
                fleece, node = self._directory / f"fleece-{sequence}-{key}.qcow2", _node(sequence, key)
                made[key] = (fleece, node)
                subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(fleece), str(capacity)], check=True)
                file = {"driver": "file", "filename": str(fleece)}
                backing = self._live[key]
                self._qmp.command(
                    "blockdev-add", {"driver": "qcow2", "node-name": node, "file": file, "backing": backing}
                )
            actions = [action for key in made for action in (_freeze(self._live[key], made[key][1]), *points[key])]
            self._qmp.command("transaction", {"actions": actions})
        except BaseException:
            self._forget(made.values())
            raise
        return made

    def remove(self, disks: Mapping[int, FrozenDisk]) -> None:
        """End the exports of a snapshot, also those in use, and remove its fleece images."""
        for disk in disks.values():
            if disk.node in self._exported:
                self._end_export(disk.node)
                self._exported.remove(disk.node)
            with self._qmp.expecting("BLOCK_JOB_CANCELLED", device=disk.node):
                self._qmp.command("block-job-cancel", {"device": disk.node})
        self._forget([(disk.fleece, disk.node) for disk in disks.values()])

    def remove_files(self) -> None:
        """Remove every fleece image, of a QEMU that is gone or not yet up."""
        for fleece in self._directory.glob(FLEECE_PATTERN):
            fleece.unlink()

    def export(self, disk: FrozenDisk) -> Export:
        """Serve a frozen disk read-only, with base:allocation."""
        if disk.node not in self._exported:
            self._begin_export(disk.node, disk.node)
            self._exported.add(disk.node)
        return Export(self._socket, disk.node)

    def serve_writable(self, key: int) -> Export:
        """Serve the live disk for writing. To be called before the first snapshot is made.

        QEMU puts the filter that copies before a write between the live node and those who used it when the snapshot
        was made; an export that is made later would go round it.
        """
        name = f"live-{key}"
        self._begin_export(name, self._live[key], writable=True)
        return Export(self._socket, name)

    def allocated_areas(self, node: str) -> list[tuple[int, int]]:
        """(start, length) in bytes of what is not a hole, on the grain of change tracking."""
        with self._passing_export(node) as name:
            return read_areas(self._socket, name, ALLOCATION, grain=GRAIN)

    def dirty_areas(self, key: int, bitmap: str) -> list[tuple[int, int]]:
        """(start, length) in bytes of what a bitmap of the live node holds."""
        node = self._live[key]
        with self._passing_export(node, bitmaps=[{"node": node, "name": bitmap}]) as name:
            return read_areas(self._socket, name, dirty_bitmap(bitmap), grain=GRAIN)

    @contextmanager
    def _passing_export(self, node: str, **options: object) -> Iterator[str]:
        name = f"areas-{next(_names)}"
        self._begin_export(name, node, **options)
        try:
            yield name
        finally:
            self._end_export(name)

    def _begin_export(self, name: str, node: str, **options: object) -> None:
        arguments: dict[str, Any] = {"id": name, "type": "nbd", "node-name": node, "name": name}
        self._qmp.command("block-export-add", {**arguments, "writable": False, **options})

    def _end_export(self, name: str) -> None:
        with self._qmp.expecting("BLOCK_EXPORT_DELETED", id=name):
            self._qmp.command("block-export-del", {"id": name, "mode": "hard"})

    def _forget(self, fleeces: Iterable[tuple[Path, str]]) -> None:
        present = {each["node-name"] for each in self._qmp.command("query-named-block-nodes", {"flat": True})}
        for fleece, node in fleeces:
            if node in present:
                self._qmp.command("blockdev-del", {"node-name": node})
            fleece.unlink(missing_ok=True)


def _node(sequence: int, key: int) -> str:
    return f"snapshot-{sequence}-{key}"


def _freeze(live: str, fleece: str) -> Action:
    data = {"job-id": fleece, "device": live, "target": fleece, "sync": "none"}
    return {"type": "blockdev-backup", "data": data}
