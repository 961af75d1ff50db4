"""A spread sample of a file's rows: its head, its tail, and seeded places between."""

from __future__ import annotations

import io
import random
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from finetui.core.errors import FinetuiError
from finetui.data.files import columnar
from finetui.data.files.containers import COLUMNAR, TEXT, DataFile, rows, rows_of
from finetui.data.files.encodings import UTF8, UTF8_BOM, as_utf8
from finetui.data.files.parsing import Repaired
from finetui.data.files.shapes import ARRAY, KEYED, LINES, OBJECTS
from finetui.data.files.splitter import Row, Splitter
from finetui.data.files.streams import Source, opened
from finetui.data.problems import RowProblem

ROWS = 1000
_WHOLE_BYTES = 4 << 20
_HEAD_ROWS = 200
_PLACES = 40
_WINDOW_BYTES = 1 << 18
_ROWS_A_PLACE = 20
_AT_THE_END = 2
"""Blocks; the last may be short."""
_TRIES = 20
_NEARLY_ALL = 0.9
_LINE_END = re.compile(rb"\n")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Sample:
    """What was looked at of one file."""

    values: list[Any]
    """Parsed rows in file order."""
    looked_at: int
    """Rows sampled, those that are no JSON among them."""


def take(file: DataFile) -> Sample:
    """Sample one file: a small one is read through, a large one at its head, tail and places between.

    A compressed or transcoded file is read to its end, but only those places are looked at. Raises FinetuiError where
    the file cannot be read.
    """
    with opened(file.path, file.name) as source:
        if file.container in COLUMNAR:
            stream = source.stream if file.compression else None
            found = columnar.sample(file.path, file.name, stream, ROWS, _PLACES, _ROWS_A_PLACE)
        else:
            found = _of_text(file, source)
    values = [value.value if type(value) is Repaired else value for value in found]
    return Sample([value for value in values if type(value) is not RowProblem], len(values))


def _of_text(file: DataFile, source: Source) -> list[Any]:
    stream = as_utf8(source.stream, file.text)
    head = stream.read(_WHOLE_BYTES)
    if len(head) < _WHOLE_BYTES:
        return _reservoir(rows_of(file, io.BytesIO(head)))
    if file.container == KEYED:
        return _first(file, None)
    found, end = _head(file, head)
    in_place = file.compression is None and file.encoding in (UTF8, UTF8_BOM)
    between = _between(file, head)
    for block in _windows(file, file.start + end) if in_place else _windows_of(_blocks(head[end:], stream)):
        found += _window(file, block, between)[:_ROWS_A_PLACE]
    return found or _first(file, _ROWS_A_PLACE)


def _head(file: DataFile, head: bytes) -> tuple[list[Any], int]:
    """The first rows, and where they end in `head`; without the last where it may have been cut."""
    found: list[Row] = []
    with suppress(FinetuiError):  # it may end inside a row
        for row in islice(rows_of(file, io.BytesIO(head)), _HEAD_ROWS + 1):
            found.append(row)
    whole = found[:-1]
    return [value for value, *_ in whole], found[-1][3] or 0 if whole else 0


def _first(file: DataFile, count: int | None) -> list[Any]:
    with opened(file.path, file.name) as source:
        return _reservoir(islice(rows(file, source.stream), count))


def _reservoir(stream: Iterator[Row]) -> list[Any]:
    """The head, and a seeded even choice of the rest; a file cut short gives what it has."""
    chance = random.Random(ROWS)
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


def _windows(file: DataFile, begin: int) -> Iterator[bytes]:
    """Blocks at seeded places of a file that can be read anywhere, one in each part of it, the last at its end."""
    chance = random.Random(file.bytes)
    part = (file.bytes - begin) // (_PLACES + 1)
    size = min(part, _WINDOW_BYTES)
    places = [begin + part * number + chance.randrange(part - size + 1) for number in range(_PLACES)]
    with file.path.open("rb") as stream:
        for place in [*places, file.bytes - size]:
            stream.seek(place)
            block = stream.read(size)
            yield block.replace(b"\r", b"\n") if file.text.carriage else block


def _windows_of(blocks: Iterator[bytes]) -> list[bytes]:
    """Seeded blocks of a stream that has to be read through, and its end."""
    chance = random.Random(_PLACES)
    kept: list[tuple[int, bytes]] = []
    held: deque[bytes] = deque()
    number = 0
    for block in blocks:
        held.append(block)
        if len(held) <= _AT_THE_END:
            continue
        if number < _PLACES:
            kept.append((number, held.popleft()))
        elif (place := chance.randrange(number + 1)) < _PLACES:
            kept[place] = (number, held.popleft())
        else:
            held.popleft()
        number += 1
    return [*(block for _, block in sorted(kept)), b"".join(held)]


def _blocks(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    yield from (head[at : at + _WINDOW_BYTES] for at in range(0, len(head), _WINDOW_BYTES))
    while block := stream.read(_WINDOW_BYTES):
        yield block


def _between(file: DataFile, head: bytes) -> bytes:
    """The bytes between two rows of JSON, as the head shows them; empty where there are none."""
    splitter = Splitter(io.BytesIO(head), file.name, array=file.container == ARRAY)
    if file.container in (ARRAY, OBJECTS):
        _reservoir(islice(splitter.rows(), 3))
    return splitter.between()


def _window(file: DataFile, block: bytes, between: bytes) -> list[Any]:
    """The whole rows of a window that begins anywhere."""
    if file.table is not None:
        return _of_table(file, block)
    if file.container in (LINES, TEXT):
        mark = _BLANK_LINE if file.container == TEXT and file.text_by == "paragraph" else _LINE_END
        ends = [found.end() for found in mark.finditer(block)]
        whole = block[ends[0] : ends[-1]] if ends else b""
        return [value for value, *_ in islice(rows_of(file, io.BytesIO(whole)), _ROWS_A_PLACE)]
    opening = b"}" + between + b"{"
    begin = block.find(opening)
    while between and begin >= 0:
        begin += len(opening) - 1
        values, length = _chain(block[begin:], file)
        if length is None:
            return values
        begin = block.find(opening, begin + length)
    return []


def _of_table(file: DataFile, block: bytes) -> list[Any]:
    """The rows from the first line on that begins one: a line may also stand inside a cell."""
    begin = block.find(b"\n") + 1
    for _ in range(_TRIES):
        found = [value for value, *_ in rows_of(file, io.BytesIO(block[begin:]), headed=False)][:-1]
        if sum(type(value) is dict for value in found) >= max(1, _NEARLY_ALL * len(found)):
            return found
        begin = block.find(b"\n", begin) + 1
        if not begin:
            break
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
