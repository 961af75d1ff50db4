"""Rows that nearly repeat an earlier one: MinHash over runs of characters, banded, with everything that grows on disk.

Broder, "On the resemblance and containment of documents" (1997); the bands are those of Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", 3.4.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import eq
from pathlib import Path
from struct import Struct
from typing import Any

import rensa

from finetui.core.files import naming
from finetui.data.repeats.duplicates import Spot
from finetui.data.repeats.spill import Spill

_MASK = (1 << 64) - 1
_SIZE = 128
"""Hashes of a signature; the similarity is estimated to within 4 points (one standard deviation)."""
_SEED = 1
_RUN = 5
"""Characters of a shingle: a word or two in Chinese, a word in English."""
_CHUNK = 1 << 16
_RECALL = 0.99
"""Share of the pairs at the threshold that meet in a band."""
_STARS = 8
_UNTOLD = frozenset({"meta", "tools", "role", "type", "id", "name", "tool_call_id", "labels", "attention_mask"})
_ENTRY = Struct(f"4q{_SIZE}I")


class NearDuplicates:
    """The rows of one pass, each compared with those before it that it shares a band with.

    Raises OSError where the disk is full.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows = 0
        self._band = _band_rows(threshold)
        self._bands = Spill(3)
        self._same = Spill(2)
        with naming(Path(tempfile.gettempdir())):
            self._entries = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, key: int, record: Mapping[str, Any], spot: Spot) -> None:
        """Take in one row; rows of one `key` are the same."""
        number, signature = self._rows, _signature(record)
        self._rows += 1
        order = hash(signature) & _MASK
        self._same.add(key & _MASK, number)
        for start in range(0, _SIZE - self._band + 1, self._band):
            band = hash((start, *signature[start : start + self._band]))
            self._bands.add(band & _MASK, number, order)
        with naming(Path(tempfile.gettempdir())):
            self._entries.write(_ENTRY.pack(*spot, *signature))

    def joined(self) -> Iterator[tuple[int, int, bool]]:
        """Every row that repeats another of its kin, in the order of reading: its number from 0, the first of them all,
        and whether an earlier one of them is exactly the same.

        Which rows are kin does not depend on the order of reading, save for crowds that share a band and little more.
        """
        self._entries.flush()
        first, exact = array("Q", range(self._rows)), bytearray(self._rows)
        for numbers in _groups(self._same):
            for earlier, later in pairwise(numbers):
                _join(first, earlier, later)
                exact[later] = 1
        for numbers in _groups(self._bands):
            for place, later in enumerate(numbers):
                for earlier in {*numbers[: min(place, _STARS)], *numbers[max(place - 1, 0) : place]}:
                    if _root(first, earlier) != _root(first, later) and self._are_near(earlier, later):
                        _join(first, earlier, later)
        for number in range(self._rows):
            root = _root(first, number)
            if root != number:
                yield number, root, bool(exact[number])

    def spot(self, number: int) -> Spot:
        """Where a row stands."""
        return Spot(*self._entry(number)[:4])

    def close(self) -> None:
        """Give the disk back."""
        self._bands.close()
        self._same.close()
        self._entries.close()

    def _are_near(self, one: int, other: int) -> bool:
        alike: int = sum(map(eq, self._entry(one)[4:], self._entry(other)[4:]))
        return alike >= self._threshold * _SIZE

    def _entry(self, number: int) -> tuple[int, ...]:
        return _ENTRY.unpack(os.pread(self._entries.fileno(), _ENTRY.size, number * _ENTRY.size))


def _band_rows(threshold: float) -> int:
    """Hashes of a band: as many as leave a pair at the threshold its chance to meet in one of them."""
    wide_enough = [rows for rows in range(1, 33) if 1 - (1 - threshold**rows) ** (_SIZE // rows) >= _RECALL]
    return max(wide_enough, default=1)


def _groups(spill: Spill) -> Iterator[list[int]]:
    """The numbers of the rows that share a key, where they are several, ordered by what stands after it."""
    width = spill.width
    for entries in spill.partitions():
        keys = entries[::width]
        met, shared = set[int](), set[int]()
        for key in keys:
            (shared if key in met else met).add(key)
        at: dict[int, list[int]] = {key: [] for key in shared}
        for place, key in enumerate(keys):
            if key in shared:
                at[key].append(place * width)
        for places in at.values():
            rows = sorted((*entries[place + 2 : place + width], entries[place + 1]) for place in places)
            yield [row[-1] for row in rows]


def _root(first: array[int], number: int) -> int:
    while first[number] != number:
        first[number] = first[first[number]]
        number = first[number]
    return number


def _join(first: array[int], one: int, other: int) -> None:
    low, high = sorted((_root(first, one), _root(first, other)))
    first[high] = low


def _signature(record: Mapping[str, Any]) -> tuple[int, ...]:
    sketch = rensa.RMinHash(num_perm=_SIZE, seed=_SEED)
    ids = record.get("input_ids")
    if type(ids) is list:
        sketch.update({f"{one} {two} {three}" for one, two, three in zip(ids, ids[1:], ids[2:], strict=False)})
        return tuple(sketch.digest())
    text = " ".join(" ".join(_texts(record)).casefold().split())
    for start in range(0, max(1, len(text) - _RUN + 1), _CHUNK):
        chunk = text[start : start + _CHUNK + _RUN - 1]
        sketch.update({chunk[place : place + _RUN] for place in range(max(1, len(chunk) - _RUN + 1))})
    return tuple(sketch.digest())


def _texts(value: Any) -> Iterator[str]:
    """What is said in a record: no system message, since many rows share one, and no tools."""
    if type(value) is str:
        yield value
    elif type(value) is dict:
        if value.get("role") != "system":
            for key, item in value.items():
                if key not in _UNTOLD:
                    yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
