"""The hand that writes: a thread of its own, so that the source is read on while the volume takes its time.

It alone writes to the volume, and does what it is told in the order in which it is told. So a checkpoint speaks of
everything that was handed over before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from xms.engine.account import Account
from xms.engine.checkpoints import Checkpoints
from xms.engine.range_list import RangeList
from xms.engine.read_back import Expectations
from xms.engine.reader import Block
from xms.engine.slots import Slot
from xms.engine.writer import BEGUN_AT_ONCE, ZEROES, Volume
from xms.errors import WriteFailed

BYTES_BEHIND: Final = 16 << 20
"""What may be read and not written yet."""

BLOCKS_BEHIND: Final = 256
"""The same in blocks: zeroes have no bytes to bound them."""

BYTES_TOGETHER: Final = 1 << 20
"""Blocks are handed over when they are so many bytes, or `BLOCKS_TOGETHER`. To wake the other thread for each took a
tenth of an incremental copy's time (measured): both want Python's lock then."""

BLOCKS_TOGETHER: Final = BEGUN_AT_ONCE
"""Far fewer than a reader has buffers: it may wait for one of those that are not handed over yet."""

STALL_SECONDS: Final = 60.0
"""A volume that has not taken one block, or one flush, for so long is given up. It is waited for all the same: a write
that the kernel still holds must not meet the next holder of the volume."""

_NAP_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.005
"""How often the volume is asked what is done, while nothing new is to be written. To wait there until something is done
would leave the volume with less and less to do: six hundredths of a full copy's time (measured)."""


