"""Rows that say the same as an earlier one, for any number of rows in flat memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from typing import NamedTuple

from finetui.data.repeats.spill import Spill

DUPLICATE = "duplicate"
IN_MEMORY = 1 << 19
"""Keys that are kept in memory, some 60 bytes each; with one more, all go to disk."""
_MASK = (1 << 64) - 1
_WIDTH = 5


class Spot(NamedTuple):
    """Where a row stands, in numbers."""

    file: int
    row: int
    line: int
    """From 1; 0 where there is none."""
    byte: int
    """From 0; -1 where there is none."""


class Duplicates:
    """Which keys, such as hashes of rows, were met before.

    While they fit into memory the answer comes at once; from then on keys are spilled, and `late` has the answer.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._met: set[int] = set()
        self._spill: Spill | None = None

    def add_new(self, keys: Sequence[int]) -> bool:
        """Take in all keys where that is quick and each is new; else none, and False: they are to be added singly."""
        met = self._met
        if self._spill is not None or len(met) + len(keys) > self._in_memory or not met.isdisjoint(keys):
            return False
        distinct = set(keys)
        if len(distinct) < len(keys):
            return False
        met |= distinct
        return True

    def add(self, key: int, spot: Spot) -> bool:
        """Take in one key, in the order of reading; whether it is known already that it was met before.

        Raises OSError where the disk is full.
        """
        if self._spill is not None:
            self._spill.add(key & _MASK, spot.file, spot.row, spot.line, spot.byte + 1)
            return False
        if key in self._met:
            return True
        self._met.add(key)
        if len(self._met) > self._in_memory:
            self._start_spilling()
        return False

    def late(self, examples: int) -> tuple[int, list[Spot]]:
        """How many rows were met before without `add` saying so, and the first of them; the last thing asked."""
        if self._spill is None:
            return 0, []
        count = 0
        first: list[tuple[int, ...]] = []
        for entries in self._spill.partitions():
            keys = entries[::_WIDTH]
            repeats = len(keys) - len(set(keys))
            if repeats:
                count += repeats
                again = (tuple(entries[at + 1 : at + _WIDTH]) for at in _again(keys))
                first = nsmallest(examples, [*first, *again])
        self._spill.close()
        return count, [Spot(file, row, line, byte - 1) for file, row, line, byte in first]

    def _start_spilling(self) -> None:
        self._spill = Spill(_WIDTH)
        for key in self._met:
            self._spill.add(key & _MASK, 0, 0, 0, 0)
        self._met = set()


def _again(keys: Sequence[int]) -> Iterator[int]:
    """Where, in entries, the keys stand that stood there before."""
    met: set[int] = set()
    for place, key in enumerate(keys):
        if key in met:
            yield place * _WIDTH
        met.add(key)
