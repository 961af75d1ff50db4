"""Keyed entries of whole numbers that wait on disk until all are there, dealt into partitions that fit into memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

from finetui.core.files import naming

_PARTITIONS = 256
_WAITING = 1 << 12
"""Numbers of a partition that are kept in memory."""


class Spill:
    """Entries of `width` unsigned 64-bit numbers, of which the first, evenly spread, is the key.

    Raises OSError where the disk is full.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.entries = 0
        self._waiting = [array("Q") for _ in range(_PARTITIONS)]
        self._blocks: list[list[tuple[int, int]]] = [[] for _ in range(_PARTITIONS)]
        """Place in the file and bytes, for each partition."""
        with naming(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, *entry: int) -> None:
        """Take in one entry."""
        number = entry[0] % _PARTITIONS
        waiting = self._waiting[number]
        waiting.extend(entry)
        self.entries += 1
        if len(waiting) >= _WAITING:
            self._write(number)

    def partitions(self) -> Iterator[array[int]]:
        """All entries, those of one key together and in the order in which they came."""
        for number in range(_PARTITIONS):
            self._write(number)
            found = array("Q")
            for place, size in self._blocks[number]:
                self._file.seek(place)
                found.frombytes(self._file.read(size))
            yield found

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _write(self, number: int) -> None:
        waiting = self._waiting[number]
        with naming(Path(tempfile.gettempdir())):
            place = self._file.seek(0, 2)
            self._file.write(waiting)
        self._blocks[number].append((place, len(waiting) * waiting.itemsize))
        self._waiting[number] = array("Q")
