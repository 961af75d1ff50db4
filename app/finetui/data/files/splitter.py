"""Cut a byte stream of JSON values into rows without loading it: arrays, objects one after another, objects of rows.

Most files repeat the same bytes between rows (`},\\n  {\\n    "instruction"`). That opening is learnt from the rows
before and searched for; a cut is believed only if the row then parses, since a JSON object ends at one place alone.
Otherwise the end is found by an exact scan over strings and brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

import orjson

from finetui.core.errors import FinetuiError, Problem
from finetui.data.files.parsing import load
from finetui.data.files.streams import BLOCK
from finetui.data.problems import RowProblem

LONGEST_ROW = 64 << 20
_GARBAGE = 1 << 16
# Up to the next bracket outside strings; possessive, so that the scan is linear and cannot overflow.
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,\[\]{}"]++', re.DOTALL)
_SPACE = re.compile(rb"\s*+")
_BETWEEN = re.compile(rb"[\s,]*+")
_KEY = rb'\s*+,\s*+"[^"\\]{0,4096}+"\s*+:\s*+'
_COLON = re.compile(rb"[\s:]*+")
_FIRST_KEY = re.compile(rb'\{\s*+"[^"\\]{1,64}+"')

Row = tuple[Any, bytes, int | None, int | None]
"""One row as a container gives it: its value (or a RowProblem in its place), raw bytes, line, byte."""


class Splitter:
    """The rows of one JSON array, or of values one after another, from a stream of any length."""

    def __init__(self, stream: IO[bytes], name: str, *, array: bool, start: int = 0) -> None:
        self._stream = stream
        self._name = name
        self._array = array
        self._buffer = b""
        self._at = 0
        """Where the next value is looked for, in the buffer."""
        self._base = start
        """The buffer's first byte in the decompressed stream."""
        self._line = 1
        self._counted = 0
        self._ended = False
        self._last_end = -1
        self._opening = b""
        self._entry: re.Pattern[bytes] | None = None
        """What the next entry of an object of rows begins with."""
        self._reach = 0

    def rows(self) -> Iterator[Row]:
        """Every row in file order.

        Raises FinetuiError where the file ends inside a value or before the array is closed, or where a value is longer
        than `LONGEST_ROW`.
        """
        if self._array:
            self._skip(_SPACE)
            self._at += 1
        while True:
            self._skip(_BETWEEN)
            sign = self._buffer[self._at : self._at + 1]
            if not sign:
                if self._array:
                    raise self._without_end("data.truncated-array")
                return
            if sign == b"]" and self._array:
                self._at += 1
                yield from self._after_array()
                return
            yield self._row(sign)

    def entries(self) -> Iterator[tuple[str | None, Row]]:
        """Every key of one object with its value as a row, in file order; the key is None where there is none.

        Raises FinetuiError as `rows`.
        """
        self._skip(_SPACE)
        self._at += 1
        while True:
            self._skip(_BETWEEN)
            sign = self._buffer[self._at : self._at + 1]
            if sign == b"}":
                self._at += 1
                yield from ((None, row) for row in self._after_array())
                return
            row = self._row(sign or b'"')
            key = row[0] if type(row[0]) is str else None
            if key is not None:
                self._skip(_COLON)
                self._last_end = -1
                row = self._row(self._buffer[self._at : self._at + 1] or b'"')
                if type(row[0]) is dict and (first := _FIRST_KEY.match(row[1])):
                    self._entry = re.compile(_KEY + re.escape(first[0]))
            yield key, row

    def between(self) -> bytes:
        """What stood between the end of a row and the brace of the next; empty where none was learnt."""
        return self._opening.partition(b"{")[0]

    def _row(self, sign: bytes) -> Row:
        if sign == b"{":
            self._learn()
        while True:
            start = self._at
            if self._opening and sign == b"{":
                end = self._buffer.find(self._opening, start + 1, start + self._reach)
                if end > 0:
                    try:
                        return self._cut(end, orjson.loads(memoryview(self._buffer)[start:end]))
                    except orjson.JSONDecodeError:
                        pass  # the opening also stands inside this row: the exact scan decides
            exact_end = self._scan(sign)
            if exact_end is not None:
                return self._exact(exact_end)
            if self._ended or len(self._buffer) - start > LONGEST_ROW:
                return self._endless()
            self._fill()

    def _exact(self, end: int) -> Row:
        value = load(self._buffer[self._at : end])
        if type(value) is RowProblem:
            inside = self._next_row(end)
            if inside > 0:
                return self._cut(inside, load(self._buffer[self._at : inside]))
        return self._cut(end, value)

    def _endless(self) -> Row:
        """A value without an end: cut at the next row's opening if there is one, else the file is cut short."""
        inside = self._next_row(len(self._buffer))
        if inside > 0:
            return self._cut(inside, load(self._buffer[self._at : inside]))
        raise self._without_end("data.truncated-array" if self._array else "data.truncated-object")

    def _next_row(self, end: int) -> int:
        """Where, before `end`, what stood between the rows so far stands again; -1 where it does not."""
        if self._entry is not None:
            found = self._entry.search(self._buffer, self._at + 1, end)
            return found.start() if found else -1
        return self._buffer.find(self._opening, self._at + 1, end) if self._opening else -1

    def _cut(self, end: int, value: Any) -> Row:
        start = self._at
        raw = self._buffer[start:end]
        line, byte = self._lines(start), self._base + start
        self._at = self._last_end = end
        self._reach = max(self._reach, min(8 * len(raw) + 4096, BLOCK))
        return value, raw, line, byte

    def _learn(self) -> None:
        if 0 <= self._last_end < self._at and not self._buffer.startswith(self._opening or b"\0", self._last_end):
            key = _FIRST_KEY.match(self._buffer, self._at)
            self._opening = self._buffer[self._last_end : key.end()] if key else b""

    def _scan(self, sign: bytes) -> int | None:
        """The end of the value at hand, or None where the buffer ends first."""
        buffer, at = self._buffer, self._at
        if sign not in b"{[":
            found = _SCALAR.match(buffer, at)
            if found is None:
                return None if sign == b'"' else at + 1
            return found.end() if self._ended or found.end() < len(buffer) else None
        depth = 0
        while True:
            found = _TO_BRACKET.match(buffer, at)
            at = found.end() if found else at
            bracket = buffer[at : at + 1]
            if bracket in (b"", b'"'):
                return None
            depth += 1 if bracket in b"{[" else -1
            at += 1
            if depth == 0:
                return at

    def _after_array(self) -> Iterator[Row]:
        self._skip(_SPACE)
        if self._at >= len(self._buffer):
            return
        raw = self._buffer[self._at : self._at + _GARBAGE]
        yield RowProblem("unparsable", "after the array"), raw, self._lines(self._at), self._base + self._at
        while not self._ended:
            self._at = len(self._buffer)
            self._fill()

    def _skip(self, pattern: re.Pattern[bytes]) -> None:
        while True:
            found = pattern.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer) or self._ended:
                return
            self._fill()

    def _fill(self) -> None:
        self._lines(self._at)
        rest = self._buffer[self._at :]
        fresh = self._stream.read(max(BLOCK, len(rest)))
        self._ended = not fresh
        self._buffer = rest + fresh
        self._base += self._at
        self._at = self._counted = 0
        self._last_end = -1

    def _lines(self, upto: int) -> int:
        self._line += self._buffer.count(b"\n", self._counted, upto)
        self._counted = upto
        return self._line

    def _without_end(self, code: str) -> FinetuiError:
        long = len(self._buffer) - self._at > LONGEST_ROW
        return FinetuiError(Problem("data.value-without-end" if long else code, {}, self._name, self._lines(self._at)))
