"""Ranges in the order in which they came, in sixteen bytes each: tuples would take ten times as much."""

from __future__ import annotations

from array import array
from collections.abc import Iterator


class RangeList:
    """(offset, length) in bytes; one that begins where the last one ends makes that longer."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def add(self, offset: int, length: int) -> None:
        """Put a range at the end."""
        numbers = self._numbers
        if numbers and numbers[-2] + numbers[-1] == offset:
            numbers[-1] += length
        else:
            numbers.append(offset)
            numbers.append(length)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        numbers = iter(self._numbers)
        return zip(numbers, numbers, strict=True)
