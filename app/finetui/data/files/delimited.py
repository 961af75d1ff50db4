"""CSV, TSV and their like: what separates the cells, what the columns are called, and the rows; every cell is text."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from finetui.data.files.lines import SHOWN, rest_of_line
from finetui.data.files.parsing import not_utf8
from finetui.data.files.splitter import Row
from finetui.data.problems import RowProblem

_LONGEST_ROW = 16 << 20
"""The reader holds four bytes a character, so a row is bound more tightly than elsewhere."""
_TOO_LONG = f"longer than {_LONGEST_ROW >> 20} MiB"
csv.field_size_limit(_LONGEST_ROW)
_DELIMITERS = ",\t;|"
_SAMPLED_BYTES = 1 << 18
_SAMPLED_ROWS = 200
_FEWEST_ROWS = 2
_NEARLY_ALL = 0.95
_HALF = 0.5
_LONGEST_NAME = 64
_KNOWN = frozenset(
    {"messages", "conversations", "conversation", "dialogue", "instruction", "input", "output", "response", "system"}
    | {"history", "query", "question", "answer", "prompt", "completion", "context", "chosen", "rejected", "label"}
    | {"text", "content", "document", "problem", "solution", "request", "article", "summary"}
)
"""Names of columns that show a first line to be a header."""
_ALONE = frozenset({"text", "content", "document", "prompt"})
_LISTS = frozenset({"messages", "conversations", "conversation", "dialogue"})
"""Columns that hold a whole conversation, as JSON in the cell."""
_NAME = re.compile(r"[^\W\d][\w .:/#()\[\]-]{0,39}")
_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\d%?\s*")


@dataclass(frozen=True)
class Table:
    """How a delimited file is to be read."""

    delimiter: str
    columns: tuple[str, ...]
    header: bool
    """Whether its first row names the columns; else they are called column_1, column_2, …"""
    padded: bool
    """Whether a space follows each delimiter."""


def recognise(head: bytes, whole: bool) -> Table | None:
    """The table that a file begins with, or None where its lines are no rows of cells.

    A header of two known names is believed, and of one where half of the rows fit it; any other table must fit almost
    everywhere.
    """
    if len(head) > _SAMPLED_BYTES or not whole:
        head = head[: head.rfind(b"\n", 0, _SAMPLED_BYTES) + 1]
    found = [fitted for delimiter in _DELIMITERS if (fitted := _fitted(delimiter, head)) is not None]
    return max(found, key=lambda fitted: fitted[0])[1] if found else None


def _fitted(delimiter: str, head: bytes) -> tuple[tuple[float, ...], Table] | None:
    """The table that `delimiter` gives, with how much speaks for it: known names, rows that fit, columns."""
    sampled = _sampled(head, delimiter, padded=False)
    padded = bool(sampled) and len(sampled[0]) > 1 and all(cell[:1] == " " for cell in sampled[0][1:])
    if padded:
        sampled = _sampled(head, delimiter, padded=True)
    if not sampled:
        return None
    names, rows = [cell.strip() for cell in sampled[0]], sampled[1:]
    width = len(names)
    whole = [row for row in rows if type(row) is list and type(_row(row, names)) is dict]
    fit = len(whole) / len(rows) if rows else 1.0
    known = sum(name.lower() in _KNOWN for name in names)
    if width == 1:
        alone = names[0].lower() in _ALONE or (names[0].lower() in _LISTS and all(row[0][:1] == "[" for row in whole))
        header = delimiter == "," and alone and fit >= _NEARLY_ALL
    else:
        header = (known > 1 or (known == 1 and fit >= _HALF)) and max(map(len, names)) <= _LONGEST_NAME
    if not header:
        if width == 1 or len(rows) < _FEWEST_ROWS or fit < _NEARLY_ALL:
            return None
        header = _are_names(names)
        plain = header and not padded and " " not in "".join(names)
        if delimiter != "\t" and not plain and not _is_tabular(whole, head, delimiter, header):
            return None
    columns = names if header else [""] * width
    return (known, fit, width), Table(delimiter, _distinct(columns), header, padded)


def _sampled(head: bytes, delimiter: str, *, padded: bool) -> list[Any]:
    """The first records; none where the first is broken."""
    found = _records(io.BytesIO(head), delimiter, padded, 0)
    sampled = [cells for cells, *_ in islice(found, _SAMPLED_ROWS)]
    return sampled if sampled and type(sampled[0]) is list else []


def _are_names(names: Sequence[str]) -> bool:
    """Whether cells look like the names of columns; the first may be empty, as that of an index is."""
    named = names[1:] if not names[0] else names
    return len(set(named)) == len(named) and all(_NAME.fullmatch(name) and name[-1] != "." for name in named)


def _is_tabular(rows: Sequence[Sequence[str]], head: bytes, delimiter: str, header: bool) -> bool:
    """Whether rows are cells rather than sentences that have as many commas: by quotes, by a column of numbers."""
    if header and len(rows[0]) > _FEWEST_ROWS:
        return True
    if head.count(b'"' + delimiter.encode()) + head.count(delimiter.encode() + b'"') >= len(rows):
        return True
    return any(all(_NUMBER.fullmatch(cell) for cell in column) for column in zip(*rows, strict=False))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names with one for each column that has none or another's."""
    taken: dict[str, None] = {}
    for number, name in enumerate(names, 1):
        name = name or f"column_{number}"
        while name in taken:
            name = f"{name}_{number}"
        taken[name] = None
    return tuple(taken)


