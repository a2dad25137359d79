"""Checkpoints: flush, read back where that is wanted, settle; on a thread of their own, beside the copy.

A flush covers what was written when it began, and that is all that a checkpoint speaks of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from xms.engine.account import Account
from xms.engine.read_back import Expectations
from xms.engine.writer import Volume
from xms.errors import Interrupted


class Checkpoints:
    """The checkpoints of one copy, one after the other.

    Args:
        volume: is flushed and read here, and never written.
        account: of the plan; nobody else may touch it while a checkpoint runs.
    """

    def __init__(self, volume: Volume, account: Account) -> None:
        self._volume = volume
        self._account = account
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._newest: Future[None] | None = None
        self._abandoned = False
        self.moved_at = time.monotonic()
        """when the running one was last seen to get anywhere"""

    @property
    def is_running(self) -> bool:
        """One has begun and is not done."""
        return self._newest is not None and not self._newest.done()

    def begin(self, finished_to: int, written: Iterable[tuple[int, int]], expectations: Expectations | None) -> None:
        """Begin one, after the one before.

        Args:
            finished_to: byte offset: all of the plan below it was handed over.
            written: (offset, length) of what was put on the volume since the last one.
            expectations: what has to be there; None where it is not read back.

        Raises:
            WriteFailed, VerificationFailed: what the one before failed with.
        """
        if self._newest is not None:
            self._newest.result()
        self.moved_at = time.monotonic()
        self._newest = self._thread.submit(self._make, finished_to, written, expectations)

    def wait(self, seconds: float) -> None:
        """Wait for the running one, but no longer than so many seconds."""
        if self._newest is not None:
            wait([self._newest], seconds)

    def raise_failure(self) -> None:
        """Tell what the newest one failed with.

        Raises:
            WriteFailed, VerificationFailed: as the volume and the account say.
        """
        if self._newest is not None and self._newest.done():
            self._newest.result()

    def abandon(self) -> None:
        """Have the running one end without reading back what is left of it."""
        self._abandoned = True

    def close(self) -> None:
        """Wait for the running one."""
        self._thread.shutdown()

    def _make(self, finished_to: int, written: Iterable[tuple[int, int]], expectations: Expectations | None) -> None:
        self._volume.flush()
        for offset, length in written:
            self._account.add(offset, length)
        if expectations is not None:
            with self._volume.reading_back() as read:
                expectations.meet(read, self._see_still_wanted)
        self._account.settle(finished_to)

    def _see_still_wanted(self) -> None:
        """Between two pieces that are read back, which may be gigabytes: shows that it moves, and ends it early."""
        self.moved_at = time.monotonic()
        if self._abandoned:
            raise Interrupted("the copy was given up while it was verified")
