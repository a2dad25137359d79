"""Change maps against a model: a plain set of block numbers."""

from __future__ import annotations

import base64
import random
import time
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xms.change_map import MOST_RANGES, PREFIX, ByteRanges
from xms.errors import BadInput

SPACE = 64

pairs = st.lists(st.tuples(st.integers(0, SPACE - 1), st.integers(0, 12)), max_size=14)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def model(ranges: ByteRanges) -> set[int]:
    return {byte for offset, length in ranges for byte in range(offset, offset + length)}


def bytes_of(given_pairs: list[tuple[int, int]]) -> set[int]:
    return {byte for offset, length in given_pairs for byte in range(offset, offset + length)}


def assert_well_formed(ranges: ByteRanges) -> None:
    end = -1
    for offset, length in ranges:
        assert length > 0
        assert offset > end
        end = offset + length


@given(pairs)
def test_a_change_map_holds_exactly_the_bytes_that_it_was_given(given_pairs: list[tuple[int, int]]) -> None:
    ranges = ByteRanges(given_pairs)

    assert_well_formed(ranges)
    assert model(ranges) == bytes_of(given_pairs)
    assert ranges.total == len(bytes_of(given_pairs))
    assert bool(ranges) == bool(bytes_of(given_pairs))
    assert len(ranges) == len(list(ranges))
    assert ranges.end == max(bytes_of(given_pairs), default=-1) + 1