class WriteBehind:
    """Writes blocks to a volume behind the reader's back.

    Args:
        volume: it is written by this object's thread alone.
        account: of the plan.
        give_back: told of each block's slot when the block is on the volume, or will never be.
        skip_zeroes: the volume holds zeroes wherever it was not written.
        verify: at each checkpoint read back what was written since the last one.
    """

    def __init__(
        self,
        volume: Volume,
        account: Account,
        give_back: Callable[[Slot], None],
        *,
        skip_zeroes: bool,
        verify: bool,
    ) -> None:
        self._volume = volume
        self._give_back = give_back
        self._skip_zeroes = skip_zeroes
        self.verifies = verify
        """what is settled was read back"""
        self._expectations = Expectations()
        self._left_out = RangeList()
        """zeroes that the volume holds anyway"""
        self._checkpoints = Checkpoints(volume, account)
        self._in_hand: list[Block] = []
        """not handed over yet"""
        self._bytes_in_hand = 0
        self._under_way: dict[int, Block] = {}
        """of the thread that writes: begun and not done, by their offsets"""
        self._orders: SimpleQueue[list[Block] | int | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._abandoned = False
        self._ordered = self._done = 0
        self._done_at = time.monotonic()
        self.bytes_written = 0
        """of the plan, by this attempt; zeroes that need not be written included"""
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandoned = True
            # First, since the thread may be waiting for a checkpoint that reads much back.
            self._checkpoints.abandon()
        self.hand_over()
        self._orders.put(None)
        self._thread.join()
        self._checkpoints.close()

    @property
    def _is_writing(self) -> bool:
        return self._done < self._ordered

    @property
    def is_busy(self) -> bool:
        """Something that was handed over is not done yet."""
        return self._is_writing or self._checkpoints.is_running

    def write(self, block: Block, idle: Callable[[], None]) -> None:
        """Have a block written, together with those that follow. `hand_over` says that none may follow soon.

        Waits where too many blocks are waiting, with a call of `idle` now and then.

        Raises:
            XmsError: what an earlier order failed with.
        """
        while self._ordered - self._done >= BLOCKS_BEHIND:
            time.sleep(_NAP_SECONDS)
            self.raise_failure()
            idle()
        self._in_hand.append(block)
        self._bytes_in_hand += block.length
        if self._bytes_in_hand >= BYTES_TOGETHER or len(self._in_hand) >= BLOCKS_TOGETHER:
            self.hand_over()

    def hand_over(self) -> None:
        """Have what was collected written now."""
        if self._in_hand:
            blocks, self._in_hand, self._bytes_in_hand = self._in_hand, [], 0
            self._order(blocks)

    def checkpoint(self, finished_to: int) -> None:
        """Have everything that was to be written flushed, and the plan below the byte offset `finished_to` settled."""
        self.hand_over()
        self._order(finished_to)

    def wait(self, seconds: float) -> bool:
        """Wait for what was handed over, but no longer than twice so many seconds; whether something is to be done."""
        if self._idle.wait(seconds):
            if self._is_writing:
                # It was set for an earlier order, just when this one came.
                self._idle.clear()
            self._checkpoints.wait(seconds)
        return self.is_busy

    def raise_failure(self) -> None:
        """Tell what an earlier order failed with; nothing was written after it.

        Raises:
            LeaseLost, WriteFailed, VerificationFailed: as the volume and the account say.
        """
        if self._failure is not None:
            raise self._failure
        self._checkpoints.raise_failure()
        now = time.monotonic()
        stalled = [
            since
            for since, busy in (
                (self._done_at, self._is_writing),
                (self._checkpoints.moved_at, self._checkpoints.is_running),
            )
            if busy and now - since > STALL_SECONDS
        ]
        if stalled:
            raise WriteFailed(
                "the volume takes no more bytes",
                because=f"it has not done one write or flush within {STALL_SECONDS:.0f} s",
                means="what was flushed before counts, nothing else",
                do="look at the storage behind the volume",
            )

    def _order(self, order: list[Block] | int) -> None:
        if not self._is_writing:
            self._done_at = time.monotonic()
        self._ordered += len(order) if isinstance(order, list) else 1
        self._idle.clear()
        self._orders.put(order)

    def _work(self) -> None:
        while (order := self._next_order()) is not None:
            if isinstance(order, list):
                self._under_way.update((block.offset, block) for block in order)
                self._attempt(partial(self._write, order))
            else:
                self._attempt(partial(self._checkpoint, order))
                self._count(1)
        self._let_go()

    def _next_order(self) -> list[Block] | int | None:
        """Wait for one. Buffers are given back meanwhile: who gives orders may be waiting for them."""
        while self._under_way:
            try:
                return self._orders.get(timeout=_LOOK_SECONDS)
            except Empty:
                self._attempt(lambda: self._finish(self._volume.done()))
        return self._orders.get()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do a step, unless an earlier one failed."""
        try:
            if not (self._abandoned or self._failure):
                step()
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that waits for it
            self._failure = failure
        if self._abandoned or self._failure:
            self._let_go()

    def _write(self, blocks: list[Block]) -> None:
        done = self._volume.begin([(block.offset, block.data) for block in blocks if block.data is not None])
        for block in blocks:
            if self.verifies:
                self._expectations.add(block.offset, ZEROES[: block.length] if block.data is None else block.data)
            if block.data is None:
                self._write_zeroes(block)
                done.append(block.offset)
        self._finish(done)

    def _checkpoint(self, finished_to: int) -> None:
        if self._under_way:
            self._finish(self._volume.done(len(self._under_way)))
        left_out, self._left_out = self._left_out, RangeList()
        expectations, self._expectations = self._expectations, Expectations()
        written = chain(self._volume.take_written(), left_out)
        self._checkpoints.begin(finished_to, written, expectations if self.verifies else None)

    def _finish(self, offsets: Iterable[int]) -> None:
        """Blocks are on the volume."""
        for offset in offsets:
            self.bytes_written += self._under_way[offset].length
            self._dismiss(offset)

    def _let_go(self) -> None:
        """Nothing more will be written, and nothing is under way any more."""
        if self._under_way:
            self._volume.let_go()
        for offset in list(self._under_way):
            self._dismiss(offset)

    def _dismiss(self, offset: int) -> None:
        block = self._under_way.pop(offset)
        if block.slot is not None:
            self._give_back(block.slot)
        self._count(1)

    def _count(self, done: int) -> None:
        self._done += done
        self._done_at = time.monotonic()
        if not self._is_writing:
            self._idle.set()

    def _write_zeroes(self, block: Block) -> None:
        if self._skip_zeroes:
            self._left_out.add(block.offset, block.length)
        else:
            self._volume.write_zeroes(block.offset, block.length)
