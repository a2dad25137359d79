"""Change maps: which bytes of a disk have to be copied, as a compact and immutable set of ranges."""

from __future__ import annotations

import base64
import binascii
import heapq
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise

from xms.errors import BadInput

PREFIX = "r1."
"""Names the format of the encoded text, so that a later one can be told from it."""

LARGEST_OFFSET = (1 << 63) - 1
"""What the kernel's loff_t can address."""

MOST_RANGES = 1 << 18
"""More ranges are never encoded. Workflows decode change maps, and Temporal calls a workflow task that computes for two
seconds a deadlock; a repeating pattern could hide millions of ranges in a short text."""

SMALLEST_LIMIT = 64
"""One range always fits into a text of this many characters."""

_SORTED_AT_ONCE = 1 << 16
"""A million numbers take 8 MB in an array, and five times that in a list: so much of them is sorted as a list."""

_SEVEN_BITS = 0x7F
_MORE_FOLLOWS = 0x80


class ByteRanges:
    """A set of bytes of a disk, held as ascending ranges that neither overlap nor touch.

    Iterating gives (offset, length) in bytes, ascending. `len` is the number of ranges, `total` the number of bytes. A
    range takes 16 bytes of memory, and every operation takes time in proportion to the number of ranges.

    Args:
        pairs: (offset, length) in any order; overlaps are united, lengths of zero dropped.

    Raises:
        BadInput: an offset or a length is negative, or an end lies beyond 2^63 - 1.
    """

    __slots__ = ("_bounds",)

    _bounds: array[int]
    """Strictly ascending: start, end, start, end, ... A byte is inside after an odd number of bounds."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        starts, ends = array("Q"), array("Q")
        ascending = True
        for offset, length in pairs:
            if offset < 0 or length < 0 or offset + length > LARGEST_OFFSET:
                raise BadInput(f"no range of a disk can start at {offset} and be {length} bytes long")
            if length:
                ascending = ascending and (not starts or offset >= starts[-1])
                starts.append(offset)
                ends.append(offset + length)
        bounds = array("Q")
        for start, end in zip(starts, ends, strict=True) if ascending else _by_start(starts, ends):
            if bounds and start <= bounds[-1]:
                bounds[-1] = max(bounds[-1], end)
            else:
                bounds.append(start)
                bounds.append(end)
        self._bounds = bounds

    @classmethod
    def whole(cls, size: int) -> ByteRanges:
        """Every byte of a disk of `size` bytes."""
        return cls([(0, size)])

    @classmethod
    def _of(cls, bounds: array[int]) -> ByteRanges:
        made = cls.__new__(cls)
        made._bounds = bounds  # noqa: SLF001 - its own class, past the checks that these bounds do not need
        return made

    # --- looking ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[int, int]]:
        bounds = iter(self._bounds)
        for start in bounds:
            yield start, next(bounds) - start

    def __len__(self) -> int:
        return len(self._bounds) // 2

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __eq__(self, other: object) -> bool:
        return self._bounds == other._bounds if isinstance(other, ByteRanges) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._bounds.tobytes())

    def __repr__(self) -> str:
        if not self:
            return "ByteRanges(empty)"
        return f"ByteRanges({len(self)} ranges, {self.total} bytes in {self._bounds[0]}..{self._bounds[-1]})"

    @property
    def total(self) -> int:
        """Number of bytes in the set."""
        return sum(self._bounds[1::2]) - sum(self._bounds[0::2])

    @property
    def end(self) -> int:
        """The offset behind the last byte; 0 for the empty set."""
        return self._bounds[-1] if self._bounds else 0

    # --- set algebra --------------------------------------------------------------------------------------------------

    def __or__(self, other: ByteRanges) -> ByteRanges:
        return self._combined(other, only_left=True, only_right=True, both=True)

    def __and__(self, other: ByteRanges) -> ByteRanges:
        return self._combined(other, only_left=False, only_right=False, both=True)

    def __sub__(self, other: ByteRanges) -> ByteRanges:
        return self._combined(other, only_left=True, only_right=False, both=False)

    def _combined(self, other: ByteRanges, *, only_left: bool, only_right: bool, both: bool) -> ByteRanges:
        """Sweep over the bounds of both; after an odd number of its bounds, one is inside a set."""
        wanted = ((False, only_right), (only_left, both))
        left, right = self._bounds, other._bounds
        left_size, right_size = len(left), len(right)
        result = array("Q")
        inside = False
        passed_left = passed_right = 0
        while passed_left < left_size or passed_right < right_size:
            if passed_right == right_size or (passed_left < left_size and left[passed_left] <= right[passed_right]):
                point = left[passed_left]
                passed_left += 1
                if passed_right < right_size and right[passed_right] == point:
                    passed_right += 1
            else:
                point = right[passed_right]
                passed_right += 1
            if wanted[passed_left & 1][passed_right & 1] != inside:
                inside = not inside
                result.append(point)
        return ByteRanges._of(result)

    def below(self, offset: int) -> ByteRanges:
        """The part before `offset`."""
        index = bisect_right(self._bounds, offset)
        bounds = self._bounds[:index]
        if index % 2:
            # A range that starts exactly there has no part before it.
            if bounds[-1] == offset:
                bounds.pop()
            else:
                bounds.append(offset)
        return ByteRanges._of(bounds)

    def from_offset(self, offset: int) -> ByteRanges:
        """The part from `offset` on."""
        index = bisect_right(self._bounds, offset)
        bounds = self._bounds[index:]
        return ByteRanges._of(array("Q", [offset]) + bounds if index % 2 else bounds)

    def coalesced(self, grain: int) -> ByteRanges:
        """A superset without gaps smaller than `grain` bytes: to read over them is cheaper than another request."""
        kept = (bound for end, start in self._gaps() if start - end >= grain for bound in (end, start))
        return ByteRanges._of(self._with_gaps(kept))

    def aligned(self, grain: int, capacity: int) -> ByteRanges:
        """A superset whose ranges start and end at multiples of `grain` bytes, or at the disk's `capacity`."""
        outward = ((start - start % grain, min(end + -end % grain, capacity)) for start, end in self._pairs())
        return ByteRanges((start, end - start) for start, end in outward if end > start)

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self._bounds[0::2], self._bounds[1::2], strict=True)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        return zip(self._bounds[1:-1:2], self._bounds[2::2], strict=True)

    def _with_gaps(self, inner_bounds: Iterable[int]) -> array[int]:
        """The same first and last byte, with no gaps but those of `inner_bounds`: end, start, end, start, ..."""
        return array("Q", chain(self._bounds[:1], inner_bounds, self._bounds[-1:]))

    # --- as text ------------------------------------------------------------------------------------------------------

    def encode(self, limit_bytes: int = 262144) -> str:
        """A text of at most `limit_bytes` ASCII characters; the empty set gives the empty text.

        A set that does not fit, or has more than `MOST_RANGES` ranges, is encoded as a superset: its smallest gaps are
        joined until it fits, the lowest first among equals. To copy more than needed is right, only slower.

        Raises:
            ValueError: `limit_bytes` is below `SMALLEST_LIMIT`.
        """
        if limit_bytes < SMALLEST_LIMIT:
            raise ValueError(f"a change map cannot be held within {limit_bytes} characters")
        if not self:
            return ""
        joined = self._joined(MOST_RANGES)
        text = _text_of(joined._bounds)  # noqa: SLF001 - its own class
        while len(text) > limit_bytes:
            # Aims just below the limit and closes in: a tenth less a round at the very least.
            joined = joined._joined(max(1, min(len(joined) * limit_bytes // len(text), len(joined) * 9 // 10)))  # noqa: SLF001
            text = _text_of(joined._bounds)  # noqa: SLF001
        return text

    def _joined(self, count: int) -> ByteRanges:
        """The superset that has at most `count` ranges and the fewest additional bytes."""
        superfluous = len(self) - count
        if superfluous <= 0:
            return self
        sizes = array("Q", (start - end for end, start in self._gaps()))
        largest, of_that_size = _nth_smallest(sizes, superfluous)

        def kept() -> Iterator[int]:
            left = of_that_size
            for end, start in self._gaps():
                if start - end > largest or (start - end == largest and not left):
                    yield end
                    yield start
                elif start - end == largest:
                    left -= 1

        return ByteRanges._of(self._with_gaps(kept()))

    @classmethod
    def decode(cls, text: str) -> ByteRanges:
        """The set that `encode` wrote.

        Raises:
            BadInput: the text is not what `encode` writes: damaged, or of a format that this version does not know.
        """
        if not text:
            return cls()
        if not text.startswith(PREFIX):
            raise _undecodable(f"it does not start with '{PREFIX}'")
        try:
            raw = _decompressed(base64.b64decode(text[len(PREFIX) :], validate=True))
        except (binascii.Error, ValueError, zlib.error) as error:
            raise _undecodable(str(error)) from None
        return cls._of(_bounds_of(raw))


def _by_start(starts: array[int], ends: array[int]) -> Iterator[tuple[int, int]]:
    """The pairs, ascending by their first numbers; both arrays are put in order by parts."""
    for part in _parts(starts):
        pairs = sorted(zip(starts[part], ends[part], strict=True))
        starts[part] = array("Q", (start for start, _ in pairs))
        ends[part] = array("Q", (end for _, end in pairs))
    seen_starts, seen_ends = memoryview(starts), memoryview(ends)
    return heapq.merge(*(zip(seen_starts[part], seen_ends[part], strict=True) for part in _parts(starts)))


def _nth_smallest(values: array[int], count: int) -> tuple[int, int]:
    """The largest one of the `count` smallest values, and how many of them are equal to it."""
    ordered = array("Q")
    for part in _parts(values):
        ordered.extend(sorted(values[part]))
    seen = memoryview(ordered)
    largest = next(islice(heapq.merge(*(seen[part] for part in _parts(ordered))), count - 1, None))
    return largest, count - sum(value < largest for value in values)


def _parts(values: array[int]) -> list[slice]:
    return [slice(first, first + _SORTED_AT_ONCE) for first in range(0, len(values), _SORTED_AT_ONCE)]


def _text_of(bounds: array[int]) -> str:
    """The common power of two of all bounds, then each bound as its distance to the one before, in such units."""
    all_bits = 0
    for bound in bounds:
        all_bits |= bound
    shift = (all_bits & -all_bits).bit_length() - 1
    raw = bytearray([shift])
    for before, bound in pairwise(chain((0,), bounds)):
        distance = (bound - before) >> shift
        while distance > _SEVEN_BITS:
            raw.append(distance & _SEVEN_BITS | _MORE_FOLLOWS)
            distance >>= 7
        raw.append(distance)
    return PREFIX + base64.b64encode(zlib.compress(bytes(raw), 9)).decode("ascii")


def _decompressed(packed: bytes) -> bytes:
    """Decompress, but never to more than the largest change map needs (a bound takes at most nine bytes)."""
    stream = zlib.decompressobj()
    raw = stream.decompress(packed, 1 + 2 * MOST_RANGES * 9)
    if not stream.eof or stream.unused_data or not raw:
        raise ValueError("it is cut off, too long, or goes on behind its end")
    return raw


def _bounds_of(raw: bytes) -> array[int]:
    bounds = array("Q")
    shift = raw[0]
    position = value = bits = 0
    for byte in memoryview(raw)[1:]:
        value |= (byte & _SEVEN_BITS) << bits
        if byte & _MORE_FOLLOWS:
            bits += 7
            continue
        if not value and bounds:
            raise _undecodable("two bounds are at the same place")
        position += value << shift
        if position > LARGEST_OFFSET:
            raise _undecodable("it reaches beyond every disk")
        bounds.append(position)
        value = bits = 0
    if bits or len(bounds) % 2 or not bounds:
        raise _undecodable("its last range has no end")
    return bounds


def _undecodable(because: str) -> BadInput:
    return BadInput("a change map cannot be decoded", because=because, means="nothing was copied by it")
