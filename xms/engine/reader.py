"""Reads ranges of an export with many requests in flight, and knows below which offset nothing is outstanding."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, NamedTuple, Self

import nbd
import tenacity

from xms.change_map import ByteRanges
from xms.engine import slots
from xms.engine.connection import ExportError
from xms.engine.connections import Connections
from xms.engine.extents import LARGEST_READ, Piece, pieces
from xms.engine.slots import Slot
from xms.errors import TransportFailed

BYTES_IN_FLIGHT: Final = 16 << 20
"""Sixteen reads of 1 MiB. They hide 2 ms of latency nearly as well as twice as many, and bound the memory."""

REQUESTS: Final = 64
"""Most reads in flight, however small they are."""

SMALL_READ: Final = 64 << 10
"""The grain of change tracking. Reads up to it have buffers of their own, so that many of them fit into the memory."""

SMALL_BEHIND: Final = 32
"""Blocks of small reads that their receiver may hold. Four times as many do not stay in the processor's cache, and an
incremental copy took longer by a twentieth (measured)."""

LOOKAHEAD: Final = 128
"""Pieces that are asked for beyond the oldest one without an answer. A request that starves among others would hold the
watermark back without bound, and never count as a stall."""

READ_TRIES: Final = 4
"""A range that could not be read so often on as many connections is given up."""

RECONNECT_SECONDS: Final = 5.0
"""An export that takes no connection for so long is lost: its server or its snapshot is gone."""

_NAP_SECONDS: Final = 0.1


class Block(NamedTuple):
    """Bytes of the source."""

    offset: int
    length: int
    data: memoryview | None
    """None: the source reads as zeroes here."""
    slot: Slot | None = None
    """What holds `data`, to be given back by `Reader.give_back`."""


@dataclass(eq=False)
class _Request:
    piece: Piece
    slot: Slot
    buffer: nbd.Buffer
    number: int
    failures: int = 0

    @property
    def data(self) -> memoryview:
        return self.slot.memory[: self.piece.length]


class Reader:
    """An open export of the expected size.

    Whoever got blocks of it has to be done with them before it is left.

    A failed read, and a connection that breaks or falls silent, are mended by a new connection, a few times.

    Args:
        uri: NBD URI of the export.
        capacity: bytes that the export has to have.
        idle: called at least every 0.2 s during every wait; what it raises ends the reading and is passed on.
        bytes_in_flight: most bytes that are asked for and not answered yet; one read at least.
        bytes_behind: bytes of blocks that their receiver may hold while others are read.

    Raises:
        TransportFailed: on entering or reading: the export cannot be opened, has another size, or is lost.
    """

    def __init__(
        self,
        uri: str,
        capacity: int,
        idle: Callable[[], None],
        *,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        bytes_behind: int = 0,
    ) -> None:
        self._uri = uri
        self._capacity = capacity
        self._idle = idle
        self._bytes_in_flight = max(LARGEST_READ, bytes_in_flight)
        self._connections: Connections | None = None
        self._mine: list[Slot] = []
        """all that are borrowed"""
        self._free: dict[int, list[Slot]] = {LARGEST_READ: [], SMALL_READ: []}
        self._may_borrow = {
            LARGEST_READ: (self._bytes_in_flight + bytes_behind) // LARGEST_READ,
            SMALL_READ: REQUESTS + min(SMALL_BEHIND, bytes_behind // SMALL_READ),
        }
        self._given_back: SimpleQueue[Slot] = SimpleQueue()
        self._requests: deque[_Request] = deque()
        """without an answer, the oldest first"""
        self._tickets: dict[int, _Request] = {}
        """the same, by what the present connections call them"""
        self._flying = 0
        """bytes"""
        self._asked = 0
        """pieces asked for so far"""
        self._asked_to = 0
        self._next: Piece | None = None
        """cut, and not asked for yet"""
        self._exhausted = False
        self._handed_out: int | None = None

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
        for slot in self._mine:
            slots.bring_back(slot)

    @property
    def finished_to(self) -> int:
        """Every block below this offset was yielded, and the next one was asked for: its receiver has taken it."""
        outstanding = [request.piece.offset for request in self._requests]
        if self._handed_out is not None:
            outstanding.append(self._handed_out)
        return min(outstanding, default=self._asked_to)

    def give_back(self, slot: Slot) -> None:
        """Take a block's buffer back; may be called by any thread."""
        self._given_back.put(slot)

    def blocks(self, ranges: ByteRanges, *, use_allocation: bool) -> Iterator[Block]:
        """Yield all of `ranges` in blocks, roughly ascending. Each block's slot has to be given back.

        Args:
            ranges: what to read.
            use_allocation: trust the source's allocation, and do not read what it says to be zero.

        Raises:
            TransportFailed: a range could not be read, or the export is lost.
        """
        ask = self._ask_status if use_allocation and self._open().tells_zeroes else None
        following = pieces(ranges, ask)
        while True:
            while self._may_ask():
                piece = self._next or next(following, None)
                self._next = None
                if piece is None:
                    self._asked_to = max(self._asked_to, ranges.end)
                    self._exhausted = True
                elif piece.is_zero:
                    self._handed_out = piece.offset
                    self._count(piece)
                    yield Block(piece.offset, piece.length, None)
                    self._handed_out = None
                elif not self._request(piece):
                    self._next = piece
                    break
            if self._requests:
                yield self._next_arrived()
                self._handed_out = None
            elif self._exhausted:
                return
            else:
                self._wait_for_a_slot()

    def stop(self) -> None:
        """Ask for nothing more: `blocks` ends with what is under way."""
        self._exhausted = True

    def _may_ask(self) -> bool:
        if self._exhausted or len(self._requests) == REQUESTS:
            return False
        return not self._requests or self._asked - self._requests[0].number < LOOKAHEAD

    def _count(self, piece: Piece) -> None:
        self._asked += 1
        self._asked_to = piece.offset + piece.length

    def _request(self, piece: Piece) -> bool:
        """Ask for a piece; False where too much is in flight already, or every buffer is held."""
        if self._requests and self._flying + piece.length > self._bytes_in_flight:
            return False
        slot = self._slot(piece.length)
        if slot is None:
            return False
        request = _Request(piece, slot, slot.buffer(piece.length), self._asked)
        self._requests.append(request)
        self._flying += piece.length
        self._count(piece)
        try:
            self._start(request)
        except ExportError as error:
            self._mend(request, error)
        return True

    def _slot(self, length: int) -> Slot | None:
        size = SMALL_READ if length <= SMALL_READ else LARGEST_READ
        while True:
            if slot := self._slot_of(size):
                return slot
            try:
                self._take_back(self._given_back.get_nowait())
            except Empty:
                return None

    def _slot_of(self, size: int) -> Slot | None:
        if self._free[size]:
            return self._free[size].pop()
        if not self._may_borrow[size]:
            return None
        self._may_borrow[size] -= 1
        self._mine.append(slots.borrow(size))
        return self._mine[-1]

    def _take_back(self, slot: Slot) -> None:
        self._free[slot.size].append(slot)

    def _wait_for_a_slot(self) -> None:
        while True:
            try:
                self._take_back(self._given_back.get(timeout=_NAP_SECONDS))
            except Empty:
                self._idle()
            else:
                return

    def _start(self, request: _Request) -> None:
        self._tickets[self._open().start_read(request.buffer, request.piece.offset)] = request

    def _next_arrived(self) -> Block:
        while True:
            try:
                answer = self._open().next_answer()
            except ExportError as error:
                # A connection that breaks is blamed on the oldest request, so that the attempts are bounded.
                self._mend(self._requests[0], error)
                continue
            request = self._tickets.pop(answer.ticket)
            if answer.failure:
                self._mend(request, ExportError(answer.failure))
                continue
            self._requests.remove(request)
            piece = request.piece
            self._flying -= piece.length
            self._handed_out = piece.offset
            return Block(piece.offset, piece.length, None if request.buffer.is_zero() else request.data, request.slot)

    def _ask_status(self, offset: int, length: int) -> list[int]:
        failures = 0
        while True:
            try:
                return self._open().block_status(offset, length)
            except ExportError as error:
                failures += 1
                self._begin_again(offset, length, failures, error)

    def _mend(self, request: _Request, error: ExportError) -> None:
        request.failures += 1
        self._begin_again(request.piece.offset, request.piece.length, request.failures, error)

    def _begin_again(self, offset: int, length: int, failures: int, error: ExportError) -> None:
        """Ask for everything that is outstanding once more, on a new connection."""
        if failures >= READ_TRIES:
            raise TransportFailed(
                f"bytes {offset} to {offset + length - 1} of the source disk cannot be read",
                because=str(error),
                means="everything before the last checkpoint is on the volume",
                do="nothing: another attempt goes on from there",
            )
        self._rest(_NAP_SECONDS * 2**failures)
        self._connect()

    def _connect(self) -> None:
        """Open the export, and ask for what an earlier connection left unanswered."""
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_delay(RECONNECT_SECONDS),
            wait=tenacity.wait_exponential(_NAP_SECONDS, max=1),
            retry=tenacity.retry_if_exception_type(ExportError),
            sleep=self._rest,
            reraise=True,
        )
        try:
            attempts(self._connect_once)
        except ExportError as error:
            raise TransportFailed(
                "the source disk's export takes no connection",
                because=str(error),
                means="everything before the last checkpoint is on the volume",
                do="nothing: another attempt goes on from there",
            ) from None

    def _connect_once(self) -> None:
        self._close()
        self._connections = connections = Connections(self._uri, self._idle)
        if connections.size != self._capacity:
            raise TransportFailed(
                "the export is not the disk that was planned for",
                because=f"it has {connections.size} bytes, the snapshot's disk {self._capacity}",
                means="nothing was written",
            )
        self._tickets.clear()
        for request in self._requests:
            self._start(request)

    def _close(self) -> None:
        if self._connections is not None:
            self._connections.close()
            self._connections = None

    def _open(self) -> Connections:
        if self._connections is None:
            raise ExportError("the export is not open")
        return self._connections

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._idle()
            time.sleep(min(left, _NAP_SECONDS))
