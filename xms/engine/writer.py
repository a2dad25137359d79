"""Writes to a volume: past the page cache or with bounded write-back, zeroes without data, and flushes that say so."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import Final, NoReturn, Self

from xms.engine.direct_io import ALIGNMENT, is_aligned, open_for_reading, open_for_writing
from xms.engine.extents import LARGEST_READ
from xms.engine.guard import Guard
from xms.engine.native_aio import WritesUnderWay
from xms.engine.range_list import RangeList
from xms.errors import VolumeBusy, VolumeTooSmall, WriteFailed

log = logging.getLogger(__name__)

WINDOW: Final = 32 << 20
"""Bytes that may wait for the disk. Without a bound the page cache fills up first and the flush then takes
minutes: three times slower in all, and without a checkpoint meanwhile."""

BATCH: Final = 1 << 20
"""Bytes that are sent to the disk together: a call for each of many small writes costs more than the writes."""

BEGUN_AT_ONCE: Final = 16
"""Writes. The claim on the volume is looked at once for so many."""

SMALLEST_ZERO: Final = 256 << 10
"""Fewer zeroes are sent as bytes: a file system makes a hole only when its journal lets it, 2 ms of a stream that
writes at the same time (ext4, measured), which is what 1 MiB of bytes takes."""

LOCK_SECONDS: Final = 10.0
"""udev looks into a block device for a moment, under a shared lock, whenever one appears."""

_PUNCH_HOLE: Final = 0x02 | 0x01  # with KEEP_SIZE, see fallocate(2)
_ZERO_RANGE: Final = 0x10 | 0x01
_START_WRITING: Final = 2  # see sync_file_range(2)
_WAIT_WRITTEN: Final = 1 | 2 | 4
_NOT_OFFERED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL, errno.ESPIPE})
"""How a file or device says that it knows no such call; everything else is a failure."""
_NAP_SECONDS: Final = 0.1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


ReadBack = Callable[[int, int], memoryview]
"""(offset, length <= 1 MiB) -> the bytes there; they are valid until the next call."""


class Volume:
    """A file or block device that is written in place: never created, never truncated, never made longer.

    While it is open no other stream of this machine can have it, not even a forgotten one of the same worker.

    Args:
        path: the file or device.
        capacity: bytes that it has to hold at least.
        guard: checked before each and every write, flushes excepted.
        idle: called during every wait; what it raises ends the wait and is passed on.

    Raises:
        VolumeTooSmall: it holds less than `capacity`.
        VolumeBusy: another stream of this machine has it.
        WriteFailed: it cannot be opened, or is neither a file nor a block device.
    """

    def __init__(self, path: str, capacity: int, guard: Guard, idle: Callable[[], None]) -> None:
        self._path = path
        self._guard = guard
        self._idle = idle
        self._descriptors = contextlib.ExitStack()
        self._fd = self._open()
        # The kernel tells a descriptor of a lost write once (fsync(2)): what the writing one is told by `_sync_range`
        # would be kept from a flush that runs at that moment, and the flush would seem a success.
        self._flushing = self._open()
        try:
            self._zeroing = [_PUNCH_HOLE, _ZERO_RANGE]
            self._bounds_cache = True
            self._batch_start = self._batch_end = self._batch_bytes = 0
            self._waiting: deque[tuple[int, int, int]] = deque()
            """offset and length of a stretch, and the bytes that were written in it"""
            self._waiting_bytes = 0
            self._written = RangeList()
            self._check(capacity)
            self._lock()
        except BaseException:
            self._descriptors.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._descriptors.close()

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`; it is not flushed yet.

        Raises:
            WriteFailed: the volume refused it, or could not keep what was written shortly before.
            LeaseLost: the guard said so.
        """
        start, end = offset, offset + len(data)
        try:
            while offset < end:
                self._guard.check()
                taken = os.pwrite(self._fd, data, offset)
                self._written.add(offset, taken)
                offset += taken
                data = data[taken:]
        except OSError as error:
            self._refused(start, end, error)
        self._bound_cache(start, end)

    def begin(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """Begin to write up to `BEGUN_AT_ONCE` pieces, each an offset and its bytes, which must not change meanwhile.

        Where the volume takes it they go past the page cache: they are never copied, and a flush has little to do.

        Returns:
            The offsets of those that are done, and of earlier ones, as `done` does.

        Raises:
            WriteFailed, LeaseLost: as `write`. What is under way goes on, see `let_go`.
        """
        direct, done, begun = self._direct, [], 0
        straight = [piece for piece in pieces if is_aligned(*piece)] if direct else []
        if direct and straight:
            done = self.done(len(straight) - direct.room)
            self._guard.check()
            begun = direct.begin(straight)
        under_way = {offset for offset, _ in straight[:begun]}
        for offset, data in pieces:
            if offset not in under_way:
                self.write(offset, data)
                done.append(offset)
        return done

    def done(self, at_least: int = 0) -> list[int]:
        """The offsets of pieces that were begun and are done since this was last asked.

        Args:
            at_least: it waits until they are so many, or none is left.

        Raises:
            WriteFailed, LeaseLost: as `write`.
        """
        if self._direct is None:
            return []
        ended = self._direct.ended(at_least)
        for offset, data, taken, error in ended:
            if error and error not in _NOT_OFFERED:
                self._refused(offset, offset + len(data), OSError(error, os.strerror(error)))
            if taken:
                self._written.add(offset, taken)
            if taken < len(data):
                self.write(offset + taken, data[taken:])
        return [each.offset for each in ended]

    @property
    def under_way(self) -> int:
        """How many pieces were begun and are not known to be done."""
        return self._direct.count if self._direct else 0

    def let_go(self) -> None:
        """Wait for what is under way, whatever becomes of it: it counts as not written."""
        if self._direct:
            self._direct.ended(self._direct.count)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make `length` bytes at `offset` read as zeroes, without sending them where the volume can do that.

        Raises:
            WriteFailed: as `write`.
        """
        end = offset + length
        inner_start, inner_end = offset, end
        if self._is_device:
            # A device zeroes whole sectors only; a file any range.
            inner_start, inner_end = min(end, offset + -offset % ALIGNMENT), end - end % ALIGNMENT
        if inner_end - inner_start < SMALLEST_ZERO or not self._zero_by_itself(inner_start, inner_end - inner_start):
            self._send_zeroes(offset, end)
            return
        self._send_zeroes(offset, inner_start)
        self._send_zeroes(inner_end, end)

    def take_written(self) -> RangeList:
        """What was written since this was last asked, as the volume took it; it is not flushed yet."""
        written, self._written = self._written, RangeList()
        return written

    def flush(self) -> None:
        """Put everything written so far where it outlives a power failure. Another thread may write meanwhile.

        Raises:
            WriteFailed: it did not work. The kernel may have dropped what was not written then, and tells it once only,
                so flushing again would prove nothing: what was written since the last good flush has to be written
                again.
        """
        try:
            os.fsync(self._flushing)
        except OSError as error:
            self._fail("could not be flushed", error)

    @contextlib.contextmanager
    def reading_back(self) -> Iterator[ReadBack]:
        """Yield a function that reads from the medium, not from the page cache.

        Flush first. Where the volume does not take direct reads, its pages are dropped from the cache instead.

        Raises:
            WriteFailed: the volume cannot be read.
        """
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        fd = open_for_reading(self._path)
        window = memoryview(mmap.mmap(-1, LARGEST_READ + 2 * ALIGNMENT))

        def read(offset: int, length: int) -> memoryview:
            start = offset - offset % ALIGNMENT
            end = offset + length
            wanted = window[: end - start + -end % ALIGNMENT]
            try:
                got = _fill(fd, wanted, start, end - start)
            except OSError as error:
                self._fail(f"does not give back bytes {offset} to {end - 1}", error)
            return wanted[offset - start : got]

        try:
            yield read
        finally:
            _close(fd)

    def _open(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            self._descriptors.close()
            self._fail("cannot be opened for writing", error)
        self._descriptors.callback(_close, descriptor)
        return descriptor

    @cached_property
    def _direct(self) -> WritesUnderWay | None:
        """For writes past the page cache; None where they are not offered. A volume that is only read has none."""
        descriptor = open_for_writing(self._path)
        if descriptor is None:
            return None
        self._descriptors.callback(_close, descriptor)
        direct = self._descriptors.enter_context(contextlib.closing(WritesUnderWay(descriptor)))
        return direct if direct.is_offered else None

    def _check(self, capacity: int) -> None:
        mode = os.fstat(self._fd).st_mode
        self._is_device = stat.S_ISBLK(mode)
        if not self._is_device and not stat.S_ISREG(mode):
            raise WriteFailed(f"{self._path} is no volume", because="it is neither a file nor a block device")
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size < capacity:
            raise VolumeTooSmall(
                f"the volume at {self._path} is too small for the disk",
                because=f"it holds {size} bytes, the disk {capacity}",
                means="nothing was written",
                do="extend the volume, then retry",
            )

    def _lock(self) -> None:
        give_up_at = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise VolumeBusy(
                        f"the volume at {self._path} is in use on this machine",
                        because="another stream holds its lock",
                        means="nothing was written",
                        do="nothing: it is tried again",
                    ) from None
            else:
                return
            self._idle()
            time.sleep(_NAP_SECONDS)

    def _bound_cache(self, start: int, end: int) -> None:
        """Send a batch to the disk when it is full, and wait for the oldest ones where too much is under way."""
        if not self._bounds_cache:
            return
        self._batch_start = min(self._batch_start, start) if self._batch_bytes else start
        self._batch_end = max(self._batch_end, end) if self._batch_bytes else end
        self._batch_bytes += end - start
        if self._batch_bytes < BATCH:
            return
        start, stretch = self._batch_start, self._batch_end - self._batch_start
        if not self._sync_range(start, stretch, _START_WRITING):
            self._bounds_cache = False
            return
        self._waiting.append((start, stretch, self._batch_bytes))
        self._waiting_bytes += self._batch_bytes
        self._batch_bytes = 0
        while self._waiting_bytes > WINDOW:
            start, stretch, size = self._waiting.popleft()
            self._waiting_bytes -= size
            self._sync_range(start, stretch, _WAIT_WRITTEN)
            # Pages that are given back are taken again while they are warm; fresh ones cost a virtual machine twice as
            # much processor time.
            os.posix_fadvise(self._fd, start, stretch, os.POSIX_FADV_DONTNEED)

    def _sync_range(self, offset: int, length: int, how: int) -> bool:
        """False where the call is not offered.

        Its errors count: the kernel tells a lost write here INSTEAD of at the next flush, which would then succeed.
        """
        if not _libc.sync_file_range(self._fd, offset, length, how):
            return True
        number = ctypes.get_errno()
        if number not in _NOT_OFFERED:
            self._fail("could not keep what was written", OSError(number, os.strerror(number)))
        return False

    def _zero_by_itself(self, offset: int, length: int) -> bool:
        while self._zeroing:
            self._guard.check()
            if not _libc.fallocate(self._fd, self._zeroing[0], offset, length):
                self._written.add(offset, length)
                return True
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number not in _NOT_OFFERED:
                self._fail(f"refused zeroes at {offset}", OSError(number, os.strerror(number)))
            del self._zeroing[0]
        return False

    def _send_zeroes(self, offset: int, end: int) -> None:
        while offset < end:
            size = min(end - offset, len(ZEROES))
            self.write(offset, ZEROES[:size])
            offset += size

    def _refused(self, start: int, end: int, error: OSError) -> NoReturn:
        self._fail(f"refused bytes {start} to {end - 1}", error)

    def _fail(self, what: str, error: OSError) -> NoReturn:
        raise WriteFailed(
            f"the volume at {self._path} {what}",
            because=error.strerror or str(error),
            means="what was flushed before counts, nothing else",
            do="nothing, unless it goes on: then look at the storage behind the volume",
        ) from error


ZEROES: Final = memoryview(bytes(LARGEST_READ))


def _close(fd: int) -> None:
    """Close it, however dead the storage behind it is: what counts was told by the flush, and that may have failed."""
    try:
        os.close(fd)
    except OSError as error:
        # A FUSE export whose daemon is gone answers so; the descriptor is closed all the same (close(2)).
        log.warning("a volume was closed with an error: %s", error)


def _fill(fd: int, window: memoryview, offset: int, needed: int) -> int:
    """Read until at least `needed` bytes are there, or the file ends; returns min(needed, bytes read)."""
    got = 0
    while got < needed:
        size = os.preadv(fd, [window[got:]], offset + got)
        if not size:
            break
        got += size
    return min(got, needed)
