"""A spread sample of a file's rows: its head, its tail, and seeded places between."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finetui.core.errors import FinetuiError
from finetui.data.containers import ARRAY, LINES, DataFile, rows, rows_of
from finetui.data.parsing import Repaired
from finetui.data.problems import RowProblem
from finetui.data.splitter import Row, Splitter
from finetui.data.streams import opened

ROWS = 1000
_WHOLE_BYTES = 4 << 20
_HEAD_ROWS = 200
_PLACES = 40
_WINDOW_BYTES = 1 << 18
_ROWS_A_PLACE = 20


@dataclass(frozen=True)
class Sample:
    """What was looked at of one file."""

    values: list[Any]
    """Parsed rows in file order."""
    looked_at: int
    """Rows sampled, those that are no JSON among them."""


def take(file: DataFile) -> Sample:
    """Sample one file; a small or compressed one is read through, a large one at its head, tail and places between.

    Raises FinetuiError where the file cannot be read.
    """
    with opened(file.path, file.name) as source:
        if file.compression or file.bytes <= _WHOLE_BYTES:
            found = _reservoir(file, rows(file, source.stream))
        else:
            head = (value for value, *_ in islice(rows(file, source.stream), _HEAD_ROWS))
            found = [*head, *_spread(file)]
    values = [value.value if type(value) is Repaired else value for value in found]
    return Sample([value for value in values if type(value) is not RowProblem], len(values))


def _reservoir(file: DataFile, stream: Iterator[Row]) -> list[Any]:
    """The head, and a seeded even choice of the rest; a file cut short gives what it has."""
    chance = random.Random(file.bytes)
    kept: list[tuple[int, Any]] = []
    try:
        for number, (value, *_) in enumerate(stream):
            if len(kept) < ROWS:
                kept.append((number, value))
            elif (place := chance.randrange(number + 1)) < ROWS and place >= _HEAD_ROWS:
                kept[place] = (number, value)
    except FinetuiError:
        pass  # the full pass reports it, with its line
    return [value for _, value in sorted(kept, key=lambda pair: pair[0])]


def _spread(file: DataFile) -> Iterator[Any]:
    between = b"" if file.container == LINES else _between(file)
    chance = random.Random(file.bytes)
    span = file.bytes - _WINDOW_BYTES
    places = sorted(chance.randrange(span) for _ in range(_PLACES))
    with file.path.open("rb") as stream:
        for place in [*places, span]:
            stream.seek(place)
            yield from islice(_window(file, stream.read(_WINDOW_BYTES), between), _ROWS_A_PLACE)


def _between(file: DataFile) -> bytes:
    """The bytes between two rows, as the head shows them."""
    with opened(file.path, file.name) as source:
        source.stream.read(file.start)
        splitter = Splitter(source.stream, file.name, array=file.container == ARRAY, start=file.start)
        for _ in islice(splitter.rows(), 3):
            pass
        return splitter.between()


def _window(file: DataFile, block: bytes, between: bytes) -> list[Any]:
    """The whole rows of a window that begins anywhere."""
    if file.container == LINES:
        begin, end = block.find(b"\n") + 1, block.rfind(b"\n") + 1
        return [value for value, *_ in rows_of(LINES, file.name, io.BytesIO(block[begin:end]))]
    mark = b"}" + between + b"{"
    begin = block.find(mark)
    while between and begin >= 0:
        begin += len(mark) - 1
        values, length = _chain(block[begin:], file)
        if length is None:
            return values
        begin = block.find(mark, begin + length)
    return []


def _chain(block: bytes, file: DataFile) -> tuple[list[Any], int | None]:
    """Values one after another to the end of the block; or, where a list inside a row ends, how far it went."""
    values: list[Any] = []
    length = 0
    try:
        for value, raw, _, byte in Splitter(io.BytesIO(block), file.name, array=False).rows():
            length = (byte or 0) + len(raw)
            if raw[:1] != b"{":
                outermost = file.container == ARRAY and not block[length:].strip()
                return values, None if outermost else length
            values.append(value)
    except FinetuiError:
        pass  # the window ends inside a row
    return values, None
