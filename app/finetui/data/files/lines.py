"""Rows of files that are read by lines: JSON Lines, and plain text by line or by paragraph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import orjson

from finetui.data.files.parsing import load, not_utf8
from finetui.data.files.splitter import LONGEST_ROW, Row
from finetui.data.files.streams import BLOCK
from finetui.data.problems import RowProblem

_BLANK = object()
TOO_LONG = RowProblem("unparsable", f"longer than {LONGEST_ROW >> 20} MiB")
SHOWN = 1 << 16
"""Bytes that are kept of a line which is too long."""


def json_lines(stream: IO[bytes], start: int = 0) -> Iterator[Row]:
    """Every line's JSON value, blank lines left out."""
    byte, line, loads = start, 0, orjson.loads
    while raw := stream.readline(LONGEST_ROW):
        line += 1
        length = len(raw)
        try:
            value = loads(raw)
        except orjson.JSONDecodeError:
            if length >= LONGEST_ROW and raw[-1:] != b"\n":
                value, length, raw = TOO_LONG, length + rest_of_line(stream), raw[:SHOWN]
            else:
                value = _BLANK if raw.isspace() else load(raw)
        if value is not _BLANK:
            yield value, raw, line, byte
        byte += length


def text_lines(stream: IO[bytes], start: int = 0) -> Iterator[Row]:
    """Every line that is not blank as `{"text": line}`, without what ends it."""
    byte, line = start, 0
    while raw := stream.readline(LONGEST_ROW):
        line += 1
        length, value = len(raw), _text(raw)
        if length >= LONGEST_ROW and raw[-1:] != b"\n":
            value, length, raw = TOO_LONG, length + rest_of_line(stream), raw[:SHOWN]
        if value is not _BLANK:
            yield value, raw, line, byte
        byte += length


def text_paragraphs(stream: IO[bytes], start: int = 0) -> Iterator[Row]:
    """Every run of lines between blank ones as `{"text": lines}`, without what ends the last."""
    byte, line = start, 0
    kept: list[bytes] = []
    size = first_line = first_byte = 0
    while raw := stream.readline(LONGEST_ROW):
        line += 1
        if _text(raw) is _BLANK:
            if kept:
                yield _paragraph(kept, size), b"".join(kept), first_line, first_byte
            kept, size = [], 0
        else:
            if not kept:
                first_line, first_byte = line, byte
            size += len(raw)
            if size <= LONGEST_ROW or not kept:
                kept.append(raw)
        byte += len(raw)
    if kept:
        yield _paragraph(kept, size), b"".join(kept), first_line, first_byte


def rest_of_line(stream: IO[bytes]) -> int:
    """Read to the end of the line at hand, and say how many bytes that were."""
    count = 0
    while raw := stream.readline(BLOCK):
        count += len(raw)
        if raw[-1:] == b"\n":
            break
    return count


def _paragraph(lines: list[bytes], size: int) -> Any:
    return _text(b"".join(lines)) if size < LONGEST_ROW else TOO_LONG


def _text(raw: bytes) -> Any:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error, raw)
    if text.isspace():
        return _BLANK
    return {"text": text.removesuffix("\n").removesuffix("\r")}