def table_rows(stream: IO[bytes], table: Table, *, headed: bool, start: int = 0) -> Iterator[Row]:
    """Every row as a dict of strings; where `headed`, the first names the columns and is none.

    A row with other than the right number of cells, and one whose quotes do not close, is a RowProblem.
    """
    found = _records(stream, table.delimiter, table.padded, start)
    for cells, raw, line, byte in islice(found, 1 if headed and table.header else 0, None):
        yield _row(cells, table.columns), raw, line, byte


def _row(cells: Any, columns: Sequence[str]) -> Any:
    if type(cells) is RowProblem:
        return cells
    if len(cells) > len(columns) and not any(cells[len(columns) :]):
        cells = cells[: len(columns)]
    if len(cells) != len(columns):
        code = "missing-key" if len(cells) < len(columns) else "unparsable"
        return RowProblem(code, f"{len(cells)} cells, {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


class _Feed:
    """The lines of a stream for the CSV reader, which can be read again where they turn out to be no row."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self.begin()

    def begin(self) -> None:
        """Forget the lines read so far: a new row begins."""
        self.taken: list[bytes] = []
        self.size = 0
        """Bytes read, also those of a line too long to be kept."""
        self.problem: RowProblem | None = None
        """That a line is no UTF-8."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._waiting.popleft() if self._waiting else self._stream.readline(_LONGEST_ROW)
        if not raw:
            raise StopIteration
        self.size += len(raw)
        if len(raw) == _LONGEST_ROW and not self.taken:
            self.size += rest_of_line(self._stream) if raw[-1:] != b"\n" else 0
            self.taken.append(raw[:SHOWN])
            raise csv.Error(_TOO_LONG)
        self.taken.append(raw)
        if self.size > _LONGEST_ROW:
            raise csv.Error(_TOO_LONG)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self.problem = not_utf8(error, raw)
            return raw.decode("utf-8", "replace")

    def give_back(self) -> None:
        """Keep the first of the lines, and let the others be read again."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        self.size -= sum(map(len, self.taken[1:]))
        del self.taken[1:]
        self.problem = None


def _records(stream: IO[bytes], delimiter: str, padded: bool, start: int) -> Iterator[Row]:
    """Every record as its list of cells, or the RowProblem in its place; blank lines left out."""
    feed, line, byte = _Feed(stream), 1, start
    reader = None
    while True:
        feed.begin()
        reader = reader or csv.reader(feed, delimiter=delimiter, skipinitialspace=padded, strict=True)
        try:
            value: Any = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            feed.give_back()
            value, reader = RowProblem("unparsable", str(error)[:120]), None
        raw = b"".join(feed.taken)
        if value and not raw.isspace():
            yield feed.problem or value, raw, line, byte
        line += len(feed.taken)
        byte += feed.size
