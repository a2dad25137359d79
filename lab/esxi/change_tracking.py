"""Changed block tracking of one disk: change ids over QEMU's dirty bitmaps.

Point n of an epoch is a moment of the disk's life, named by the change id `<epoch>/<n>`. The bitmap of point n holds
what was written after point n-1 up to point n, so that the changes between two points are the union of the bitmaps in
between. Point 1 is the epoch's begin. Each snapshot ends the current bitmap and begins the next, in the same QMP
transaction that freezes the data.

The bitmaps live as long as their QEMU: tracking begins anew when the host does, as after a host's loss of power.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from lab.esxi.interface import UnknownChangeIdError
from lab.esxi.qmp import QmpClient

GRAIN: Final = 65536
"""Bytes that one bit stands for; what ESXi uses on larger disks."""

Action: TypeAlias = dict[str, Any]

_TEXT: Final = re.compile(r"((?:[0-9a-f]{2} ){7}[0-9a-f]{2}-(?:[0-9a-f]{2} ){7}[0-9a-f]{2})/([1-9][0-9]*)")
_names: Final = itertools.count(1)


@dataclass(frozen=True)
class ChangeId:
    """A point in time of one disk in vSphere's spelling: `52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/1`."""

    epoch: str
    point: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a change id. Raises UnknownChangeIdError when the text is none."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise UnknownChangeIdError(f"{text!r} is no change id")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.epoch}/{self.point}"


def _new_epoch() -> str:
    number = uuid.uuid4().bytes
    return f"{number[:8].hex(' ')}-{number[8:].hex(' ')}"


class DiskTracking:
    """The bitmaps of one disk, on the block node of its live data. Not thread-safe: the machine's lock guards it.

    Changes are made in two steps, so that several disks and the freezing of their data can share a QMP transaction:
    the actions of `cut` go into the transaction, and `cut_done` follows when it has succeeded.
    """

    def __init__(self, qmp: QmpClient, node: str) -> None:
        self._qmp = qmp
        self._node = node
        self._last: ChangeId | None = None
        self._next: ChangeId | None = None

    @property
    def last(self) -> ChangeId | None:
        """The youngest point; None while tracking is not in effect."""
        return self._last

    def begin(self) -> None:
        """Begin an epoch now; an epoch before it is forgotten."""
        self.forget()
        self._qmp.command("transaction", {"actions": self.cut(begin=True)})
        self.cut_done()

    def forget(self) -> None:
        """End tracking: every change id becomes unknown."""
        if self._last is None:
            return
        for point in range(2, self._last.point + 2):
            self._qmp.command("block-dirty-bitmap-remove", {"node": self._node, "name": _bitmap(point)})
        self._last = None

    def cut(self, *, begin: bool) -> list[Action]:
        """Actions that make a point: the next of the epoch or, where tracking is off, with `begin` its first."""
        actions: list[Action] = []
        if self._last is not None:
            self._next = ChangeId(self._last.epoch, self._last.point + 1)
            actions.append(
                {"type": "block-dirty-bitmap-disable", "data": {"node": self._node, "name": _bitmap(self._next.point)}}
            )
        elif begin:
            self._next = ChangeId(_new_epoch(), 1)
        else:
            self._next = None
            return []
        following = {"node": self._node, "name": _bitmap(self._next.point + 1), "granularity": GRAIN}
        return [*actions, {"type": "block-dirty-bitmap-add", "data": following}]

    def cut_done(self) -> None:
        """Note that the transaction with the actions of `cut` was carried out."""
        self._last = self._next

    @contextmanager
    def changes(self, since: ChangeId, until: ChangeId | None) -> Iterator[str]:
        """Make a bitmap of what changed between two points; yields its name, and removes it.

        Args:
            since: the earlier point.
            until: the later point; None for now.

        Raises:
            UnknownChangeIdError: a point is of another epoch, or `since` is younger than `until`.
        """
        last = self._last
        if last is None or since.epoch != last.epoch or (until is not None and until.epoch != last.epoch):
            raise UnknownChangeIdError(f"{since} is of an epoch that ended, or of another disk")
        end = last.point + 1 if until is None else until.point
        if since.point > min(end, last.point):
            raise UnknownChangeIdError(f"{since} is younger than point {end}")
        name = f"changes-{next(_names)}"
        sources = [_bitmap(point) for point in range(since.point + 1, end + 1)]
        place = {"node": self._node, "name": name}
        self._qmp.command("block-dirty-bitmap-add", {**place, "granularity": GRAIN, "disabled": True})
        try:
            # Between a point and itself nothing changed; QEMU 7.2 aborts when it is asked to merge nothing.
            if sources:
                merge = {"node": self._node, "target": name, "bitmaps": sources}
                self._qmp.command("block-dirty-bitmap-merge", merge)
            yield name
        finally:
            self._qmp.command("block-dirty-bitmap-remove", place)


def _bitmap(point: int) -> str:
    return f"point-{point}"