@given(pairs, pairs)
def test_union_difference_and_intersection_are_those_of_sets(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    left, right = ByteRanges(a), ByteRanges(b)

    for result, expected in (
        (left | right, bytes_of(a) | bytes_of(b)),
        (left - right, bytes_of(a) - bytes_of(b)),
        (left & right, bytes_of(a) & bytes_of(b)),
    ):
        assert_well_formed(result)
        assert model(result) == expected


@given(pairs, st.integers(0, SPACE + 16))
def test_below_and_from_offset_cut_a_map_in_two(given_pairs: list[tuple[int, int]], at: int) -> None:
    ranges = ByteRanges(given_pairs)
    below, rest = ranges.below(at), ranges.from_offset(at)

    assert_well_formed(below)
    assert_well_formed(rest)
    assert model(below) == {byte for byte in bytes_of(given_pairs) if byte < at}
    assert model(rest) == {byte for byte in bytes_of(given_pairs) if byte >= at}
    assert below | rest == ranges


@given(pairs, st.integers(1, 16))
def test_coalescing_joins_exactly_the_gaps_below_the_grain(given_pairs: list[tuple[int, int]], grain: int) -> None:
    ranges = ByteRanges(given_pairs)
    joined = ranges.coalesced(grain)

    assert_well_formed(joined)
    gaps = joined - ranges
    assert all(length < grain for _, length in gaps)
    assert all(after - (offset + length) >= grain for (offset, length), (after, _) in pairwise(joined))
    assert joined & ranges == ranges


@given(pairs, st.integers(1, 16))
def test_aligning_rounds_outwards_within_the_disk(given_pairs: list[tuple[int, int]], grain: int) -> None:
    ranges = ByteRanges(given_pairs)
    capacity = SPACE + 12
    aligned = ranges.aligned(grain, capacity)

    assert_well_formed(aligned)
    blocks = {byte // grain for byte in bytes_of(given_pairs)}
    assert model(aligned) == {byte for byte in range(capacity) if byte // grain in blocks}


@given(pairs)
def test_equality_is_that_of_the_bytes(given_pairs: list[tuple[int, int]]) -> None:
    ranges = ByteRanges(given_pairs)
    rebuilt = ByteRanges(reversed([(byte, 1) for byte in sorted(bytes_of(given_pairs))]))

    assert ranges == rebuilt
    assert hash(ranges) == hash(rebuilt)
    assert ranges != ranges | ByteRanges([(1000, 1)])
    assert ranges != "ranges"


@given(pairs, st.integers(0, 40))
def test_encoding_is_lossless_while_it_fits(given_pairs: list[tuple[int, int]], shift: int) -> None:
    ranges = ByteRanges((offset << shift, length << shift) for offset, length in given_pairs)

    text = ranges.encode()

    assert ByteRanges.decode(text) == ranges
    assert text == ByteRanges(ranges).encode()
    assert text.isascii()


@given(st.integers(0, 2**32), st.integers(64, 2000))
def test_an_encoding_over_the_limit_is_a_superset_within_it(seed: int, limit: int) -> None:
    chance = seeded(seed)
    ranges = ByteRanges((chance.randrange(1 << 40), chance.randrange(1, 1 << 20)) for _ in range(400))

    text = ranges.encode(limit)

    assert len(text) <= limit
    decoded = ByteRanges.decode(text)
    assert ranges - decoded == ByteRanges()
    assert decoded.end == ranges.end
    assert decoded == ranges or len(decoded) < len(ranges)
    assert text == ranges.encode(limit)


def test_the_smallest_gaps_are_joined_first() -> None:
    chance = seeded(1)
    offset = 0
    given_pairs = []
    for _ in range(200):
        given_pairs.append((offset, chance.randrange(1, 1 << 30)))
        offset += given_pairs[-1][1] + chance.randrange(1, 1 << 30)
    ranges = ByteRanges(given_pairs)

    decoded = ByteRanges.decode(ranges.encode(800))

    joined = {length for _, length in decoded - ranges}
    left = {length for _, length in ByteRanges.whole(ranges.end) - decoded}
    assert joined
    assert left
    assert max(joined) < min(left)


def test_equal_gaps_are_joined_only_as_far_as_needed() -> None:
    chance = seeded(2)
    offset = 0
    given_pairs = []
    for _ in range(500):
        given_pairs.append((offset, chance.randrange(1, 1 << 40)))
        offset += given_pairs[-1][1] + 4096
    ranges = ByteRanges(given_pairs)

    decoded = ByteRanges.decode(ranges.encode(2000))

    assert 100 < len(decoded) < 500


def test_the_empty_set_is_the_empty_text() -> None:
    assert ByteRanges().encode() == ""
    assert ByteRanges.decode("") == ByteRanges()
    assert not ByteRanges.decode("")
    assert repr(ByteRanges()) == "ByteRanges(empty)"


def test_a_whole_disk_is_one_range() -> None:
    assert list(ByteRanges.whole(10)) == [(0, 10)]
    assert not ByteRanges.whole(0)
    assert repr(ByteRanges.whole(10)) == "ByteRanges(1 ranges, 10 bytes in 0..10)"


@pytest.mark.parametrize("pair", [(-1, 1), (0, -1), (1 << 63, 1), (1, (1 << 63) - 1)])
def test_what_no_disk_can_have_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(BadInput):
        ByteRanges([pair])


def packed(raw: bytes) -> str:
    return PREFIX + base64.b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "r2.AAAA",
        "nonsense",
        PREFIX,
        PREFIX + "not base64!",
        PREFIX + "AAAA",
        ByteRanges.whole(10).encode()[:-4],
        packed(b""),
        packed(b"\x00"),
        packed(b"\x00\x01"),
        packed(b"\x00\x01\x80"),
        packed(b"\x00\x01\x00"),
        packed(b"\x40\x01\x01"),
        packed(b"\x00\x01" + b"\xff" * 9 + b"\x01"),
        packed(b"\x00" + bytes([1]) * (40 * MOST_RANGES)),
    ],
)
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        ByteRanges.decode(text)


def test_a_smaller_limit_than_one_range_needs_is_refused() -> None:
    with pytest.raises(ValueError, match="within 63 characters"):
        ByteRanges.whole(1).encode(63)


def test_one_range_always_fits_the_smallest_limit() -> None:
    chance = seeded(4)
    ranges = ByteRanges((chance.randrange((1 << 63) - 9), 7) for _ in range(50))

    decoded = ByteRanges.decode(ranges.encode(64))

    assert len(decoded) <= 2
    assert not ranges - decoded


def test_a_repeating_pattern_never_decodes_to_more_ranges_than_a_workflow_can_take() -> None:
    ranges = ByteRanges((offset << 17, 1 << 16) for offset in range(MOST_RANGES + 1000))

    text = ranges.encode()

    decoded = ByteRanges.decode(text)
    assert len(decoded) == MOST_RANGES
    assert ranges - decoded == ByteRanges()


@pytest.mark.slow
def test_a_million_ranges_are_merged_and_encoded_in_seconds() -> None:
    chance = seeded(3)
    started = time.monotonic()
    many = ByteRanges((chance.randrange(1 << 25) << 16, 1 << 16) for _ in range(1_000_000))
    others = ByteRanges((chance.randrange(1 << 25) << 16, 1 << 16) for _ in range(100_000))

    text = ((many | others) - others).encode()

    assert len(text) <= 262144
    assert not (many - others) - ByteRanges.decode(text)
    assert time.monotonic() - started < 60
